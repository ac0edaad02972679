"""IncrementalPCA gives what scikit-learn's does, and follows an array that grows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.decomposition
import zarr
from sklearn.datasets import load_digits, load_iris, make_low_rank_matrix

from leptonhpc.decomposition import PCA, IncrementalPCA
from leptonhpc.errors import OptionError, ShapeError

PROMISED = 1e-6
FITTED = [
    "components_", "explained_variance_", "explained_variance_ratio_", "singular_values_", "mean_",
    "var_", "noise_variance_", "n_components_", "n_samples_seen_",
]  # fmt: skip
PROBLEMS = {
    "iris": load_iris().data,
    "digits": load_digits().data[:800],
    "tall": make_low_rank_matrix(300, 40, effective_rank=8, random_state=0),
    "wide": make_low_rank_matrix(60, 200, effective_rank=8, random_state=1),
}


def assert_same(ours: Any, theirs: Any, allowed: float = PROMISED) -> None:
    for attribute in FITTED:
        difference = np.abs(np.subtract(getattr(ours, attribute), getattr(theirs, attribute)))
        assert np.max(difference) <= allowed, attribute


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize(("batch", "whiten"), [(47, False), (100, True)])
def test_results_are_those_of_scikit_learn(name: str, batch: int, whiten: bool) -> None:
    x = PROBLEMS[name]
    keywords = {"n_components": 3, "batch_size": batch, "whiten": whiten}
    ours = IncrementalPCA(**keywords).fit(x)
    theirs = sklearn.decomposition.IncrementalPCA(**keywords).fit(x)
    assert_same(ours, theirs)
    projected = theirs.transform(x)
    assert np.max(np.abs(ours.transform(x) - projected)) <= PROMISED
    back = theirs.inverse_transform(projected)
    assert np.max(np.abs(ours.inverse_transform(projected) - back)) <= PROMISED


def test_partial_fits_are_those_of_scikit_learn() -> None:
    x = PROBLEMS["digits"]
    ours, theirs = IncrementalPCA(5), sklearn.decomposition.IncrementalPCA(5)
    for low, high in [(0, 30), (30, 37), (37, 38), (38, 600)]:  # a single sample among them
        ours.partial_fit(x[low:high])
        theirs.partial_fit(x[low:high])
        assert_same(ours, theirs)


def test_with_all_components_batches_do_not_matter(rng: np.random.Generator) -> None:
    x = rng.standard_normal((100, 6)) * np.arange(1, 7) + 5
    ours, exact = IncrementalPCA(batch_size=9).fit(x), PCA().fit(x)
    assert ours.n_components_ == 6
    # twelve factorisations, each right to c eps s1
    allowed = 12 * exact.certificate_.rounding
    assert np.max(np.abs(ours.singular_values_ - exact.singular_values_)) <= allowed


def grow(path: Path, x: np.ndarray) -> None:
    array = zarr.open_array(path, mode="r+")
    assert isinstance(array, zarr.Array)
    array.append(x)


def test_a_growing_array_is_followed_and_old_rows_are_not_taken_again(stored: Any) -> None:
    x = PROBLEMS["digits"]
    path = stored(x[:500], (100, 64))
    ours = IncrementalPCA(4, batch_size=100).extend(path)
    theirs = sklearn.decomposition.IncrementalPCA(4, batch_size=100).fit(x[:500])
    assert_same(ours, theirs)
    grow(path, x[500:530])
    ours.extend(path)
    theirs.partial_fit(x[500:530])
    assert_same(ours, theirs)
    before = ours.components_
    assert ours.extend(path).components_ is before  # nothing new
    grow(path, x[530:])
    ours.extend(path)
    edges = [530, *range(600, len(x), 100), len(x)]  # batches begin with chunks again
    for low, high in zip(edges, edges[1:], strict=False):
        theirs.partial_fit(x[low:high])
    assert_same(ours, theirs)
    assert ours.n_samples_seen_ == len(x)


def test_an_array_that_has_shrunk_is_refused(stored: Any) -> None:
    x = PROBLEMS["iris"]
    ours = IncrementalPCA(2).extend(stored(x, (50, 4)))
    with pytest.raises(ShapeError, match="rows from 150 on.*has 20 rows"):
        ours.extend(stored(x[:20], (50, 4), "less"))


def test_batches_of_a_stored_array_are_whole_rows_of_chunks(stored: Any) -> None:
    x = PROBLEMS["digits"]
    ours = IncrementalPCA(3).fit(stored(x, (90, 64)))
    assert ours.batch_size_ == 360  # 5 * 64 = 320, in chunks of 90
    theirs = sklearn.decomposition.IncrementalPCA(3, batch_size=360).fit(x)
    assert_same(ours, theirs)


def test_fit_forgets_and_partial_fit_does_not() -> None:
    x = PROBLEMS["iris"]
    ours = IncrementalPCA(2).fit(x)
    once = ours.components_
    assert ours.partial_fit(x).n_samples_seen_ == 300
    assert np.array_equal(ours.fit(x).components_, once)
    assert ours.n_samples_seen_ == 150


def test_what_cannot_be_is_refused() -> None:
    x = PROBLEMS["iris"]
    with pytest.raises(OptionError, match=r"at most the number of features .*\(4, 3\); found 4"):
        IncrementalPCA(4).partial_fit(x[:3])
    with pytest.raises(OptionError, match="batch_size is a whole number"):
        IncrementalPCA(2, batch_size=0).fit(x)
    ours = IncrementalPCA(2).fit(x)
    with pytest.raises(OptionError, match="was 2 for the samples so far and is now 3"):
        ours.set_params(n_components=3).partial_fit(x)
