"""Opening a Zarr array, or saying why that cannot be."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
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
from leptonhpc.store.retrying import is_absent, retried, waiting_for


def opened(
    location: Location, writable: bool, inside: str, *, first: bool = False
) -> zarr.Array[Any]:
    """Open an array.

    Parameters
    ----------
    location : str, path or zarr store
        Where it is.
    writable : bool
        Whether it may be written: then chunks of fill values are stored like all others.
    inside : str
        Where in the location.
    first : bool
        A host that is not there is said at once; else it may come back meanwhile.

    Returns
    -------
    zarr.Array
        The array.
    """
    mode = "r+" if writable else "r"
    store, path = resolve(location, read_only=not writable)
    path = f"{path}/{inside}".strip("/")

    def open_it() -> zarr.Array[Any]:
        array = zarr.open_array(store, path=path, mode=cast("Any", mode))
        _require_chunks(array)
        # `zarr.open_array` takes no such word; a chunk that is not there shall be a lost one
        return array.with_config({"write_empty_chunks": True}) if writable else array

    try:
        if is_local(location):
            return retried(open_it)
        with waiting_for(describe(location)):
            return retried(open_it, first=first)
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
        problem = "nobody answers there: " if is_absent(error) else ""
        message = f"{describe(location)!r} could not be opened: {problem}{error}"
        raise StoreError(message) from error


def _require_chunks(array: zarr.Array[Any]) -> None:
    """Refuse chunks that hold nothing; zarr 3.4 reads them as of one row, with the fill value."""
    chunks: Sequence[int] = array.shards or array.chunks
    sides = list(zip(array.shape, chunks, strict=True))
    if any(size and chunk == 1 for size, chunk in sides):
        chunks = _stored_chunks(array)
        sides = list(zip(array.shape, chunks, strict=True))
    if any(size and not chunk for size, chunk in sides):
        raise ValueError(f"its chunks {tuple(chunks)} hold nothing")


def _stored_chunks(array: zarr.Array[Any]) -> Sequence[int]:
    """Give the chunk shape as the metadata have it."""
    is_old = array.metadata.zarr_format == 2
    found = sync((array.store_path / (".zarray" if is_old else "zarr.json")).get())
    if found is None:  # consolidated, or made by a store of its own
        return array.shards or array.chunks
    metadata = json.loads(found.to_bytes())
    grid = metadata if is_old else metadata["chunk_grid"]["configuration"]
    return cast("Sequence[int]", grid.get("chunks" if is_old else "chunk_shape", array.chunks))


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
