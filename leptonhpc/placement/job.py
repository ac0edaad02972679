"""All stages of a job, placed: who does how much, how long it takes, and what is in the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from leptonhpc.placement.choose import Placed, place
from leptonhpc.placement.machine import Machine
from leptonhpc.placement.timeline import draw_svg
from leptonhpc.planning import Stage
from leptonhpc.planning.costs import format_seconds

_MOST_ROWS = 16
_BUSY = 0.5
"""What is busy for more of the time is in the way."""


@dataclass(frozen=True)
class PlacedJob:
    """A job on a machine, before it runs."""

    machine: Machine
    stages: tuple[tuple[Stage, Placed], ...]
    extra_seconds: float
    """Of small problems solved between stages."""

    @property
    def seconds(self) -> float:
        """Simulated, stages repeated as often as is expected."""
        return self.extra_seconds + sum(
            (placed.simulation.seconds + self.machine.start_seconds) * stage.repeats
            for stage, placed in self.stages
        )

    @property
    def store_busy(self) -> float:
        """Part of the time in which devices wait for the store that they share."""
        return self._part("store_busy")

    @property
    def scheduler_busy(self) -> float:
        """Part of the time that the scheduler needs to let tasks begin."""
        return self._part("scheduler_busy")

    def shares(self) -> dict[str, tuple[int, float, float]]:
        """Give tasks, part of the work, and busy seconds of each device."""
        total = self._total or 1.0
        result = {device.name: (0, 0.0, 0.0) for device in self.machine.devices}
        for stage, placed in self.stages:
            weight = placed.simulation.seconds * stage.repeats / total
            for name, (count, share, busy) in placed.shares().items():
                old = result[name]
                result[name] = (
                    old[0] + count * stage.repeats,
                    old[1] + share * weight,
                    old[2] + busy * stage.repeats,
                )
        return result

    def left_out(self) -> dict[str, str]:
        """Give devices that get nothing in any stage, and why."""
        reasons: dict[str, str] = {}
        for _, placed in self.stages:
            reasons |= placed.placement.left_out
        busy = {name for name, (count, _, _) in self.shares().items() if count}
        idle = {
            device.name: "there are fewer pieces of work than lanes"
            for device in self.machine.devices
            if device.name not in busy
        }
        return idle | {name: why for name, why in reasons.items() if name not in busy}

    def svg(self) -> str:
        """Draw the simulated timeline, and say who does nothing and why."""
        stages = [(stage.name, placed, stage.repeats) for stage, placed in self.stages]
        return draw_svg(stages, self._left_lines())

    def to_dict(self) -> dict[str, Any]:
        """Give all of it, but for single tasks, as JSON can hold it."""
        return {
            "seconds": self.seconds,
            "store_busy": self.store_busy,
            "scheduler_busy": self.scheduler_busy,
            "stages": [
                {
                    "name": stage.name, "repeats": stage.repeats,
                    "policy": placed.placement.policy, "seconds": placed.simulation.seconds,
                    "considered": dict(placed.considered),
                }
                for stage, placed in self.stages
            ],
            "devices": [
                {"name": name, "tasks": count, "share": share, "busy_seconds": busy}
                for name, (count, share, busy) in self.shares().items()
            ],
            "left_out": self.left_out(),
        }  # fmt: skip

    def __str__(self) -> str:
        """Show it in words."""
        rows = self._rows()
        lines = [
            f"  placed     on {len(self.machine.devices)} devices: about "
            f"{format_seconds(self.seconds)}{self._limit()}"
        ]
        lines += [f"    {name:<28}{share:>7}  {tasks:>7} tasks  {busy}" for name, share, tasks, busy
                  in rows]  # fmt: skip
        if len(self.machine.devices) > len(rows):
            lines.append(f"    and {len(self.machine.devices) - len(rows)} more")
        for stage, placed in self.stages:
            others = ", ".join(
                f"{name} {format_seconds(seconds)}"
                for name, seconds in placed.considered.items()
                if name != placed.placement.policy
            )
            lines.append(
                f"    {stage.name:<22}{placed.placement.policy}, "
                f"{format_seconds(placed.simulation.seconds)}" + (f" ({others})" if others else "")
            )
        return "\n".join([*lines, *(f"    {line}" for line in self._left_lines())])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{share}</td><td>{tasks}</td><td>{busy}</td></tr>"
            for name, share, tasks, busy in self._rows()
        )
        head = "".join(f"<th>{h}</th>" for h in ("device", "share", "tasks", "busy"))
        text = (
            f"placed on {len(self.machine.devices)} devices: about {format_seconds(self.seconds)}"
        )
        return f"{text}{self._limit()}<table><tr>{head}</tr>{rows}</table>{self.svg()}"

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [
            (name, f"{share:.1%}", f"{count:,}", f"busy {format_seconds(busy)}")
            for name, (count, share, busy) in list(self.shares().items())[:_MOST_ROWS]
        ]

    def _left_lines(self) -> list[str]:
        left = list(self.left_out().items())
        lines = [f"not on {name}: {why}" for name, why in left[:_MOST_ROWS]]
        return lines + [f"not on {n} more" for n in [len(left) - _MOST_ROWS] if n > 0]

    def _limit(self) -> str:
        if self.scheduler_busy > _BUSY:
            return f"; the scheduler is busy for {self.scheduler_busy:.0%} of it"
        if self.store_busy > _BUSY:
            return f"; devices wait for the store in {self.store_busy:.0%} of it"
        return ""

    def _part(self, name: str) -> float:
        total = self._total
        parts = (
            getattr(placed.simulation, name) * placed.simulation.seconds * stage.repeats
            for stage, placed in self.stages
        )
        return sum(parts) / total if total else 0.0

    @property
    def _total(self) -> float:
        return sum(placed.simulation.seconds * stage.repeats for stage, placed in self.stages)


def place_job(
    stages: Sequence[Stage],
    machine: Machine,
    *,
    policy: str | None = None,
    extra_seconds: float = 0.0,
) -> PlacedJob:
    """Place all stages of a job; see `place`.

    Parameters
    ----------
    stages : sequence of Stage
        As they are expected to run.
    machine : Machine
        Who can do them.
    policy : str, optional
        One for all stages; default: for each the fastest.
    extra_seconds : float
        Of small problems solved between stages.

    Returns
    -------
    PlacedJob
        The job, placed.
    """
    placed = tuple(
        (stage, place(stage, machine, policy=policy))
        for stage in stages
        if stage.tasks and stage.repeats
    )
    return PlacedJob(machine, placed, extra_seconds)
