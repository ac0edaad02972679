"""rank=, tol= and variance= give the fewest modes that answer the question."""

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import OptionError, ShapeError
from leptonhpc.testing import factorization_error, matrix_with_spectrum, rounding

MEMORY = "1 GB"
N = 260  # the Krylov method plans blocks of 48 where the rank is not known
METHODS = ["gram", "krylov", "auto"]
SHAPES = [(400, N), (N, 400)]


def fewest(true: np.ndarray, share: float) -> int:
    """Give the smallest k with sum_{i>k} s_i^2 <= share * sum s_i^2."""
    squares = true**2
    missing = np.append(np.cumsum(squares[::-1])[::-1][1:], 0.0)
    return int(np.flatnonzero(missing <= share * squares.sum())[0]) + 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("tol", [0.5, 0.1, 1e-2, 1e-4])
def test_tol_gives_the_fewest_modes_with_that_error(method: str, dtype: type, tol: float) -> None:
    for shape in SHAPES:
        a = matrix_with_spectrum(shape, 0.7 ** np.arange(N), dtype=dtype)
        true = np.linalg.svd(a.astype(np.result_type(a, float)), compute_uv=False)
        try:
            r = lh.svd(a, tol=tol, method=method, memory=MEMORY)
        except OptionError:
            # squares of single precision tell shares of about eps apart
            assert method == "krylov"
            assert dtype is np.float32
            assert tol <= 8 * np.sqrt(np.finfo(dtype).eps)
            continue
        assert len(r.s) == fewest(true, tol**2)
        error = factorization_error(a, r.u, r.s, r.vh)
        assert error <= tol * np.linalg.norm(true) + np.sqrt(N) * rounding(a, dtype)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("variance", [0.05, 0.5, 0.9, 0.999])
def test_variance_gives_the_fewest_modes_with_that_share(method: str, variance: float) -> None:
    for shape in SHAPES:
        a = matrix_with_spectrum(shape, 0.7 ** np.arange(N))
        true = 0.7 ** np.arange(N)
        r = lh.svd(a, variance=variance, method=method, memory=MEMORY)
        assert len(r.s) == fewest(true, 1 - variance)
        assert r.certificate.captured >= variance - 64 * np.finfo(float).eps


@pytest.mark.parametrize("method", METHODS)
def test_all_variance_of_a_deficient_matrix_is_in_its_rank(method: str) -> None:
    values = np.where(np.arange(N) < 7, 0.5 ** np.arange(N), 0)
    a = matrix_with_spectrum((400, N), values)
    r = lh.svd(a, variance=1.0, method=method, memory=MEMORY)
    assert len(r.s) == 7


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tol", [1e-9, 1e-11])
def test_a_tol_below_the_root_of_eps_is_kept_or_refused(method: str, tol: float) -> None:
    # sums of squares know errors to sqrt(eps) only
    a = matrix_with_spectrum((400, N), np.where(np.arange(N) < 40, 0.4 ** np.arange(N), 0))
    try:
        r = lh.svd(a, tol=tol, method=method, memory=MEMORY)
    except OptionError:
        return
    error = factorization_error(a, r.u, r.s, r.vh)
    assert error <= tol * np.linalg.norm(a) + np.sqrt(N) * rounding(a, np.float64)


@pytest.mark.parametrize("method", METHODS)
def test_rank_gives_exactly_so_many_modes_at_multiple_values(method: str) -> None:
    values = np.repeat([3.0, 2.0, 1.0], [2, 3, N - 5])
    a = matrix_with_spectrum((400, N), values)
    for rank in (1, 2, 4, 5):
        r = lh.svd(a, rank=rank, method=method, memory=MEMORY)
        assert np.all(np.abs(r.s - values[:rank]) <= 1e-3 * values[:rank])


def test_a_rank_beyond_the_matrix_is_refused() -> None:
    with pytest.raises(ShapeError, match="1 to 5"):
        lh.svd(np.ones((9, 5)), rank=6)
    with pytest.raises(ShapeError, match="1 to 5"):
        lh.svd(np.ones((9, 5)), rank=0)


@pytest.mark.parametrize("options", [{"tol": 0.0}, {"variance": 1.5}, {"tol": float("nan")}])
def test_a_share_that_makes_no_sense_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="above 0 and at most 1"):
        lh.svd(np.ones((9, 5)), **options)


def test_zero_matrix_has_one_mode_for_any_share() -> None:
    assert len(lh.svd(np.zeros((30, 8)), variance=0.9).s) == 1
    assert len(lh.svd(np.zeros((8, 30)), tol=0.1).s) == 1
