"""The state of a run in its store: written whole, as one object, so that a kill leaves the last."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import IO, Any

import torch

from leptonhpc.errors import JobMismatchError, StoreError, WorkerError
from leptonhpc.store import exists, join
from leptonhpc.store.locations import is_local, local_path, resolve
from leptonhpc.store.objects import get_object, put_written
from leptonhpc.train.making import send_all_out
from leptonhpc.train.recipe import Recipe, differences

_STATE = "state.pt"
_IN_MEMORY_NBYTES = 32 << 20
"""So much of what is laid in files comes to memory while it is written."""


@dataclass
class State:
    """How far a run is."""

    fingerprint: str
    """Of the recipe."""
    model: dict[str, Any] = field(default_factory=dict)
    """The model's state; empty: not begun."""
    optimiser: dict[str, Any] = field(default_factory=dict)
    epoch: int = 0
    """Epochs that are done."""
    batch: int = 0
    """Batches of the next epoch that are done."""
    seen: int = 0
    """Samples of that epoch that were learnt from."""
    losses: list[float] = field(default_factory=list)
    """Mean loss of each step."""
    applied: list[list[float]] = field(default_factory=list)
    """Of "async": epoch, batch and loss of each batch that was applied."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """What each epoch gave."""
    best_loss: float = float("inf")
    best_epoch: int = 0
    best_model: dict[str, Any] = field(default_factory=dict)
    """With patience: the model of the epoch with the smallest validation loss."""
    seconds: float = 0.0
    """Of training, over all runs."""
    finished: bool = False
    described: str = ""
    """What the fingerprint is of."""

    @property
    def inference_seconds(self) -> float:
        """Of scoring the validation samples, the last time."""
        last = self.history[-1] if self.history else {}
        return float(last.get("validation_seconds", 0.0))


def save_state(location: str, state: State) -> None:
    """Write the state of a run.

    Parameters
    ----------
    location : str
        Of the run's store.
    state : State
        It replaces what is there, all at once.
    """
    store, path = resolve(location)

    def write(file: IO[bytes]) -> None:
        written: Any = _Written(file)
        torch.save(vars(state), written)

    put_written(store, f"{path}/{_STATE}".lstrip("/"), write)


class _Written:
    """A file; what of other files was read to write it goes out of memory again."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._since = file, 0

    def write(self, data: Any) -> int:
        written = self._file.write(data)
        self._since += written
        if self._since >= _IN_MEMORY_NBYTES:
            self._since = 0
            send_all_out()
        return written

    def flush(self) -> None:
        self._file.flush()


def first_state(recipe: Recipe) -> State:
    """Give the state of a run that has stored nothing yet.

    Parameters
    ----------
    recipe : Recipe
        What is trained, and what it begins from.

    Returns
    -------
    State
        With the model and the optimiser that it begins from, if there are any.
    """
    state, start = State(recipe.fingerprint(), described=recipe.described()), recipe.start
    if start is None:
        return state
    return replace(state, model=dict(start.model), optimiser=dict(start.optimiser))


def load_state(location: str, recipe: Recipe) -> State:
    """Read the state of a run.

    Parameters
    ----------
    location : str
        Of the run's store.
    recipe : Recipe
        What is to be trained.

    Returns
    -------
    State
        As it was saved last; a new one where there is none.

    Raises
    ------
    JobMismatchError
        If it is of another recipe; the message says in what they differ.
    StoreError
        If it cannot be read.
    """
    try:
        found = _read(location)
        if not found:
            return first_state(recipe)
        state = State(**found)
    except Exception as error:  # torch's, zip's and pickle's
        message = f"the checkpoint in {location!r} cannot be read: {error}. Pass overwrite=True"
        raise StoreError(message) from error
    if state.fingerprint != recipe.fingerprint():
        known = state.described
        apart = f" ({differences(known, recipe.described())})" if known else ""
        message = (
            f"{location!r} holds the training of other data or with other settings{apart}. Pass "
            "overwrite=True, or another out="
        )
        raise JobMismatchError(message)
    return state


def _read(location: str) -> dict[str, Any]:
    """Read what is stored; of a file the pages that are looked at alone come to memory."""
    if is_local(location):
        file = local_path(location) / _STATE
        if not file.exists():
            return {}
        mapped: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        return mapped
    store, path = resolve(location, read_only=True)
    data = get_object(store, f"{path}/{_STATE}".lstrip("/"))
    return {} if data is None else from_bytes(data)


def require_seen(location: str, who: str) -> None:
    """Refuse a worker that does not see the run's store: it would begin from nothing.

    Parameters
    ----------
    location : str
        Of the run's store.
    who : str
        The worker, for the message.

    Raises
    ------
    WorkerError
        If it is not there.
    """
    if not exists(location):
        message = (
            f"{who} does not see {location!r}, where checkpoints are kept. Pass out= with a place "
            "that all workers see: a shared file system or an object store"
        )
        raise WorkerError(message)


def has_state(location: Any) -> bool:
    """Say whether a run has stored anything."""
    return exists(location) and exists(join(location, _STATE))


def to_bytes(values: Mapping[str, Any]) -> bytes:
    """Give tensors, numbers, texts, lists and dicts as bytes."""
    buffer = io.BytesIO()
    torch.save(dict(values), buffer)
    return buffer.getvalue()


def from_bytes(data: bytes) -> dict[str, Any]:
    """Read what `to_bytes` gave; nothing in it is run as code."""
    found: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return found
