"""A cohort as a Zarr group of our own: calls in one byte or two bits, names beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.blocks import BlockedArray, StoredSource
from leptonhpc.blocks.sources import Source
from leptonhpc.errors import NotAnArrayError, OptionError
from leptonhpc.genomics.genotypes import Genotypes, Samples, Variants
from leptonhpc.genomics.packed import MISSING, PackedSource, pack
from leptonhpc.genomics.passes import map_variants
from leptonhpc.genomics.standardised import missing_in, require_calls
from leptonhpc.store.locations import Location, describe

FORMAT = "leptonhpc-genotypes"
Encoding = Literal["byte", "two-bit"]
Nbytes = int | float | str | None

_CHUNK = (4096, 1024)
_NAMES = {
    "sample_family_id": ("samples", "family_id"),
    "sample_id": ("samples", "sample_id"),
    "variant_contig": ("variants", "contig"),
    "variant_id": ("variants", "variant_id"),
    "variant_reference": ("variants", "reference"),
    "variant_alternate": ("variants", "alternate"),
}


def store_genotypes(
    genotypes: Genotypes,
    out: Location,
    *,
    encoding: Encoding = "byte",
    chunks: Sequence[int] | None = None,
    memory: Nbytes = None,
    overwrite: bool = False,
) -> Genotypes:
    """Write a cohort as a Zarr group, in one pass.

    Parameters
    ----------
    genotypes : Genotypes
        The cohort.
    out : str or path
        The group.
    encoding : {"byte", "two-bit"}
        One byte a call (int8, -1 where missing; dosages keep their floating dtype), or four calls a
        byte.
    chunks : (int, int), optional
        Samples and variants of a chunk; default up to (4096, 1024).
    memory : int, float or str, optional
        Budget, such as "2 GB".
    overwrite : bool
        Replace what is there.

    Returns
    -------
    Genotypes
        The stored cohort.

    Raises
    ------
    OptionError
        If dosages are to be stored in two bits, or chunks are not positive.
    OutputExistsError
        If the place is taken, or ``OUT.partial`` beside it is something else or of a living
        process.
    ShapeError
        If a call is neither missing nor from 0 to 2; the message names sample and variant.
    """
    dtype = genotypes.calls.dtype
    if encoding not in ("byte", "two-bit"):
        raise OptionError(f"encoding is 'byte' or 'two-bit'; found {encoding!r}")
    if encoding == "two-bit" and dtype.kind == "f":
        raise OptionError("dosages do not fit in two bits; store them with encoding='byte'")
    with store.being_made(out, overwrite=overwrite, leave=False) as place:
        store.create_group(place, attributes={"format": FORMAT, "encoding": encoding,
                                              "samples": genotypes.shape[0]})  # fmt: skip
        array = _create(store.join(place, "calls"), genotypes, encoding, chunks)
        width = array.unit[1]
        for start, block in map_variants(
            genotypes.calls, _Encoded(genotypes, encoding), memory=memory, cell_nbytes=6,
            width=width,
        ):  # fmt: skip
            _write(array, start // width, block)
        for name, (table, field) in _NAMES.items():
            _write_strings(store.join(place, name), getattr(getattr(genotypes, table), field))
        _write_array(store.join(place, "variant_position"), genotypes.variants.position)
    return open_stored(out)


def open_stored(location: Location) -> Genotypes:
    """Open a group that `store_genotypes` made.

    Parameters
    ----------
    location : str or path
        The group.

    Returns
    -------
    Genotypes
        The cohort, lazily.

    Raises
    ------
    NotAnArrayError
        If it is something else.
    """
    attributes = store.read_attributes(location)
    if attributes.get("format") != FORMAT:
        raise NotAnArrayError(f"{describe(location)!r} holds no genotypes of leptonhpc")
    source: Source = StoredSource(store.open_array(store.join(location, "calls")))
    if attributes["encoding"] == "two-bit":
        source = PackedSource(source, int(attributes["samples"]))
    fields: dict[str, dict[str, Any]] = {"samples": {}, "variants": {}}
    for name, (table, field) in _NAMES.items():
        fields[table][field] = _read_strings(store.join(location, name))
    position = store.open_array(store.join(location, "variant_position"))
    fields["variants"]["position"] = position.read(((0, position.shape[0]),))
    return Genotypes(
        BlockedArray(source), Samples(**fields["samples"]), Variants(**fields["variants"])
    )


class _Encoded:
    """Give a block as it is stored; refuse calls that do not fit."""

    def __init__(self, genotypes: Genotypes, encoding: Encoding) -> None:
        self.name = genotypes.name
        self.encoding = encoding

    def __call__(self, block: NDArray[Any], start: int) -> tuple[int, NDArray[Any]]:
        """Encode one block."""
        missing = missing_in(block)
        require_calls(block, self.name, first_variant=start)
        if self.encoding == "two-bit":
            return start, pack(block)
        if block.dtype.kind == "f":
            return start, block
        return start, np.where(missing, MISSING, block).astype(np.int8)


def _create(
    location: Location, genotypes: Genotypes, encoding: Encoding, chunks: Sequence[int] | None
) -> store.StoredArray:
    samples, variants = genotypes.shape
    rows, columns = chunks or (min(samples, _CHUNK[0]), min(variants, _CHUNK[1]))
    if min(rows, columns) < 1:
        raise OptionError(f"chunks are two positive lengths; found {tuple(chunks or ())}")
    dtype: Any = genotypes.calls.dtype if genotypes.calls.dtype.kind == "f" else np.int8
    if encoding == "two-bit":
        samples, rows, dtype = -(-samples // 4), -(-rows // 4), np.uint8
    return store.create_array(
        location, shape=(samples, variants), dtype=dtype, chunks=(rows, columns),
        dimension_names=("samples", "variants"),
    )  # fmt: skip


def _write(array: store.StoredArray, column: int, block: NDArray[Any]) -> None:
    """Write all chunks of one column of chunks."""
    for row, begin in enumerate(range(0, len(block), array.unit[0])):
        array.write_units((row, column), block[begin : begin + array.unit[0]])


def _write_array(location: Location, values: NDArray[Any]) -> None:
    chunks = (min(len(values), 1 << 16), *values.shape[1:])
    array = store.create_array(location, shape=values.shape, dtype=values.dtype, chunks=chunks)
    for number, begin in enumerate(range(0, len(values), chunks[0])):
        index = (number,) + (0,) * (values.ndim - 1)
        array.write_units(index, values[begin : begin + chunks[0]])


def _write_strings(location: Location, values: NDArray[np.str_]) -> None:
    """Write UTF-8 of a fixed width: Zarr 3 has no settled dtype for strings."""
    encoded = np.char.encode(values, "utf-8")
    width = max(1, encoded.dtype.itemsize)
    data = np.frombuffer(encoded.astype(f"S{width}").tobytes(), np.uint8)
    _write_array(location, data.reshape(len(values), width))


def _read_strings(location: Location) -> NDArray[np.str_]:
    array = store.open_array(location)
    data = array.read(tuple((0, n) for n in array.shape))
    return np.char.decode(np.ascontiguousarray(data).view(f"S{array.shape[1]}")[:, 0], "utf-8")
