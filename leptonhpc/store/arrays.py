"""Zarr arrays: read in regions, written in whole storage units (chunks, or shards if sharded)."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, Literal, cast

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.abc.store import Store
from zarr.codecs import ZstdCodec
from zarr.storage import LocalStore, MemoryStore, ObjectStore

from leptonhpc.errors import (
    CorruptChunkError,
    DTypeError,
    LeptonError,
    NotAnArrayError,
    ShapeError,
    StoreError,
)
from leptonhpc.store.completeness import require_stored, says_every_chunk
from leptonhpc.store.contents import contents_of
from leptonhpc.store.damage import damage_in, may_hide_cuts, require_whole
from leptonhpc.store.direct import DirectReader
from leptonhpc.store.fast import by_zarrs, is_proven
from leptonhpc.store.locations import (
    Location,
    describe,
    is_local,
    local_path,
    remove,
    require_free,
    resolve,
    store_errors,
)
from leptonhpc.store.opening import opened
from leptonhpc.store.retrying import may_pass, retried
from leptonhpc.store.units import Region, units_touched

Compression = Literal["small", "fast", "none"]

_KINDS = "biufc"
_COMPRESSORS: dict[str, Any] = {"small": "auto", "fast": ZstdCodec(level=-5), "none": None}
_UNREACHABLE = (FileNotFoundError, PermissionError, ConnectionError, TimeoutError)


class StoredArray:
    """One Zarr array, opened once in each process and picklable between them.

    Parameters
    ----------
    location : str, path or zarr store
        Where it is.
    array : zarr.Array, optional
        The opened array.
    path : str
        Where in the store it is.
    writable : bool
        Whether blocks may be written.
    first : bool
        A host that is not there is said at once, and not waited for.
    """

    def __init__(
        self,
        location: Location,
        array: zarr.Array[Any] | None = None,
        *,
        path: str = "",
        writable: bool = False,
        first: bool = False,
    ) -> None:
        self.location = location
        self.writable = writable
        self.path = path
        self.keeper: object = None
        """What must live as long as this array is read here: a temporary folder."""
        if array is None:
            self._array = opened(location, writable, path, first=first)
        else:
            self._array = array
        self.shape: tuple[int, ...] = tuple(self._array.shape)
        self.dtype: np.dtype[Any] = np.dtype(self._array.dtype).newbyteorder("=")
        if self.dtype.kind not in _KINDS:
            message = f"{self.name!r} has dtype {self.dtype}; numbers or booleans are needed"
            raise DTypeError(message)
        self._whole = says_every_chunk(self._array)
        shards = self._array.shards
        self.chunks: tuple[int, ...] = tuple(self._array.chunks)
        self.unit: tuple[int, ...] = tuple(shards) if shards is not None else self.chunks
        self._direct, self._cut_unseen = None, False
        self._plain, self._proven = self._array, True
        if is_local(location):
            self._direct = DirectReader.of(self._array, local_path(location))
            self._cut_unseen = self._direct is None and may_hide_cuts(self._array)
            if self._direct is None and array is None and not writable:
                self._array = by_zarrs(self._plain, lambda: opened(location, writable, path))
                self._proven = shards is None or self._array is self._plain

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the location only; the other side opens it."""
        return _reopen, (self.location, self.path, self.writable)

    def __repr__(self) -> str:
        """Show name, shape, dtype and unit."""
        return f"StoredArray({self.name!r}, {self.shape}, {self.dtype}, unit={self.unit})"

    @property
    def name(self) -> str:
        """The location in words."""
        return describe(self.location) + (f"/{self.path}" if self.path else "")

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the array, uncompressed."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def unit_nbytes(self) -> int:
        """Bytes of one storage unit, uncompressed."""
        return prod(self.unit) * self.dtype.itemsize

    @property
    def attributes(self) -> dict[str, Any]:
        """The array's attributes."""
        return dict(self._array.attrs)

    @property
    def dimension_names(self) -> tuple[str | None, ...] | None:
        """Names of the dimensions, if they have any."""
        names = getattr(self._array.metadata, "dimension_names", None)
        if names is None:
            names = self._array.attrs.get("_ARRAY_DIMENSIONS")
        return None if names is None else tuple(cast("Sequence[str | None]", names))

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read one region; each storage unit in it is read once.

        Parameters
        ----------
        region : tuple of (start, stop)
            One pair per dimension.
        out : array, optional
            C-contiguous array of the region's shape and the array's dtype to read into.

        Returns
        -------
        array of the region's shape
            `out`, or a new array.

        Raises
        ------
        CorruptChunkError
            If a chunk is there and cannot be decoded, or is not there where all must be.
        StoreError
            If the store fails.
        """
        shape = tuple(stop - start for start, stop in region)
        if out is None:
            out = np.empty(shape, self.dtype)
        selection = tuple(slice(start, stop) for start, stop in region)
        try:
            if (direct := self._direct) is not None:
                retried(lambda: direct.read(region, out))
            else:
                if self._cut_unseen:
                    require_whole(self._array, self.name, region)
                if not self._proven:
                    self._proven = retried(lambda: is_proven(self._plain, region))
                out[...] = retried(lambda: self._array[selection])
                if self._whole:
                    retried(lambda: require_stored(self._array, self.name, region, out))
        except Exception as error:  # every codec has exceptions of its own
            damage = isinstance(error, CorruptChunkError) and not error.chunk
            if isinstance(error, LeptonError) and not damage:
                raise
            if isinstance(error, _UNREACHABLE) or may_pass(error):
                message = f"{self.name!r} could not be read at {region}: {error}"
                raise StoreError(message) from error
            asked = self._array if self._proven else self._plain
            raise damage_in(asked, self.name, region, error) from error
        return out

    def write_units(self, start: Sequence[int], block: NDArray[Any]) -> None:
        """Write whole storage units.

        Parameters
        ----------
        start : sequence of int
            Index of the first unit along each dimension.
        block : array
            The values; along each dimension a whole number of units, or up to the array's edge.

        Raises
        ------
        ShapeError
            If the block does not end at a unit's end or the array's edge.
        StoreError
            If the store fails, for instance because the disk is full.
        """
        region = []
        for axis, (first, unit, size, length) in enumerate(
            zip(start, self.unit, self.shape, block.shape, strict=True)
        ):
            begin, end = first * unit, first * unit + length
            if end > size or (end % unit and end != size):
                message = (
                    f"{self.name!r} is written in whole units of {self.unit}; a block of shape "
                    f"{block.shape} at unit {tuple(start)} ends at {end} along axis {axis}"
                )
                raise ShapeError(message)
            region.append(slice(begin, end))
        with store_errors(self.location):
            retried(lambda: self._array.__setitem__(tuple(region), block))

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        return units_touched(region, self.unit)

    def identity(self) -> dict[str, Any]:
        """Describe the array so that a change of it is noticed.

        Returns
        -------
        dict
            Location, digest of the metadata, and digest of what the store tells of the chunks.
        """
        metadata = json.dumps(self._array.metadata.to_dict(), sort_keys=True, default=str)
        return {
            "location": str(local_path(self.location)) if is_local(self.location) else self.name,
            "store": id(self.location) if isinstance(self.location, MemoryStore) else None,
            "metadata": hashlib.sha256(metadata.encode()).hexdigest()[:16],
            "chunks": self.contents(),
        }

    def contents(self, *, without: str | None = None) -> str:
        """Give a digest of all chunks, but for one (its key), that changes when any does."""
        store, path = self._array.store, self._array.path
        return contents_of(store, path, self._chunk_keys(), without=without)

    def _chunk_keys(self) -> Iterator[str]:
        counts = (-(-n // u) for n, u in zip(self.shape, self.unit, strict=True))
        for index in itertools.product(*map(range, counts)):
            yield self._array.metadata.encode_chunk_key(index)


def open_array(location: Location, *, writable: bool = False) -> StoredArray:
    """Open a Zarr array, version 2 or 3.

    Parameters
    ----------
    location : str, path or zarr store
        Where it is.
    writable : bool
        Whether blocks may be written.

    Returns
    -------
    StoredArray
        The array.

    Raises
    ------
    StoreError
        If nothing is there.
    NotAnArrayError
        If what is there is not a Zarr array.
    """
    return StoredArray(location, writable=writable, first=not writable)


def is_store(source: Any) -> bool:
    """Say whether an object is a Zarr store, of zarr or of another package.

    Parameters
    ----------
    source : object
        Anything.

    Returns
    -------
    bool
        True for a store.
    """
    return isinstance(source, Store)


def open_object(source: Any) -> StoredArray:
    """Open what zarr or obstore gave: an array, or a store with an array at its root.

    Parameters
    ----------
    source : zarr.Array, zarr store or obstore store
        The object.

    Returns
    -------
    StoredArray
        The array; a local one by its folder, so that other processes can read it.

    Raises
    ------
    NotAnArrayError
        If it is something else, a group for instance.
    """
    if type(source).__module__.startswith("obstore"):
        source = ObjectStore(source, read_only=True)
    if isinstance(source, Store):
        return open_array(source)
    if not isinstance(source, zarr.Array):
        message = f"a zarr array is needed; found {type(source).__name__}. Open one of its arrays"
        raise NotAnArrayError(message)
    if isinstance(source.store, LocalStore):
        return open_array(source.store.root / source.path)
    return StoredArray(source.store, source, path=source.path)


def create_array(
    location: Location,
    *,
    shape: Sequence[int],
    dtype: DTypeLike,
    chunks: Sequence[int],
    shards: Sequence[int] | None = None,
    zarr_format: int = 3,
    attributes: Mapping[str, Any] | None = None,
    dimension_names: Sequence[str] | None = None,
    fill_value: Any = None,
    compression: Compression = "small",
    overwrite: bool = False,
) -> StoredArray:
    """Make an empty Zarr array.

    Parameters
    ----------
    location : str, path or zarr store
        Where.
    shape, dtype, chunks, shards, zarr_format, dimension_names, fill_value : see zarr.create_array
        As Zarr's.
    attributes : mapping, optional
        JSON-serialisable attributes.
    compression : {"small", "fast", "none"}
        Zstandard as Zarr does it by default, or in its fast way: numbers that were computed do not
        get smaller, zeros do.
    overwrite : bool
        Replace what is there.

    Returns
    -------
    StoredArray
        The writable array.

    Raises
    ------
    OutputExistsError
        If the place is taken.
    StoreError
        If it cannot be written.
    """
    if not isinstance(location, Store):
        require_free(location, overwrite=overwrite)
    if overwrite:
        remove(location)
    store, path = resolve(location)
    with store_errors(location):
        array = retried(
            lambda: zarr.create_array(
                store,
                name=path or None,
                shape=tuple(shape),
                dtype=np.dtype(dtype),
                chunks=tuple(chunks),
                shards=None if shards is None else tuple(shards),
                zarr_format=cast("Any", zarr_format),
                attributes=dict(attributes or {}),
                dimension_names=dimension_names,
                fill_value=fill_value,
                compressors=_COMPRESSORS[compression],
                config={"write_empty_chunks": True},
            )
        )
    return StoredArray(location, array, writable=True)


def _reopen(location: Location, path: str, writable: bool) -> StoredArray:
    return StoredArray(location, path=path, writable=writable)
