"""What a job did: predicted beside actual."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.planning.costs import format_seconds
from leptonhpc.runtime.timeline import Span, spans_from_dict, spans_to_dict


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
    """When all was dealt for the first time; what a stage takes beside its tasks included."""
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
    """Readings of the whole input, by storage units that were really read; of inputs in memory, by
    bytes."""
    read_nbytes: int
    reads_per_chunk: float
    """Most often that a stage read the input's chunks, per reading planned (1: each once); 0 where
    the input has none, or was not read in a pass."""
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
    predicted_passes: float = 0.0
    predicted_read_nbytes: int = 0
    predicted_write_nbytes: int = 0
    """Scratch included, as in `write_nbytes`."""
    spans: tuple[Span, ...] = field(default=(), repr=False)
    """Which stage ran when on which lane, by this run's own record."""
    joules: dict[str, float] = field(default_factory=dict)
    """What each sensor counted while the job ran, by ``<host> <sensor>``, whoever used the machine;
    empty where none can be read."""

    snapshot: str | None = None
    """Id of the commit that has the result, in an Icechunk repository."""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Report:
        """Give back what `to_dict` gave.

        Parameters
        ----------
        data : dict
            Of this version or an earlier one.

        Returns
        -------
        Report
            The report.
        """
        stages = tuple(
            StageReport(**{**stage, "placement": _placement(stage.get("placement"))})
            for stage in data["stages"]
        )
        spans = spans_from_dict(data["spans"]) if data.get("spans") else ()
        return cls(**{**data, "stages": stages, "spans": spans})

    @property
    def off_owner(self) -> int:
        """Tasks that ran where they were not placed."""
        return sum(s.placement.off_owner for s in self.stages if s.placement is not None)

    @property
    def on_cluster(self) -> bool:
        """Whether any stage ran on a cluster."""
        return any(stage.placement is not None for stage in self.stages)

    @property
    def simulated_seconds(self) -> float | None:
        """Predicted makespan of all stages, each placed as it began; None without a cluster."""
        return self._sum_of("simulated_seconds")

    @property
    def placed_seconds(self) -> float | None:
        """What all stages took that were placed, beside `simulated_seconds`."""
        return self._sum_of("seconds")

    def _sum_of(self, name: str) -> float | None:
        placed = [stage.placement for stage in self.stages if stage.placement is not None]
        return sum(getattr(each, name) for each in placed) if placed else None

    def counted_reads(self) -> str:
        """Say how often a chunk was read; nothing of inputs in memory, which have none."""
        if not self.reads_per_chunk:
            return ""
        return f"each chunk at most {self.reads_per_chunk:.3g} times a pass"

    def by_device(self) -> tuple[DeviceReport, ...]:
        """Sum up what each device did in all stages; empty without a cluster."""
        whole = whole_placement([s.placement for s in self.stages if s.placement is not None])
        return () if whole is None else whole.devices

    def left_out(self) -> dict[str, str]:
        """Give devices that got nothing in any stage, and why."""
        worked = {device.name for device in self.by_device()}
        placed = (stage.placement for stage in self.stages if stage.placement is not None)
        left = {name: why for each in placed for name, why in each.left_out.items()}
        return {name: why for name, why in left.items() if name not in worked}

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as JSON can hold it."""
        return {**asdict(replace(self, spans=())), "spans": spans_to_dict(self.spans)}

    def to_html(self, path: str | os.PathLike[str], *, certificate: Any = None) -> None:
        """Write a page that any browser opens from the disk: it needs no network and no script.

        Parameters
        ----------
        path : str or path
            The file; what is there is replaced.
        certificate : Certificate, optional
            Of the result, to be shown as well.
        """
        from leptonhpc.runtime.report_page import page_of

        with open(path, "w", encoding="utf-8") as file:
            file.write(page_of(self, certificate))

    def __str__(self) -> str:
        """Show it in words."""
        rate = self.flops / self.seconds / 1e9 if self.seconds else 0.0
        lines = [
            f"{self.driver}: {format_seconds(self.seconds)} "
            f"(predicted {format_seconds(self.predicted_seconds)}), {rate:.3g} GFLOP/s",
            f"  read    {format_nbytes(self.read_nbytes)}, {self.passes:.3g} times the input"
            + (f"; {counted}" if (counted := self.counted_reads()) else ""),
            f"  wrote   {format_nbytes(self.write_nbytes)}",
            f"  peak    {format_nbytes(self.peak_nbytes)} "
            f"(predicted at most {format_nbytes(self.predicted_peak_nbytes)}, "
            f"allowed {format_nbytes(self.memory_nbytes)})",
        ]
        if self.joules:
            joules = sum(self.joules.values())
            lines.append(f"  energy  {format_joules(joules)} of {len(self.joules)} sensors")
        if self.snapshot is not None:
            lines.append(f"  stored  as snapshot {self.snapshot}")
        lines += self._placed_lines()
        for stage in self.stages:
            note = "from the journal" if stage.resumed else format_seconds(stage.seconds)
            predicted = format_seconds(stage.predicted_seconds)
            lines.append(f"  {stage.name:<16}{note:>18}  (predicted {predicted})")
        return "\n".join(lines)

    def _placed_lines(self) -> list[str]:
        """Say who did what, on a cluster."""
        placed = [stage.placement for stage in self.stages if stage.placement is not None]
        if not placed:
            return []
        simulated, took = self.simulated_seconds or 0.0, self.placed_seconds or 0.0
        devices = self.by_device()
        flops = sum(device.flops for device in devices) or 1.0
        lines = [
            f"  placed  {self.off_owner} tasks ran off their owner, dealt anew "
            f"{sum(p.dealt_again for p in placed)} times; simulated {format_seconds(simulated)}, "
            f"took {format_seconds(took)}" + (f" ({simulated / took:.2f} of it)" if took else "")
        ]
        lines += [
            f"    {d.name:<28}{d.tasks:>6} tasks {d.flops / flops:>6.1%} of the flops, busy "
            f"{format_seconds(d.seconds)}"
            for d in devices
        ]
        left = sorted(self.left_out().items())
        return lines + [f"    {name:<28}left out: {why}" for name, why in left]


def format_joules(value: float) -> str:
    """Write an energy with three digits."""
    for unit in ("J", "kJ", "MJ"):
        if value < 999.5 or unit == "MJ":
            return f"{value:.3g} {unit}"
        value /= 1000
    raise AssertionError


def _placement(data: dict[str, Any] | None) -> PlacementReport | None:
    if data is None:
        return None
    devices = tuple(DeviceReport(**device) for device in data["devices"])
    return PlacementReport(**{**data, "devices": devices})
