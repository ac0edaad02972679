"""Fields that do not vary: what is left of them is rounding, and has no EOFs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.climate.prepared import Prepared
from leptonhpc.errors import OptionError

_ROUNDINGS = 4
"""Of single numbers, in their own precision; sums over samples are in double."""


class ConstantFieldError(OptionError):
    """Nothing varies once mean, climatology and trend are removed."""


def require_variance(norm: float, rounding: float, names: Sequence[str]) -> None:
    """Refuse fields that are the same at all samples: shares of their variance are none.

    Parameters
    ----------
    norm : float
        Of what was decomposed.
    rounding : float
        Norm of what rounding may leave of fields that do not vary.
    names : sequence of str
        Of the fields.

    Raises
    ------
    ConstantFieldError
        If it is not more than that.
    """
    if not norm > rounding:
        message = f"{', '.join(names)} does not vary once its mean, and what else is fitted, is"
        raise ConstantFieldError(f"{message} removed: it has no EOFs")


def rounding_of(prepared: Sequence[Prepared], mean: NDArray[Any] | None = None) -> float:
    """Give the norm that rounding may leave of fields that do not vary.

    Parameters
    ----------
    prepared : sequence of Prepared
        The fields.
    mean : array of shape (cells,), optional
        Of all fields, in their units; beside what else is removed.

    Returns
    -------
    float
        Of the weighted field with the least: what another's numbers leave may be more, and does not
        say that this one is constant.
    """
    found, begin = [], 0
    for one in prepared:
        samples, cells = one.matrix.shape
        own = np.finfo(one.matrix.dtype).eps
        relative = _ROUNDINGS * own + samples * np.finfo(np.float64).eps
        part = None if mean is None else mean[begin : begin + cells]
        found.append(float(relative * _removed_norm(one, part)))
        begin += cells
    return min(found)


@contextmanager
def forgetting_constants(place: str | None) -> Iterator[None]:
    """Leave nothing of a call that found fields constant: it would find that again.

    Parameters
    ----------
    place : str or None
        What a stopped call goes on from.

    Yields
    ------
    None
        Inside, the call works.
    """
    try:
        yield
    except ConstantFieldError:
        if place is not None:
            store.remove(place)
        raise


def _removed_norm(one: Prepared, mean: NDArray[Any] | None) -> float:
    """Give about the norm of what was taken off a weighted field."""
    samples = one.matrix.shape[0]
    squares = 0.0 if mean is None else samples * _square(mean * one.weights)
    if one.matrix.removed is not None:
        design, coefficients = one.matrix.removed.design, one.matrix.removed.coefficients
        for term, row in zip(design.T, coefficients, strict=True):  # one map at a time
            squares += _square(term) * _square(row * one.weights)
    return float(np.sqrt(squares))


def _square(values: NDArray[Any]) -> float:
    return float(np.vdot(values, values).real)
