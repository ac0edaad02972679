"""Factors that exist solve again: here, loaded, in another process, refined against A."""

import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import NotConvergedWarning, OptionError, ShapeError
from leptonhpc.testing import put
from leptonhpc.testing.hard import HARD

from .systems import backward, draw, positive, require_accurate, require_honest

MEMORY = "1 GB"
DTYPES = ["float32", "float64", "complex64", "complex128"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_factors_solve_again_here_and_when_they_are_loaded(dtype: str, tmp_path: Path) -> None:
    for driver in ("lu", "cholesky"):
        a = positive(300, dtype) if driver == "cholesky" else draw((300, 300), dtype)
        x = put(a, tmp_path / f"a-{driver}", chunks=(64, 64))
        r = getattr(lh, driver)(x, memory="160 MB", out=tmp_path / driver)
        for found in (r, lh.load(tmp_path / driver), getattr(lh, driver)(a, memory=MEMORY)):
            for b in (draw((300,), dtype, 1), draw((300, 9), dtype, 2)):
                s = found.solve(b)
                require_honest(s, a, b)
                assert s.certificate.converged
    with pytest.raises(ShapeError, match="length 300"):
        r.solve(np.ones(299))
    mixed = lh.lu(draw((50, 50))).solve(draw((50,), "complex128"))
    require_honest(mixed, draw((50, 50)), draw((50,), "complex128"))
    with pytest.raises(ShapeError, match="square"):
        lh.lu(draw((5, 4))).solve(np.ones(5))


def test_factors_of_a_matrix_that_is_reached_are_refined_against_it(tmp_path: Path) -> None:
    a = HARD["wilkinson"](70) * (1 - 1e-3 * np.tril(np.abs(draw((70, 70))), -1))
    x = draw((70, 2), seed=1)
    stored = put(a, tmp_path / "a", chunks=(30, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)  # pivots grow: L U is far from A
        factors = [lh.lu(y, memory=MEMORY) for y in (a, stored)]
        lh.lu(stored, memory=MEMORY, out=tmp_path / "lu")
        loaded = lh.load(tmp_path / "lu")
        far = lh.lu(a.tolist(), memory=MEMORY)
    for found, given in ((factors[0], None), (factors[1], None), (loaded, None), (far, a)):
        r = found.solve(a @ x, a=given)
        assert r.certificate.converged
        assert r.certificate.refinements >= 1
        assert backward(a, np.asarray(r.x), a @ x) <= r.certificate.bound
        require_accurate(r, a, x)
    with pytest.warns(NotConvergedWarning):  # nothing to refine it against
        r = far.solve(a @ x)
    assert r.certificate.refinements == 0
    assert backward(a, np.asarray(r.x), a @ x) <= 10 * r.certificate.backward_error


def test_factors_are_loaded_and_refined_in_another_process(tmp_path: Path) -> None:
    a = draw((80, 80))
    lh.lu(put(a, tmp_path / "a", chunks=(30, 30)), out=tmp_path / "lu", memory=MEMORY)
    program = (
        "import sys, numpy as np, leptonhpc as lh\n"
        "f = lh.load(sys.argv[1]); r = f.solve(np.ones(80), memory='1 GB')\n"
        "print([s.name for s in r.report.stages], r.certificate.backward_error)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "lu")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.startswith("['substitute', 'residual']")
    assert float(done.stdout.split()[-1]) <= 8 * 80 * np.finfo(float).eps


def test_another_matrix_than_the_one_that_was_factored_is_noticed(tmp_path: Path) -> None:
    a = draw((60, 60))
    kept = a.copy()
    factors = lh.lu(a, memory=MEMORY)
    a[7, 9] += 1e-7  # by whoever owns it
    r = factors.solve(kept @ np.ones(60))
    assert np.linalg.norm(r.x - 1) <= r.certificate.error * 60**0.5
    assert [s.name for s in r.report.stages][1:] == ["residual", "product upper", "product l"]
    with pytest.raises(OptionError, match="not the matrix that was factored"):
        factors.solve(np.ones(60), a=a)
    with pytest.raises(ShapeError, match="of order 60"):
        factors.solve(np.ones(60), a=a[:5])
    stored = put(kept, tmp_path / "a", chunks=(30, 30))
    lh.lu(stored, memory=MEMORY, out=tmp_path / "lu")
    loaded = lh.load(tmp_path / "lu")
    put(2 * kept, tmp_path / "b", chunks=(30, 30))
    shutil.rmtree(tmp_path / "a")
    shutil.copytree(tmp_path / "b", tmp_path / "a")
    again = loaded.solve(kept @ np.ones(60))
    assert np.array_equal(again.x, r.x)
    assert [s.name for s in again.report.stages][1:] == ["product upper", "product l"]
    copied = pickle.loads(pickle.dumps(factors._origin))
    assert copied.matrix() is None


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("driver", ["lu", "cholesky", "lu that grew"])
def test_factors_solve_for_more_sides_than_come_back(
    dtype: str, driver: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from leptonhpc.linalg import solve as module

    monkeypatch.setattr(module, "_HELD_NBYTES", 1000)
    a = positive(200, dtype) if driver == "cholesky" else draw((200, 200), dtype)
    if driver == "lu that grew":
        a = HARD["wilkinson"](200).astype(dtype)
    b, eps = draw((200, 150), dtype, 1), float(np.finfo(dtype).eps)
    sides = put(b, tmp_path / "b", chunks=(100, 70))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        factor = getattr(lh, driver[:2] if driver != "cholesky" else driver)
        factor(put(a, tmp_path / "a", chunks=(64, 64)), memory=MEMORY, out=tmp_path / "factors")
        far = factor(a.tolist(), precision="float32" if eps > 1e-10 else None, memory=MEMORY)
    found = lh.load(tmp_path / "factors").solve(sides, memory=MEMORY, out=tmp_path / "x")
    assert np.array_equal(np.asarray(lh.load(tmp_path / "x").x), np.asarray(found.x))
    for r in [found] if driver == "lu that grew" else [found, far.solve(sides)]:
        c, x = r.certificate, np.asarray(r.x)
        assert c.converged
        assert x.dtype == np.dtype(dtype)
        assert backward(a, x, b) <= c.bound
        size = np.linalg.norm(a) * np.linalg.norm(x) + np.linalg.norm(b)
        assert float(np.linalg.norm(b - a @ x)) / size <= 10 * c.backward_error + 4 * eps
