"""How good predictions are: from sums that workers add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """What a model is worth on some samples."""

    loss: float
    """Mean over the samples."""
    samples: int
    confusion: NDArray[np.int64] | None = None
    """(classes, classes): samples by true class (row) and predicted class; None in regression."""

    @property
    def accuracy(self) -> float | None:
        """Part of the samples whose class is right."""
        if self.confusion is None:
            return None
        return float(np.trace(self.confusion) / max(1, self.samples))

    @property
    def precision(self) -> float | None:
        """Mean over classes: of what was said to be of a class, the part that is."""
        if self.confusion is None:
            return None
        return _mean_ratio(np.diag(self.confusion), self.confusion.sum(axis=0), self.confusion)

    @property
    def recall(self) -> float | None:
        """Mean over classes: of what is of a class, the part that was found."""
        if self.confusion is None:
            return None
        return _mean_ratio(np.diag(self.confusion), self.confusion.sum(axis=1), self.confusion)

    @property
    def f1(self) -> float | None:
        """Mean over classes of the harmonic mean of precision and recall."""
        if self.confusion is None:
            return None
        right = 2 * np.diag(self.confusion)
        both = self.confusion.sum(axis=0) + self.confusion.sum(axis=1)
        return _mean_ratio(right, both, self.confusion)

    def to_dict(self) -> dict[str, Any]:
        """Give it for JSON.

        Returns
        -------
        dict
            Loss and samples; of classes also accuracy, precision, recall and f1.
        """
        found: dict[str, Any] = {"loss": self.loss, "samples": self.samples}
        for name in ("accuracy", "precision", "recall", "f1"):
            if (value := getattr(self, name)) is not None:
                found[name] = value
        return found


def _mean_ratio(part: NDArray[Any], whole: NDArray[Any], confusion: NDArray[np.int64]) -> float:
    """Average over the classes that occur, among labels or predictions; 0/0 counts as zero."""
    occurs = (confusion.sum(axis=0) + confusion.sum(axis=1)) > 0
    ratios = part[occurs] / np.maximum(whole[occurs], 1)
    return float(ratios.mean()) if occurs.any() else 0.0
