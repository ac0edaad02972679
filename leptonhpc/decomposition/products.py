"""Sums and products of samples with small matrices: in memory directly, blocked by the driver."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import leptonhpc as lh
from leptonhpc.blocks import BlockedArray
from leptonhpc.decomposition.samples import Samples, floating
from leptonhpc.decomposition.sources import AffineSource, beside
from leptonhpc.errors import OptionError


def project(
    x: Samples, shift: NDArray[Any] | None, matrix: NDArray[Any], *, out: Any, memory: Any,
    progress: bool,
) -> Samples:  # fmt: skip
    """Give (x - shift) @ matrix.

    Parameters
    ----------
    x : array of shape (m, n)
        Samples.
    shift : array of shape (n,), optional
        What is subtracted from each.
    matrix : array of shape (n, k)
        Small.
    out : str or path, optional
        Zarr array to be made.
    memory : int, float, str or None
        Budget of each worker.
    progress : bool
        Show a bar.

    Returns
    -------
    ndarray or BlockedArray of shape (m, k)
        In memory where it fits, else in `out` or a temporary store that lives as long as it.
    """
    if isinstance(x, np.ndarray) and out is None:
        product: NDArray[Any] = (x if shift is None else x - shift) @ matrix
        return product
    array, dtype = lh.open(x), floating(x.dtype)
    source = AffineSource(array.source, dtype, shift)
    return multiplied(
        BlockedArray(source, array.grid), matrix.astype(dtype, copy=False), out=out, memory=memory,
        progress=progress,
    )  # fmt: skip


def restore(
    x: Samples, matrix: NDArray[Any], offset: NDArray[Any], *, out: Any, memory: Any,
    progress: bool,
) -> Samples:  # fmt: skip
    """Give x @ matrix + offset.

    Parameters
    ----------
    x : array of shape (m, k)
        Projected samples.
    matrix : array of shape (k, n)
        Small.
    offset : array of shape (n,)
        Added to each row.
    out : str or path, optional
        Zarr array to be made.
    memory : int, float, str or None
        Budget of each worker.
    progress : bool
        Show a bar.

    Returns
    -------
    ndarray or BlockedArray of shape (m, n)
        As for `project`.
    """
    if isinstance(x, np.ndarray) and out is None:
        product: NDArray[Any] = x @ matrix + offset
        return product
    array, dtype = lh.open(x), floating(x.dtype)
    # one more column of ones meets one more row: [x 1] [matrix; offset]
    joined = beside(array, np.ones((array.shape[0], 1), dtype))
    return multiplied(
        joined, np.vstack([matrix, offset]).astype(dtype), out=out, memory=memory,
        progress=progress,
    )  # fmt: skip


def multiplied(
    left: Any, right: Any, *, out: Any = None, memory: Any = None, progress: bool = False
) -> Samples:  # fmt: skip
    """Give a product by the driver; a large one keeps its temporary store.

    Parameters
    ----------
    left : BlockedArray of shape (m, n)
        Left factor.
    right : array of shape (n, k)
        Right factor.
    out : str or path, optional
        Zarr array to be made.
    memory : int, float, str or None
        Budget of each worker.
    progress : bool
        Show a bar.

    Returns
    -------
    ndarray or BlockedArray of shape (m, k)
        The product.
    """
    result = lh.matmul(left, right, out=out, memory=memory, progress=progress)
    product: Samples = result.product
    return product


def column_means(
    x: Samples, *, weights: NDArray[Any] | None = None, memory: Any, progress: bool
) -> NDArray[Any]:
    """Give the mean of each column, in float64; blocked arrays are read once.

    Parameters
    ----------
    x : array of shape (m, n)
        Samples.
    weights : array of shape (m,), optional
        Of the rows.
    memory : int, float, str or None
        Budget of each worker.
    progress : bool
        Show a bar.

    Returns
    -------
    array of shape (n,)
        The means.

    Raises
    ------
    OptionError
        If the weights have no positive sum.
    """
    w = np.ones(x.shape[0]) if weights is None else weights.astype(float)
    total = float(np.sum(w))
    if not total > 0:
        message = f"sample_weight needs a positive sum; found {total}"
        raise OptionError(message)
    if isinstance(x, np.ndarray):
        return np.asarray(np.average(x.astype(float, copy=False), axis=0, weights=weights))
    sums = multiplied(lh.open(w[np.newaxis]), x, memory=memory, progress=progress)
    means: NDArray[Any] = np.asarray(sums)[0] / total
    return means
