"""Rotation keeps the field and makes loadings simple."""

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from leptonhpc.climate import eof, north_separated, project, reconstruct, rotate, rule_n
from leptonhpc.errors import NotConvergedWarning, OptionError


def simplicity(loadings: NDArray[np.float64]) -> float:
    """The varimax criterion: variance of squared loadings, summed over modes."""
    return float(np.var(loadings**2, axis=0).sum())


def loadings(modes: xr.Dataset) -> NDArray[np.float64]:
    flat = modes.eofs.values.reshape(modes.sizes["mode"], -1)
    flat = flat[:, ~np.isnan(flat[0])].T
    return flat * np.sqrt(modes.eigenvalues.values)


@pytest.mark.parametrize("method", ["varimax", "promax"])
def test_rotated_modes_hold_the_same_field(field: xr.DataArray, method: str) -> None:
    modes = eof(field, modes=4)
    turned = rotate(modes, method=method)  # type: ignore[arg-type]
    bound = 1e-10 * float(abs(reconstruct(modes, mean=False)).max())
    np.testing.assert_allclose(reconstruct(turned), reconstruct(modes), rtol=0, atol=bound)
    np.testing.assert_allclose(turned.pcs.var("time", ddof=1), turned.eigenvalues, rtol=1e-9)
    np.testing.assert_allclose((turned.eofs**2).sum(("lat", "lon")), 1, rtol=1e-12)
    assert bool((turned.eigenvalues.diff("mode") <= 0).all())
    assert np.array_equal(turned.eofs.isnull(), modes.eofs.isnull())
    np.testing.assert_allclose(project(turned, field), turned.pcs, rtol=0, atol=1e-4)


def test_varimax_is_orthogonal_and_no_plane_rotation_makes_it_simpler(field: xr.DataArray) -> None:
    modes = eof(field, modes=4)
    turned = rotate(modes)
    r = turned.rotation.values
    np.testing.assert_allclose(r.T @ r, np.eye(4), atol=1e-13)
    np.testing.assert_allclose(loadings(modes) @ r, loadings(turned), atol=1e-10)
    share = float(turned.variance_fraction.sum())
    assert share == pytest.approx(float(modes.variance_fraction.sum()), rel=1e-12)
    best = simplicity(loadings(turned))
    assert best > simplicity(loadings(modes))
    for i in range(4):
        for j in range(i):
            for angle in np.deg2rad([-30, -5, -1, 1, 5, 30]):
                plane = np.eye(4)
                plane[[i, j], [i, j]] = np.cos(angle)
                plane[i, j], plane[j, i] = np.sin(angle), -np.sin(angle)
                assert simplicity(loadings(turned) @ plane) <= best * (1 + 1e-9)


def test_modes_apart_in_space_are_found_again_from_a_mixture(rng: np.random.Generator) -> None:
    """Two regions with equal variance: EOFs mix them at will, varimax takes them apart."""
    left, right = np.zeros(20), np.zeros(20)
    left[2:8], right[12:18] = 1, 1
    q, _ = np.linalg.qr(np.column_stack([np.ones(80), rng.standard_normal((80, 2))]))
    values = 10 * np.outer(q[:, 1] + q[:, 2], left) + 10 * np.outer(q[:, 1] - q[:, 2], right)
    field = xr.DataArray(values * 1.0, dims=("time", "x"), name="two")
    field = field + 1e-9 * rng.standard_normal(field.shape)
    turned = rotate(eof(field, modes=2, weights=None))
    for mode in turned.eofs.values:
        where = np.abs(mode) > 0.1
        assert np.array_equal(where, left > 0) or np.array_equal(where, right > 0)


def test_promax_of_power_one_is_varimax_and_more_is_simpler(field: xr.DataArray) -> None:
    modes = eof(field, modes=3)
    varimax = rotate(modes)
    one, four = (rotate(modes, method="promax", power=p) for p in (1, 4))
    np.testing.assert_allclose(abs(one.eofs), abs(varimax.eofs), atol=1e-9)
    assert float(abs(four.eofs - varimax.eofs).max()) > 1e-3
    small = [float((abs(found.eofs) < 0.02).mean()) for found in (varimax, four)]
    assert small[1] >= small[0]


def test_kaiser_weights_change_the_rotation_and_not_the_field(field: xr.DataArray) -> None:
    modes = eof(field, modes=3)
    turned = rotate(modes, 2, kaiser=True)
    assert turned.sizes["mode"] == 2
    np.testing.assert_allclose(reconstruct(turned), reconstruct(modes, which=2), rtol=0, atol=1e-9)


def test_what_cannot_be_rotated_is_refused(field: xr.DataArray) -> None:
    modes = eof(field, modes=3)
    for options, words in (
        ({"n_modes": 4}, "2 to 3"),
        ({"n_modes": 2.5}, "n_modes is a whole number; found 2.5"),
        ({"most_iterations": 0}, "at least 1"),
        ({"method": "quartimax"}, "promax"),
        ({"method": "promax", "power": 0}, "power"),
    ):
        with pytest.raises(OptionError, match=words):
            rotate(modes, **options)  # type: ignore[arg-type]
    with pytest.warns(NotConvergedWarning, match="did not settle"):
        rotate(modes, most_iterations=1)


def test_order_of_dimensions_does_not_matter(field: xr.DataArray) -> None:
    modes = eof(field, modes=3)
    xr.testing.assert_equal(rotate(modes.transpose(..., "mode")), rotate(modes))


def test_rotated_modes_are_not_rotated_again_and_have_no_sampling_errors(
    field: xr.DataArray,
) -> None:
    turned = rotate(eof(field, modes=3))
    with pytest.raises(OptionError, match="rotated already, by varimax"):
        rotate(turned)
    with pytest.raises(OptionError, match="these are rotated"):
        north_separated(turned)
    with pytest.raises(OptionError, match="these are rotated"):
        rule_n(turned)
    with pytest.raises(OptionError, match="seed is not negative"):
        rule_n(eof(field, modes=3), seed=-1)
