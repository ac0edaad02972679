"""Gaps are filled by modes: what is there stays, and an independent EM gives the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from leptonhpc.climate import eof, fill_gaps
from leptonhpc.climate.gappy import Fit
from leptonhpc.errors import DTypeError, NonFiniteError, NotConvergedWarning, OptionError

NOISE = 0.05


@pytest.fixture
def whole(rng: np.random.Generator) -> xr.DataArray:
    """Two modes, a little noise, a mean of 15 and one cell of land."""
    scores = rng.standard_normal((40, 2)) * [3, 1]
    values = np.tensordot(scores, rng.standard_normal((2, 5, 7)), 1) + 15
    values += NOISE * rng.standard_normal(values.shape)
    values[:, 2, 3] = np.nan
    lat = np.linspace(-50, 50, 5)
    return xr.DataArray(values, dims=("time", "lat", "lon"), coords={"lat": lat}, name="sst")


@pytest.fixture
def gappy(whole: xr.DataArray, rng: np.random.Generator) -> xr.DataArray:
    return whole.where(rng.random(whole.shape) > 0.15)


def em(matrix: NDArray[np.float64], modes: int, iterations: int) -> NDArray[np.float64]:
    """Fill by the plainest code there is."""
    missing = np.isnan(matrix)
    filled = np.where(missing, np.nanmean(matrix, axis=0), matrix)
    for number in range(1, modes + 1):
        for _ in range(iterations):
            mean = filled.mean(axis=0)
            u, s, vh = np.linalg.svd(filled - mean, full_matrices=False)
            fit = mean + (u[:, :number] * s[:number]) @ vh[:number]
            filled = np.where(missing, fit, matrix)
    return filled


@pytest.mark.parametrize("chunks", [None, {"time": 26, "lat": 4}])
def test_gaps_are_filled_as_by_hand(
    whole: xr.DataArray, gappy: xr.DataArray, chunks: dict[str, int] | None
) -> None:
    given = gappy if chunks is None else gappy.chunk(chunks)
    found = fill_gaps(given, 2, tol=1e-7)
    assert found.dims == gappy.dims
    there = gappy.notnull()
    assert bool((found == gappy).where(there, True).all())
    assert np.array_equal(found.isnull(), whole.isnull())
    flat = gappy.values.reshape(40, -1)
    sea = ~np.isnan(whole.values[0]).ravel()
    expected = em(flat[:, sea], 2, 40)
    # the last change was 1e-7 of modes of size 150, and all to come is a few times as much
    np.testing.assert_allclose(found.values.reshape(40, -1)[:, sea], expected, rtol=0, atol=1e-4)


def test_number_of_modes_is_found_and_errors_are_those_of_the_noise(
    whole: xr.DataArray, gappy: xr.DataArray
) -> None:
    found = fill_gaps(gappy, most_modes=4)
    errors = json.loads(found.attrs["filled_errors"])
    assert found.attrs["filled_modes"] == int(np.argmin(errors))
    assert found.attrs["filled_modes"] >= 2
    assert errors[1] > 5 * errors[2]
    gaps = gappy.isnull() & whole.notnull()
    error = float(((found - whole) ** 2).where(gaps).mean()) ** 0.5
    assert NOISE / 2 < error < 2 * NOISE


def test_eof_of_a_gappy_field_is_that_of_the_filled_one(
    whole: xr.DataArray, gappy: xr.DataArray, tmp_path: Path
) -> None:
    gappy.to_dataset().to_zarr(tmp_path / "x.zarr", consolidated=False)
    found = eof(tmp_path / "x.zarr", modes=2, gaps="em")
    np.testing.assert_allclose(found.eigenvalues, eof(fill_gaps(gappy), 2).eigenvalues, rtol=1e-9)
    # 15 % of the values are known to the noise only
    truth = eof(whole, modes=2)
    np.testing.assert_allclose(found.variance_fraction, truth.variance_fraction, atol=NOISE / 5)
    assert bool((abs((found.eofs * truth.eofs).sum(("lat", "lon"))) > 0.999).all())


def test_distance_of_fits_is_that_of_their_matrices(rng: np.random.Generator) -> None:
    one, other = (
        Fit(rng.standard_normal(9), rng.standard_normal((7, k)), rng.standard_normal((k, 9)))
        for k in (2, 3)
    )
    fields = [fit.mean + fit.scores @ fit.patterns for fit in (one, other)]
    size = np.linalg.norm(one.scores @ one.patterns)
    expected = np.linalg.norm(fields[0] - fields[1]) / size
    assert one.distance(other) == pytest.approx(expected, rel=1e-12)
    assert one.distance(one) <= 1e-7
    assert one.at([3, 0], [8, 1]) == pytest.approx([fields[0][3, 8], fields[0][0, 1]], rel=1e-12)


def test_what_cannot_be_filled_is_refused(gappy: xr.DataArray) -> None:
    empty = gappy.copy()
    empty[7] = np.nan
    with pytest.raises(NonFiniteError, match="no value at time=7"):
        fill_gaps(empty, 1)
    with pytest.raises(OptionError, match="from 1 to 33"):
        fill_gaps(gappy, 34)
    with pytest.raises(OptionError, match="share"):
        fill_gaps(gappy, share=0.9)
    with pytest.raises(DTypeError, match="complex"):
        fill_gaps(gappy * 1j, 1)
    with pytest.warns(NotConvergedWarning, match="did not settle"):
        fill_gaps(gappy, 1, most_iterations=1)


def test_no_mode_is_taken_where_the_mean_finds_withheld_values_best(
    rng: np.random.Generator,
) -> None:
    noise = rng.standard_normal((60, 20))
    noise[rng.random(noise.shape) < 0.1] = np.nan
    field = xr.DataArray(noise, dims=("time", "x"), name="noise")
    found = fill_gaps(field, most_modes=3)
    assert found.attrs["filled_modes"] == 0
    mean = np.broadcast_to(np.nanmean(noise, axis=0), noise.shape)
    gaps = np.isnan(noise)
    # sums of 60 numbers near one
    np.testing.assert_allclose(found.values[gaps], mean[gaps], rtol=0, atol=1e-14)


def test_infinite_values_are_refused_and_named(gappy: xr.DataArray) -> None:
    broken = gappy.copy()
    broken[3, 4, 6] = np.inf
    with pytest.raises(NonFiniteError, match="sst is inf at time=3, lat=50.0, lon=6"):
        fill_gaps(broken, 1)
