"""Amounts as people write them."""

from __future__ import annotations

import re

from leptonhpc.errors import OptionError

_FACTORS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_MOST_NBYTES = 2.0**60
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
