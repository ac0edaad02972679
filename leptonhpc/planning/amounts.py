"""Amounts as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable

from leptonhpc.errors import OptionError

_FACTORS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_MOST_NBYTES = 2.0**60
_MOST_MEGABYTES = 10**9
_BINARY = {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_nbytes(value: int | float | str | None, *, name: str = "memory") -> int | None:
    """Read a number of bytes: 2e9, "2 GB", "512MiB".

    Parameters
    ----------
    value : int, float, str or None
        The amount.
    name : str
        What it is, for the message.

    Returns
    -------
    int or None
        Bytes.

    Raises
    ------
    OptionError
        If it cannot be read.

    Examples
    --------
    >>> parse_nbytes("1.5 GB")
    1500000000
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        if 0 < value < _MOST_NBYTES:
            return int(value)
    else:
        match = re.fullmatch(
            r"\s*([0-9.]+(?:[eE][0-9]+)?)\s*([kKmMgGtT]?[iI]?)[bB]?\s*", str(value)
        )
        unit = match.group(2).upper() if match else "?"
        factor = {**_FACTORS, **_BINARY}.get(unit)
        if match and factor and (amount := _number(match.group(1))) > 0:
            return int(amount * factor)
    message = f"{name} is a number of bytes, such as 2e9 or '2 GB'; found {value!r}"
    raise OptionError(message)


def _number(text: str) -> float:
    """Read a number; what is none, or absurd, is zero."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if value < _MOST_NBYTES else 0.0


def smallest_megabytes(
    fits: Callable[[int], bool], low: int, guess: int | None = None
) -> int | None:  # fmt: skip
    """Find the smallest budget in which something fits.

    Parameters
    ----------
    fits : callable
        Says so of a number of megabytes; true of all above one for which it is.
    low : int
        For which it does not.
    guess : int, optional
        Tried first: planning for each size takes a while.

    Returns
    -------
    int or None
        Whole megabytes; None if not even a petabyte is enough.
    """
    high, step = None, max(1, low // 8)
    if guess is not None and guess > low:
        if not fits(guess):
            low = guess
        elif guess - 1 <= low or not fits(guess - 1):
            return guess
        else:
            high = guess - 1
    while high is None:
        size = min(low + step, _MOST_MEGABYTES)
        if fits(size):
            high = size
        elif size == _MOST_MEGABYTES:
            return None
        else:
            low, step = size, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
