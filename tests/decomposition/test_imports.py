"""scikit-learn is asked for when it is needed, and says so; nothing is printed while fitting."""

import subprocess
import sys

import numpy as np
import pytest

from leptonhpc.decomposition import PCA, IncrementalPCA, KernelPCA, Ridge, TruncatedSVD


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_leptonhpc_alone_does_not_import_scikit_learn() -> None:
    run("import sys, leptonhpc, leptonhpc.api; assert 'sklearn' not in sys.modules")


def test_without_scikit_learn_the_extra_is_named() -> None:
    printed = run(
        "import sys\n"
        "sys.modules['sklearn'] = None\n"
        "try:\n"
        "    import leptonhpc.decomposition\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    assert "needs scikit-learn" in printed
    assert "leptonhpc[sklearn]" in printed


def test_nothing_is_printed_unless_it_is_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).standard_normal((30, 5))
    for estimator in (PCA(2), TruncatedSVD(2), IncrementalPCA(2), KernelPCA(2), Ridge()):
        assert estimator.progress is False
        estimator.fit(x, x[:, 0])
    assert capfd.readouterr() == ("", "")
    PCA(2, progress=True).fit(x)
    assert "svd" in "".join(capfd.readouterr())
