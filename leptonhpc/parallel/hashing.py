"""Hashes of keys that are the same in every process, on every machine, in every year."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import DTypeError


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
        plain = key.item() if isinstance(key, np.generic) else key
        found = known.get(plain) if _is_hashable(plain) else None
        if found is None:
            digest = hashlib.blake2b(_encoded(plain), digest_size=8).digest()
            found = known[plain] = int.from_bytes(digest, "big") % parts
        numbers.append(found)
    return np.asarray(numbers, np.int64)


def _is_hashable(key: Any) -> bool:
    return isinstance(key, str | bytes | int | float | tuple)


def _encoded(key: Any) -> bytes:
    """Write a key so that what is equal looks the same: 1, 1.0 and True are."""
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
        return b"d" + str(key.isoformat()).encode()
    message = (
        f"keys are text, bytes, numbers, dates, None or tuples of these; found {key!r}, a "
        f"{type(key).__name__}. Give key= a function that makes one of it"
    )
    raise DTypeError(message)
