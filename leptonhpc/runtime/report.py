"""What a job did: predicted beside actual."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.planning.costs import format_seconds


@dataclass(frozen=True)
class DeviceReport:
    """What one device of a cluster did for a stage."""

    name: str
    tasks: int
    seconds: float
    """In tasks, of all its lanes."""
    flops: float


@dataclass(frozen=True)
class PlacementReport:
    """Who did a stage, beside what was simulated."""

    policy: str
    simulated_seconds: float
    """When all was dealt for the first time."""
    seconds: float
    off_owner: int
    """Tasks that ran where they were not placed."""
    dealt_again: int
    """How often the rest was dealt anew: workers left, joined, or had another speed."""
    devices: tuple[DeviceReport, ...]
    left_out: dict[str, str]
    """Devices that got nothing, and why."""


def whole_placement(parts: list[PlacementReport]) -> PlacementReport | None:
    """Give the report of a stage that was run in parts, or None if there is none."""
    if not parts:
        return None
    devices: dict[str, DeviceReport] = {}
    for device in (device for part in parts for device in part.devices):
        old = devices.get(device.name, DeviceReport(device.name, 0, 0.0, 0.0))
        devices[device.name] = DeviceReport(
            device.name, old.tasks + device.tasks, old.seconds + device.seconds,
            old.flops + device.flops,
        )  # fmt: skip
    return PlacementReport(
        parts[0].policy,
        sum(part.simulated_seconds for part in parts),
        sum(part.seconds for part in parts),
        sum(part.off_owner for part in parts),
        sum(part.dealt_again for part in parts),
        tuple(device for _, device in sorted(devices.items())),
        parts[-1].left_out,
    )


@dataclass(frozen=True)
class StageReport:
    """One stage that ran."""

    name: str
    tasks: int
    seconds: float
    predicted_seconds: float
    read_nbytes: int
    flops: float
    resumed: bool
    """Taken from the journal, not run."""
    resumed_tasks: int = 0
    """Tasks of it that were taken from the journal."""
    placement: PlacementReport | None = None
    """On a cluster."""


@dataclass(frozen=True)
class Report:
    """One job that ran."""

    driver: str
    seconds: float
    predicted_seconds: float
    passes: float
    """Readings of the whole input, by storage units that were really read."""
    read_nbytes: int
    reads_per_chunk: float
    """Most often that a stage read the input's chunks, per reading planned (1: each once)."""
    write_nbytes: int
    flops: float
    peak_nbytes: int
    """Largest resident memory of a worker process while the job ran (VmHWM), libraries included; of
    this process, without what it held before."""
    predicted_peak_nbytes: int
    memory_nbytes: int
    workers: int
    threads: int
    stages: tuple[StageReport, ...]

    @property
    def off_owner(self) -> int:
        """Tasks that ran where they were not placed."""
        return sum(s.placement.off_owner for s in self.stages if s.placement is not None)

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as JSON can hold it."""
        return asdict(self)

    def __str__(self) -> str:
        """Show it in words."""
        rate = self.flops / self.seconds / 1e9 if self.seconds else 0.0
        lines = [
            f"{self.driver}: {format_seconds(self.seconds)} "
            f"(predicted {format_seconds(self.predicted_seconds)}), {rate:.3g} GFLOP/s",
            f"  read    {format_nbytes(self.read_nbytes)}, {self.passes:.3g} times the input; "
            f"each chunk at most {self.reads_per_chunk:.3g} times a pass",
            f"  wrote   {format_nbytes(self.write_nbytes)}",
            f"  peak    {format_nbytes(self.peak_nbytes)} "
            f"(predicted at most {format_nbytes(self.predicted_peak_nbytes)}, "
            f"allowed {format_nbytes(self.memory_nbytes)})",
        ]
        lines += _placed_lines(self.stages)
        for stage in self.stages:
            note = "from the journal" if stage.resumed else format_seconds(stage.seconds)
            predicted = format_seconds(stage.predicted_seconds)
            lines.append(f"  {stage.name:<16}{note:>18}  (predicted {predicted})")
        return "\n".join(lines)


def _placed_lines(stages: tuple[StageReport, ...]) -> list[str]:
    """Say who did what, on a cluster."""
    placed = [stage.placement for stage in stages if stage.placement is not None]
    if not placed:
        return []
    total: dict[str, list[float]] = {}
    for placement in placed:
        for device in placement.devices:
            row = total.setdefault(device.name, [0, 0.0, 0.0])
            row[0] += device.tasks
            row[1] += device.seconds
            row[2] += device.flops
    flops = sum(row[2] for row in total.values()) or 1.0
    off, again = (sum(getattr(p, name) for p in placed) for name in ("off_owner", "dealt_again"))
    simulated, actual = (
        sum(getattr(p, name) for p in placed) for name in ("simulated_seconds", "seconds")
    )
    lines = [
        f"  placed  {off} tasks ran off their owner, dealt anew {again} times; simulated "
        f"{format_seconds(simulated)}, took {format_seconds(actual)}"
    ]
    lines += [
        f"    {name:<28}{int(row[0]):>6} tasks {row[2] / flops:>6.1%} of the flops, busy "
        f"{format_seconds(row[1])}"
        for name, row in sorted(total.items())
    ]
    left = {name: why for p in placed for name, why in p.left_out.items() if name not in total}
    return lines + [f"    {name:<28}left out: {why}" for name, why in sorted(left.items())]
