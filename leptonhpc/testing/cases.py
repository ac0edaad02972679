"""The table of cases that drives all drivers: dtype, shape, grid, storage, spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.testing.matrices import matrix_with_spectrum, spectrum

Storage = Literal["zarr3", "zarr2", "sharded", "numpy", "fortran", "big-endian"]


@dataclass(frozen=True)
class Case:
    """One matrix, and how it is kept."""

    name: str
    shape: tuple[int, int]
    dtype: str = "float64"
    chunks: tuple[int, int] = (16, 16)
    """Of the store; a shard is two by two of them."""
    storage: Storage = "zarr3"
    values: str = "mild"
    """Name of the spectrum. Integers and booleans are drawn instead."""

    @property
    def short(self) -> int:
        """Length of the shorter side."""
        return min(self.shape)

    @property
    def computed(self) -> np.dtype[Any]:
        """Dtype of computing that the documentation promises."""
        given = np.dtype(self.dtype)
        if given.kind in "biu":
            return np.dtype(np.float64)
        return np.dtype(np.float32) if given == np.float16 else given.newbyteorder("=")

    def matrix(self, seed: int = 0) -> NDArray[Any]:
        """Make the matrix.

        Parameters
        ----------
        seed : int
            Of its singular vectors, or of its integers.

        Returns
        -------
        array
            As it is stored, native and row-major.
        """
        kind = np.dtype(self.dtype)
        if kind.kind in "biu":
            low = 0 if kind.kind in "bu" else -9
            drawn = np.random.default_rng(seed).integers(
                low, 2 if kind.kind == "b" else 10, self.shape
            )
            return drawn.astype(kind)
        values = spectrum(self.values, self.short)
        return matrix_with_spectrum(self.shape, values, dtype=kind, seed=seed)

    def keep(self, matrix: NDArray[Any], folder: Path) -> Any:
        """Put a matrix where this case wants it.

        Parameters
        ----------
        matrix : array
            The values.
        folder : Path
            An empty folder.

        Returns
        -------
        str or array
            What a driver takes.
        """
        return put(matrix, folder / "case.zarr", chunks=self.chunks, storage=self.storage)


def put(
    matrix: NDArray[Any],
    place: Path,
    *,
    chunks: tuple[int, int] = (16, 16),
    storage: Storage = "zarr3",
) -> Any:
    """Store a matrix as Zarr, or lay it out in memory.

    Parameters
    ----------
    matrix : array of shape (m, n)
        The values.
    place : Path
        A name that is free.
    chunks : tuple of int
        Shape of a chunk; a shard is two by two of them.
    storage : {"zarr3", "zarr2", "sharded", "numpy", "fortran", "big-endian"}
        The store, or the layout of the NumPy array that is given back.

    Returns
    -------
    str or array
        What a driver takes.
    """
    if storage == "numpy":
        return matrix
    if storage == "fortran":
        return np.asfortranarray(matrix)
    if storage == "big-endian":
        return matrix.astype(matrix.dtype.newbyteorder(">"))
    shards = (2 * chunks[0], 2 * chunks[1]) if storage == "sharded" else None
    array = store.create_array(
        place, shape=matrix.shape, dtype=matrix.dtype, chunks=chunks, shards=shards,
        zarr_format=2 if storage == "zarr2" else 3,
    )  # fmt: skip
    array.write_units((0, 0), matrix)
    return str(place)


CASES: tuple[Case, ...] = (
    Case("tall", (150, 40)),
    Case("wide", (40, 150)),
    Case("ragged", (131, 37), chunks=(17, 11)),
    Case("ragged wide", (37, 131), chunks=(11, 17)),
    Case("square", (48, 48), chunks=(13, 48)),
    Case("one block", (60, 20), chunks=(60, 20)),
    Case("chunk larger than array", (30, 12), chunks=(64, 64)),
    Case("one by one", (1, 1)),
    Case("one row", (1, 70)),
    Case("one column", (70, 1)),
    Case("two by two", (2, 2), chunks=(1, 1)),
    Case("sharded", (130, 40), storage="sharded"),
    Case("sharded wide", (40, 130), storage="sharded"),
    Case("zarr 2", (100, 33), storage="zarr2"),
    Case("float32", (150, 40), "float32"),
    Case("float32 wide", (40, 150), "float32"),
    Case("complex64", (90, 30), "complex64"),
    Case("complex64 wide", (30, 90), "complex64"),
    Case("complex128", (90, 30), "complex128"),
    Case("complex128 wide", (30, 90), "complex128"),
    Case("complex128 row", (1, 20), "complex128"),
    Case("complex128 one by one", (1, 1), "complex128"),
    Case("float16", (90, 20), "float16"),
    Case("int8", (90, 20), "int8"),
    Case("int64 wide", (20, 90), "int64"),
    Case("uint16", (50, 20), "uint16"),
    Case("boolean", (60, 20), "bool"),
    Case("boolean wide", (20, 60), "bool"),
    Case("in memory", (120, 30), storage="numpy"),
    Case("fortran order", (120, 30), storage="fortran"),
    Case("fortran order wide", (30, 120), "complex128", storage="fortran"),
    Case("big-endian", (120, 30), storage="big-endian"),
    Case("big-endian wide", (30, 120), "complex64", storage="big-endian"),
    Case("all equal", (100, 30), values="flat"),
    Case("all equal wide", (30, 100), "float32", values="flat"),
    Case("rank-deficient", (110, 30), values="deficient"),
    Case("rank-deficient wide", (30, 110), values="deficient"),
    Case("rank-deficient square", (50, 50), values="deficient"),
    Case("rank-deficient float32", (110, 30), "float32", values="deficient"),
    Case("rank-deficient complex", (30, 110), "complex128", values="deficient"),
    Case("zero", (60, 20), values="zero"),
    Case("zero wide", (20, 60), "float32", values="zero"),
    Case("zero square", (30, 30), "complex128", values="zero"),
    Case("zero one by one", (1, 1), values="zero"),
    Case("condition 5e3", (120, 40), values="moderate"),
    Case("condition 5e3 wide", (40, 120), "complex128", values="moderate"),
    Case("float32 condition 1e9", (120, 40), "float32", values="steep"),
    Case("float32 condition 1e9 wide", (40, 120), "float32", values="steep"),
    Case("condition 1e12", (120, 40), values="steeper"),
    Case("condition 1e12 wide", (40, 120), values="steeper"),
    Case("condition 1e18", (120, 40), values="singular"),
    Case("slow", (120, 40), values="slow"),
    # wide enough for the Krylov method
    Case("krylov tall", (300, 80), chunks=(64, 80)),
    Case("krylov wide", (80, 300), chunks=(33, 41)),
    Case("krylov square", (90, 90), chunks=(20, 90)),
    Case("krylov float32", (300, 80), "float32", values="steep"),
    Case("krylov complex64", (200, 80), "complex64", values="halving"),
    Case("krylov complex128 wide", (80, 200), "complex128", values="halving"),
    Case("krylov float16", (200, 80), "float16", values="halving"),
    Case("krylov int16", (200, 80), "int16"),
    Case("krylov boolean wide", (80, 200), "bool"),
    Case("krylov sharded", (200, 80), values="halving", storage="sharded"),
    Case("krylov zarr 2", (200, 80), values="halving", storage="zarr2"),
    Case("krylov fortran order", (200, 80), values="halving", storage="fortran"),
    Case("krylov big-endian", (200, 80), values="halving", storage="big-endian"),
    Case("krylov all equal", (200, 80), "float32", values="flat"),
    Case("krylov rank two", (200, 80), values="two"),
    Case("krylov rank two float32 wide", (80, 200), "float32", values="two"),
    Case("krylov rank-deficient", (200, 80), "complex128", values="deficient"),
    Case("krylov zero", (200, 80), values="zero"),
    Case("krylov zero wide", (80, 200), "complex64", values="zero"),
    Case("krylov slow", (200, 80), values="slow"),
)
"""Every edge that a driver must take."""
