"""Each command of a dense driver gives what its function gives, stores it, and shows it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.testing import put

N = 90
ONE = {  # driver: arrays, options
    "eigh": ("p.zarr", "--k", "3"), "qr": ("a.zarr",), "cholesky": ("p.zarr",), "lu": ("g.zarr",),
    "solve": ("g.zarr", "s.zarr", "--precision", "mixed"), "lstsq": ("a.zarr", "t.zarr"),
    "cg": ("p.zarr", "s.zarr", "--tol", "1e-6"), "lsmr": ("a.zarr", "t.zarr", "--damp", "0.5"),
    "inv": ("g.zarr", "--assume", "gen"), "pinv": ("a.zarr",), "polar": ("a.zarr",),
}  # fmt: skip
NUMBERS = ("det", "slogdet", "cond", "matrix-rank")


@pytest.fixture
def dense(folder: Path, rng: np.random.Generator) -> Path:
    """Give the folder with g.zarr (general), p.zarr (positive definite), s.zarr and t.zarr."""
    g = rng.standard_normal((N, N))
    put(g, folder / "g.zarr", chunks=(40, 40))
    put((g + g.T) / 40 + 3 * np.eye(N), folder / "p.zarr", chunks=(40, 40))
    put(rng.standard_normal((N, 2)), folder / "s.zarr", chunks=(40, 2))
    put(rng.standard_normal((300, 2)), folder / "t.zarr", chunks=(100, 2))
    return folder


@pytest.mark.parametrize("name", ONE)
def test_a_command_stores_what_its_function_gives(
    name: str, run: Any, run_json: Any, dense: Path
) -> None:
    stored = run_json(name, *ONE[name], "--out", "o.zarr", "--memory", "1GB")
    assert stored["driver"] == name
    assert stored["certificate"]["converged"]
    assert stored["report"]["stages"]
    found = lh.load("o.zarr")
    assert set(stored["fields"]) == set(found.arrays())
    for field, described in stored["fields"].items():
        assert list(getattr(found, field).shape) == described["shape"]
    assert run_json("load", "o.zarr") == stored
    assert f"stored in o.zarr: {next(iter(stored['fields']))}" in run("load", "o.zarr").stdout
    _require_right(name, found)


def _require_right(name: str, r: Any) -> None:
    a, g, p, s = (np.asarray(lh.open(f"{k}.zarr")) for k in "agps")
    pairs = {
        "qr": lambda: (np.asarray(r.q) @ np.asarray(r.r), a),
        "cholesky": lambda: (np.asarray(r.l) @ np.asarray(r.l).T, p),
        "lu": lambda: (np.asarray(r.l) @ np.asarray(r.u), g[r.perm]),
        "solve": lambda: (g @ r.x, s),
        "inv": lambda: (g @ np.asarray(r.x), np.eye(N)),
        "polar": lambda: (np.asarray(r.u) @ np.asarray(r.p), a),
    }
    if name in pairs:
        found, expected = pairs[name]()
        # g has a condition below 1e4
        assert np.linalg.norm(found - expected) <= 1e4 * N * np.finfo(float).eps * np.linalg.norm(a)


@pytest.mark.parametrize("name", ONE)
def test_without_an_output_a_command_says_what_was_not_kept(
    name: str, run: Any, dense: Path
) -> None:
    done = run(name, *ONE[name])
    if name in ("inv", "pinv"):
        assert done.exit_code == 2
        assert "--out" in done.stderr
        return
    assert done.exit_code == 0, done.stderr
    assert "not kept: --out stores" in done.stdout
    assert "peak" in done.stdout


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_shown_with_their_certificate(
    name: str, run: Any, run_json: Any, dense: Path
) -> None:
    g = np.asarray(lh.open("g.zarr"))
    document = run_json(name, "g.zarr")
    assert document["driver"] == name.replace("-", "_")
    assert document["certificate"]["converged"]
    expected = {
        "det": np.linalg.det, "cond": np.linalg.cond, "matrix-rank": np.linalg.matrix_rank,
        "slogdet": lambda x: np.linalg.slogdet(x).logabsdet,
    }[name](g)  # fmt: skip
    key = "logabsdet" if name == "slogdet" else "value"
    # the determinant changes by n eps kappa; the condition by eps kappa^2, for its Gram matrix
    assert document[key] == pytest.approx(expected, rel=1e-7)
    shown = run(name, "g.zarr").stdout
    assert f"{expected:.6g}"[:6] in shown
    assert "peak" in shown


def test_complex_determinants_are_pairs_of_numbers(run: Any, run_json: Any, dense: Path) -> None:
    put(np.diag([2j, 3.0, 1.0]), dense / "c.zarr")
    real, imaginary = run_json("det", "c.zarr")["value"]
    assert abs(real) <= 1e-12
    assert imaginary == pytest.approx(6)
    assert "j" in run("slogdet", "c.zarr").stdout


@pytest.mark.parametrize("name", [*ONE, "slogdet", "cond", "matrix-rank"])
def test_every_driver_can_be_explained(name: str, run: Any, run_json: Any, dense: Path) -> None:
    arguments = ONE.get(name, ("g.zarr",))
    document = run_json("explain", name, *arguments, "--memory", "1GB")
    assert document["memory_nbytes"] == 10**9
    assert document["stages"]
    assert document["method"] in run("explain", name, *arguments, "--memory", "1GB").stdout


def test_errors_of_the_numbers_end_with_1_and_those_of_usage_with_2(run: Any, dense: Path) -> None:
    put(np.ones((5, 5)), dense / "ones.zarr")
    put(np.ones(5)[:, None], dense / "side.zarr")
    for arguments, code, words in (
        (("cholesky", "ones.zarr"), 1, "order 2"),
        (("cholesky", "g.zarr"), 1, "Symmetrise"),
        (("solve", "ones.zarr", "side.zarr"), 1, "singular: column 1"),
        (("cholesky", "a.zarr"), 2, "square"),
        (("solve", "g.zarr", "t.zarr"), 2, "length 90"),
        (("lu", "nan.zarr"), 1, "(241, 5)"),
    ):
        done = run(*arguments)
        assert done.exit_code == code, arguments
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
