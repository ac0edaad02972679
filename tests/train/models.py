"""Networks that ranks are sent by name: a process that makes one imports no test."""

import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn


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


class Patient(nn.Module):
    """Leaves time to kill somebody; one rank alone waits for others to come."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and dist.is_initialized():
            time.sleep(0.01 if dist.get_world_size() > 1 else 0.4)
        elif self.training:
            time.sleep(0.02)
        return x


class Until(nn.Module):
    """Lets some steps through, and more when a file is there."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.left = path, 5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.left -= self.training
        deadline = time.monotonic() + 120
        while self.training and self.left < 0 and not self.path.exists():
            time.sleep(0.02)
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody made {self.path}")
        return x


class ExactUntil:
    """Makes `exact`, with a layer that waits."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> nn.Module:
        return nn.Sequential(*exact(), Until(self.path))


def exact() -> nn.Module:
    made = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
    return made.to(torch.float64)


def patient() -> nn.Module:
    return nn.Sequential(*exact(), Patient())


def wide() -> nn.Module:
    return nn.Sequential(*[nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)])


LAYERS, WIDTH = 24, 1024
"""Of `large`: 96 MiB, 4 MiB a layer."""


def large() -> nn.Module:
    square = [nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)]
    return nn.Sequential(nn.Linear(6, WIDTH), *square, nn.Linear(WIDTH, 3))
