"""Count, means and variances of samples that come in parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Moments:
    """Of each feature, in float64; two are added as their samples are joined."""

    count: int
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    """Divisor `count`."""

    @classmethod
    def of(cls, samples: NDArray[Any]) -> Moments:
        """Give those of samples in memory.

        Parameters
        ----------
        samples : array of shape (m, n)
            The samples.

        Returns
        -------
        Moments
            Of the n features.
        """
        mean = np.asarray(np.mean(samples, axis=0, dtype=np.float64))
        variance = np.asarray(np.mean((samples - mean) ** 2, axis=0, dtype=np.float64))
        return cls(len(samples), mean, variance)

    def __add__(self, other: Moments) -> Moments:
        """Join both: T. F. Chan, G. H. Golub, R. J. LeVeque, The American Statistician 37, 1983."""
        count = self.count + other.count
        share = other.count / count
        step = other.mean - self.mean
        between = share * (1 - share) * step**2
        within = (1 - share) * self.variance + share * other.variance
        return Moments(count, self.mean + share * step, within + between)
