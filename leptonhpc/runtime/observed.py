"""How fast the workers of a job were seen to be, beside what their rates say."""

from __future__ import annotations

_DECAY = 0.7
"""How much of what was observed before still counts after one more task."""


class Observed:
    """What tasks took on each worker, and what they would take by its rates."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, tuple[float, float]]] = {}
        """By address and part of the work: seconds, and seconds by its rates."""

    def note(self, address: str, part: str, seconds: float, alone: float) -> None:
        """Take note of what a part of a task took.

        Parameters
        ----------
        address : str
            Of the worker.
        part : str
            Of the work.
        seconds : float
            What it took.
        alone : float
            What it would take by the worker's rates.
        """
        if alone > 0:
            parts = self._seen.setdefault(address, {})
            old = parts.get(part, (0.0, 0.0))
            parts[part] = _DECAY * old[0] + seconds, _DECAY * old[1] + alone

    def knows(self, address: str, part: str) -> bool:
        """Whether a worker was seen doing such work."""
        return part in self._seen.get(address, {})

    def factor(self, address: str, part: str) -> float:
        """Say how many times longer than by its rates a worker takes for a part of its work.

        Parameters
        ----------
        address : str
            Of the worker.
        part : str
            Of the work.

        Returns
        -------
        float
            As observed; of a worker that was not seen doing such work, as others do it.
        """
        if self.knows(address, part):
            seconds, alone = self._seen[address][part]
            return seconds / alone
        seen = (parts[part] for parts in self._seen.values() if part in parts)
        return min((seconds / alone for seconds, alone in seen), default=1.0)

    def forget(self, address: str) -> None:
        """Drop what a worker was seen to do: another process may come to have its address."""
        self._seen.pop(address, None)
