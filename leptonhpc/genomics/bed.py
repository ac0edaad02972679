"""PLINK 1 files: a .bed matrix that is read lazily, with its .bim and .fam tables."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Region
from leptonhpc.errors import ShapeError, StoreError
from leptonhpc.genomics.genotypes import Genotypes, Samples, Variants
from leptonhpc.genomics.orientation import Turned
from leptonhpc.genomics.packed import MISSING, decoding_table
from leptonhpc.store import units_touched

_MAGIC = bytes([0x6C, 0x1B])
_VARIANT_MAJOR = 0x01
_HEADER_NBYTES = 3
# PLINK's codes: two copies of the first allele, missing, one copy, none
_QUADS = decoding_table(np.array([2, MISSING, 1, 0], np.int8)).view(np.uint32)[:, 0]
_READ_NBYTES = 1 << 20
_LOOKED_AT = 256
"""Variants of a file whose last samples are looked at when it is opened,"""
_LAST_NBYTES = 1024
"""and so many bytes of each."""
_HOMOZYGOUS = 2
"""Copies of the first allele in bits that are zero, as those are that fill the last byte."""
_CHANCE = 1e-9
"""That a person is homozygous at all variants looked at: below it, whoever is may be no person."""


@dataclass(frozen=True)
class BedRows:
    """The matrix of a .bed file as it lies there: variants by samples.

    Calls are copies of the first allele of the .bim.
    """

    path: str
    samples: int
    variants: int

    dtype = np.dtype(np.int8)
    shareable = True

    @property
    def shape(self) -> tuple[int, int]:
        """Variants and samples."""
        return self.variants, self.samples

    @property
    def unit(self) -> tuple[int, int]:
        """Shape of the piece that is read at once: some variants of all samples."""
        height = max(1, _READ_NBYTES // max(1, self.samples))
        return min(height, max(1, self.variants)), max(1, self.samples)

    @property
    def name(self) -> str:
        """The path."""
        return self.path

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Decode a region; of each variant only the bytes of the samples asked for are read."""
        (top, bottom), (first, last) = region
        if out is None:
            out = np.empty((bottom - top, last - first), np.int8)
        stride, begin, end = -(-self.samples // 4), first // 4, -(-last // 4)
        cells = slice(first - 4 * begin, last - 4 * begin)
        step = max(1, _READ_NBYTES // max(1, 4 * (end - begin)))
        # mapped anew for each region: nothing stays open, and pages are not kept
        mapped = np.memmap(self.path, np.uint8, "r", _HEADER_NBYTES, (self.variants, stride))
        whole = cells == slice(0, 4 * (end - begin)) and out.flags.c_contiguous
        for start in range(top, bottom, step):
            stop = min(start + step, bottom)
            packed, part = mapped[start:stop, begin:end], out[start - top : stop - top]
            if whole:  # one look-up gives four calls
                _QUADS.take(packed, out=part.view(np.uint32), mode="clip")
            else:
                part[...] = _QUADS.take(packed).view(np.int8)[:, cells]
        return out

    def units_in(self, region: Region) -> int:
        """Count the pieces that a region touches."""
        return units_touched(region, self.unit)

    def identity(self) -> dict[str, Any]:
        """Describe the file by its path, size and time of change."""
        status = os.stat(self.path)
        return {"bed": self.path, "size": status.st_size, "changed": status.st_mtime_ns}


def read_bed(path: str | os.PathLike[str]) -> Genotypes:
    """Open a PLINK 1 file set lazily.

    Parameters
    ----------
    path : str or path
        The .bed file, or the name that it has in common with its .bim and .fam.

    Returns
    -------
    Genotypes
        Copies of the .bim's fifth column (A1, "alternate"), -1 where missing.

    Raises
    ------
    StoreError
        If a file is not there, is not what it should be, is too short or too long, or has calls of
        more samples than its .fam: before anything is computed.

    Warns
    -----
    UserWarning
        If the last samples have the same bits as are behind them, at all variants looked at: the
        .fam may have samples that the .bed has not.

    Notes
    -----
    A .bed does not say how many samples it has, and four share a byte: up to three too many or too
    few leave its length as it should be. They are seen in the last byte of 256 variants. A .fam of
    the right length and of other samples, or in another order, is not seen.
    """
    bed = Path(path)
    if bed.suffix != ".bed":
        bed = Path(f"{bed}.bed")
    for file in (bed, bed.with_suffix(".bim"), bed.with_suffix(".fam")):
        if not file.is_file():
            message = f"a PLINK 1 file set needs {file.name!r} beside the others; it is not there"
            raise StoreError(message)
    samples = _read_fam(bed.with_suffix(".fam"))
    variants = _read_bim(bed.with_suffix(".bim"))
    _check_bed(bed, len(samples), len(variants))
    rows = BedRows(str(bed.resolve()), len(samples), len(variants))
    _check_last_samples(rows, samples)
    return Genotypes(BlockedArray(Turned(rows)), samples, variants)


def _check_bed(bed: Path, samples: int, variants: int) -> None:
    if not samples or not variants:
        message = f"{str(bed)!r} has {samples} samples in its .fam, {variants} variants in its .bim"
        raise ShapeError(message)
    with bed.open("rb") as file:
        header = file.read(_HEADER_NBYTES)
    if header[:2] != _MAGIC:
        message = (
            f"{str(bed)!r} does not begin as a .bed file does (6c 1b); found {header.hex(' ')}"
        )
        raise StoreError(message)
    if header[2:] != bytes([_VARIANT_MAJOR]):
        message = (
            f"{str(bed)!r} is ordered by samples (PLINK before 1.0), or cut off in its header; "
            "write it anew with plink --make-bed"
        )
        raise StoreError(message)
    stride = -(-samples // 4)
    expected, found = _HEADER_NBYTES + variants * stride, bed.stat().st_size
    if found == expected:
        return
    whole = (found - _HEADER_NBYTES) // stride
    what = (
        f"is truncated in variant {whole + 1} of {variants}" if found < expected else "is too long"
    )
    message = (
        f"{str(bed)!r} {what}: {samples} samples x {variants} variants take {expected} bytes, "
        f"found {found}. Copy it again, or use the .bim and .fam that belong to it"
    )
    raise StoreError(message)


def _check_last_samples(rows: BedRows, samples: Samples) -> None:
    """Refuse calls behind the last sample; warn of last samples that may be nothing but zeros."""
    stride = -(-rows.samples // 4)
    mapped = np.memmap(rows.path, np.uint8, "r", _HEADER_NBYTES, (rows.variants, stride))
    some = np.linspace(0, rows.variants - 1, min(rows.variants, _LOOKED_AT)).astype(np.int64)
    begin = max(0, stride - _LAST_NBYTES)
    calls = _QUADS.take(mapped[some, begin:]).view(np.int8)
    there = rows.samples - 4 * begin
    if np.any(calls[:, there:] != calls[:1, there:]):  # fillings are the same everywhere
        message = (
            f"{rows.path!r} has calls of more than the {rows.samples} samples of its .fam: what is "
            "behind the last of them differs from variant to variant. Use the .fam that belongs to "
            "it; if this is the one, plink2 --make-bed writes the file anew, filled up with zeros"
        )
        raise StoreError(message)
    full = calls[:, :there] == _HOMOZYGOUS
    sharing = (rows.samples - 1) % 4  # of the last byte, less one: without that it would not be
    in_all = full[:, there - sharing :].all(axis=0)
    zeros = int(np.argmin(np.append(in_all[::-1], False)))
    others = full[:, : there - zeros]
    if zeros and np.prod(others.mean(axis=1)) < _CHANCE:
        message = (
            f"the last {zeros} of the {rows.samples} samples of {rows.path!r}, from "
            f"{samples.label(rows.samples - zeros)!r}, have two copies of the first allele at all "
            f"{len(some)} variants looked at, which is what fills up a byte. If that cannot be, "
            "the .fam has more samples than the .bed, and others may have calls that are not theirs"
        )
        warnings.warn(message, UserWarning, stacklevel=3)


def _read_fam(path: Path) -> Samples:
    columns = _columns(path, 6, "family, sample, father, mother, sex, phenotype")
    pairs = list(zip(columns[0], columns[1], strict=True))
    if len(set(pairs)) != len(pairs):
        repeated = next(p for p in pairs if pairs.count(p) > 1)
        message = f"{str(path)!r} has the sample {' '.join(repeated)!r} twice"
        raise StoreError(message)
    return Samples(np.array(columns[0], np.str_), np.array(columns[1], np.str_))


def _read_bim(path: Path) -> Variants:
    contig, names, _, position, first, second = _columns(
        path, 6, "chromosome, variant, centimorgans, position, allele 1, allele 2"
    )
    try:
        positions = np.array(position, np.int64)
    except ValueError as error:
        raise StoreError(f"{str(path)!r} has a position that is no whole number: {error}") from None
    if np.any(positions < 0):
        line = int(np.argmax(positions < 0))
        message = (
            f"{str(path)!r} has the position {positions[line]} for {names[line]!r} (line "
            f"{line + 1}): PLINK leaves variants below zero out. plink2 --make-bed writes a file "
            "set without them; where a position is not known, it is 0"
        )
        raise StoreError(message)
    text = (np.array(column, np.str_) for column in (contig, names, second, first))
    contigs, ids, reference, alternate = text
    return Variants(contigs, positions, ids, reference, alternate)


def _columns(path: Path, count: int, meaning: str) -> list[tuple[str, ...]]:
    try:
        text = path.read_text("utf-8-sig")  # editors write a byte order mark
    except UnicodeDecodeError as error:
        raise StoreError(f"{str(path)!r} is no text in UTF-8: {error}") from None
    rows = [line.split() for line in text.splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != count:
            message = (
                f"{str(path)!r} needs {count} columns ({meaning}); line {number} has {len(row)}"
            )
            raise StoreError(message)
    return list(zip(*rows, strict=True)) if rows else [()] * count
