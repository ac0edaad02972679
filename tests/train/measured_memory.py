"""What a rank does to say how much memory its part of a model took."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from leptonhpc.cluster.gangs_ranks import Seat
from leptonhpc.train.checkpoints import State, save_state
from leptonhpc.train.holdings import hold
from leptonhpc.train.recipe import Recipe


def most_memory(seat: Seat, small: Recipe, recipe: Recipe, folder: Path) -> tuple[int, int, int]:
    """Give the bytes of a rank's part, and what memory grew by while it was made, and stored."""
    _store(_held(small, seat), small, folder / "small")  # imports
    with watched("RssAnon") as making:
        holding = _held(recipe, seat)
    _step(holding)
    with watched("VmRSS") as storing:  # of files too: Dask counts them
        _store(holding, recipe, folder)
    parts = [getattr(p, "_local_tensor", p) for p in holding._module.parameters()]
    return sum(part.nbytes for part in parts), making[0], storing[0]


def _held(recipe: Recipe, seat: Seat) -> Any:
    return hold(recipe, State(recipe.fingerprint()), seat)


def _step(holding: Any) -> None:
    """Let the optimiser keep something."""
    for parameter in holding._module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    holding._optimiser.step()
    holding._optimiser.zero_grad()


def _store(holding: Any, recipe: Recipe, folder: Path) -> None:
    """Store as a rank does."""
    state = State(recipe.fingerprint())
    state = replace(state, model=holding.collected(), optimiser=holding.optimiser_state())
    if state.model:
        save_state(str(folder), state)


@contextlib.contextmanager
def watched(kind: str) -> Iterator[list[int]]:
    """Give, at the end, what memory grew by at most."""
    before, most, ended = own_nbytes(kind), [0], threading.Event()

    def look() -> None:
        while not ended.wait(0.002):
            most[0] = max(most[0], own_nbytes(kind) - before)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield most
        most[0] = max(most[0], own_nbytes(kind) - before)
    finally:
        ended.set()
        watcher.join()


def own_nbytes(kind: str = "RssAnon") -> int:
    """Read the memory of this process; "RssAnon" is of no file, whose pages go when need be."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(kind))
    return int(line.split()[1]) << 10
