"""Solutions are right, and their certificates bound the true error, also where it is large."""

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import (
    MemoryBudgetError,
    NonFiniteError,
    NotConvergedWarning,
    NotHermitianError,
    NotPositiveDefiniteError,
    OptionError,
    ShapeError,
    SingularMatrixError,
)
from leptonhpc.kernels import DEVICES, table, tables
from leptonhpc.linalg.solve import plan_solve
from leptonhpc.testing import matrix_with_spectrum, put
from leptonhpc.testing.hard import HARD, graded, small_corner, swapped

from .systems import backward, draw, positive, require_accurate, require_honest

MEMORY = "1 GB"
PANELS = "162 MB"  # 12 MB for arrays: a matrix of order 700 is cut into panels
DTYPES = ["float32", "float64", "complex64", "complex128"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("assume", ["gen", "sym", "pos"])
def test_systems_of_every_dtype_and_shape_are_solved(
    dtype: str, assume: str, tmp_path: Path
) -> None:
    for number, (n, k) in enumerate([(1, None), (1, 3), (2, None), (65, 1), (300, None), (300, 7)]):
        a = draw((n, n), dtype) if assume == "gen" else positive(n, dtype)
        b = draw((n,) if k is None else (n, k), dtype, 1)
        x = put(a, tmp_path / f"a{number}", chunks=(64, 48))
        for memory, out in ((MEMORY, None), ("157 MB", tmp_path / f"r{number}")):
            r = lh.solve(x, b, assume=assume, memory=memory, out=out)
            require_honest(r, a, b)
            assert r.certificate.converged
            assert np.asarray(r.x).dtype == np.dtype(dtype)
            assert r.report.reads_per_chunk <= 1
            loaded = lh.load(tmp_path / f"r{number}") if out else r
            assert np.array_equal(loaded.x, r.x)


@pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")
@pytest.mark.parametrize("precision", ["full", "mixed"])
@pytest.mark.parametrize("name", HARD)
def test_hard_systems_are_solved_or_refused_and_never_silently_wrong(
    name: str, precision: str, tmp_path: Path
) -> None:
    for n in (8, 12, 30, 60):
        a, x = HARD[name](n), np.linspace(1, 2, n)
        # so that x is the solution to more digits than there are
        b = (a.astype(np.longdouble) @ x).astype(float)
        values = np.linalg.svd(a, compute_uv=False)
        try:
            r = lh.solve(a, b, precision=precision, memory=MEMORY)
        except SingularMatrixError as error:
            refused = str(error)
        else:
            require_honest(r, a, b)
            require_accurate(r, a, x)
            continue
        assert "condition number" in refused
        # |A|_F |A^-1|_2 >= 1 / eps, to what NumPy knows of the smallest
        assert values[-1] <= 10 * n * np.finfo(float).eps * np.linalg.norm(a)


@pytest.mark.parametrize("n", [2, 3, 300, 301, 463])
def test_blocks_without_pivots_of_their_own_are_solved(n: int, tmp_path: Path) -> None:
    a, b = swapped(n), draw((n,))
    x = put(a, tmp_path / "a", chunks=(-(-n // 2),) * 2)
    for memory in (MEMORY, "157 MB"):
        r = lh.solve(x, b, memory=memory)
        assert np.array_equal(a @ r.x, b)
        assert r.certificate.backward_error == 0


@pytest.mark.parametrize("size", [1e-8, 1e-12])
def test_small_leading_blocks_leave_a_residual_within_ten_of_numpys(
    size: float, tmp_path: Path
) -> None:
    a, b = small_corner(600, size), draw((600,), seed=1)
    numpys = backward(a, np.linalg.solve(a, b), b)
    r = lh.solve(put(a, tmp_path / "a", chunks=(300, 300)), b, memory=PANELS)
    assert backward(a, np.asarray(r.x), b) <= 10 * numpys
    require_honest(r, a, b)


@pytest.mark.parametrize("condition", [1e1, 1e4, 1e6, 1e10, 1e13])
@pytest.mark.parametrize("assume", ["gen", "pos"])
@pytest.mark.parametrize("k", [None, 5])
def test_mixed_precision_gives_double_and_is_checked_against_the_sides_that_were_given(
    condition: float, assume: str, k: int | None
) -> None:
    n = 200
    a, x = positive(n, condition=condition), draw((n,) if k is None else (n, k), seed=1)
    # numbers that single precision cannot hold: a certificate of rounded sides would be wrong
    b = a @ x
    assert np.linalg.norm(b - b.astype("f4")) > 1e-9 * np.linalg.norm(b)
    r = lh.solve(a, b, assume=assume, precision="mixed", memory=MEMORY)
    require_honest(r, a, b)
    require_accurate(r, a, np.linalg.solve(a.astype(np.longdouble).astype(float), b))
    assert r.certificate.converged
    assert r.certificate.backward_error <= r.certificate.bound < 1e-12
    if condition <= 1e4:
        assert r.certificate.precision == "float32"
        assert r.certificate.refinements >= 1
    if condition >= 1e10:
        assert r.certificate.precision == "float64"


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_mixed_precision_in_panels_stores_what_it_gives(dtype: str, tmp_path: Path) -> None:
    a, b = draw((463, 463), dtype) + 30 * np.eye(463, dtype=dtype), draw((463, 3), dtype, 1)
    x = put(a, tmp_path / "a", chunks=(64, 64))
    r = lh.solve(x, b, precision="mixed", memory="158 MB", out=tmp_path / "r")
    require_honest(r, a, b)
    assert r.certificate.precision == {"float64": "float32", "complex128": "complex64"}[dtype]
    assert np.array_equal(lh.load(tmp_path / "r").x, r.x)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_no_larger_budget_is_refused_where_a_smaller_one_does(threads: int, tmp_path: Path) -> None:
    # chunks of the scratch copy of mixed rows grow with the budget, and must still fit in a panel
    x = lh.open(put(draw((463, 463), "complex128"), tmp_path / "a", chunks=(64, 64)))
    b = lh.open(draw((463, 3), "complex128"))
    resources = lh.plan("solve", x, b, precision="mixed", memory=MEMORY).job.resources

    def fits(megabytes: int) -> bool:
        found = replace(resources, threads=threads, memory_nbytes=megabytes * 10**6)
        try:
            plan_solve(x, b, found, precision="mixed")
        except MemoryBudgetError:
            return False
        return True

    answers = [fits(megabytes) for megabytes in range(151, 162)]
    assert answers == sorted(answers)
    assert answers[-1]


def test_what_is_only_singular_out_of_range_or_indefinite_in_single_precision_is_solved() -> None:
    close = np.array([[1.0, 1.0], [1.0, 1.0 + 1e-10]])
    for a in (close, close * 1e-60, close * 1e60):
        for assume in ("gen", "pos"):
            b = a @ [1.0, 2.0]
            r = lh.solve(a, b, assume=assume, precision="mixed", memory=MEMORY)
            assert r.certificate.precision == "float64"
            assert r.certificate.converged
            assert backward(a, np.asarray(r.x), b) <= r.certificate.bound


def test_single_precision_input_is_left_alone_by_mixed() -> None:
    r = lh.solve(positive(50, "float32"), draw((50,), "float32"), precision="mixed")
    assert r.certificate.precision == "float32"
    assert np.asarray(r.x).dtype == np.float32


@pytest.mark.parametrize(
    ("dtype", "exponent"),
    [("f4", -30), ("f4", 25), ("f8", -200), ("f8", 200), ("c8", 20), ("c16", -200), ("c16", 200)],
)
def test_systems_far_from_one_are_neither_singular_nor_blindly_certified(
    dtype: str, exponent: int
) -> None:
    kind = {"c8": "complex64", "c16": "complex128", "f4": "float32", "f8": "float64"}[dtype]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for left, right in ((exponent, exponent), (exponent, 0), (0, exponent)):
            a = (draw((80, 80), kind) * 10.0**left).astype(dtype)
            b = (draw((80,), kind, 1) * 10.0**right).astype(dtype)
            r = lh.solve(a, b, memory=MEMORY)
            assert 0 < r.certificate.backward_error <= r.certificate.bound
            expected = np.linalg.solve(draw((80, 80), kind), draw((80,), kind, 1))
            found = np.asarray(r.x).astype("c16") / 10.0 ** (right - left)
            error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
            # NumPy's solution is as far off as ours
            assert error <= 2 * r.certificate.error


@pytest.mark.parametrize(
    ("dtype", "precision", "memory"),
    [
        *((dtype, precision, MEMORY) for dtype in DTYPES for precision in ("full", "mixed")),
        ("float64", "full", PANELS),
        ("complex64", "mixed", PANELS),
    ],
)
def test_systems_whose_pivots_grow_without_bound_are_solved(
    dtype: str, precision: Any, memory: str, tmp_path: Path
) -> None:
    n = 700 if memory == PANELS else 120
    a = HARD["wilkinson"](n) * (1 - 1e-3 * np.tril(np.abs(draw((n, n))), -1))
    a = a.astype(dtype)
    assert np.linalg.cond(a) < 400  # though LU with partial pivoting has no digit right
    x = draw((n, 2), dtype)
    stored = put(a, tmp_path / "a", chunks=(100, 100))
    r = lh.solve(stored, a @ x, memory=memory, precision=precision)
    assert "rechunk mixed" in [stage.name for stage in r.report.stages]
    assert r.certificate.growth < 10
    require_honest(r, a, a @ x)
    require_accurate(r, a, x)


def test_inverses_of_what_grows_are_right_and_singular_matrices_are_not_factored_twice() -> None:
    a = HARD["wilkinson"](300) * (1 - 1e-3 * np.tril(np.abs(draw((300, 300))), -1))
    r = lh.inv(a, memory=MEMORY)
    assert r.certificate.converged
    allowed = 300 * np.finfo(float).eps * np.linalg.norm(a) * np.linalg.norm(np.linalg.inv(a))
    assert np.linalg.norm(np.asarray(r) @ a - np.eye(300)) < allowed
    b = np.ones((50, 50))
    counted = []
    job = lh.plan("solve", b, b[0]).job

    def execute(stage: Any, small: Any) -> dict[str, Any]:
        counted.append(stage.name)
        return {"diagonal": np.zeros(50), "max_pivoted": 1.0, "max_entry": 1.0}

    with pytest.raises(SingularMatrixError):
        job.run(execute)
    assert counted == ["factor"]


def test_mixed_precision_of_what_is_not_held_is_refused() -> None:
    a = draw((700, 700))
    with pytest.raises(MemoryBudgetError, match="in memory whole") as refused:
        lh.solve(a, a, precision="mixed", memory="175 MB")
    enough = re.findall("memory='(.*?)'", str(refused.value))[0]
    assert lh.plan("solve", a, a, precision="mixed", memory=enough).explanation.peak_nbytes


def test_mixed_precision_of_what_is_never_held_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from leptonhpc.linalg import solve as module

    monkeypatch.setattr(module, "_HELD_NBYTES", 1000)
    with pytest.raises(OptionError, match="fewer columns at a time, or precision='full'"):
        lh.solve(draw((30, 30)), draw((30, 30)), precision="mixed")


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_right_hand_sides_that_are_not_held(
    dtype: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from leptonhpc.linalg import solve as module

    monkeypatch.setattr(module, "_HELD_NBYTES", 1000)
    a, b = draw((300, 300), dtype), draw((300, 250), dtype, 1)
    x = put(a, tmp_path / "a", chunks=(64, 64))
    sides = put(b, tmp_path / "b", chunks=(100, 70))
    for number, assume in enumerate(("gen", "pos")):
        matrix = a if assume == "gen" else positive(300, dtype)
        x = put(matrix, tmp_path / assume, chunks=(64, 64))
        for memory, out in ((MEMORY, None), (PANELS, tmp_path / f"r{number}")):
            r = lh.solve(x, sides, assume=assume, memory=memory, out=out)
            eps = float(np.finfo(dtype).eps)
            assert r.certificate.converged
            assert backward(matrix, np.asarray(r.x), b) <= r.certificate.bound
            found = float(np.linalg.norm(b - matrix @ np.asarray(r.x)))
            size = np.linalg.norm(matrix) * np.linalg.norm(r.x) + np.linalg.norm(b)
            assert found / size <= 10 * r.certificate.backward_error + 4 * eps
            if out is not None:
                assert np.array_equal(np.asarray(lh.load(out).x), np.asarray(r.x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_inverses_are_right(dtype: str, tmp_path: Path) -> None:
    for n in (1, 2, 300):
        for assume in ("gen", "pos"):
            a = draw((n, n), dtype) if assume == "gen" else positive(n, dtype)
            x = put(a, tmp_path / f"{n}{assume}", chunks=(64, 64))
            out = tmp_path / f"r{n}{assume}"
            r = lh.inv(x, assume=assume, memory="160 MB", out=out)
            found = np.asarray(r)
            assert found.dtype == np.dtype(dtype)
            assert r.certificate.converged
            assert backward(a, found, np.eye(n)) <= r.certificate.bound
            wide = a.astype(np.result_type(a, float))
            true = np.linalg.inv(wide)
            assert np.linalg.norm(found - true) <= r.certificate.error * np.linalg.norm(true)
            assert np.array_equal(np.asarray(lh.load(out)), found)
    with pytest.raises(SingularMatrixError):
        lh.inv(np.ones((3, 3)), memory=MEMORY)


@pytest.mark.parametrize("column", [0, 7, 150, 299])
@pytest.mark.parametrize("precision", ["full", "mixed"])
def test_singular_matrices_are_refused_with_their_column(
    column: int, precision: str, tmp_path: Path
) -> None:
    a = draw((300, 300))
    a[:, column] = 0
    with pytest.raises(SingularMatrixError, match=f"column {column} depends"):
        lh.solve(
            put(a, tmp_path / "a", chunks=(64, 64)), np.ones(300), precision=precision,
            memory=PANELS, out=tmp_path / "r",
        )  # fmt: skip
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("dtype", DTYPES)
def test_matrices_that_are_singular_to_working_precision_are_refused(dtype: str) -> None:
    eps = float(np.finfo(dtype).eps)
    values = np.geomspace(1, eps / 100, 120)
    a = matrix_with_spectrum((120, 120), values, dtype=dtype)
    with pytest.raises(SingularMatrixError, match="condition number"):
        lh.solve(a, np.ones(120, dtype), memory=MEMORY)
    with pytest.raises(SingularMatrixError, match="condition number"):
        lh.lu(a, memory=MEMORY).solve(np.ones(120, dtype))
    regular = matrix_with_spectrum((120, 120), np.geomspace(1, 1e3 * eps, 120), dtype=dtype)
    require_honest(lh.solve(regular, np.ones(120, dtype)), regular, np.ones(120, dtype))


def test_what_is_not_positive_definite_or_hermitian_is_refused() -> None:
    a = graded(50)
    a[30, 30] = -1
    with pytest.raises(NotPositiveDefiniteError) as caught:
        lh.solve(a, np.ones(50), assume="pos", precision="mixed", memory=MEMORY)
    assert caught.value.order == 31
    for assume in ("sym", "pos"):
        with pytest.raises(NotHermitianError, match="solve needs"):
            lh.solve(draw((50, 50)), np.ones(50), assume=assume, memory=MEMORY)
    skew = positive(300)
    skew[170, 90] += 1e-6
    with pytest.raises(NotHermitianError, match=r"\(170, 90\)|\(90, 170\)"):
        lh.solve(skew, np.ones(300), assume="sym", memory="157 MB")
    indefinite = positive(300) - 0.3 * np.eye(300)
    r = lh.solve(indefinite, np.ones(300), assume="sym", memory="157 MB")
    require_honest(r, indefinite, np.ones(300))
    assert "symmetry" in [stage.name for stage in r.report.stages]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sides_that_are_not_finite_are_named(value: float, tmp_path: Path) -> None:
    b = draw((300, 3))
    b[201, 1] = value
    sides = put(b, tmp_path / "sides", chunks=(100, 2))
    for precision in ("full", "mixed"):
        with pytest.raises(NonFiniteError, match=r"sides has .* at index \(201, 1\)"):
            lh.solve(draw((300, 300)), sides, precision=precision, memory=MEMORY)


@pytest.mark.parametrize(
    ("left", "right"), [((3, 4), (3,)), ((3, 3), (4,)), ((3, 3), (3, 2, 1)), ((3, 3), (3, 0)),
                        ((0, 0), (0,)), ((3,), (3,))],
)  # fmt: skip
def test_what_does_not_fit_is_refused(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="solve needs"):
        lh.solve(np.ones(left), np.ones(right), memory=MEMORY)


@pytest.mark.parametrize("options", [{"assume": "upper"}, {"precision": "half"}])
def test_options_that_do_not_exist_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="found '"):
        lh.solve(np.eye(3), np.ones(3), **options)


@pytest.mark.parametrize("broken", ["trsm", "gemm", "getrf"])
@pytest.mark.parametrize("precision", ["full", "mixed"])
def test_a_fault_while_solving_is_mended_or_said(
    broken: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = DEVICES["host"]
    good = getattr(host, broken)

    def faulty(*blocks: np.ndarray, **options: Any) -> object:
        result = good(*blocks, **options)
        block = blocks[1] if broken == "trsm" else blocks[0]
        if len(block):
            block[0, 0] *= 1.5
        return result

    monkeypatch.setitem(tables.DEVICES, "host", replace(host, **{broken: faulty}))
    table.cache_clear()
    a, b = positive(300), draw((300,), seed=1)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", NotConvergedWarning)
            r = lh.solve(a, b, precision=precision, memory="155 MB")
    finally:
        table.cache_clear()
    assert backward(a, np.asarray(r.x), b) <= 10 * r.certificate.backward_error + 1e-15
    assert bool(caught) != r.certificate.converged


def test_sides_near_the_smallest_number_are_not_lost_by_single_precision() -> None:
    r = lh.solve(np.eye(3), np.full(3, 1e-310), precision="mixed")
    assert np.array_equal(np.asarray(r.x), np.full(3, 1e-310))
