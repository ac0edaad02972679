"""Digests of functions and of parts, equal in every process: what a kept result belongs to."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import pickle
import sys
from collections.abc import Iterator, Mapping, Set
from inspect import isdatadescriptor
from pathlib import Path
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import cloudpickle
import numpy as np

from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import OptionError
from leptonhpc.parallel.parts import Part, Rows


def digest_of_function(function: Any) -> str:
    """Give a digest of what a function does: its code, and what that refers to.

    Parameters
    ----------
    function : callable
        A function counts as its name, code, defaults, closure, and what it names in its module:
        values of any kind, functions, classes and modules, these too by their code; but what is
        installed, or Python's own, by its name. Not where it stands in a file.

    Returns
    -------
    str
        SHA-256.

    Raises
    ------
    OptionError
        If it refers to a value whose state cannot be had, or is another each time.
    """
    return _sha(_of_value(function, set(), {}))


def digest_of_part(part: Part, identities: dict[int, str]) -> str:
    """Give a digest of what a part holds.

    Parameters
    ----------
    part : Part
        Rows of an array count as the array and their numbers: their chunks are not read.
    identities : dict
        Of arrays seen before, by `id`; this adds to it.

    Returns
    -------
    str
        SHA-256.
    """
    if not isinstance(part.data, Rows):
        return digest_of(part.data)
    array, rows = part.data.array, part.data.rows
    if id(array) not in identities:
        identity = json.dumps(array.source.identity(), sort_keys=True, default=str)
        identities[id(array)] = identity
    which = str(rows) if isinstance(rows, range) else digest_of(rows)
    return _sha([identities[id(array)].encode(), which.encode()])


def digest_of(value: Any) -> str:
    """Give a digest of a value that is the same for equal values of usual kinds.

    Parameters
    ----------
    value : object
        Numbers, text, arrays, DataFrames, and lists, sets, mappings of these; anything else counts
        by its pickled state.

    Returns
    -------
    str
        SHA-256.
    """
    return _sha(_pieces(value))


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, np.ma.MaskedArray):
        yield from _pieces([np.ma.getmaskarray(value), np.ma.getdata(value)])
    elif isinstance(value, np.ndarray) and value.dtype.kind != "O":
        yield f"array {value.dtype.str} {value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif hasattr(value, "iloc") and hasattr(value, "columns"):
        from pandas.util import hash_pandas_object

        yield f"frame {list(value.columns)}".encode()
        yield hash_pandas_object(value, index=True).to_numpy().tobytes()
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)}".encode()
        for key, each in value.items():
            yield from _pieces(key)
            yield from _pieces(each)
    elif isinstance(value, list | tuple):
        yield f"sequence {len(value)}".encode()
        for each in value:
            yield from _pieces(each)
    elif isinstance(value, Set):
        yield " ".join(["set", *sorted(digest_of(each) for each in value)]).encode()
    elif value is None or isinstance(value, bool | int | float | complex | str | bytes | range):
        yield repr(value).encode()
    else:
        yield cloudpickle.dumps(value)


_PLAIN = (bool, int, float, complex, str, bytes, range, np.ndarray, type(None))


def _of_value(value: Any, names: set[str], seen: dict[int, Any]) -> Iterator[bytes]:
    """Give what a function has in a variable; of a module, the `names` that it looks up."""
    if isinstance(value, _PLAIN) or (hasattr(value, "iloc") and hasattr(value, "columns")):
        yield from _pieces(value)
        return
    if id(value) in seen:  # it refers to itself, or was there before
        yield b"seen"
        return
    seen[id(value)] = value  # kept, or another value may get its number
    yield f"{type(value).__module__}.{type(value).__qualname__}".encode()
    if isinstance(value, BlockedArray):
        yield json.dumps(value.source.identity(), sort_keys=True, default=str).encode()
    elif isinstance(value, FunctionType):
        yield from _of_function(value, seen)
    elif isinstance(value, ModuleType):
        yield value.__name__.encode()
        held = {} if _is_library(value.__name__) else vars(value)
        for name in sorted(names & held.keys()):
            yield name.encode()
            yield from _of_value(held[name], names, seen)
    elif isinstance(value, Set):
        pieces = (_sha(_of_value(each, set(), dict(seen))) for each in value)
        yield " ".join(sorted(pieces)).encode()
    elif isinstance(value, type) and _is_library(value.__module__):
        yield value.__qualname__.encode()
    else:
        held_values = _held(value)
        yield b"%d" % len(held_values)
        for each in held_values:
            yield from _of_value(each, set(), seen)


def _of_function(function: FunctionType, seen: dict[int, Any]) -> Iterator[bytes]:
    yield function.__qualname__.encode()
    yield from _of_code(function.__code__)
    # what `exec` made has no module of its own
    if function.__module__ != "builtins" and _is_library(function.__module__):
        yield function.__module__.encode()
        return
    names = _names(function.__code__)
    yield from _of_value([function.__defaults__, function.__kwdefaults__], names, seen)
    for cell in function.__closure__ or ():
        if cell != CellType():  # it is filled
            yield from _of_value(cell.cell_contents, names, seen)
    for name in sorted(names & function.__globals__.keys()):
        yield name.encode()
        yield from _of_value(function.__globals__[name], names, seen)


def _held(value: Any) -> list[Any]:
    """Give what a value is made of; of what is not known, its pickled state."""
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, MethodType | staticmethod | classmethod):
        return [value.__func__, getattr(value, "__self__", None)]
    if isinstance(value, property):
        return [value.fget, value.fset]
    if isinstance(value, type):
        attributes = {n: each for n, each in vars(value).items() if _counts(n, each)}
        return [value.__qualname__, *value.__bases__, *sum(sorted(attributes.items()), ())]
    if isinstance(value, Mapping):
        return list(itertools.chain.from_iterable(value.items()))
    if isinstance(value, list | tuple):
        return list(value)
    if hasattr(value, "__wrapped__"):  # of functools.cache, for instance
        return [value.__wrapped__]
    if hasattr(value, "__dict__") and not _is_library(type(value).__module__):
        return [type(value), vars(value)]
    return [_state(value)]


def _counts(name: str, attribute: Any) -> bool:
    """Whether what a class holds is what it does, and not what Python keeps there."""
    told = isinstance(attribute, FunctionType | staticmethod | classmethod | property)
    return told or not (name.startswith("__") or isdatadescriptor(attribute))


def _state(value: Any) -> bytes:
    """Pickle a value; what was pickled once is pickled to the same bytes in every process."""
    try:
        state: bytes = cloudpickle.dumps(pickle.loads(cloudpickle.dumps(value)))
        stable = state == cloudpickle.dumps(pickle.loads(state))
    except Exception as error:  # what is not pickled says so in many ways
        raise OptionError(_unknown(value)) from error
    if not stable:
        raise OptionError(_unknown(value))
    return state


def _unknown(value: Any) -> str:
    return (
        "out= needs to know whether the function is the one whose results are kept; it refers to a "
        f"{type(value).__name__}, which cannot be told from another. Give version=, a text that "
        "you change whenever the function, or what it refers to, gives other results"
    )


def _is_library(name: str | None) -> bool:
    """Whether a module is Python's own or an installed one."""
    top = (name or "__main__").partition(".")[0]
    if top == "__main__":  # whatever file began this process
        return False
    if top in sys.stdlib_module_names or top == "leptonhpc":
        return True
    path = getattr(sys.modules.get(top), "__file__", None) or ""
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(path).parts)


def _names(code: CodeType) -> set[str]:
    """Give the names that a function and those inside it look up."""
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _of_code(code: CodeType) -> Iterator[bytes]:
    """Give what a function does, without where it stands in a file."""
    yield code.co_code
    yield " ".join([*code.co_names, *code.co_varnames]).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _of_code(constant)
        else:
            yield from _pieces(constant)


def _sha(pieces: Any) -> str:
    sha = hashlib.sha256()
    for piece in pieces:
        sha.update(b"%d:" % len(piece))
        sha.update(piece)
    return sha.hexdigest()
