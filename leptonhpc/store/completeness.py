"""Arrays that store every chunk, and say so: there a chunk that is not there is lost.

Zarr need not store a chunk of fill values, so of most arrays nobody can tell a lost chunk from
such a one. Results are written whole, and say so from the first: what a job reads of its own output
must be there. So do other arrays that are whole when they get their final name. A triangle says on
which side of its diagonal it has chunks.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import zarr
from numpy.typing import NDArray
from zarr.core.sync import sync

from leptonhpc.errors import CorruptChunkError
from leptonhpc.store.locations import FOLDER, Location, describe, resolve, store_errors
from leptonhpc.store.objects import list_objects
from leptonhpc.store.retrying import retried
from leptonhpc.store.units import Region

EVERY_CHUNK = "leptonhpc_every_chunk_is_stored"
"""Attribute of an array: true if a chunk that is not there is lost; "lower" or "upper" if so is one
that is not all zeros beside this triangle."""
LOWER, UPPER = "lower", "upper"
_ARRAY_FILES = ("zarr.json", ".zarray")


def says_every_chunk(array: zarr.Array[Any]) -> bool:
    """Say whether an array says that it stores every chunk, or every one of a triangle.

    Parameters
    ----------
    array : zarr.Array
        The opened array.

    Returns
    -------
    bool
        What its attribute says.
    """
    says = array.attrs.get(EVERY_CHUNK)
    return says is True or says in (LOWER, UPPER)


def is_lost(array: zarr.Array[Any], index: tuple[int, ...]) -> bool:
    """Say whether a chunk that is not there should be.

    Parameters
    ----------
    array : zarr.Array
        An array of which `says_every_chunk` is true.
    index : tuple of int
        Of the chunk, or shard.

    Returns
    -------
    bool
        False of one that is wholly beside the triangle which the array says that it is.
    """
    says = array.attrs.get(EVERY_CHUNK)
    if says is True or len(index) != 2:  # noqa: PLR2004  (rows and columns)
        return True
    (i, j), (rows, columns) = index, array.shards or array.chunks
    if says == UPPER:
        i, j, rows, columns = j, i, columns, rows
    return j * columns < (i + 1) * rows  # its first column is not right of its last row's diagonal


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
        f"values are meant, set its attribute {EVERY_CHUNK} to false; an unfinished output is "
        "begun again by overwrite=True"
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
        if is_lost(array, index) and not sync(
            array.store.exists(f"{array.path}/{key}".lstrip("/"))
        ):
            raise lost_chunk(name, key)


def mark_whole(location: Location) -> None:
    """Let arrays that store every chunk say so.

    Parameters
    ----------
    location : str, path or zarr store
        An array or a group that nobody writes any more; arrays that lack a chunk stay as they are.

    Raises
    ------
    CorruptChunkError
        If an array said before that it stores every chunk, and one is not there.
    """
    store, root = resolve(location)
    with store_errors(location):
        keys = [key for key in list_objects(store, root) if FOLDER not in key.split("/")]
        nodes = {key.rpartition("/")[0] for key in keys if key.endswith(_ARRAY_FILES)}
        for path in sorted(nodes):
            prefix = f"{path}/" if path else ""
            there = {k.removeprefix(prefix) for k in keys if k.startswith(prefix)}
            name = "/".join(filter(None, (describe(location), path[len(root) :].strip("/"))))
            retried(partial(_mark, store, path, there, name))


def _mark(store: Any, path: str, there: set[str], name: str) -> None:
    node = zarr.open(store, path=path, mode="r+")
    if not isinstance(node, zarr.Array):
        return
    units = node.shards or node.chunks
    counts = (range(-(-size // unit)) for size, unit in zip(node.shape, units, strict=True))
    key = node.metadata.encode_chunk_key
    gone = [index for index in itertools.product(*counts) if key(index) not in there]
    if says_every_chunk(node):
        lost = next((key(index) for index in gone if is_lost(node, index)), None)
        if lost is not None:
            raise lost_chunk(name, lost)
    elif not gone:
        node.update_attributes({**node.attrs, EVERY_CHUNK: True})
