"""The order in which samples are learnt from: a function of (seed, epoch), not of the workers.

Chunks are shuffled, and put one after the other they are a stream of rows. The stream is cut into
windows of whole batches, and the rows of a window are shuffled. So each sample comes once an epoch,
a chunk is read once (twice, if a window ends in it), and the window is all that is in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Order:
    """Which samples make up each batch of each epoch."""

    rows: int
    """Samples."""
    unit: int
    """Rows of a storage unit."""
    batch: int
    """Samples of a batch, over all workers; the last of an epoch may have fewer."""
    window_batches: int
    """Batches whose rows are shuffled among each other."""
    seed: int = 0
    shuffle: bool = True
    """False: rows come as they are stored."""

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return -(-self.rows // self.batch)

    @property
    def windows(self) -> int:
        """Windows of an epoch."""
        return -(-self.batches // self.window_batches)

    def mean(self, losses: Sequence[float]) -> float:
        """Average the losses of an epoch's batches over its samples."""
        last = self.rows - self.batch * (self.batches - 1)
        total = math.fsum(losses[:-1]) * self.batch + losses[-1] * last
        return total / self.rows

    def window(self, epoch: int, index: int) -> list[Rows]:
        """Give the rows of each batch of a window.

        Parameters
        ----------
        epoch, index : int
            Counted from 0.

        Returns
        -------
        list of arrays of int64
            The batches.
        """
        length = self.window_batches * self.batch
        first, last = index * length, min((index + 1) * length, self.rows)
        stream = np.arange(first, last)
        if self.shuffle:
            units, ends = _shuffled_units(self.rows, self.unit, self.seed, epoch)
            place = np.searchsorted(ends, stream, side="right")
            # a unit ends in the stream where its last row is: count back from there
            lengths = np.minimum(self.unit, self.rows - units[place] * self.unit)
            rows = units[place] * self.unit + lengths - (ends[place] - stream)
            stream = _generator(self.seed, epoch, 1 + index).permutation(rows)
        return [stream[at : at + self.batch] for at in range(0, len(stream), self.batch)]


@lru_cache(maxsize=4)
def _shuffled_units(rows: int, unit: int, seed: int, epoch: int) -> tuple[Rows, Rows]:
    """Give the units in the order of an epoch, and where each ends in the stream."""
    units = _generator(seed, epoch, 0).permutation(-(-rows // unit))
    return units, np.cumsum(np.minimum(unit, rows - units * unit))


def _generator(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch, purpose))))


def part_of(rows: Rows, shares: Sequence[float], rank: int) -> Rows:
    """Give the samples of a batch that one rank takes.

    Parameters
    ----------
    rows : array of int64
        The batch.
    shares : sequence of float
        Of each rank; they sum to one.
    rank : int
        Which.

    Returns
    -------
    array of int64, sorted
        Neighbouring rows, so that few chunks are read by two ranks.
    """
    low, high = bounds(len(rows), shares)[rank : rank + 2]
    return np.sort(rows)[low:high]


def bounds(count: int, shares: Sequence[float]) -> list[int]:
    """Cut a number of things by shares.

    Parameters
    ----------
    count : int
        How many there are.
    shares : sequence of float
        They sum to one.

    Returns
    -------
    list of int
        From 0 to `count`, one more than there are shares.

    Examples
    --------
    >>> bounds(10, (0.8, 0.2))
    [0, 8, 10]
    """
    ends = [round(count * end) for end in np.cumsum(shares)[:-1]]
    return [0, *ends, count]
