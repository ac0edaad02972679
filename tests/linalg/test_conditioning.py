"""Centring, scaling, weights and imputation are those of NumPy, in every combination."""

import itertools

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import OptionError
from leptonhpc.testing import largest_departure, matrix_with_spectrum, nearest_distance, rounding

# whether an accuracy was reached is not the question here
pytestmark = pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")

MEMORY = "1 GB"
TALL, WIDE = (1300, 70), (70, 1300)  # the provisional mean is that of 1024 rows
COMBINATIONS = list(itertools.product([None, "std", "array"], [False, True], ["raise", "mean"]))


def sample(shape: tuple[int, int], dtype: str, *, holes: bool) -> np.ndarray:
    """Give columns of unlike mean and size, with a drift, and 5 % of it missing."""
    rng = np.random.default_rng(7)
    a = matrix_with_spectrum(shape, np.geomspace(1, 1e-2, min(shape)), dtype=dtype, seed=3)
    a = a / np.abs(a).std() + np.linspace(-2, 3, shape[1]) + np.linspace(0, 1, shape[0])[:, None]
    a = (a * np.geomspace(0.1, 10, shape[1])).astype(dtype)
    if holes:
        a[rng.random(shape) < 0.05] = np.nan
    return a


def by_numpy(
    a: np.ndarray, *, center: bool, scale: object, weights: object
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the conditioned matrix, the means and the divisors, in double precision."""
    a = a.astype(np.result_type(a, float))
    mean = np.nanmean(a, axis=0)
    deviation = np.nanstd(a, axis=0)
    a = np.where(np.isnan(a), mean, a)
    divisors = (
        deviation if isinstance(scale, str) else np.ones(len(mean)) if scale is None else scale
    )
    a = (a - mean * center) / divisors
    return a * (1 if weights is None else weights), mean, divisors


def mean_rounding(a: np.ndarray) -> float:
    """Give what a mean may be off: sums of m numbers, and of deviations that were rounded once."""
    largest, deviation = float(np.nanmax(np.abs(a))), float(np.max(np.nanstd(a, axis=0)))
    return 8 * np.sqrt(len(a)) * np.finfo(float).eps * largest + np.finfo(a.dtype).eps * deviation


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("method", ["gram", "krylov", "sketch"])
@pytest.mark.parametrize("shape", [TALL, WIDE])
@pytest.mark.parametrize("center", [False, True])
def test_every_combination_equals_the_same_done_by_numpy(
    shape: tuple[int, int], method: str, dtype: str, center: bool
) -> None:
    divisors, factors = np.linspace(0.5, 2, shape[1]), np.linspace(0.0, 3, shape[1])
    for scaling, weighted, missing in COMBINATIONS:
        if method == "sketch" and (missing == "mean" or scaling == "std"):
            continue  # refused: it makes one pass only
        what = f"center={center} scale={scaling} weights={weighted} missing={missing}"
        scale = divisors if scaling == "array" else scaling
        weights = factors if weighted else None
        a = sample(shape, dtype, holes=missing == "mean")
        b, mean, used = by_numpy(a, center=center, scale=scale, weights=weights)
        r = lh.svd(
            a, rank=2, method=method, center=center, scale=scale, weights=weights, missing=missing,
            accuracy=0.9, memory=MEMORY,
        )  # fmt: skip
        c = r.certificate
        allowed = rounding(b, a.dtype, terms=min(shape))
        assert abs(c.norm - np.linalg.norm(b)) <= allowed, what
        if method == "gram":
            true = np.linalg.svd(b, compute_uv=False)[:2]
            assert largest_departure(r.s, true) <= allowed, what
        error = np.linalg.norm(b - (r.u * r.s.astype(float)) @ r.vh)
        slack = np.sqrt(min(shape)) * allowed
        assert error <= c.frobenius_bound + slack, what
        if method != "sketch":
            assert abs(error**2 - c.frobenius_error**2) <= 2 * slack * c.norm, what
        eps = np.finfo(float).eps
        if center:
            assert largest_departure(r.mean, mean) <= mean_rounding(a), what
        else:
            assert r.mean is None, what
        if scaling is not None:
            assert largest_departure(r.scale / used, np.ones(shape[1])) <= 1e3 * eps, what
        else:
            assert r.scale is None, what


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["gram", "krylov", "sketch"])
@pytest.mark.parametrize("shape", [TALL, WIDE])
def test_a_mean_far_above_the_deviation_costs_no_digits_beyond_those_stored(
    shape: tuple[int, int], method: str, dtype: type
) -> None:
    a = matrix_with_spectrum(shape, 0.5 ** np.arange(70), seed=5)
    a = (a / a.std() + 1e5).astype(dtype)
    b = a.astype(float) - a.mean(axis=0, dtype=float)  # exact but for one rounding
    true = np.linalg.svd(b, compute_uv=False)[:3]
    r = lh.svd(a, rank=3, method=method, center=True, memory=MEMORY, accuracy=0.01)
    # the mean itself has an error of eps64 * 1e5, felt in each of m n entries
    shift = 4 * np.finfo(float).eps * 1e5 * np.sqrt(a.size)
    allowed = rounding(b, dtype) + shift + (method != "gram") * 0.01 * true
    assert np.all(np.abs(r.s - true) <= allowed)
    error = np.linalg.norm(b - (r.u * r.s.astype(float)) @ r.vh)
    assert error <= r.certificate.frobenius_bound + np.sqrt(70) * rounding(b, dtype) + shift


@pytest.mark.parametrize("method", ["gram", "krylov"])
@pytest.mark.parametrize("shape", [TALL, WIDE, (333, 70)])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, 1e5 / 3])
def test_a_column_without_variance_is_not_blown_up(
    shape: tuple[int, int], method: str, center: bool, constant: float
) -> None:
    a = sample(shape, "float64", holes=False)
    a[:, [3, 11]] = constant
    r = lh.svd(a, rank=2, method=method, center=center, scale="std", accuracy=0.9, memory=MEMORY)
    deviation = a.std(axis=0)
    deviation[[3, 11]] = 1.0
    b = (a - a.mean(axis=0) * center) / deviation
    assert largest_departure(r.scale[[3, 11]], np.ones(2)) == 0
    # a mean is off by eps of the constant
    shift = 4 * np.finfo(float).eps * abs(constant) * np.sqrt(a.size)
    assert abs(r.certificate.norm - np.linalg.norm(b)) <= rounding(b, float) + shift
    if center and method == "gram":
        eps = np.finfo(float).eps
        assert np.max(np.abs(r.vh[:, [3, 11]])) <= 64 * eps * (1 + constant)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("scale", [None, "std"])
@pytest.mark.parametrize("shape", [TALL, WIDE])
def test_a_column_wholly_missing_counts_as_zeros(
    shape: tuple[int, int], center: bool, scale: str | None
) -> None:
    a = sample(shape, "float64", holes=True)
    a[:, 5] = np.nan
    zeros = a.copy()
    zeros[:, 5] = 0
    options = {"center": center, "scale": scale, "missing": "mean", "memory": MEMORY, "rank": 3}
    r, z = lh.svd(a, **options), lh.svd(zeros, **options)
    assert largest_departure(r.s, z.s) <= rounding(np.diag(z.s), float, terms=70)
    assert np.max(np.abs(r.vh[:, 5])) <= 64 * np.finfo(float).eps
    if center:
        assert r.mean[5] == 0


@pytest.mark.parametrize("method", ["gram", "krylov"])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_values_missing_from_the_rows_of_the_provisional_mean_are_found_later(
    method: str, dtype: str
) -> None:
    a = sample((2600, 70), dtype, holes=True)
    a[:1500, 4] = np.nan
    b, mean, _ = by_numpy(a, center=True, scale=None, weights=None)
    r = lh.svd(a, rank=2, method=method, center=True, missing="mean", memory=MEMORY)
    assert largest_departure(r.mean, mean) <= mean_rounding(a)
    true = np.linalg.svd(b, compute_uv=False)
    allowed = np.array(r.certificate.residuals) + rounding(b, dtype)
    assert np.all(nearest_distance(r.s, true) <= allowed)


@pytest.mark.parametrize("dtype", ["int16", "bool"])
@pytest.mark.parametrize("missing", ["raise", "mean"])
@pytest.mark.parametrize("shape", [(90, 30), (30, 90)])
def test_integers_and_booleans_are_conditioned_as_numbers(
    dtype: str, missing: str, shape: tuple[int, int]
) -> None:
    a = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)
    b, mean, _ = by_numpy(a, center=True, scale="std", weights=None)
    r = lh.svd(a, rank=4, center=True, scale="std", missing=missing, memory=MEMORY)
    assert largest_departure(r.s, np.linalg.svd(b, compute_uv=False)[:4]) <= rounding(b, float)
    assert largest_departure(r.mean, mean) <= 64 * np.finfo(float).eps


@pytest.mark.parametrize("shape", [TALL, WIDE])
def test_centring_leaves_left_factors_of_mean_zero(shape: tuple[int, int]) -> None:
    a = sample(shape, "float64", holes=False) + 1000
    r = lh.svd(a, rank=5, center=True, memory=MEMORY)
    # |1^T u| = |1^T A v| / s, and each column of A sums to m eps times its size
    allowed = 8 * shape[0] * np.finfo(float).eps * np.abs(a).max() * np.sqrt(shape[1]) / r.s
    assert np.all(np.abs(r.u.sum(axis=0)) <= allowed)


def test_weights_of_zero_remove_columns() -> None:
    a = sample((200, 40), "float64", holes=False)
    weights = np.ones(40)
    weights[10:] = 0
    r = lh.svd(a, rank=6, weights=weights, memory=MEMORY)
    true = np.linalg.svd(a[:, :10], compute_uv=False)[:6]
    assert largest_departure(r.s, true) <= rounding(a, float)
    assert np.max(np.abs(r.vh[:, 10:])) <= 64 * np.finfo(float).eps


@pytest.mark.parametrize(
    "options",
    [
        {"scale": np.zeros(8)}, {"scale": "mad"}, {"weights": -np.ones(8)},
        {"weights": np.full(8, np.nan)}, {"missing": "drop"},
        {"method": "sketch", "rank": 1, "scale": "std"}, {"method": "sketch"},
    ],
)  # fmt: skip
def test_conditioning_that_makes_no_sense_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        lh.svd(np.ones((20, 8)), **options)
