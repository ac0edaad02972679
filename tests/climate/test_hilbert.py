"""Complex EOFs are the SVD of the analytic signal, and hold a travelling wave in one mode."""

import numpy as np
import pytest
import xarray as xr
from scipy.signal import hilbert

from leptonhpc.climate import eof, hilbert_eof, plot_eof, project, reconstruct, rotate
from leptonhpc.errors import DTypeError, OptionError


def wave(times: int = 64, cells: int = 40) -> xr.DataArray:
    t, x = np.arange(times)[:, None], np.arange(cells)
    values = np.cos(2 * np.pi * (x / cells - t / 16)) + 0.3 * np.cos(2 * np.pi * t / 8) * (x > 20)
    return xr.DataArray(values, dims=("time", "x"), coords={"x": x}, name="wave")


@pytest.mark.parametrize("chunked", [False, True])
def test_modes_are_those_of_the_analytic_signal(field: xr.DataArray, chunked: bool) -> None:
    root = np.sqrt(np.cos(np.deg2rad(field.lat)))
    flat = (field * root).values.reshape(60, -1)
    sea = ~np.isnan(flat[0])
    signal = hilbert(flat[:, sea] - flat[:, sea].mean(axis=0), axis=0)
    u, s, vh = np.linalg.svd(signal, full_matrices=False)
    found = hilbert_eof(field.chunk(time=11, lon=5) if chunked else field, modes=3)
    np.testing.assert_allclose(found.singular_values, s[:3], rtol=1e-10)
    np.testing.assert_allclose(found.variance_fraction, (s**2 / np.sum(s**2))[:3], rtol=1e-10)
    maps = found.eofs.values.reshape(3, -1)
    assert np.array_equal(np.isnan(maps[0]), ~sea)
    assert np.all(np.abs(np.sum(maps[:, sea] * vh[:3].conj(), axis=1)) >= 1 - 1e-10)
    made = found.pcs.values @ maps[:, sea]
    expected = (u[:, :3] * s[:3]) @ vh[:3]
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-9 * s[0])


def test_travelling_wave_is_one_complex_mode_and_two_real_ones() -> None:
    moving = wave().where(wave().x >= 0)
    moving.values[...] = np.cos(2 * np.pi * (np.arange(40) / 40 - np.arange(64)[:, None] / 16))
    found = hilbert_eof(moving, modes=2, weights=None)
    np.testing.assert_allclose(found.variance_fraction, [1, 0], atol=1e-12)
    np.testing.assert_allclose(abs(found.eofs[0]), 40**-0.5, rtol=1e-9)
    real = eof(moving, modes=2, weights=None)
    np.testing.assert_allclose(real.variance_fraction, [0.5, 0.5], rtol=1e-9)


def test_real_part_of_all_modes_is_the_field(field: xr.DataArray) -> None:
    short = field.isel(time=slice(16))
    made = reconstruct(hilbert_eof(short, modes=15)).real
    np.testing.assert_allclose(made, short, rtol=0, atol=1e-9)


def test_few_eofs_first_change_little_when_the_rest_is_small() -> None:
    exact, fast = (hilbert_eof(wave(), modes=2, weights=None, eofs=k) for k in (None, 3))
    np.testing.assert_allclose(fast.eigenvalues, exact.eigenvalues, rtol=1e-6)
    # an even number of samples: the highest frequency counts once, not twice
    np.testing.assert_allclose(fast.total_variance, exact.total_variance, rtol=1e-6)


def test_what_needs_real_modes_refuses_complex_ones(field: xr.DataArray) -> None:
    found = hilbert_eof(field, modes=2)
    with pytest.raises(OptionError, match="complex"):
        rotate(found)
    with pytest.raises(OptionError, match="no analytic signal"):
        project(found, field)
    with pytest.raises(DTypeError, match="complex"):
        hilbert_eof(field * 1j)
    with pytest.raises(OptionError, match="from 1 to 3"):
        hilbert_eof(field, modes=4, eofs=3)
    assert plot_eof(found).axes


def test_unequal_steps_of_time_are_refused_and_calendar_months_are_not(
    field: xr.DataArray, rng: np.random.Generator
) -> None:
    assert hilbert_eof(field, modes=1).sizes["mode"] == 1
    for order in (rng.permutation(60), np.r_[0:30, 31:60], np.r_[0, 0:59]):
        with pytest.raises(
            OptionError, match=r"equal steps of time; those of air are from .* days"
        ):
            hilbert_eof(field.isel(time=order), modes=1)
    numbers = field.assign_coords(time=np.sort(rng.random(60)))
    with pytest.raises(OptionError, match="equal steps of time"):
        hilbert_eof(numbers, modes=1)
