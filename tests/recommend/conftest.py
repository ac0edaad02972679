"""Small sparse ratings with structure, and what they cost by plain NumPy."""

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

USERS, ITEMS = 83, 57


@pytest.fixture(scope="session", autouse=True)
def _blas_on_one_thread() -> Iterator[None]:
    with threadpool_limits(limits=1, user_api="blas"):
        yield


@pytest.fixture(scope="session")
def ratings() -> csr_array:
    """Ratings from 1 to 5 of rank 3 with noise; some users and items have none, one has many."""
    rng = np.random.default_rng(8)
    truth = 3 + rng.normal(size=(USERS, 3)) @ rng.normal(size=(3, ITEMS))
    seen = rng.random((USERS, ITEMS)) < rng.beta(1, 4, ITEMS)
    seen[[5, 40]], seen[:, 9], seen[7] = False, False, True
    seen[7, 9] = False
    users, items = np.nonzero(seen)
    noisy = truth[users, items] + 0.3 * rng.normal(size=len(users))
    values = np.clip(np.round(noisy), 1, 5).astype("f4")
    return csr_array((values, (users, items)), shape=(USERS, ITEMS))


@pytest.fixture(scope="session")
def counts(ratings: csr_array) -> csr_array:
    """The same pairs as counts."""
    return ratings
