"""Everything is done by drivers here, however small."""

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits

import leptonhpc.array_api as xp


@pytest.fixture(scope="module", autouse=True)
def _everything_by_drivers() -> Iterator[None]:
    with (
        threadpool_limits(limits=1, user_api="blas"),
        xp.using_drivers(memory="1 GB", from_nbytes=0),
    ):
        yield
