"""Samples that do not fit in the budget: memory stays under it, and projections are lazy."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

import leptonhpc as lh
from leptonhpc.blocks import BlockedArray
from leptonhpc.decomposition import PCA, IncrementalPCA
from leptonhpc.errors import MemoryBudgetError
from leptonhpc.planning.costs import LIBRARIES_NBYTES

BUDGET, ROWS, COLUMNS = 180_000_000, 1024, 256  # of a chunk: 2.1 MB
CHUNKS = 80  # five times what the budget leaves for arrays

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
import leptonhpc as lh
from leptonhpc.decomposition import NMF, PCA, IncrementalPCA, KernelPCA, Ridge, TruncatedSVD

spec = json.loads(sys.argv[1])
path, memory = spec["x"], spec["memory"]
estimators = {
    "pca": PCA(4, memory=memory),
    "svd": TruncatedSVD(4, memory=memory),
    "incremental": IncrementalPCA(4, batch_size=2048, memory=memory),
    "kernel": KernelPCA(4, n_landmarks=40, kernel="rbf", memory=memory),
    "ridge": Ridge(memory=memory),
    "nmf": NMF(4, init="random", max_iter=2, memory=memory),
}
def status(name):
    line = next(line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) * 1024

PCA(1, memory=memory).fit(np.eye(5))  # what libraries take is known after a small job
before = status("VmRSS")
found = {}
for name, estimator in estimators.items():
    estimator.fit(path, np.arange(len(lh.open(path)), dtype=float))
    most = status("VmHWM")
    if name in ("pca", "kernel"):  # the others project as the first does
        estimator.transform(path, out=f"{spec['out']}-{name}")
    found[name] = [estimator.report_.peak_nbytes, max(most, status("VmHWM")) - before]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an array larger than the budget whose chunk files are links to a few."""
    path = tmp_path_factory.mktemp("large") / "x"
    zarr.create_array(
        path, shape=(CHUNKS * ROWS, COLUMNS), dtype="f8", chunks=(ROWS, COLUMNS), compressors=None
    )
    rng = np.random.default_rng(0)
    for number in range(CHUNKS):
        file = path / "c" / str(number) / "0"
        file.parent.mkdir(parents=True)
        if number < 4:
            block = rng.exponential(size=(ROWS, COLUMNS)) * np.linspace(3, 1, COLUMNS)
            file.write_bytes(block.tobytes())
        else:
            os.link(path / "c" / str(number % 4) / "0", file)
    return path


def test_peak_memory_stays_far_below_the_array(large: Path, tmp_path: Path) -> None:
    spec = {"x": str(large), "out": str(tmp_path / "out"), "memory": BUDGET}
    command = [sys.executable, "-c", PROGRAM, json.dumps(spec)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # spinning threads cost seconds
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 6
    # beside the libraries: what the budget leaves for arrays, targets and factors of the rows, and
    # stacks and arenas of threads
    vectors = 4 * 8 * CHUNKS * ROWS
    allowed = BUDGET - LIBRARIES_NBYTES + vectors + (64 << 20)
    assert allowed < 0.6 * 8 * CHUNKS * ROWS * COLUMNS
    for name, (reported, more) in found.items():
        assert reported <= BUDGET, name
        assert more <= allowed, name
    for name in ("pca", "kernel"):
        assert lh.open(tmp_path / f"out-{name}").shape == (CHUNKS * ROWS, 4)


def test_large_projections_are_lazy_and_live_as_long_as_they_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from leptonhpc.runtime import targets

    x = np.random.default_rng(0).standard_normal((400, 6)) * np.arange(1, 7)
    expected = PCA(3).fit_transform(x)
    rebuilt = PCA(3).fit(x).inverse_transform(expected)
    create = targets.Workspace.create

    def without_memory(self: targets.Workspace, *args: object) -> targets.Writer:
        self.memory_nbytes = 0
        return create(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(targets.Workspace, "create", without_memory)
    pca = PCA(3)
    fitted = pca.fit_transform(x)
    projected, back = pca.transform(lh.open(x)), pca.inverse_transform(lh.open(expected))
    gc.collect()
    # two roundings of sums over 400 rows of size |x|
    allowed = 400 * np.finfo(float).eps * np.max(np.abs(x))
    pairs = [(fitted, expected), (projected, expected), (back, rebuilt)]
    for lazy, values in pairs:
        assert isinstance(lazy, BlockedArray)
        assert np.max(np.abs(np.asarray(lazy[10:20]) - values[10:20])) <= allowed
    folders = {Path(p) for lazy, _ in pairs for p in _folders(lazy)}
    assert len(folders) == 3
    assert all(p.exists() for p in folders)
    del lazy, fitted, projected, back, pairs
    gc.collect()
    assert not any(p.exists() for p in folders)


def _folders(array: BlockedArray) -> list[str]:
    source: object = array.source
    while hasattr(source, "base"):
        source = source.base
    return [source.name]  # type: ignore[attr-defined]


def test_a_budget_that_cannot_suffice_is_refused(large: Path) -> None:
    with pytest.raises(MemoryBudgetError, match="at least memory='"):
        PCA(2, memory="151 MB").fit(large)


def test_batches_that_exceed_the_budget_are_refused(large: Path) -> None:
    with pytest.raises(MemoryBudgetError, match=r"batch_size=\d+"):
        IncrementalPCA(2, batch_size=100_000, memory=BUDGET).fit(large)
