"""Which chunk it is that cannot be decoded, and what is decoded though it is not whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numcodecs
import zarr
from zarr.codecs import BloscCodec
from zarr.storage import LocalStore

from leptonhpc.errors import CorruptChunkError

_HEADER_NBYTES = 16
"""Of a chunk of Blosc: its last four say how many bytes there are in all."""


def damage_in(
    array: zarr.Array[Any], name: str, region: tuple[tuple[int, int], ...], error: Exception
) -> CorruptChunkError:
    """Name the chunk (or shard) that a region could not be read for.

    Parameters
    ----------
    array : zarr.Array
        The opened array.
    name : str
        Its name for messages.
    region : tuple of (start, stop)
        What was to be read; its storage units are tried one by one.
    error : Exception
        What came of it.

    Returns
    -------
    CorruptChunkError
        To be raised.
    """
    units = array.shards or array.chunks
    for index in _indices(units, region):
        selection = tuple(
            slice(i * unit, min((i + 1) * unit, size))
            for i, unit, size in zip(index, units, array.shape, strict=True)
        )
        try:
            array[selection]
        except Exception as found:  # it is this one
            chunk = array.metadata.encode_chunk_key(index)
            words = f"{name!r} has a chunk that cannot be decoded, {chunk!r}: {found}"
            if isinstance(error, CorruptChunkError):  # which says it more exactly
                words = str(error)
            return CorruptChunkError(words, name, chunk)
    message = f"{name!r} has a chunk that cannot be decoded in {region}: {error}"
    return CorruptChunkError(message, name)


def may_hide_cuts(array: zarr.Array[Any]) -> bool:
    """Say whether what is left of a chunk may be decoded as if it were whole.

    Blosc does that, and Zarr takes an empty shard for one of fill values.

    Parameters
    ----------
    array : zarr.Array
        The opened array.

    Returns
    -------
    bool
        False as well where objects are written whole or not at all, as in object stores.
    """
    metadata: Any = array.metadata
    if not isinstance(array.store, LocalStore):
        return False
    if array.shards is not None:
        return True
    codecs = getattr(metadata, "codecs", None) or [getattr(metadata, "compressor", None)]
    return isinstance(codecs[-1], BloscCodec | numcodecs.Blosc)


def require_whole(array: zarr.Array[Any], name: str, region: tuple[tuple[int, int], ...]) -> None:
    """Refuse chunks of Blosc that are shorter than they say, and empty shards.

    Parameters
    ----------
    array : zarr.Array
        An array of which `may_hide_cuts` is true.
    name : str
        Its name for messages.
    region : tuple of (start, stop)
        What is to be read.

    Raises
    ------
    CorruptChunkError
        If one is.
    """
    store: Any = array.store
    for index in _indices(array.shards or array.chunks, region):
        key = array.metadata.encode_chunk_key(index)
        try:
            with (Path(store.root) / array.path / key).open("rb") as file:
                head, nbytes = file.read(_HEADER_NBYTES), file.seek(0, 2)
        except OSError:  # fill values are not stored; what cannot be read is said when it is
            continue
        said = max(int.from_bytes(head[12:], "little"), _HEADER_NBYTES)
        if nbytes < (said if array.shards is None else 1):  # the rest of a shard has a checksum
            message = f"{name!r} has a chunk that is cut off, {key!r}, after {nbytes} bytes"
            raise CorruptChunkError(message, name, key)


def _indices(
    units: tuple[int, ...], region: tuple[tuple[int, int], ...]
) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(
        range(start // unit, -(-stop // unit))
        for (start, stop), unit in zip(region, units, strict=True)
    ))  # fmt: skip
