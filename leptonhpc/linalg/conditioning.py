"""What is done to the user's columns before a factorisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Conditioning:
    """What is done to the user's columns before the factorisation."""

    center: bool = False
    scale: str | NDArray[Any] | None = None
    """ "std", or the divisors."""
    weights: NDArray[Any] | None = None
    missing: str = "raise"

    @property
    def needs_moments(self) -> bool:
        """Whether means are needed before the first product can be formed."""
        return self.missing == "mean"
