"""Memory is that of the parts in flight, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np

import leptonhpc as lh

MEMORY = """
import sys
import numpy as np
import pandas as pd
import leptonhpc as lh
from leptonhpc.runtime import memory

def total(rows):
    return rows.sum(axis=0)

list(lh.parallel.parallel_process(total, np.ones((4, 4))))  # loads what there is to load
parts = lh.parallel.distribute_data(sys.argv[1], parts=32)
before = memory.resident_nbytes()
memory.reset_peak()
found = lh.parallel.aggregate_results(
    lh.parallel.parallel_process(total, parts, lanes=2, in_flight=4)
)
assert np.array_equal(found, np.full(found.shape, 32.0 * 1000)), found
print(memory.peak_nbytes() - before)
"""


def test_memory_is_that_of_the_parts_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    part = np.ones((1000, 1000))  # 8 MB
    for _ in range(32):
        lh.streams.append(path, part)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True
    )
    # two lanes have a part each, and as much for decoding it; the whole would be 256 MB
    assert int(done.stdout) < 2 * 2 * part.nbytes + 16_000_000
