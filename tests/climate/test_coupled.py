"""Coupled modes equal those of the covariance matrix itself."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from leptonhpc.climate import cca, mca
from leptonhpc.errors import OptionError, ShapeError

EPS = np.finfo(float).eps
Pair = tuple[xr.DataArray, xr.DataArray]


@pytest.fixture
def pair(make_field: Callable[..., xr.DataArray], rng: np.random.Generator) -> Pair:
    """Two fields that share three signals; the second on another grid."""
    left = make_field(50, name="sst")
    right = make_field(50, lats=7, lons=8, name="rain").rename(lat="y", lon="x")
    signals = left.values[:, [0, 4, 8], [0, 6, 9]] - 280
    right = right + np.tensordot(signals, rng.standard_normal((3, 7, 8)), 1)
    return left, right.rename("rain")


def plain(field: xr.DataArray) -> NDArray[np.float64]:
    flat = field.values.reshape(len(field), -1)
    flat = flat[:, ~np.isnan(flat[0])]
    return flat - flat.mean(axis=0)


def flat(patterns: xr.DataArray) -> NDArray[np.float64]:
    rows = patterns.values.reshape(len(patterns), -1)
    return rows[:, ~np.isnan(rows[0])]


@pytest.mark.parametrize("chunked", [False, True])
def test_maximum_covariance_is_the_svd_of_the_covariance_matrix(pair: Pair, chunked: bool) -> None:
    x, y = plain(pair[0]), plain(pair[1])
    u, s, vh = np.linalg.svd(x.T @ y / 49, full_matrices=False)
    given = (pair[0].chunk(time=9, lat=4), pair[1].chunk(time=20, x=3)) if chunked else pair
    found = mca(*given, modes=3, weights=None)
    np.testing.assert_allclose(found.covariances, s[:3], rtol=1e-10)
    share = s[:3] ** 2 / np.sum(s**2)
    np.testing.assert_allclose(found.squared_covariance_fraction, share, rtol=1e-10)
    left, right = flat(found.patterns_left), flat(found.patterns_right)
    assert np.all(np.abs(np.sum(left * u[:, :3].T, axis=1)) >= 1 - 1e-10)
    assert np.all(np.abs(np.sum(right * vh[:3], axis=1)) >= 1 - 1e-10)
    size = 1e-10 * np.linalg.norm(x)
    np.testing.assert_allclose(found.scores_left, x @ left.T, rtol=0, atol=size)
    np.testing.assert_allclose(found.scores_right, y @ right.T, rtol=0, atol=size)
    pairs = zip(found.scores_left.values.T, found.scores_right.values.T, strict=True)
    expected = [np.corrcoef(one, other)[0, 1] for one, other in pairs]
    np.testing.assert_allclose(found.correlations, expected, rtol=1e-10)


def test_maximum_covariance_of_a_field_with_itself_is_its_eofs(field: xr.DataArray) -> None:
    other = field.rename("other").rename(lat="y", lon="x")
    other["y"].attrs["units"] = "degrees_north"
    found = mca(field, other, modes=2)
    weighted = field * np.sqrt(np.cos(np.deg2rad(field.lat)))
    s = np.linalg.svd(plain(weighted.transpose("time", "lat", "lon")), compute_uv=False)
    np.testing.assert_allclose(found.covariances, s[:2] ** 2 / 59, rtol=1e-10)
    np.testing.assert_allclose(found.correlations, 1, rtol=1e-12)


def test_canonical_correlations_are_those_of_the_leading_scores(pair: Pair) -> None:
    x, y = plain(pair[0]), plain(pair[1])
    ux, sx, vx = np.linalg.svd(x, full_matrices=False)
    uy = np.linalg.svd(y, full_matrices=False)[0]
    found = cca(*pair, modes=3, eofs=6, weights=None)
    # angles between subspaces, by QR of the scores themselves (Bjorck and Golub 1973)
    expected = np.linalg.svd(ux[:, :6].T @ uy[:, :6], compute_uv=False)
    np.testing.assert_allclose(found.correlations, expected[:3], rtol=1e-5)
    left, right = found.scores_left.values, found.scores_right.values
    np.testing.assert_allclose(left.T @ left / 49, np.eye(3), atol=1e-10)
    np.testing.assert_allclose(left.T @ right / 49, np.diag(found.correlations.values), atol=1e-10)
    covariance = left.T @ (ux[:, :6] * sx[:6]) @ vx[:6] / 49
    bound = 1e-5 * np.abs(covariance).max()
    np.testing.assert_allclose(flat(found.patterns_left), covariance, rtol=0, atol=bound)


def test_pairs_that_do_not_fit_are_refused(pair: Pair) -> None:
    left, right = pair
    with pytest.raises(ShapeError, match="same time"):
        mca(left, right.isel(time=slice(40)), weights=None)
    with pytest.raises(ShapeError, match="different lat.*rename"):
        mca(left, right.rename(y="lat"), weights=None)
    with pytest.raises(OptionError, match="from 1 to 49"):
        mca(left, right, modes=50, weights=None)
    with pytest.raises(OptionError, match="eofs is from 1 to"):
        cca(left, right, eofs=50, weights=None)
    with pytest.raises(OptionError, match="eofs is from 1 to"):
        cca(left, right, eofs=0, weights=None)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_eofs_that_are_rounding_do_not_correlate(rng: np.random.Generator, dtype: str) -> None:
    """Unrelated fields of five columns, each four times: more EOFs than five are rounding."""
    columns = [np.repeat(rng.standard_normal((60, 5)), 4, axis=1).astype(dtype) for _ in "lr"]
    left, right = (
        xr.DataArray(values, dims=("time", dim), name=name)
        for values, dim, name in zip(columns, "xy", ("left", "right"), strict=True)
    )
    with pytest.raises(OptionError, match="left has the numerical rank 5, and eofs is 10"):
        cca(left, right, 2, eofs=10, weights=None)
    found = cca(left, right, 2, eofs=5, weights=None)
    x, y = (np.linalg.qr(c[:, ::4] - c[:, ::4].mean(axis=0, dtype="f8"))[0] for c in columns)
    expected = np.linalg.svd(x.T @ y, compute_uv=False)[:2]
    # products of 60 terms, of orthonormal columns
    np.testing.assert_allclose(found.correlations, expected, atol=600 * np.finfo(dtype).eps)


def test_correlations_do_not_exceed_one(pair: Pair) -> None:
    other = pair[0].rename("other").rename(lat="y", lon="x")
    found = cca(pair[0], other, 4, eofs=4, weights=None)
    assert bool((found.correlations <= 1).all())
    # orthonormal to rounding: sums of 50 products
    np.testing.assert_allclose(found.correlations, 1, atol=100 * EPS)


@pytest.mark.parametrize("long", [False, True])
def test_fractions_are_of_the_whole_fields_though_few_eofs_are_kept(pair: Pair, long: bool) -> None:
    given = pair
    if long:  # more samples than cells: another product is the smaller one
        given = (pair[0].isel(lat=slice(0, 3), lon=slice(0, 3)), pair[1].isel(y=0, x=slice(0, 5)))
    x, y = (plain(one) for one in given)
    covariance = x.T @ y / 49
    whole = np.sum(covariance**2)
    left, right = (np.linalg.svd(one)[2][:2].T for one in (x, y))
    held = np.linalg.svd(left.T @ covariance @ right, compute_uv=False)
    measured, bounded = (
        mca(*given, modes=2, weights=None, eofs=2, total=total) for total in ("measured", "bounded")
    )
    # products of n terms, and EOFs that are found to a residual of 1e-6
    rounding = 100 * x.shape[0] * EPS
    np.testing.assert_allclose(measured.total_squared_covariance, whole, rtol=rounding)
    np.testing.assert_allclose(
        measured.squared_covariance_fraction, held**2 / whole, rtol=1e-5, atol=1e-9
    )
    assert held[0] ** 2 / np.sum(held**2) > 1.01 * held[0] ** 2 / whole  # what was said before
    low, high = (float(bounded[f"total_squared_covariance{end}"]) for end in ("_least", ""))
    assert low < whole < high
    # what is between: the last singular value of one, and the norm of what is left of the other
    sides = [np.linalg.svd(one, compute_uv=False) for one in (x, y)]
    width = min(one[1] ** 2 * np.sum(other[2:] ** 2) for one, other in (sides, sides[::-1])) / 49**2
    assert high - low <= width * (1 + 1e-4)
    least, most = (bounded[f"squared_covariance_fraction{end}"].values for end in ("", "_most"))
    assert np.all(least < measured.squared_covariance_fraction)
    assert np.all(most > measured.squared_covariance_fraction)


def test_fractions_of_complex_fields_add_up_to_one(pair: Pair, rng: np.random.Generator) -> None:
    turned = [one * np.exp(1j * rng.random(one.shape[1:])) for one in pair]
    whole, kept = (
        mca(*(one.rename(name) for one, name in zip(turned, "ab", strict=True)), modes=3,
            weights=None, eofs=eofs, total="measured")
        for eofs in (None, 10)
    )  # fmt: skip
    ratio = whole.total_squared_covariance / kept.total_squared_covariance
    np.testing.assert_allclose(ratio, 1, rtol=100 * 50 * EPS)
    np.testing.assert_allclose(kept.squared_covariance_fraction.sum(), 1, atol=0.05)


def test_weights_are_for_both_fields_or_for_each(pair: Pair) -> None:
    with pytest.raises(ShapeError, match="a list of 2; found 3"):
        mca(*pair, weights=[None, None, None])
