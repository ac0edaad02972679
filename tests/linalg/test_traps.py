"""Where other tools are silently wrong: right here, a typed error, or said by the certificate."""

import warnings
from pathlib import Path

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc import store
from leptonhpc.errors import NotConvergedWarning, ShapeError
from leptonhpc.planning import Target
from leptonhpc.runtime.targets import Writer
from leptonhpc.testing import matrix_with_spectrum, nearest_distance, put, rounding, spectrum

MEMORY = "1 GB"
METHODS = ["gram", "krylov", "auto"]
MODES = 10
ACCURACY = 1e-3  # the drivers' default


def right_modes(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Give |cos| of the angle between rows found and the true ones."""
    return np.abs(np.sum(found * true.conj(), axis=1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1.0, 9e4])
@pytest.mark.parametrize("shape", [(400, 110), (110, 400)])
def test_small_modes_of_single_precision_are_not_lost(
    method: str, size: float, shape: tuple[int, int]
) -> None:
    values = size * spectrum("halving", 110)
    a = matrix_with_spectrum(shape, values, dtype=np.float32)
    r = lh.svd(a, rank=MODES, method=method, memory=MEMORY)
    u, s, vh = np.linalg.svd(a.astype(float), full_matrices=False)
    assert np.all(np.abs(r.s - s[:MODES]) <= ACCURACY * s[:MODES])
    # an angle is at most residual / gap (Davis and Kahan 1970); neighbours differ by 0.2 s at least
    cosine = np.sqrt(1 - (ACCURACY / 0.1) ** 2)
    assert np.all(right_modes(r.vh, vh[:MODES]) >= cosine)
    assert np.all(right_modes(r.u.conj().T, u[:, :MODES].conj().T) >= cosine)


@pytest.mark.parametrize("method", METHODS)
def test_modes_under_an_annual_cycle_thirty_times_larger_are_right(
    method: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    months, points = 600, 120
    season = np.outer(np.sin(2 * np.pi * np.arange(months) / 12), rng.standard_normal(points))
    season *= 30 / np.linalg.norm(season)
    rest = matrix_with_spectrum((months, points), 0.85 ** np.arange(points))
    field = (280 + season + rest).astype(np.float32)
    place = put(field, tmp_path / "field.zarr", chunks=(50, 40))
    r = lh.svd(place, rank=MODES, method=method, center=True, memory=MEMORY)
    anomalies = field.astype(float) - field.mean(axis=0, dtype=float)
    _, s, vh = np.linalg.svd(anomalies, full_matrices=False)
    # anomalies are rounded once: what is 280 times larger left rounding of 280 eps in each value
    allowed = ACCURACY * s[:MODES] + rounding(anomalies, np.float32, factor=2)
    assert np.all(np.abs(r.s - s[:MODES]) <= allowed)
    gap = np.min(-np.diff(s[: MODES + 1]) / s[:MODES])
    assert np.all(right_modes(r.vh, vh[:MODES]) >= np.sqrt(1 - (2 * ACCURACY / gap) ** 2))


# one pass does not reach the accuracy, and says so
@pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")
@pytest.mark.parametrize("method", [*METHODS, "sketch"])
@pytest.mark.parametrize("shape", [(300, 100), (100, 300)])
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_factors_are_conjugated_not_only_transposed(
    method: str, shape: tuple[int, int], dtype: type
) -> None:
    a = matrix_with_spectrum(shape, 0.3 ** np.arange(100.0), dtype=dtype)
    r = lh.svd(a, rank=4, method=method, accuracy=0.5, memory=MEMORY)
    error = np.linalg.norm(a - (r.u * r.s) @ r.vh)
    assert error <= r.certificate.frobenius_bound + rounding(a, dtype)
    # the best error is 0.3^4 / sqrt(1 - 0.09); one pass of width 2k + 8 is within twice of it
    assert error <= 2 * 0.3**4 / np.sqrt(1 - 0.09)
    if method != "sketch":
        assert np.linalg.norm(r.u.conj().T @ a @ r.vh.conj().T - np.diag(r.s)) <= 4 * rounding(
            a, dtype, terms=max(shape)
        )


def test_writing_that_is_not_aligned_with_storage_units_is_impossible(tmp_path: Path) -> None:
    array = store.create_array(
        tmp_path / "a.zarr", shape=(20, 20), dtype="f8", chunks=(2, 2), shards=(8, 8)
    )
    before = array.read(((0, 20), (0, 20)))
    with pytest.raises(ShapeError, match="whole units"):
        array.write_units((0, 0), np.ones((2, 2)))  # a chunk, not a shard
    with pytest.raises(ShapeError, match="whole units"):
        array.write_units((0, 0), np.ones((8, 12)))
    with pytest.raises(ShapeError, match="whole units"):
        array.write_units((2, 2), np.ones((5, 4)))  # over the edge
    writer = Writer(Target("u", (20, 20), "<f8", (8, 8)), array)
    with pytest.raises(ShapeError, match="unit"):
        writer.write(((4, 12), (0, 8)), np.ones((8, 8)))
    assert np.array_equal(array.read(((0, 20), (0, 20))), before)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("passes", [1, 2, 10])
def test_a_slow_spectrum_is_right_or_said_not_to_be(method: str, passes: int) -> None:
    a = matrix_with_spectrum((400, 200), spectrum("slow", 200))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NotConvergedWarning)
        r = lh.svd(a, rank=MODES, method=method, most_passes=passes, memory=MEMORY)
    true = spectrum("slow", 200)
    residuals = np.array(r.certificate.residuals)
    assert np.all(nearest_distance(r.s, true) <= residuals + r.certificate.rounding)
    if r.certificate.converged:
        assert not caught
        assert np.all(np.abs(r.s - true[:MODES]) <= ACCURACY * true[:MODES])
    else:
        assert len(caught) == 1
        assert np.any(residuals > ACCURACY * r.s)


@pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.float64])
@pytest.mark.parametrize("rank", [10, 27, 40])
def test_what_converged_has_small_residuals_in_every_mode(
    method: str, dtype: type, rank: int
) -> None:
    # values fall by 0.7^40 = 6e-7: their squares are beyond single precision, they are not
    a = matrix_with_spectrum((400, 260), 0.7 ** np.arange(260), dtype=dtype)
    true = np.linalg.svd(a.astype(np.result_type(a, float)), compute_uv=False)[:rank]
    r = lh.svd(a, rank=rank, method=method, memory=MEMORY)
    c = r.certificate
    if c.converged:
        assert np.all(np.array(c.residuals) <= ACCURACY * r.s + 8 * c.rounding)
        assert np.all(np.abs(r.s - true) <= ACCURACY * true + 8 * c.rounding)


def test_one_pass_over_a_slow_spectrum_does_not_claim_to_have_converged() -> None:
    a = matrix_with_spectrum((400, 200), spectrum("slow", 200))
    with pytest.warns(NotConvergedWarning):
        r = lh.svd(a, rank=MODES, method="sketch", memory=MEMORY)
    assert np.linalg.norm(a - (r.u * r.s) @ r.vh) <= r.certificate.frobenius_bound
