"""How many threads BLAS has while lanes run."""

from typing import Any

import pytest
from threadpoolctl import ThreadpoolController

from leptonhpc.kernels import threads
from leptonhpc.runtime import blas_limits


def own() -> list[int]:
    """Give the threads of the BLAS that kernels call."""
    import scipy.linalg.cython_blas  # noqa: F401

    found = ThreadpoolController().select(user_api="blas").info()
    return [lib["num_threads"] for lib in found if "scipy.libs" in lib["filepath"]]


@pytest.fixture(autouse=True)
def _as_before() -> Any:
    yield
    blas_limits.restore()


def test_products_are_cut_for_threads_instead_of_blas() -> None:
    before, large = own(), 2.0 * 4096**3
    if not before:
        pytest.skip("NumPy and SciPy share one BLAS here")
    blas_limits.limit(2)
    assert own() == [2]
    assert threads.pieces_of(4096, large) == [slice(0, 4096)]
    blas_limits.limit(2, cut_products=True)
    assert own() == [1]
    pieces = threads.pieces_of(4096, large)
    assert len(pieces) > 2
    assert [i for piece in pieces for i in range(4096)[piece]] == list(range(4096))
    assert len(threads.pieces_of(4096, 1e6)) == 1
    blas_limits.restore()
    assert own() == before
    assert len(threads.pieces_of(4096, large)) == 1
