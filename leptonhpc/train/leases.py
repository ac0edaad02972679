"""Batches that are to be learnt from: each is lent to one trainer, and taken back if it is lost."""

from __future__ import annotations

from dataclasses import dataclass, field

Lease = tuple[int, int, int]
"""Epoch, first batch, and the batch after the last."""

_SHARES = 8
"""Of what is still to be lent a trainer gets its equal part divided by this, at most."""


@dataclass
class Leases:
    """The batches of all epochs, in order."""

    epochs: int
    batches: int
    """Of an epoch."""
    length: int
    """Batches of a lease, at most."""
    window: int
    """Batches that are read together: a lease is of one window."""
    epoch: int = 0
    """The one that is lent from."""
    todo: list[tuple[int, int]] = field(default_factory=list)
    """(epoch, batch): neither lent nor done, of the epochs that were begun; in order."""
    lent: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """By trainer: what it has, and was not applied yet."""
    done: int = 0
    """Batches that were applied, over all epochs."""

    @classmethod
    def going_on(
        cls, epochs: int, batches: int, length: int, window: int, applied: set[tuple[int, int]]
    ) -> Leases:
        """Lend what was not applied before.

        Parameters
        ----------
        epochs, batches, length, window : int
            See the fields.
        applied : set of (int, int)
            Epoch and batch of all that were.

        Returns
        -------
        Leases
            Of the rest.
        """
        latest = max((epoch for epoch, _ in applied), default=-1)
        begun = [(e, b) for e in range(latest + 1) for b in range(batches)]
        todo = [pair for pair in begun if pair not in applied]
        return cls(epochs, batches, length, window, latest + 1, todo, {}, len(applied))

    @property
    def _unlent(self) -> int:
        return len(self.todo) + (self.epochs - self.epoch) * self.batches

    @property
    def is_done(self) -> bool:
        """Whether all batches of all epochs were applied."""
        return self.done == self.epochs * self.batches

    def lend(self, name: str) -> Lease | None:
        """Lend neighbouring batches of one window; fewer, the fewer there are still to be lent.

        So nobody has much to do when the others have ended, however slow it is.

        Parameters
        ----------
        name : str
            To which trainer.

        Returns
        -------
        tuple of (int, int, int) or None
            None if all are lent.
        """
        if not self.todo and self.epoch < self.epochs:
            self.todo = [(self.epoch, batch) for batch in range(self.batches)]
            self.epoch += 1
        if not self.todo:
            return None
        epoch, first = self.todo[0]
        lent = self.lent.setdefault(name, [])
        length = min(self.length, max(1, self._unlent // (_SHARES * len(self.lent))))
        stop, end = first, min(first + length, (first // self.window + 1) * self.window)
        while self.todo and self.todo[0] == (epoch, stop) and stop < end:
            lent.append(self.todo.pop(0))
            stop += 1
        return epoch, first, stop

    def settle(self, name: str, epoch: int, batch: int) -> bool:
        """Note that a batch was applied.

        Parameters
        ----------
        name : str
            Who had it.
        epoch, batch : int
            Which.

        Returns
        -------
        bool
            False if it had been taken back: it must not be applied twice.
        """
        lent = self.lent.get(name, [])
        if (epoch, batch) not in lent:
            return False
        lent.remove((epoch, batch))
        self.done += 1
        return True

    def take_back(self, name: str) -> None:
        """Let others learn from what a lost trainer had."""
        self.todo = sorted([*self.todo, *self.lent.pop(name, [])])
