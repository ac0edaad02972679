"""What a rank does to say how much memory its part of a model took."""

import threading
from pathlib import Path
from typing import Any

from leptonhpc.cluster.gangs_ranks import Seat
from leptonhpc.train.checkpoints import State
from leptonhpc.train.holdings import hold
from leptonhpc.train.recipe import Recipe


def most_memory(seat: Seat, small: Recipe, recipe: Recipe) -> tuple[int, int]:
    """Give the bytes of a rank's part, and what memory grew by, at most, while it was made."""
    hold(small, State(small.fingerprint()), seat)  # imports
    before, most, ended = own_nbytes(), [0], threading.Event()

    def look() -> None:
        while not ended.wait(0.002):
            most[0] = max(most[0], own_nbytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        holding: Any = hold(recipe, State(recipe.fingerprint()), seat)
        most[0] = max(most[0], own_nbytes())
    finally:
        ended.set()
        watcher.join()
    parts = [getattr(p, "_local_tensor", p) for p in holding._module.parameters()]
    return sum(part.nbytes for part in parts), most[0] - before


def own_nbytes() -> int:
    """Read the memory that is of no file: pages of files go when others want the room."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon"))
    return int(line.split()[1]) << 10
