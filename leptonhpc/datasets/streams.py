"""Random streams that are named by a seed and a place, not by an order of drawing."""

from __future__ import annotations

import numpy as np


def stream(seed: int, *place: int) -> np.random.Generator:
    """Give the random stream of one place.

    Parameters
    ----------
    seed : int
        Not negative.
    *place : int
        What the numbers are for, and which cell of it.

    Returns
    -------
    numpy.random.Generator
        Philox, keyed by (seed, place): equal calls draw equal numbers, others independent ones.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=place)
    return np.random.Generator(np.random.Philox(sequence))
