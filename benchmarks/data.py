"""Inputs of the benchmarks, made once and kept, and the exact answers to judge by.

Written and checked with NumPy and zarr-python alone: leptonhpc does not judge itself.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

Spectrum = Literal["geometric", "slow"]
Compression = Literal["raw", "zstd"]
Floats = NDArray[np.floating[Any]]

_NOISE = 1e-3
"""Largest singular value of the noise, relative to the largest planted one."""
_PLANTED = {"geometric": 64, "slow": 256}
"""Number of planted singular values; the rest is noise."""
_CHECK_ROWS = 1024


def tall_matrix(
    folder: Path,
    *,
    rows: int,
    columns: int,
    chunk_rows: int,
    spectrum: Spectrum = "geometric",
    compression: Compression = "zstd",
    seed: int = 0,
) -> Path:
    """Give a float32 Zarr array U diag(s) V^T + noise, made band by band if it is not there.

    The columns of U are those of a discrete cosine transform (type II), which are orthonormal, so
    that any band of them is known without the others. The singular values of the sum are near the
    planted ones; `exact_singular_values` gives them exactly.
    """
    path = folder / f"tall-{spectrum}-{rows}x{columns}-{chunk_rows}-{compression}-{seed}.zarr"
    if path.exists():
        return path
    generator = np.random.default_rng(seed)
    count = min(_PLANTED[spectrum], columns // 2, rows // 2)
    i = np.arange(count)
    top = math.sqrt(rows * columns)  # so that entries are of order one
    s = top * (0.9**i if spectrum == "geometric" else (i + 1.0) ** -0.5)
    v, _ = np.linalg.qr(generator.standard_normal((columns, count)))
    frequencies = generator.choice(np.arange(1, rows), count, replace=False)
    sigma = _NOISE * top / (math.sqrt(rows) + math.sqrt(columns))

    def bands() -> Iterator[NDArray[np.float32]]:
        for begin in range(0, rows, chunk_rows):
            i = np.arange(begin, min(begin + chunk_rows, rows))
            u = math.sqrt(2 / rows) * np.cos(np.pi / rows * np.outer(i + 0.5, frequencies))
            noise = generator.standard_normal((len(i), columns), dtype=np.float32)
            yield ((u * s) @ v.T + sigma * noise).astype(np.float32)

    _write(path, bands(), (rows, columns), (chunk_rows, columns), np.float32, compression)
    return path


def exact_singular_values(path: Path) -> Floats:
    """Give all singular values of a tall array, from its Gram matrix summed in float64.

    Eigenvalues of the Gram matrix are right to about eps s_1^2, so those of this module's arrays,
    which are all above 1e-4 s_1, to 1e-8 of themselves and the large ones to 1e-15. Kept as an
    attribute of the array.
    """
    array = zarr.open_array(path, mode="r+")
    kept = array.attrs.get("singular_values")
    if kept is not None:
        return np.asarray(kept, dtype=np.float64)
    columns = array.shape[1]
    gram = np.zeros((columns, columns))
    for band in _bands(array):
        wide = band.astype(np.float64)
        gram += wide.T @ wide
    values: Floats = np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[::-1], 0))
    array.attrs["singular_values"] = values.tolist()
    return values


def worst_relative_error(values: Sequence[float], exact: Floats) -> float:
    """Compare singular values, one by one; infinite if some are missing or not finite."""
    found = np.asarray(values, dtype=np.float64)
    if len(found) < len(exact) or not np.isfinite(found).all():
        return math.inf
    return float(np.max(np.abs(found[: len(exact)] - exact) / exact))


def square_matrix(
    folder: Path, *, n: int, chunk: int, seed: int, compression: Compression = "zstd"
) -> Path:
    """Give a float64 Zarr array of normal numbers; the values do not depend on the chunks."""
    path = folder / f"square-{n}-{chunk}-{compression}-{seed}.zarr"
    if path.exists():
        return path
    generator = np.random.default_rng(seed)
    step = chunk * max(1, _CHECK_ROWS // chunk)
    bands = (generator.standard_normal((min(step, n - i), n)) for i in range(0, n, step))
    _write(path, bands, (n, n), (chunk, chunk), np.float64, compression)
    return path


def positive_matrix(folder: Path, *, n: int, chunk: int, seed: int = 0) -> Path:
    """Give a symmetric positive definite float64 Zarr array with condition number about 5."""
    path = folder / f"positive-{n}-{chunk}-{seed}.zarr"
    if path.exists():
        return path

    def block(i: int, j: int) -> Floats:
        if j > i:
            return block(j, i).T
        rows, columns = min(chunk, n - i * chunk), min(chunk, n - j * chunk)
        values = np.random.default_rng((seed, i, j)).standard_normal((rows, columns))
        if i == j:
            values = (values + values.T) / math.sqrt(2) + 3 * math.sqrt(n) * np.eye(rows)
        return values

    count = -(-n // chunk)
    bands = (np.hstack([block(i, j) for j in range(count)]) for i in range(count))
    _write(path, bands, (n, n), (chunk, chunk), np.float64, "zstd")
    return path


def normal_matrix(folder: Path, *, rows: int, columns: int, chunk: int, seed: int = 0) -> Path:
    """Give a float64 Zarr array of normal numbers."""
    path = folder / f"normal-{rows}x{columns}-{chunk}-{seed}.zarr"
    if path.exists():
        return path
    generator = np.random.default_rng(seed)
    bands = (
        generator.standard_normal((min(chunk, rows - i), columns)) for i in range(0, rows, chunk)
    )
    _write(path, bands, (rows, columns), (chunk, chunk), np.float64, "zstd")
    return path


class ProductCheck:
    """Judge C = A B by random vectors x: C x against A (B x), in float64 [1]_.

    A wrong block of C that is not tiny shows with certainty but for a set of x of measure zero.

    References
    ----------
    .. [1] R. Freivalds, Fast probabilistic algorithms, MFCS 1979.
    """

    def __init__(self, a: Path, b: Path, vectors: int = 3) -> None:
        columns = zarr.open_array(b, mode="r").shape[1]
        self._x = np.random.default_rng(1).standard_normal((columns, vectors))
        self._expected = _apply(a, _apply(b, self._x))

    def error(self, c: Path) -> float:
        """Give the largest |C x - A (B x)| / |A (B x)|."""
        array = zarr.open_array(c, mode="r")
        if array.shape != (len(self._expected), len(self._x)):
            return math.inf
        difference = np.linalg.norm(_apply(c, self._x) - self._expected, axis=0)
        worst = np.max(difference / np.linalg.norm(self._expected, axis=0))
        return float(worst) if np.isfinite(worst) else math.inf


def stored_nbytes(path: Path) -> int:
    """Count the bytes of an array's files: what one pass has to read."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def remove(path: Path) -> None:
    """Delete an output, if it is there."""
    shutil.rmtree(path, ignore_errors=True)


def _write(
    path: Path,
    bands: Iterator[Floats],
    shape: tuple[int, int],
    chunks: tuple[int, int],
    dtype: type[np.floating[Any]],
    compression: Compression,
) -> None:
    """Write bands into an array that appears under its name when it is whole."""
    partial = path.with_suffix(".partial")
    remove(partial)
    chunks = (min(chunks[0], shape[0]), min(chunks[1], shape[1]))
    compressors: Mapping[str, Any] = {"compressors": None if compression == "raw" else "auto"}
    array = zarr.create_array(partial, shape=shape, chunks=chunks, dtype=dtype, **compressors)
    begin = 0
    for band in bands:
        array[begin : begin + len(band)] = band
        begin += len(band)
    partial.rename(path)


def _bands(array: Any) -> Iterator[Floats]:
    step = array.chunks[0] * max(1, _CHECK_ROWS // array.chunks[0])
    for begin in range(0, array.shape[0], step):
        yield array[begin : begin + step]


def _apply(path: Path, x: Floats) -> Floats:
    return np.concatenate([band @ x for band in _bands(zarr.open_array(path, mode="r"))])
