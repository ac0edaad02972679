"""What an estimator is given: small arrays as scikit-learn takes them, others as blocked ones."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

import leptonhpc as lh
from leptonhpc.blocks import BlockedArray
from leptonhpc.blocks.numbers import without_mask
from leptonhpc.errors import DTypeError, NotAnArrayError, ShapeError

_LIBRARIES = ("dask", "leptonhpc", "obstore", "xarray", "zarr")

Samples = NDArray[Any] | BlockedArray


def is_blocked(x: Any) -> bool:
    """Say whether `leptonhpc.open` is to open an input: a path, or an array that may be large.

    Parameters
    ----------
    x : object
        What the user gave.

    Returns
    -------
    bool
        False for what scikit-learn takes itself: NumPy arrays, lists, data frames.
    """
    library = type(x).__module__.partition(".")[0]
    return isinstance(x, str | os.PathLike) or library in _LIBRARIES


def check_samples(
    estimator: BaseEstimator, x: Any, *, reset: bool, least: int = 1, features: int = 1
) -> Samples:
    """Check samples and note, or compare, their number of features.

    Parameters
    ----------
    estimator : estimator
        Which asks; with `reset`, it gets ``n_features_in_``.
    x : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
        The samples.
    reset : bool
        True when fitting anew.
    least, features : int
        Fewest samples and features.

    Returns
    -------
    ndarray or BlockedArray
        Floating; of a blocked array nothing is read, and its dtype is as stored.

    Raises
    ------
    ShapeError, DTypeError, NotAnArrayError, ValueError
        If it is not a real matrix of that many features.
    """
    if not is_blocked(x):
        if np.ma.is_masked(x):  # scikit-learn would use what is below the mask
            without_mask(x)
        dtypes = [np.float64, np.float32]
        checked: NDArray[Any] = validate_data(
            estimator, x, reset=reset, dtype=dtypes, ensure_min_samples=least,
            ensure_min_features=features,
        )  # fmt: skip
        return checked
    array = _opened(x)
    _check_matrix(estimator, array, least, features)
    if reset:
        estimator.n_features_in_ = array.shape[1]
        estimator.__dict__.pop("feature_names_in_", None)
    elif array.shape[1] != estimator.n_features_in_:
        message = (
            f"X has {array.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input; X is {array.name}"
        )
        raise ShapeError(message)
    return array


def floating(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Give the dtype of results, as the drivers compute: float32 for stored half precision too.

    Parameters
    ----------
    dtype : dtype
        Of the samples.

    Returns
    -------
    dtype
        float32 or float64.
    """
    return np.dtype(np.float32 if dtype in (np.float16, np.float32) else np.float64)


def seed_of(random_state: Any) -> int:
    """Give the seed of a driver.

    Parameters
    ----------
    random_state : None, int or RandomState
        As scikit-learn has it, but None is the seed 0: the same call gives the same numbers.

    Returns
    -------
    int
        The seed.
    """
    if random_state is None:
        return 0
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _opened(x: Any) -> BlockedArray:
    if type(x).__module__.startswith("dask.") and not hasattr(x, "chunks"):
        message = (
            f"a dask.array is needed; found {type(x).__name__}. Convert it with "
            "to_dask_array(lengths=True)"
        )
        raise NotAnArrayError(message)
    return lh.open(x)


def _check_matrix(estimator: BaseEstimator, x: BlockedArray, least: int, features: int) -> None:
    name = type(estimator).__name__
    if x.ndim != 2:
        message = (
            f"{name} needs a matrix of samples by features; {x.name} has shape {x.shape}. For more "
            "dimensions use leptonhpc.open(x).as_matrix(): the first axis by all others"
        )
        raise ShapeError(message)
    for count, needed, what in zip(x.shape, (least, features), ("sample", "feature"), strict=True):
        if count < needed:
            message = (
                f"{name} needs at least {needed} {what}(s); {x.name} has {count} {what}(s) "
                f"(shape {x.shape})"
            )
            raise ShapeError(message)
    if x.dtype.kind not in "biuf":
        message = f"{name} needs real numbers; {x.name} has dtype {x.dtype}"
        raise DTypeError(message)
