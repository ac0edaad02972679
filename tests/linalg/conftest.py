"""BLAS on one thread: the matrices are small, and spinning threads of NumPy's BLAS cost seconds."""

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="module", autouse=True)  # tests of other folders have it as it was
def _blas_on_one_thread() -> Iterator[None]:
    with threadpool_limits(limits=1, user_api="blas"):
        yield
