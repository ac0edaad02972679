"""Tests of modes know noise from signals."""

import json

import numpy as np
import pytest
import xarray as xr

from leptonhpc.climate import bootstrap, eof, hilbert_eof, north_separated, rule_n
from leptonhpc.climate.significance import _noise_spectrum
from leptonhpc.errors import OptionError


def noise(rng: np.random.Generator, times: int = 80, cells: int = 30) -> xr.DataArray:
    return xr.DataArray(rng.standard_normal((times, cells)), dims=("time", "x"), name="noise")


def test_modes_nearer_than_their_errors_are_not_separated(field: xr.DataArray) -> None:
    modes = eof(field, modes=4)
    values = [10.0, 5.0, 4.9, 1.0]
    modes["eigenvalues"] = modes.eigenvalues.copy(data=values)
    modes["north_errors"] = modes.eigenvalues * np.sqrt(2 / 60)
    assert north_separated(modes).values.tolist() == [True, False, False, True]


@pytest.mark.parametrize(("rows", "columns"), [(7, 12), (12, 7)])
def test_spectrum_of_noise_has_the_moments_of_gaussian_matrices(
    rng: np.random.Generator, rows: int, columns: int
) -> None:
    """E tr(A A^T) = m n and E tr((A A^T)^2) = m n (m + n + 1), of which 4000 draws give 3 %."""
    draws = np.array([_noise_spectrum(rng, rows, columns) for _ in range(4000)])
    direct = np.array(
        [np.linalg.svd(rng.standard_normal((rows, columns)))[1] ** 2 for _ in range(4000)]
    )
    assert draws.shape == direct.shape
    product = rows * columns
    for moment, expected in ((1, product), (2, product * (rows + columns + 1))):
        assert np.mean(np.sum(draws**moment, axis=1)) == pytest.approx(expected, rel=0.03)
    # each ordered value by itself: 5 standard errors of the difference of two means
    error = np.sqrt((draws.var(axis=0) + direct.var(axis=0)) / 4000)
    assert np.all(np.abs(draws.mean(axis=0) - direct.mean(axis=0)) <= 5 * error)


def test_rule_n_finds_two_signals_in_noise(
    rng: np.random.Generator,
) -> None:
    plain = noise(rng)
    signal = np.outer(rng.standard_normal(80), np.sin(np.arange(30)))
    signal += np.outer(rng.standard_normal(80), np.cos(np.arange(30)))
    found = rule_n(eof(plain + 2 * signal, modes=5, weights=None), draws=200)
    assert found.significant.values.tolist() == [True, True, False, False, False]
    assert bool((found.threshold.diff("mode") < 0).all())
    few = rule_n(eof(plain, modes=5, weights=None), draws=200, cells=8)
    assert bool((few.threshold > found.threshold).all())
    with pytest.raises(OptionError, match="1 to 30"):
        rule_n(eof(plain, modes=2, weights=None), cells=31)
    with pytest.raises(OptionError, match="between 0 and 1"):
        rule_n(eof(plain, modes=2, weights=None), level=95)


def test_noise_exceeds_its_threshold_as_often_as_the_level_says(rng: np.random.Generator) -> None:
    modes = [eof(noise(rng), modes=1, weights=None) for _ in range(40)]
    threshold = float(rule_n(modes[0], draws=1000, level=0.9).threshold[0])
    exceeded = sum(float(found.variance_fraction[0]) > threshold for found in modes)
    # binomial (40, 0.1): outside of 0 to 11 with probability 4e-4
    assert exceeded <= 11
    assert exceeded >= 1


def test_draws_of_scores_are_draws_of_samples(field: xr.DataArray) -> None:
    """One draw by hand, with the same generator: the field itself, sampled anew."""
    found = bootstrap(field, modes=3, draws=2, weights=None, level=0.999999, seed=4)
    generator = np.random.default_rng(4)
    flat = field.values.reshape(60, -1)
    flat = flat[:, ~np.isnan(flat[0])]
    values = []
    for _ in range(2):
        some = flat[generator.integers(0, 60, 60)]
        values.append(np.linalg.svd(some - some.mean(axis=0), compute_uv=False)[:3] ** 2 / 59)
    twice = 2 * found.eigenvalues.values
    low, high = (np.maximum(twice - f(values, axis=0), 0) for f in (np.max, np.min))
    np.testing.assert_allclose(found.eigenvalues_low, low, rtol=1e-4)
    np.testing.assert_allclose(found.eigenvalues_high, high, rtol=1e-4)
    np.testing.assert_allclose(found.eigenvalues, eof(field, 3, weights=None).eigenvalues, 1e-10)


def test_intervals_widen_with_the_level(field: xr.DataArray) -> None:
    narrow, wide = (bootstrap(field, modes=2, draws=100, level=p) for p in (0.5, 0.9))
    assert bool((narrow.eigenvalues_low >= wide.eigenvalues_low).all())
    assert bool((narrow.variance_fraction_high <= wide.variance_fraction_high).all())
    blocks = bootstrap(field, modes=2, draws=50, block=6, eofs=5)
    assert json.loads(blocks.attrs["certificate"])["converged"]
    assert bool((blocks.eigenvalues_low < blocks.eigenvalues_high).all())


def test_mode_far_from_the_others_is_found_in_every_draw(rng: np.random.Generator) -> None:
    signal = 5 * np.outer(rng.standard_normal(80), np.sin(np.arange(30)))
    found = bootstrap(noise(rng) + signal, modes=3, draws=50, weights=None)
    assert float(found.congruence[0]) > 0.99
    assert float(found.congruence[2]) < 0.9


def test_draws_that_make_no_sense_are_refused(field: xr.DataArray) -> None:
    for options in ({"block": 31}, {"draws": 1}, {"modes": 80}):
        with pytest.raises(OptionError, match="from 1 to"):
            bootstrap(field, **options)
    with pytest.raises(OptionError, match="between 0 and 1"):
        bootstrap(field, level=95)


def test_cells_without_weight_are_not_counted_as_noise(rng: np.random.Generator) -> None:
    plain = noise(rng)
    weights = xr.DataArray(np.r_[np.ones(12), np.zeros(18)], dims="x")
    some = eof(plain, modes=3, weights=weights)
    with pytest.raises(OptionError, match="1 to 12"):
        rule_n(some, cells=13)
    few = eof(plain[:, :12], modes=3, weights=None)
    thresholds = (rule_n(one, draws=50).threshold for one in (some, few))
    np.testing.assert_array_equal(*thresholds)


def test_noise_of_real_fields_is_no_measure_of_complex_modes(field: xr.DataArray) -> None:
    with pytest.raises(OptionError, match="these are complex"):
        rule_n(hilbert_eof(field, modes=2))


def test_intervals_cover_the_true_variance(rng: np.random.Generator) -> None:
    """Quantiles of the draws themselves, biased upwards twice, cover it in 2 of 20."""
    covered = 0
    for _ in range(20):
        values = rng.standard_normal((30, 18)) * np.r_[2, np.ones(17)]
        field = xr.DataArray(values, dims=("time", "x"), name="spike")
        found = bootstrap(field, modes=1, draws=100, weights=None)
        assert float(found.eigenvalues_low[0]) >= 0
        assert float(found.variance_fraction_low[0]) >= 0
        covered += float(found.eigenvalues_low[0]) <= 4 <= float(found.eigenvalues_high[0])
    assert covered >= 13


def test_modes_that_are_not_separated_are_said_to_be_and_their_span_is_known(
    rng: np.random.Generator,
) -> None:
    scores = rng.standard_normal((300, 3)) * [3.0, 1.0, 1.0]
    scores = np.linalg.qr(scores - scores.mean(axis=0))[0] * [60.0, 20.0, 19.9]
    patterns = np.linalg.qr(rng.standard_normal((8, 3)))[0].T
    field = xr.DataArray(
        scores @ patterns + 0.01 * rng.standard_normal((300, 8)), dims=("time", "x")
    )
    found = bootstrap(field, modes=3, draws=60, weights=None)
    assert found.separated.values.tolist() == [True, False, False]
    # the pair turns in each draw, by any angle: its mean cosine is 2 / pi or so; its span stays
    assert found.congruence[1] < 0.9
    assert found.subspace_congruence[2] > 0.999
    assert found.congruence[0] > 0.99
    np.testing.assert_allclose(found.subspace_congruence[0], found.congruence[0] ** 2, atol=1e-3)
    whole = bootstrap(field, modes=3, draws=2, block=100, weights=None)
    assert not whole.separated.values[1:].any()
