"""Numbers among a driver's keywords: NumPy's become Python's, and what is none is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leptonhpc.errors import OptionError

P = ParamSpec("P")
R = TypeVar("R")


def with_numbers(plan: Callable[P, R]) -> Callable[P, R]:
    """Have a planner get numbers of Python where it says so: one job has one digest.

    NumPy's are of fixed width, too: sizes that are made of them would overflow.

    Parameters
    ----------
    plan : callable
        Its keywords that are numbers are annotated as int or float, or None.

    Returns
    -------
    callable
        The same, which refuses anything else with an `OptionError`.
    """
    driver = plan.__name__.removeprefix("_plan_")
    kinds = {p.name: p.annotation for p in signature(plan).parameters.values()}
    read = {name: _READ[kind] for name, kind in kinds.items() if kind in _READ}

    @wraps(plan)
    def planned(*arrays: P.args, **options: P.kwargs) -> R:
        given: dict[str, Any] = options
        for name in read.keys() & given.keys():
            kind, optional = read[name]
            if given[name] is not None or not optional:
                given[name] = _number(driver, name, given[name], kind)
        return plan(*arrays, **options)

    return planned


def real_numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Give one number per column as an array.

    Parameters
    ----------
    name : str
        The keyword.
    values : array-like
        What it was given.

    Returns
    -------
    ndarray of float64
        The numbers.

    Raises
    ------
    OptionError
        If they are not real numbers.
    """
    try:
        if np.iscomplexobj(values):
            raise TypeError("complex numbers")
        return np.asarray(values, float)
    except (TypeError, ValueError) as error:
        message = f"svd: {name} needs one real number per column; found {values!r:.60}"
        raise OptionError(message) from error


_READ = {
    "int": (int, False), "int | None": (int, True), "float": (float, False),
    "float | None": (float, True),
}  # fmt: skip


def _number(driver: str, name: str, value: Any, kind: type[int | float]) -> int | float:
    numbers, what = (Integral, "whole number") if kind is int else (Real, "number")
    if isinstance(value, bool) or not issubclass(type(value), numbers):
        raise OptionError(f"{driver}: {name} is a {what}; found {value!r}")
    try:
        return kind(value)
    except OverflowError as error:
        raise OptionError(f"{driver}: {name} is too large: {value!r}") from error
