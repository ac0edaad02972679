"""Factors kept after each half sweep, so that a fit that was killed goes on from there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.recommend.stored_sides import read_whole, write_whole
from leptonhpc.store.locations import Location

Who = Literal["users", "items"]


@dataclass(frozen=True, slots=True)
class HalfSweep:
    """What one half sweep left, beside factors."""

    loss: float
    gradient: float
    """Squared length of the gradient with respect to the rows that it solved, before it did."""
    seconds: float


class Checkpoints:
    """Keeps factors in the unfinished output: two slots for each side, written in turn.

    A slot that is being written is never the one that a resumed fit would read.

    Parameters
    ----------
    place : str or path
        The unfinished output.
    journal : Journal
        Its journal, begun.
    """

    def __init__(self, place: Location, journal: store.Journal) -> None:
        self._place, self._journal = place, journal

    def restore(self) -> tuple[list[HalfSweep], dict[Who, NDArray[Any]]]:
        """Give the half sweeps that are whole, and the factors after them.

        Returns
        -------
        tuple of (list of HalfSweep, dict)
            Factors by side; of a side that was not solved yet there are none.
        """
        done: list[HalfSweep] = []
        while (kept := self._journal.load_stage(_stage(len(done)))) is not None:
            done.append(HalfSweep(*(float(kept[name]) for name in HalfSweep.__slots__)))
        last = range(max(0, len(done) - 2), len(done))
        factors = {side_of(n): read_whole(store.join(self._place, _slot(n))) for n in last}
        return done, factors

    def keep(self, number: int, factors: NDArray[Any], half: HalfSweep) -> None:
        """Keep what a half sweep made; only then is it done.

        Parameters
        ----------
        number : int
            Of the half sweep, from 0.
        factors : array of shape (rows, d)
            Of the side that it solved.
        half : HalfSweep
            What else it left.
        """
        slot = store.join(self._place, _slot(number))
        store.remove(slot)
        write_whole(slot, factors)
        numbers = {name: np.float64(getattr(half, name)) for name in HalfSweep.__slots__}
        self._journal.save_stage(_stage(number), numbers)


def remove_slots(place: Location) -> None:
    """Drop the slots of an unfinished output, when it has the factors."""
    for number in range(4):
        store.remove(store.join(place, _slot(number)))


def side_of(number: int) -> Who:
    """Say which side a half sweep solves: users first."""
    return "items" if number % 2 else "users"


def _stage(number: int) -> str:
    return f"sweep {number // 2 + 1:04d} {side_of(number)}"


def _slot(number: int) -> str:
    return f"slot-{side_of(number)}-{number // 2 % 2}"
