"""Whether the subspace of a model moves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import OptionError
from leptonhpc.streams.angles import principal_angles
from leptonhpc.streams.svd import IncrementalSVD


@dataclass(frozen=True)
class Drift:
    """How the subspace moved with one batch."""

    rows: int
    """Rows that the model has taken."""
    step: NDArray[np.float64]
    """Principal angles to the subspace before the batch; radians, increasing."""
    since: NDArray[np.float64]
    """Principal angles to the reference: the subspace after the last warm-up."""
    missed: float
    """Share of the batch's sum of squares outside the subspace before it, from 0 to 1."""
    alarm: bool
    """Whether the largest angle to the reference passed the threshold."""


class DriftMonitor:
    """Compares the leading subspace of a model with what it was.

    Parameters
    ----------
    threshold_degrees : float
        An alarm is given when the largest principal angle to the reference is larger.
    warmup : int
        Batches from which the model first learns, or follows a change after an alarm; the
        reference is the subspace after them. So each change is told of once, if it is over by then.

    Notes
    -----
    Angles are those of the `rank` leading right singular vectors. They mean something where
    singular value `rank` is well above the next: by Wedin's theorem noise turns the subspace by
    about its norm over the gap. A model that forgets (`IncrementalSVD(forgetting=)`) follows a
    change; one that does not turns ever more slowly.

    Examples
    --------
    >>> import numpy as np
    >>> model, monitor = IncrementalSVD(1, forgetting=0.5), DriftMonitor(warmup=1)
    >>> [monitor.update(model.partial_fit(np.eye(2)[[axis]])).alarm for axis in (0, 0, 1, 1)]
    [False, False, True, False]
    """

    def __init__(self, *, threshold_degrees: float = 20.0, warmup: int = 3) -> None:
        if not 0 < threshold_degrees < 90:
            message = f"threshold_degrees is between 0 and 90; found {threshold_degrees!r}"
            raise OptionError(message)
        whole = isinstance(warmup, int | np.integer) and not isinstance(warmup, bool)
        if not whole or warmup < 1:
            raise OptionError(f"warmup is a whole number from 1; found {warmup!r}")
        self.threshold_degrees = threshold_degrees
        self.warmup = warmup
        self._left = warmup
        self._before: NDArray[np.floating] | None = None
        self._reference: NDArray[np.floating] | None = None

    def update(self, model: IncrementalSVD) -> Drift:
        """Look at a model that took a batch.

        Parameters
        ----------
        model : IncrementalSVD
            The same one each time.

        Returns
        -------
        Drift
            What changed; no alarm in the warm-up.
        """
        now = model.vh.copy()
        before = now if self._before is None else self._before
        if self._reference is None or self._left:
            self._reference = now
            self._left -= 1
        step = principal_angles(before, now)
        since = principal_angles(self._reference, now)
        alarm = bool(len(since)) and since[-1] > math.radians(self.threshold_degrees)
        if alarm:
            self._left = self.warmup
        self._before = now
        return Drift(model.rows, step, since, model.missed, bool(alarm))
