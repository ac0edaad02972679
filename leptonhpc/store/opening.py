"""Opening a Zarr array, or saying why that cannot be."""

from __future__ import annotations

import difflib
from typing import Any, cast

import zarr
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.errors import BaseZarrError

from leptonhpc.errors import NotAnArrayError, StoreError
from leptonhpc.store.locations import (
    METADATA,
    Location,
    describe,
    exists,
    is_local,
    local_path,
    resolve,
)


def opened(location: Location, writable: bool, inside: str) -> zarr.Array[Any]:
    """Open an array.

    Parameters
    ----------
    location : str, path or zarr store
        Where it is.
    writable : bool
        Whether it may be written.
    inside : str
        Where in the location.

    Returns
    -------
    zarr.Array
        The array.
    """
    mode = "r+" if writable else "r"
    store, path = resolve(location, read_only=not writable)
    path = f"{path}/{inside}".strip("/")
    try:
        array = zarr.open_array(store, path=path, mode=cast("Any", mode))
        _require_chunks(array)
        return array
    except (
        FileNotFoundError, BaseZarrError, AttributeError, KeyError, TypeError, ValueError,
    ) as error:  # fmt: skip
        if not exists(location):
            message = f"nothing is stored at {describe(location)!r}{_near(location)}"
            raise StoreError(message) from error
        found = _what_is_there(location, store, path, error)
        message = f"{describe(location)!r} is not a Zarr array: {found}"
        raise NotAnArrayError(message) from error
    except Exception as error:  # every store has exceptions of its own
        message = f"{describe(location)!r} could not be opened: {error}"
        raise StoreError(message) from error


def _require_chunks(array: zarr.Array[Any]) -> None:
    for size, chunk in zip(array.shape, array.shards or array.chunks, strict=True):
        if size and not chunk:
            raise ValueError(f"its chunks {array.shards or array.chunks} hold nothing")


def _what_is_there(location: Location, store: Store, path: str, error: Exception) -> str:
    try:
        group = zarr.open_group(store, path=path, mode="r")
        names = sorted(name for name, _ in group.arrays())
    except Exception:  # any failure here only means that there is no group to describe
        if is_local(location) and local_path(location).is_file():
            return "it is a file, and Zarr arrays are folders"
        if not any(sync(store.exists(f"{path}/{name}".lstrip("/"))) for name in METADATA):
            return f"it has none of {', '.join(METADATA[:3])}"
        return str(error) or "its metadata cannot be read"
    return f"it is a group with the arrays {', '.join(names) or '(none)'}; open one of them"


def _near(location: Location) -> str:
    """Name what is beside it, called nearly so."""
    if not is_local(location):
        return ""
    path = local_path(location)
    there = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, 3)
    return f". Near by: {', '.join(near)}" if near else ""
