"""BLAS on one thread, and Zarr arrays of small matrices."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from threadpoolctl import threadpool_limits

Stored = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def _blas_on_one_thread() -> Iterator[None]:
    with threadpool_limits(limits=1, user_api="blas"):
        yield


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """Give a function that writes a matrix and tells where."""

    def write(a: np.ndarray, chunks: tuple[int, int], name: str = "x") -> Path:
        array = zarr.create_array(tmp_path / name, shape=a.shape, dtype=a.dtype, chunks=chunks)
        array[...] = a
        return tmp_path / name

    return write
