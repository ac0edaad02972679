"""Arrays that store every chunk, and say so: there a chunk that is not there is lost.

Zarr need not store a chunk of fill values, so of most arrays nobody can tell a lost chunk from
such a one. Results are written whole: when one gets its final name, its arrays say so.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import zarr
from numpy.typing import NDArray
from zarr.core.sync import sync

from leptonhpc.errors import CorruptChunkError
from leptonhpc.store.locations import FOLDER, Location, resolve, store_errors
from leptonhpc.store.objects import list_objects
from leptonhpc.store.retrying import retried
from leptonhpc.store.units import Region

EVERY_CHUNK = "leptonhpc_every_chunk_is_stored"
"""Attribute of an array: true if a chunk that is not there is lost."""
_ARRAY_FILES = ("zarr.json", ".zarray")


def says_every_chunk(array: zarr.Array[Any]) -> bool:
    """Say whether an array says that it stores every chunk.

    Parameters
    ----------
    array : zarr.Array
        The opened array.

    Returns
    -------
    bool
        What its attribute says.
    """
    return array.attrs.get(EVERY_CHUNK) is True


def lost_chunk(name: str, key: str) -> CorruptChunkError:
    """Give the error of a chunk that should be there.

    Parameters
    ----------
    name : str
        Of the array, for messages.
    key : str
        Of the chunk, or shard.

    Returns
    -------
    CorruptChunkError
        To be raised.
    """
    message = (
        f"{name!r} says that it stores every chunk, and {key!r} is not there. Put it back; if fill "
        f"values are meant, set its attribute {EVERY_CHUNK} to false"
    )
    return CorruptChunkError(message, name, key)


def require_stored(array: zarr.Array[Any], name: str, region: Region, out: NDArray[Any]) -> None:
    """Refuse chunks that were read as fill values because they are not there.

    Parameters
    ----------
    array : zarr.Array
        An array of which `says_every_chunk` is true.
    name : str
        Its name for messages.
    region : tuple of (start, stop)
        What was read.
    out : array of the region's shape
        What came of it: only where a chunk begins with the fill value is the store asked.

    Raises
    ------
    CorruptChunkError
        If one is not there.
    """
    fill: Any = array.fill_value
    sides = list(zip(array.shards or array.chunks, region, strict=True))
    indices = (range(start // unit, -(-stop // unit)) for unit, (start, stop) in sides)
    for index in itertools.product(*indices) if out.size else ():
        corner = tuple(
            max(i * unit - start, 0) for i, (unit, (start, _)) in zip(index, sides, strict=True)
        )
        first = out[corner]
        if first != fill and (first == first or fill == fill):  # noqa: PLR0124  (NaN is not itself)
            continue
        key = array.metadata.encode_chunk_key(index)
        if not sync(array.store.exists(f"{array.path}/{key}".lstrip("/"))):
            raise lost_chunk(name, key)


def mark_whole(location: Location) -> None:
    """Let arrays that store every chunk say so.

    Parameters
    ----------
    location : str, path or zarr store
        An array or a group that nobody writes any more; arrays that lack a chunk stay as they are.
    """
    store, root = resolve(location)
    with store_errors(location):
        keys = [key for key in list_objects(store, root) if FOLDER not in key.split("/")]
        nodes = {key.rpartition("/")[0] for key in keys if key.endswith(_ARRAY_FILES)}
        for path in sorted(nodes):
            prefix = f"{path}/" if path else ""
            there = {k.removeprefix(prefix) for k in keys if k.startswith(prefix)}
            retried(partial(_mark, store, path, there))


def _mark(store: Any, path: str, there: set[str]) -> None:
    node = zarr.open(store, path=path, mode="r+")
    if not isinstance(node, zarr.Array) or says_every_chunk(node):
        return
    units = node.shards or node.chunks
    counts = (range(-(-size // unit)) for size, unit in zip(node.shape, units, strict=True))
    if all(node.metadata.encode_chunk_key(index) in there for index in itertools.product(*counts)):
        node.update_attributes({**node.attrs, EVERY_CHUNK: True})
