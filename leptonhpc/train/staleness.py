"""How old gradients may be when they are applied: who may push or begin, so that none is older."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Ages:
    """Trainers that are under way, and the version of the parameters that each began with.

    A gradient that was computed from version v and is applied to version V is V - v updates old.
    No gradient is older than `most` if the trainers under way, the oldest first, could all push now
    within it: the k-th of them (from 0) then finds version V + k.
    """

    most: int | None
    """None: as old as may be."""
    version: int = 0
    """Updates so far."""
    under_way: dict[str, int] = field(default_factory=dict)
    """By trainer: the version that it began with."""
    counts: dict[int, int] = field(default_factory=dict)
    """How many gradients were so many updates old."""

    def may_begin(self) -> bool:
        """Say whether one more trainer may begin with the newest parameters."""
        return self._all_in_time([*self.under_way.values(), self.version], self.version)

    def begin(self, name: str) -> None:
        """Note that a trainer begins."""
        self.under_way[name] = self.version

    def may_push(self, name: str) -> bool:
        """Say whether a trainer's gradient may be applied now, the others still being in time.

        Parameters
        ----------
        name : str
            The trainer; it is under way.

        Returns
        -------
        bool
            True for the one that began first, always.
        """
        others = [began for other, began in self.under_way.items() if other != name]
        return self._all_in_time(others, self.version + 1)

    def push(self, name: str) -> None:
        """Note that a trainer's gradient was applied."""
        age = self.version - self.under_way.pop(name)
        self.counts[age] = self.counts.get(age, 0) + 1
        self.version += 1

    def leave(self, name: str) -> None:
        """Forget a trainer."""
        self.under_way.pop(name, None)

    def _all_in_time(self, began: list[int], version: int) -> bool:
        if self.most is None:
            return True
        return all(version + k - v <= self.most for k, v in enumerate(sorted(began)))
