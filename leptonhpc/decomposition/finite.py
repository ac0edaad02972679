"""What is said of samples that are missing or infinite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from leptonhpc.errors import NonFiniteError


def require_finite(rows: NDArray[Any], first: int, estimator: BaseEstimator, name: str) -> None:
    """Refuse samples that are not finite.

    Parameters
    ----------
    rows : array of shape (m, n)
        Some of the samples.
    first : int
        Which sample the first of them is.
    estimator : estimator
        Which asks.
    name : str
        The array that holds the samples.

    Raises
    ------
    NonFiniteError
        With the index in the whole array.
    """
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        found = f"{name} has {rows[row, column]} at index {(first + row, column)}"
        raise NonFiniteError(f"{found}. {_way_out(estimator)}")


@contextmanager
def words_of(estimator: BaseEstimator) -> Iterator[None]:
    """Say what can be done about a missing value here: drivers name options of their own.

    Parameters
    ----------
    estimator : estimator
        Which calls a driver.

    Yields
    ------
    None
        While the driver works.

    Raises
    ------
    NonFiniteError
        That of the driver, with another way out.
    """
    try:
        yield
    except NonFiniteError as error:
        found = str(error).partition(". Remove such values")[0]
        raise NonFiniteError(f"{found}. {_way_out(estimator)}") from error


def _way_out(estimator: BaseEstimator) -> str:
    return (
        f"{type(estimator).__name__} takes no missing values: remove such samples, or fill them in "
        "first"
    )
