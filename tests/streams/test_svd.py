"""The SVD of a stream is that of its rows, to rounding or within the bound that it gives."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from scipy.sparse import csr_array

import leptonhpc as lh
from leptonhpc.errors import (
    DTypeError,
    MemoryBudgetError,
    NonFiniteError,
    NumericRangeError,
    OptionError,
    ShapeError,
)
from leptonhpc.streams import DriftMonitor, IncrementalSVD, append, principal_angles
from leptonhpc.testing import matrix_with_spectrum

EPS = np.finfo(np.float64).eps


def weighted(x: Any, forgetting: float, *, center: bool) -> Any:
    """Give the rows whose SVD the model follows, all at once."""
    w = forgetting ** np.arange(len(x) - 1, -1, -1.0)
    mean = (w @ x) / w.sum() if center else 0.0
    return np.sqrt(w)[:, np.newaxis] * (x - mean)


@given(
    cuts=st.lists(st.integers(1, 39), max_size=6),
    center=st.booleans(),
    forgetting=st.sampled_from([1.0, 0.95, 0.5]),
    complex_=st.booleans(),
)
def test_nothing_depends_on_batches_where_nothing_is_cut_off(
    cuts: list[int], center: bool, forgetting: float, complex_: bool
) -> None:
    rng = np.random.default_rng(7)
    x = rng.standard_normal((40, 6)) + 3.0
    if complex_:
        x = x + 1j * rng.standard_normal((40, 6))
    model = IncrementalSVD(6, center=center, forgetting=forgetting)
    for batch in np.split(x, sorted(set(cuts))):
        model.partial_fit(batch)
    a = weighted(x, forgetting, center=center)
    s = np.linalg.svd(a, compute_uv=False)
    # a backward stable SVD of at most 40 + 7 rows for each batch; 4 for its constant
    bound = 4 * 47 * (len(cuts) + 1) * EPS * np.linalg.norm(x)
    assert np.all(np.abs(model.s - s) <= bound)
    assert model.rows == 40
    assert model.lost == 0.0
    gram = model.vh.conj().T @ np.diag(model.s**2) @ model.vh
    assert np.linalg.norm(gram - a.conj().T @ a) <= 2 * bound * np.linalg.norm(x)
    assert abs(model.square - np.linalg.norm(a) ** 2) <= 2 * bound * np.linalg.norm(x)
    assert np.allclose(model.explained.sum(), 1, rtol=1000 * EPS)


@pytest.mark.parametrize("forgetting", [1.0, 0.99])
@pytest.mark.parametrize("spare", [0, 4])
def test_true_singular_values_are_within_the_bound(
    rng: np.random.Generator, forgetting: float, spare: int
) -> None:
    x = matrix_with_spectrum((300, 40), 0.8 ** np.arange(40.0), seed=3)
    x = x[rng.permutation(300)]
    model = IncrementalSVD(5, forgetting=forgetting, spare=spare).fit(np.split(x, 30))
    a = weighted(x, forgetting, center=False)
    s = np.linalg.svd(a, compute_uv=False)[:5]
    rounding = 4 * 60 * 30 * EPS * s[0]
    assert model.lost > 0
    assert np.all(model.s <= s + rounding)
    assert np.all(s <= model.upper + rounding)
    # A^H A less the model's is positive semidefinite and of norm at most `lost`
    kept = model._merged
    assert kept is not None
    gap = a.T @ a - kept.vh.T @ np.diag(kept.s**2) @ kept.vh
    values = np.linalg.eigvalsh(gap)
    assert values[0] >= -rounding * s[0]
    assert values[-1] <= model.lost + rounding * s[0]
    assert abs(model.square - np.linalg.norm(a) ** 2) <= rounding * s[0]


def test_spare_triplets_make_the_bound_smaller() -> None:
    x = matrix_with_spectrum((300, 40), 0.8 ** np.arange(40.0), seed=3)
    lost = [IncrementalSVD(5, spare=spare).fit(np.split(x, 30)).lost for spare in (0, 5, 20)]
    # what is cut off is about as the squares of the spectrum: 0.8^2 for each spare triplet
    assert lost[1] < 2 * 0.8**10 * lost[0]
    assert lost[2] < 2 * 0.8**30 * lost[1]


def test_a_large_mean_does_not_cancel(rng: np.random.Generator) -> None:
    noise = rng.standard_normal((200, 5))
    model = IncrementalSVD(5, center=True).fit(np.split(noise + 1e6, 8))
    s = np.linalg.svd(noise - noise.mean(0), compute_uv=False)
    # storing noise + 1e6 loses eps * 1e6 of each entry
    assert np.all(np.abs(model.s - s) <= 4 * EPS * 1e6 * np.sqrt(noise.size))
    assert np.all(np.abs(model.mean - 1e6 - noise.mean(0)) <= 8 * EPS * 1e6)


def test_single_precision_stays_single(rng: np.random.Generator) -> None:
    x = rng.standard_normal((60, 8)).astype("f4")
    model = IncrementalSVD(3).fit(np.split(x, 6))
    assert (model.vh.dtype, model.s.dtype) == (np.dtype("f4"), np.dtype("f4"))
    for dtype, taken in (("i2", "f8"), ("f2", "f4"), ("longdouble", "f8")):
        assert IncrementalSVD(1).partial_fit(np.ones((2, 2), dtype)).vh.dtype == taken


def test_principal_components_agree_with_scikit_learn(rng: np.random.Generator) -> None:
    from sklearn.decomposition import IncrementalPCA

    x = rng.standard_normal((120, 10)) @ np.diag(0.6 ** np.arange(10.0)) + 2
    ours = IncrementalSVD(3, center=True, spare=0).fit(np.split(x, 6))
    theirs = IncrementalPCA(3).fit(x)  # to begin with its attributes
    theirs = IncrementalPCA(3)
    for batch in np.split(x, 6):
        theirs.partial_fit(batch)
    assert np.allclose(ours.s, theirs.singular_values_, rtol=1000 * EPS)
    assert np.allclose(ours.mean, theirs.mean_, rtol=1000 * EPS)
    angles = principal_angles(ours.vh, theirs.components_)
    assert angles[-1] < 1e4 * EPS


def test_a_growing_array_is_followed_and_nothing_is_taken_twice(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    x, path = rng.standard_normal((95, 6)), tmp_path / "x"
    model = IncrementalSVD(6)
    for piece in np.split(x, [30, 31, 70]):
        append(path, piece, chunk_rows=8)
        model.extend(path)
        model.extend(path)
    s = np.linalg.svd(x, compute_uv=False)
    assert np.all(np.abs(model.s - s) <= 4 * 47 * 20 * EPS * s[0])
    whole = IncrementalSVD(6).fit(str(path))
    assert whole.rows == 95
    assert np.all(np.abs(whole.s - s) <= 4 * 47 * 20 * EPS * s[0])
    with pytest.raises(ShapeError, match=r"rows 95 and on .* has shape \(4, 6\)"):
        model.extend(x[:4])
    with pytest.raises(MemoryBudgetError, match="needs at least memory='"):
        IncrementalSVD(6).extend(path, memory="1 MB")


def test_a_model_goes_on_after_it_was_pickled(rng: np.random.Generator) -> None:
    x = rng.standard_normal((40, 6))
    model = IncrementalSVD(2, center=True, forgetting=0.9).partial_fit(x[:20])
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(model.partial_fit(x[20:]).vh, again.partial_fit(x[20:]).vh)


def test_a_batch_that_is_refused_leaves_the_model_as_it_was(rng: np.random.Generator) -> None:
    x = rng.standard_normal((10, 3))
    model = IncrementalSVD(2).partial_fit(x)
    before = model.s.copy()
    bad = x.copy()
    bad[4, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"row 14 of the stream .* nan in column 1"):
        model.partial_fit(bad)
    for wrong in (model.partial_fit, model.transform):
        with pytest.raises(ShapeError, match=r"\(rows, 3\); found \(10, 4\)"):
            wrong(np.ones((10, 4)))
    for odd in (csr_array(x), np.ones((3, 0))):
        with pytest.raises(ShapeError, match=r"\(rows, columns\); found"):
            IncrementalSVD(2).partial_fit(odd)
    with pytest.raises(OptionError, match="dtype"):
        model.partial_fit(np.array([["a", "b", "c"]]))
    with pytest.raises(DTypeError, match="1 values are masked"):
        model.partial_fit(np.ma.masked_invalid(bad))
    assert np.array_equal(model.s, before)
    assert model.rows == 10
    assert model.partial_fit(x[:0]).rows == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank is a whole number"),
        ({"rank": 1, "spare": -1}, "spare is a whole number"),
        ({"rank": 1, "forgetting": 0.0}, "forgetting is above 0"),
        ({"rank": 1, "forgetting": float("nan")}, "forgetting is above 0"),
    ],
)
def test_options_without_meaning_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        IncrementalSVD(**options)
    with pytest.raises(OptionError, match="taken no rows"):
        _ = IncrementalSVD(1).s


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("angle", [1e-12, 1e-6, 0.3, 1.5])
def test_angles_are_exact_to_rounding_small_or_large(
    rng: np.random.Generator, angle: float, complex_: bool
) -> None:
    raw = rng.standard_normal((9, 5)) + (1j * rng.standard_normal((9, 5)) if complex_ else 0)
    q = np.linalg.qr(raw)[0].conj().T
    first = q[:2]
    second = np.stack([q[0], np.cos(angle) * q[1] + np.sin(angle) * q[3]])
    found = principal_angles(first, second)
    assert np.all(np.abs(found - [0, angle]) <= 16 * EPS)
    assert np.all(np.abs(found - np.sort(subspace_angles(first.T, second.T))) <= 1e-7)
    assert len(principal_angles(first, second[:1])) == 1
    with pytest.raises(OptionError, match="orthonormal"):
        principal_angles(first, 2 * second)


def drifting(rng: np.random.Generator, angle: float) -> Any:
    """Rows near the first axis, then near another one."""
    direction = np.zeros((400, 20))
    direction[:200, 0] = 1
    direction[200:, 0], direction[200:, 1] = np.cos(angle), np.sin(angle)
    return 5 * rng.standard_normal((400, 1)) * direction + 0.1 * rng.standard_normal((400, 20))


def test_one_alarm_for_one_change_and_none_without(rng: np.random.Generator) -> None:
    for angle, alarms in ((0.0, 0), (np.pi / 3, 1)):
        model, monitor = IncrementalSVD(1, forgetting=0.95), DriftMonitor(threshold_degrees=25)
        found = [
            monitor.update(model.partial_fit(batch))
            for batch in np.split(drifting(rng, angle), 20)
        ]  # fmt: skip
        given_at = [drift.rows for drift in found if drift.alarm]
        assert len(given_at) == alarms
        if alarms:
            assert 200 < given_at[0] <= 240
            assert found[10].missed > 0.5
            assert found[-1].step[-1] < 0.05
        assert found[8].missed < 0.1


def test_a_slow_turn_is_noticed_though_no_step_is_large(rng: np.random.Generator) -> None:
    turn = np.linspace(0, np.pi / 2, 2000)
    rows = np.stack([np.cos(turn), np.sin(turn)], axis=1) * rng.standard_normal((2000, 1))
    model, monitor = IncrementalSVD(1, forgetting=0.98), DriftMonitor(threshold_degrees=20)
    found = [monitor.update(model.partial_fit(batch)) for batch in np.split(rows, 100)]
    assert max(drift.step[-1] for drift in found[5:]) < np.radians(10)
    # a right angle has it three times: each time 20 degrees, and three batches of 0.9
    assert sum(drift.alarm for drift in found) == 3


def test_incremental_components_of_the_estimators_follow_a_watched_stream(tmp_path: Path) -> None:
    from leptonhpc.decomposition import PCA, IncrementalPCA

    x = matrix_with_spectrum((60, 6), 0.5 ** np.arange(6.0), seed=1)
    append(tmp_path / "x", x)
    lh.streams.end_stream(tmp_path / "x")
    model = IncrementalPCA(6)
    for slab in lh.watch(tmp_path / "x", rows=20):
        model.partial_fit(slab.values)
    whole = PCA(6).fit(x)
    assert np.allclose(model.singular_values_, whole.singular_values_, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("scale", "dtype"), [(1e-25, "f4"), (1e15, "f4"), (1e-100, "f8")])
def test_squares_are_summed_in_the_range_of_double_precision(scale: float, dtype: str) -> None:
    x = (np.random.default_rng(0).standard_normal((60, 8)) * scale).astype(dtype)
    it = IncrementalSVD(2, spare=0)
    for low in range(0, 60, 10):
        it.partial_fit(x[low : low + 10])
    true = np.linalg.svd(x.astype(float), compute_uv=False)
    # products of float32 lengths: n roundings in each of six merges
    assert it.square == pytest.approx(float(np.sum(true**2)), rel=60 * float(np.finfo(dtype).eps))
    assert np.all(true[:2] <= it.upper * (1 + 60 * np.finfo(dtype).eps))


@pytest.mark.parametrize("scale", [1e-170, 1e170])
def test_squares_that_no_double_holds_are_refused(scale: float) -> None:
    with pytest.raises(NumericRangeError, match="scale them to near one"):
        IncrementalSVD(2).partial_fit(np.ones((4, 3)) * scale)


def graded(rng: np.random.Generator, dtype: Any) -> Any:
    """Give rows whose columns are of sizes from 1e6 to 1e-6."""
    x = rng.standard_normal((400, 12)) * np.logspace(6, -6, 12)
    return (x @ np.linalg.qr(rng.standard_normal((12, 12)))[0]).astype(dtype)


def bursts(rng: np.random.Generator, dtype: Any) -> Any:
    """Give batches of which one is a million times as large as those around it."""
    x = rng.standard_normal((400, 12))
    x[200:205] *= 1e6
    return x.astype(dtype)


def shifted(rng: np.random.Generator, dtype: Any) -> Any:
    """Give rows that are nearly the same: a mean ten thousand times what is around it."""
    return (1e4 + rng.standard_normal((400, 12))).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64])
@pytest.mark.parametrize("made", [graded, bursts, shifted])
@pytest.mark.parametrize(("center", "forgetting", "spare"), [(False, 1, 20), (True, 0.99, 3)])
def test_singular_values_are_between_bounds_that_hold_rounding(
    dtype: Any, made: Any, center: bool, forgetting: float, spare: int
) -> None:
    rng = np.random.default_rng(11)
    x = made(rng, np.dtype(dtype).type(0).real.dtype)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * made(rng, x.dtype)
    model = IncrementalSVD(6, center=center, forgetting=forgetting, spare=spare)
    for batch in np.split(x, 80):
        model.partial_fit(batch)
    a = weighted(x.astype(np.result_type(dtype, np.float64)), forgetting, center=center)
    true = np.linalg.svd(a, compute_uv=False)
    own = 400 * EPS * np.linalg.norm(a)  # of the double precision that judges
    own += 400 * EPS * np.linalg.norm(x) * center  # its mean
    assert np.all(true[:6] <= model.upper + own)
    assert np.all(model.s - model.rounding <= true[:6] + own)
    # some units of the largest number for each of 80 merges, and in double precision those of the
    # measuring itself, by products of up to 38 numbers: a bound, and not a wild one
    size = np.linalg.norm(a) + np.linalg.norm(x) * center
    assert model.rounding <= 80 * (30 * np.finfo(dtype).eps + 4 * 38 * EPS) * size


def test_without_the_measured_rounding_the_bound_is_wrong_in_single_precision() -> None:
    rng = np.random.default_rng(11)
    x = graded(rng, np.float32)
    model = IncrementalSVD(12).fit(np.split(x, 80))
    true = np.linalg.svd(x.astype(float), compute_uv=False)
    assert model.lost == 0.0
    assert np.any(np.abs(true - model.s) > 0.1 * true)  # nothing is left of the smallest
    assert np.any(true > model.s)
    assert np.all(np.abs(true - model.s) <= model.rounding)
