"""Each sample comes once an epoch, in an order that no worker changes, and chunks are read once."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from hypothesis import given
from hypothesis import strategies as st

from leptonhpc.blocks import MemorySource, StoredSource
from leptonhpc.store import open_array
from leptonhpc.testing import put
from leptonhpc.train.reading import Ahead, keeping, read_batches, read_rows
from leptonhpc.train.sampling import Order, bounds, part_of


@st.composite
def orders(draw: Any) -> Order:
    whole = st.integers(1, 40)
    return Order(
        draw(st.integers(1, 200)), draw(whole), draw(whole), draw(st.integers(1, 6)),
        draw(st.integers(0, 5)), draw(st.booleans()),
    )  # fmt: skip


def shares_of(parts: list[int]) -> tuple[float, ...]:
    return tuple(part / sum(parts) for part in parts)


@given(orders(), st.integers(0, 3))
def test_an_epoch_has_each_sample_once_in_whole_batches(order: Order, epoch: int) -> None:
    batches = [rows for index in range(order.windows) for rows in order.window(epoch, index)]
    assert len(batches) == order.batches
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(order.rows))
    assert all(len(rows) == order.batch for rows in batches[:-1])


@given(orders(), st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any))
def test_ranks_share_each_batch_whatever_their_shares(order: Order, parts: list[int]) -> None:
    shares = shares_of(parts)
    for rows in order.window(0, 0):
        taken = [part_of(rows, shares, rank) for rank in range(len(shares))]
        assert np.array_equal(np.concatenate(taken), np.sort(rows))
        # rounding moves each end by half a sample at most
        assert all(
            abs(len(t) - s * len(rows)) <= 1 + 1e-9 for t, s in zip(taken, shares, strict=True)
        )


@given(st.integers(0, 1000), st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any))
def test_bounds_rise_from_nothing_to_all(count: int, parts: list[int]) -> None:
    found = bounds(count, shares_of(parts))
    assert (found[0], found[-1]) == (0, count)
    assert found == sorted(found)


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def rows(seed: int, epoch: int) -> list[int]:
        return Order(500, 10, 50, 10, seed).window(epoch, 0)[0].tolist()

    assert rows(0, 0) == rows(0, 0)
    assert len({tuple(rows(s, e)) for s in (0, 1) for e in (0, 1)}) == 4


def test_an_unshuffled_epoch_comes_as_it_is_stored() -> None:
    batches = Order(25, 4, 10, 2, shuffle=False).window(3, 0)
    assert np.concatenate(batches).tolist() == list(range(20))


def test_shuffling_mixes_rows_of_a_whole_window() -> None:
    """A batch of a window of 20 chunks has rows of nearly all of them."""
    rows = Order(2000, 100, 100, 20, seed=1).window(0, 0)[0]
    # each of 20 chunks is missed with probability (19/20)^100 = 0.6 %
    assert len(set(rows // 100)) >= 18


class Counted(StoredSource):
    """Counts what is read."""

    def __init__(self, path: Path) -> None:
        super().__init__(open_array(path))
        stored = self.read
        self.regions: list[Any] = []

        def read(region: Any, out: Any = None) -> Any:
            self.regions.append(region)
            return stored(region, out)

        self.read = read  # type: ignore[method-assign]

    @property
    def units_read(self) -> int:
        return sum(self.units_in(region) for region in self.regions)


def test_two_ranks_read_their_own_samples_and_few_chunks_twice(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    x, y = rng.standard_normal((4000, 3)), np.arange(4000)
    put(x, tmp_path / "x", chunks=(50, 3))
    zarr.save_array(tmp_path / "y", y)
    order = Order(4000, 50, 200, 5, seed=7)
    sources = [(Counted(tmp_path / "x"), Counted(tmp_path / "y")) for _ in range(2)]
    seen = []
    for rank, (xs, ys) in enumerate(sources):
        for batch in read_batches(xs, ys, order, 2, shares=(0.7, 0.3), rank=rank):
            assert np.array_equal(batch.x, x[batch.rows])
            assert np.array_equal(batch.y, batch.rows)
            seen.append(batch.rows)
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(4000))
    units = sum(xs.units_read for xs, _ in sources)
    # 80 chunks; in each of 4 windows of 20 a few lie where the ranks' parts meet
    assert units <= 80 + 4 * 8


def test_chunks_that_have_room_are_read_once_and_the_others_in_each_epoch(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    x, y = rng.standard_normal((1000, 3)), MemorySource(np.arange(1000))
    put(x, tmp_path / "x", chunks=(50, 3))
    order = Order(1000, 50, 100, 10, seed=3)
    for kept in (20, 7, 0):
        source = Counted(tmp_path / "x")
        samples, targets = keeping(source, y, kept * 50 * 3 * 8)
        for epoch in range(3):
            for batch in read_batches(samples, targets, order, epoch):
                assert np.array_equal(batch.x, x[batch.rows])
        assert source.units_read == 20 + 2 * (20 - kept)


def test_the_first_window_of_an_epoch_is_read_before_it_begins(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((100, 2)), MemorySource(np.arange(100))
    order, ahead = Order(100, 1, 10, 4, seed=1), Ahead(2)
    for epoch in range(2):
        batches = list(read_batches(MemorySource(x), y, order, epoch, ahead=ahead))
        plain = [batch.rows for batch in read_batches(MemorySource(x), y, order, epoch)]
        assert np.array_equal([batch.rows for batch in batches], plain)
        assert (ahead.window is None) == (epoch == 1)
    # what was read for other shares is not used
    list(read_batches(MemorySource(x), y, order, 0, ahead=ahead))
    found = list(read_batches(MemorySource(x), y, order, 1, shares=(0.7, 0.3), ahead=ahead))
    assert [len(batch.rows) for batch in found] == [7] * 10


def test_two_windows_are_in_memory_and_no_more(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.standard_normal((40_000, 64)).astype(np.float32)  # 10 MB in chunks of 64 kB
    put(x, tmp_path / "x", chunks=(256, 64))
    source = StoredSource(open_array(tmp_path / "x"))
    order = Order(40_000, 256, 100, 40)  # windows of 1 MB
    window = 40 * 100 * x.itemsize * 64
    y = MemorySource(np.zeros(len(x)))
    for _ in read_batches(source, y, order, 0):  # what libraries keep
        pass
    tracemalloc.start()
    samples = 0
    for batch in read_batches(source, y, order, 1):
        samples += len(batch.x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert samples == len(x)
    # the one that is used, the one that waits, and chunks and row numbers on the way
    assert peak < 3 * window


def test_reading_can_begin_in_the_middle_of_a_window(rng: np.random.Generator) -> None:
    x, y = MemorySource(rng.standard_normal((100, 2))), MemorySource(np.arange(100))
    order = Order(100, 1, 10, 4, seed=1)
    whole = [batch.rows for batch in read_batches(x, y, order, 0)]
    rest = [batch.rows for batch in read_batches(x, y, order, 0, first=6)]
    assert np.array_equal(np.array(rest), np.array(whole[6:]))
    assert list(read_batches(x, y, order, 0, first=10)) == []


@given(st.lists(st.integers(0, 99), max_size=60))
def test_rows_come_in_the_order_that_was_asked_for(rows: list[int]) -> None:
    base = np.arange(300.0).reshape(100, 3)

    class Chunked:
        shape, dtype, unit = base.shape, base.dtype, (7, 3)

        def read(self, region: Any) -> np.ndarray:
            return base[region[0][0] : region[0][1]]

    found = read_rows(Chunked(), np.array(rows, np.int64))  # type: ignore[arg-type]
    assert np.array_equal(found, base[np.array(rows, np.int64)])
