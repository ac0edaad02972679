"""Targets and weights of samples: small arrays in memory, checked beside samples of any kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_sample_weight, check_array, validate_data

import leptonhpc as lh
from leptonhpc.decomposition.samples import Samples, check_samples, is_blocked
from leptonhpc.errors import OptionError, ShapeError


def check_supervised(
    estimator: BaseEstimator, x: Any, y: Any
) -> tuple[Samples, NDArray[np.float64]]:
    """Check samples with one or more targets each.

    Parameters
    ----------
    estimator : estimator
        Which asks; it gets ``n_features_in_``.
    x : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
        The samples.
    y : array-like of shape (n_samples,) or (n_samples, n_targets), or what `leptonhpc.open` takes
        The targets; read into memory.

    Returns
    -------
    tuple of (samples, array)
        Targets in float64.

    Raises
    ------
    ShapeError
        If their numbers differ.
    ValueError
        If scikit-learn finds the targets to be none.
    """
    y = np.asarray(lh.open(y)) if is_blocked(y) else y
    if not is_blocked(x):
        dtypes = [np.float64, np.float32]
        samples, checked = validate_data(
            estimator, x, y, dtype=dtypes, multi_output=True, y_numeric=True
        )
        return samples, checked.astype(np.float64, copy=False)
    array = check_samples(estimator, x, reset=True)
    targets: NDArray[np.float64] = check_array(
        y, dtype=np.float64, ensure_2d=False, input_name="y", estimator=estimator
    )
    if targets.shape[0] != array.shape[0]:
        message = (
            f"{type(estimator).__name__} needs as many targets as samples; X has shape "
            f"{array.shape} and y has shape {targets.shape}"
        )
        raise ShapeError(message)
    return array, targets


def check_weights(weights: Any, y: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Check the weights of samples.

    Parameters
    ----------
    weights : None, float or array-like of shape (n_samples,)
        Not negative, not all zero.
    y : array of shape (n_samples, ...)
        The targets.

    Returns
    -------
    array of shape (n_samples,) or None
        The weights; None: all are one.

    Raises
    ------
    OptionError
        If one is negative, or none is positive.
    """
    if weights is None:
        return None
    checked: NDArray[np.float64] = _check_sample_weight(weights, y, dtype=np.float64)
    if np.any(checked < 0):
        index = int(np.argmin(checked))
        message = f"sample_weight needs numbers from 0; found {checked[index]} at {index}"
        raise OptionError(message)
    if not np.any(checked):
        raise OptionError("Sample weights must contain at least one non-zero number")
    return checked


def check_alphas(alpha: Any, targets: int) -> NDArray[np.float64]:
    """Give the ridge parameter of each target.

    Parameters
    ----------
    alpha : float or array-like of shape (targets,)
        From 0.
    targets : int
        Number of targets.

    Returns
    -------
    array of shape (targets,)
        One each.

    Raises
    ------
    OptionError
        If they are no such numbers.
    """
    try:
        alphas = np.asarray(alpha, np.float64)
    except (TypeError, ValueError):
        alphas = np.full(1, np.nan)
    if alphas.size not in (1, targets) or not (np.isfinite(alphas).all() and np.all(alphas >= 0)):
        message = f"alpha is a number from 0, or one for each of {targets} targets; found {alpha!r}"
        raise OptionError(message)
    return np.broadcast_to(alphas.reshape(-1), (targets,))
