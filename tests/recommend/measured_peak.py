"""Store or fit ratings within a budget in a fresh process; print the peak of its memory.

Or compile what a fit takes, for the processes that come: the first on a machine needs more.
"""

import sys

import numpy as np
from scipy.sparse import csr_array

from leptonhpc.recommend import ImplicitALS, store_ratings
from leptonhpc.runtime import memory

USERS, ITEMS, BATCHES, EACH = 60_000, 9_000, 8, 100_000


def batches():
    rng = np.random.default_rng(0)
    for _ in range(BATCHES):
        items = (ITEMS * rng.random(EACH) ** 2).astype(int)
        yield rng.integers(0, USERS, EACH), items, np.ones(EACH)


what, place, budget = sys.argv[1:]
if what == "store":
    options = {"shape": (USERS, ITEMS), "duplicates": "sum", "block_ratings": 20_000}
    store_ratings(batches(), place, memory=budget, **options)
elif what == "compile":
    ImplicitALS(24, tol=0, max_iter=1).fit(csr_array(np.eye(30, dtype="f4")))
else:
    ImplicitALS(24, tol=0, max_iter=1, memory=budget).fit(place)
print(memory.peak_nbytes())
