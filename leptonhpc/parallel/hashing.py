"""Hashes of keys that are the same in every process, on every machine, in every year."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import DTypeError

_KEPT = (str, bytes, int, float, np.number)
"""Keys that are looked up once they are hashed; equal ones are one."""


def parts_of_keys(keys: Iterable[Any], parts: int) -> NDArray[np.int64]:
    """Give each key the number of a part.

    Parameters
    ----------
    keys : iterable of str, bytes, number, bool, None, date, or tuple of these
        The keys; those that are equal get the same part.
    parts : int
        How many there are.

    Returns
    -------
    array of int64
        A part for each key.

    Raises
    ------
    DTypeError
        If a key is of another kind.

    Examples
    --------
    >>> parts_of_keys(["Ada", "Emmy", "Ada"], 2).tolist()
    [0, 1, 0]
    """
    known: dict[Any, int] = {}
    numbers = []
    for key in keys:
        found = known.get(key) if isinstance(key, _KEPT) else None
        if found is None:
            digest = hashlib.blake2b(_encoded(key), digest_size=8).digest()
            found = known[key] = int.from_bytes(digest, "big") % parts
        numbers.append(found)
    return np.asarray(numbers, np.int64)


def _encoded(key: Any) -> bytes:
    """Write a key so that what is equal looks the same: 1, 1.0 and True are."""
    if isinstance(key, np.datetime64):
        return b"d" + _moment(str(key.astype("M8[s]") if _is_coarse(key) else key))
    if isinstance(key, np.generic):
        key = key.item()
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    if isinstance(key, bool | int):
        return b"i%d" % key
    if isinstance(key, float):
        return b"f" + repr(key).encode()
    if isinstance(key, str):
        return b"s" + key.encode("utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return b"b" + key
    if key is None:
        return b"n"
    if isinstance(key, tuple):
        parts = [_encoded(each) for each in key]
        return b"t" + b"".join(b"%d:%s" % (len(part), part) for part in parts)
    if hasattr(key, "isoformat"):
        if getattr(key, "tzinfo", None) is not None and hasattr(key, "astimezone"):
            key = key.astimezone(datetime.UTC)
        return b"d" + _moment(str(key.isoformat()))
    message = (
        f"keys are text, bytes, numbers, dates, None or tuples of these; found {key!r}, a "
        f"{type(key).__name__}. Give key= a function that makes one of it"
    )
    raise DTypeError(message)


def _is_coarse(key: np.datetime64) -> bool:
    """Whether a date is written without seconds."""
    return np.datetime_data(key.dtype)[0] in ("Y", "M", "W", "D", "h", "m")


def _moment(text: str) -> bytes:
    """Write a day as its midnight, and no zeros after the last digit of a second."""
    if len(text) == len("2000-01-01") and text[4] == "-":
        text += "T00:00:00"
    return (text.rstrip("0").rstrip(".") if "." in text else text).encode()
