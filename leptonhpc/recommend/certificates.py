"""What a fit says of itself: how the loss fell, how large the gradient is left, what it took."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from leptonhpc.blocks.drawing import format_nbytes


@dataclass(frozen=True)
class AlsCertificate:
    """How good the factors are, measured."""

    losses: tuple[float, ...]
    """After each half sweep, users and items in turn: all squares and penalties."""
    loss: float
    """Of the factors as they are, measured once more."""
    gradient_norm: float
    """Length of the gradient of the loss with respect to all factors."""
    relative_gradient: float
    """The same over that of the start, where the users are zero."""
    change: float
    """Share of the loss that the last whole sweep took away."""
    tol: float
    converged: bool
    """Whether `change` is `tol` or less; with a tolerance of zero nothing was asked for."""

    @property
    def rises(self) -> int:
        """Half sweeps that raised the loss by more than rounding: 0, as the mathematics has it."""
        pairs = zip(self.losses, self.losses[1:], strict=False)
        return sum(new > old * (1 + 1e-5) for old, new in pairs)

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as JSON can hold it."""
        return asdict(self)

    def __str__(self) -> str:
        """Say it in words."""
        state = "converged" if self.converged else f"tolerance {self.tol:.1e} not reached"
        return (
            f"loss {self.loss:.6g} after {len(self.losses) // 2} sweeps, the last took "
            f"{self.change:.2e} of it ({state}); gradient {self.relative_gradient:.1e} of its first"
        )


@dataclass(frozen=True)
class AlsReport:
    """What a fit took."""

    seconds: float
    """Of this call: sweeps that were resumed are not in it."""
    half_sweep_seconds: tuple[float, ...]
    """Of each; of resumed ones as it was then."""
    resumed_half_sweeps: int
    ratings: int
    peak_nbytes: int
    """Largest resident memory of this process while it ran (VmHWM)."""
    memory_nbytes: int
    """Budget of each worker."""
    workers: int
    lanes: int
    """Blocks at once, on each worker."""

    @property
    def ratings_per_second(self) -> float:
        """Ratings that a sweep takes up in a second, by both sides."""
        seconds = sum(self.half_sweep_seconds)
        return self.ratings * len(self.half_sweep_seconds) / seconds if seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as JSON can hold it."""
        return asdict(self)

    def __str__(self) -> str:
        """Say it in words."""
        resumed = f", {self.resumed_half_sweeps} resumed" if self.resumed_half_sweeps else ""
        return (
            f"{self.seconds:.3g} s, {len(self.half_sweep_seconds)} half sweeps{resumed}, "
            f"{self.ratings_per_second:.3g} ratings a second on {self.workers} x {self.lanes} "
            f"lanes; peak {format_nbytes(self.peak_nbytes)} of {format_nbytes(self.memory_nbytes)}"
        )
