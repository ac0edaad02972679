"""Norms of arrays in chunks of any shape: each chunk is read once, tile by tile, within memory."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore, WrapperStore

import leptonhpc as lh
from leptonhpc.errors import MemoryBudgetError, NonFiniteError, NumericRangeError
from leptonhpc.linalg import strips
from leptonhpc.testing import put

ORDERS = ["fro", 1, -1, np.inf, -np.inf]
CHUNKS = [(300, 3), (7, 80), (64, 32), (37, 11), (1, 1)]
SMALL_TILES = 5000


class Counting(WrapperStore):
    """A store that counts how often each chunk is read."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.reads: Counter[str] = Counter()

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        if "c/" in key:
            self.reads[key] += 1
        return await self._store.get(key, *args, **options)


def drawn(shape: tuple[int, int], dtype: str) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    a = 50 * rng.standard_normal(shape)
    a = a + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else a
    return np.asarray(a).astype(dtype)


def described(shape: tuple[int, int], chunks: tuple[int, int]) -> Any:
    """Give an array of which there are only metadata."""
    return lh.open(zarr.create_array(MemoryStore(), shape=shape, chunks=chunks, dtype="f8"))


def smallest_budget(driver: Any, x: Any, **options: Any) -> int:
    with pytest.raises(MemoryBudgetError) as caught:
        lh.plan(driver, x, memory="1 MB", **options)
    found = re.search(r"memory='(\d+) MB'", str(caught.value))
    assert found is not None
    return int(found.group(1))


@pytest.mark.parametrize(
    ("chunks", "dtype"),
    [((300, 3), "f4"), ((7, 80), "i2"), ((64, 32), "c16"), ((64, 32), "f8"), ((37, 11), "f8")],
)
def test_tiles_give_numpys_norms_and_each_chunk_is_read_once(
    chunks: tuple[int, int], dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strips, "BAND_NBYTES", SMALL_TILES)
    for shape in ((300, 80), (80, 300)):
        units = chunks if shape[0] > shape[1] else chunks[::-1]
        a = drawn(shape, dtype)
        wide = a.astype(np.result_type(a, float))
        place = tmp_path / f"{shape[0]}.zarr"
        put(a, place, chunks=units)
        count = -(-shape[0] // units[0]) * -(-shape[1] // units[1])
        for order in ORDERS:
            store = Counting(LocalStore(place, read_only=True))
            x = lh.open(zarr.open_array(store, mode="r"))
            r = lh.norm(x, ord=order, memory="1 GB")
            # sums of at most 24000 numbers that are not negative
            assert float(r) == pytest.approx(np.linalg.norm(wide, order), rel=1e-13)
            assert store.reads.total() == len(store.reads) == count
            assert r.report.read_nbytes == a.nbytes


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("shape", [(300, 80), (80, 300), (299, 299), (1, 1), (1, 300), (300, 1)])
def test_tiles_cover_the_matrix_once_strip_after_strip(
    shape: tuple[int, int], chunks: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strips, "BAND_NBYTES", SMALL_TILES)
    chunks = (min(shape[0], chunks[0]), min(shape[1], chunks[1]))
    job = lh.plan("norm", described(shape, chunks), memory="1 GB").job
    stage, (m, n) = job.stage, job.sources["x"].shape
    units = chunks[::-1] if (m, n) == shape[::-1] and job.transposed else chunks
    count = np.zeros((m, n), int)
    for task in stage.tasks:
        steps = list(task.steps)
        assert len(steps) == len(task.steps)
        end = 0
        for step in steps:
            (rows, (first, last)) = step.at
            assert first == end  # a strip is done before the next one begins
            end = 0 if last == n else last
            assert rows[0] % units[0] == 0
            assert first % units[1] == 0
            count[slice(*rows), first:last] += 1
        assert end == 0
    assert np.all(count == 1)


@pytest.mark.parametrize("chunks", [(300, 3), (64, 32)])
@pytest.mark.parametrize("transposed", [False, True])
def test_in_tiles_bad_numbers_are_named_and_squares_stay_in_range(
    chunks: tuple[int, int], transposed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strips, "BAND_NBYTES", SMALL_TILES)
    a, units = drawn((300, 80), "f8"), chunks

    def stored(b: np.ndarray[Any, Any], name: str) -> Any:
        order = -1 if transposed else 1
        return lh.open(put(b.T if transposed else b, tmp_path / name, chunks=units[::order]))

    for number, value in enumerate((np.nan, np.inf)):
        b = a.copy()
        b[170, 33] = value
        index = (33, 170) if transposed else (170, 33)
        edges = (chunks[1], chunks[0]) if transposed else chunks
        block = tuple(i // u for i, u in zip(index, edges, strict=True))
        words = re.escape(f"index {index}, in block {block}")
        with pytest.raises(NonFiniteError, match=words):
            lh.norm(stored(b, f"bad{number}"), memory="1 GB")
    for unit in (1e250, 1e-250):
        r = lh.norm(stored(a * unit, f"far{unit}"), memory="1 GB")
        assert float(r) / unit == pytest.approx(np.linalg.norm(a), rel=1e-13)
    for row in (True, False):  # only sums across the tiles of one direction leave the range
        b = np.zeros((300, 80))
        b[(slice(8, 9), slice(0, 80, 8)) if row else (slice(0, 300, 60), slice(5, 6))] = 1.7e308
        with pytest.raises(NumericRangeError, match="overflow"):
            lh.norm(stored(b, f"large{row}"), memory="1 GB")


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((400_000, 2000), (400_000, 10)),
        ((2000, 400_000), (10, 400_000)),
        ((60_000, 20_000), (60_000, 20)),
        ((100_000, 100_000), (1000, 1000)),
    ],
)
def test_memory_for_a_norm_is_that_of_chunks_and_not_of_bands(
    shape: tuple[int, int], chunks: tuple[int, int]
) -> None:
    x = described(shape, chunks)
    plan = lh.plan("norm", x, memory="1 GB")
    assert plan.explanation.passes == 1
    assert plan.explanation.peak_nbytes <= 10**9
    assert plan.job.strips.busy_lanes >= 0.9 * plan.job.resources.threads
    least = smallest_budget("norm", x)
    # a chunk, decoded beside it, and the sums of rows and columns
    assert least * 10**6 <= 160 * 10**6 + 8 * (3 * chunks[0] * chunks[1] + 4 * sum(shape))
    assert lh.plan("norm", x, memory=f"{least} MB").explanation.peak_nbytes <= least * 10**6
    with pytest.raises(MemoryBudgetError):
        lh.plan("norm", x, memory=f"{least - 1} MB")


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((100_000, 100_000), (4000, 4000)),
        ((200_000, 20_000), (200_000, 40)),
        ((20_000, 90_000), (100, 90_000)),
    ],
)
def test_the_largest_value_alone_takes_no_more_memory_than_svd_of_rank_one(
    shape: tuple[int, int], chunks: tuple[int, int]
) -> None:
    x = described(shape, chunks)
    least = smallest_budget("svd", x, rank=1)
    plan = lh.plan("norm", x, ord=2, memory=f"{least} MB")
    assert plan.explanation.peak_nbytes <= least * 10**6


def test_the_largest_value_of_a_square_matrix_fits_where_ten_modes_do() -> None:
    x = described((100_000, 100_000), (1000, 1000))
    assert lh.plan("norm", x, ord=2, memory="1 GB").explanation.peak_nbytes <= 10**9


BUDGET = 180_000_000
PROGRAM = """
import collections, sys
reads = collections.Counter()
sys.addaudithook(
    lambda name, args: reads.update([str(args[0])]) if name == "open" and "/c/" in str(args[0])
    else None
)
import leptonhpc as lh
for place in sys.argv[2:]:
    x = lh.open(place)
    reads.clear()
    r = lh.norm(x, memory=int(sys.argv[1]))
    assert r.report.predicted_peak_nbytes <= int(sys.argv[1])
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(float(r), len(reads), reads.total(), int(line.split()[1]) * 1024)
"""


def linked(place: Path, shape: tuple[int, int], chunks: tuple[int, int]) -> tuple[int, float]:
    """Give a large array whose chunk files are links to one; its chunks and its norm."""
    zarr.create_array(place, shape=shape, chunks=chunks, dtype="f8", compressors=None)
    block = np.random.default_rng(0).standard_normal(chunks)
    first = place / "c" / "0" / "0"
    first.parent.mkdir(parents=True)
    first.write_bytes(block.tobytes())
    down, across = shape[0] // chunks[0], shape[1] // chunks[1]
    for i in range(down):
        (place / "c" / str(i)).mkdir(exist_ok=True)
        for j in range(across):
            if (i, j) != (0, 0):
                os.link(first, place / "c" / str(i) / str(j))
    count = down * across
    return count, float(np.sqrt(count * np.sum(block**2)))


def test_measured_peak_stays_under_the_budget_whatever_the_chunks(tmp_path: Path) -> None:
    grids = {"tall": ((200_000, 900), (200_000, 2)), "squares": ((14_000, 13_000), (500, 500))}
    known = [linked(tmp_path / name, *grid) for name, grid in grids.items()]
    assert all(8 * m * n >= 8 * BUDGET for (m, n), _ in grids.values())
    places = [str(tmp_path / name) for name in grids]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(BUDGET), *places],
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]
    for line, (count, norm) in zip(done.stdout.splitlines(), known, strict=True):
        value, files, reads, peak = (float(word) for word in line.split())
        assert value == pytest.approx(norm, rel=1e-12)
        assert files == reads == count
        assert peak < BUDGET
