"""Workers that Dask paused for too much memory: they begin nothing, perhaps for ever."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from distributed import Client

from leptonhpc.runtime import execute
from leptonhpc.runtime.asking import ask
from leptonhpc.runtime.cluster import Process, process_of

PAUSED_SECONDS = 30.0
"""A worker that is paused for so long gets no work until it goes on: it may only be spilling."""


class Paused:
    """Those that are paused now.

    Parameters
    ----------
    client : distributed.Client
        The client.
    job : str
        Whose work they would have.
    """

    def __init__(self, client: Client, job: str) -> None:
        self._client, self._job = client, job
        self._since: dict[Process, float] = {}

    @property
    def addresses(self) -> set[str]:
        """Of those that are paused."""
        return {address for address, _ in self._since}

    def without(
        self, found: Mapping[str, Mapping[str, Any]], working: Collection[Process]
    ) -> dict[str, Any]:
        """Leave out those that are paused: at once who has no work, the others after a while.

        What these had begun stops before it writes: others do it.

        Parameters
        ----------
        found : mapping
            What the scheduler knows of each worker, as `identities` gives it.
        working : collection of (str, str)
            Those that have work.

        Returns
        -------
        dict
            What it knows of those that are left.
        """
        now = time.monotonic()
        there = [process_of(a, w) for a, w in found.items() if w["status"] == "paused"]
        self._since = {process: self._since.get(process, now) for process in there}
        late = [p for p in there if p in working and now - self._since[p] > PAUSED_SECONDS]
        ask(self._client, execute.leave, self._job, workers=[address for address, _ in late])
        out = {address for address, _ in [*late, *(p for p in there if p not in working)]}
        return {address: worker for address, worker in found.items() if address not in out}
