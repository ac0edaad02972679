"""Networks that ranks are sent by name: a process that makes one imports no test."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from leptonhpc.cluster import gangs_ranks


def deep() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 16), nn.Tanh(),
        nn.Linear(16, 3),
    )  # fmt: skip


class Sleeps(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return x


def uneven() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8), Sleeps(), nn.Linear(8, 3), Sleeps()
    )


class Breaks(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and len(x) == 13:  # a micro-batch
            raise ZeroDivisionError("of the user")
        return super().forward(x)


def broken() -> nn.Module:
    return nn.Sequential(Breaks(6, 8), nn.Linear(8, 3))


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.Linear(16, 3))


def batch_normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def wait_for(is_so: Callable[[], object]) -> None:
    """Wait for what another process does; never longer than a hang takes to be one."""
    deadline = time.monotonic() + 600
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("nobody did it")
        time.sleep(0.01)


class Held(nn.Module):
    """Lets some steps through once a state is stored, and more when there is a file "go-on".

    One rank alone may wait, once it has stored too, until it is asked to let others in.
    """

    def __init__(self, folder: Path, waits_alone: bool) -> None:
        super().__init__()
        self.folder, self.waits_alone = folder, waits_alone
        self.left, self.found = 5, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state, go_on = self.folder / "run" / "state.pt", self.folder / "go-on"
        if not self.training or not state.exists():  # nor where its speed is measured
            return x
        self.left -= 1
        if self.left < 0 and not go_on.exists():
            (self.folder / f"held-{os.getpid()}").touch()
            wait_for(go_on.exists)
        if self.waits_alone and dist.get_world_size() == 1:
            self.found = self.found or state.stat().st_mtime_ns
            wait_for(lambda: gangs_ranks._asked or state.stat().st_mtime_ns == self.found)
        return x


class Until(nn.Module):
    """Lets some steps through, and more when a file is there."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.left = path, 5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.left -= self.training
        if self.training and self.left < 0:
            wait_for(self.path.exists)
        return x


class Standing(nn.Module):
    """Says where it predicts for more than one sample, and waits there for a file "go-on"."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 1:
            (self.folder / f"in-{os.getpid()}").touch()
            wait_for((self.folder / "go-on").exists)
        return x


class ExactHeld:
    """Makes `exact`, with a layer that waits."""

    def __init__(self, folder: Path, waits_alone: bool = False) -> None:
        self.folder, self.waits_alone = folder, waits_alone

    def __call__(self) -> nn.Module:
        return nn.Sequential(*exact(), Held(self.folder, self.waits_alone))


class ExactUntil:
    """Makes `exact`, with a layer that waits."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> nn.Module:
        return nn.Sequential(*exact(), Until(self.path))


def exact() -> nn.Module:
    made = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
    return made.to(torch.float64)


def wide() -> nn.Module:
    return nn.Sequential(*[nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)])


LAYERS, WIDTH = 24, 1024
"""Of `large`: 96 MiB, 4 MiB a layer."""


def large() -> nn.Module:
    square = [nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)]
    return nn.Sequential(nn.Linear(6, WIDTH), *square, nn.Linear(WIDTH, 3))
