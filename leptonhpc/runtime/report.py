"""What a job did: predicted beside actual."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.planning.costs import format_seconds


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
        for stage in self.stages:
            note = "from the journal" if stage.resumed else format_seconds(stage.seconds)
            predicted = format_seconds(stage.predicted_seconds)
            lines.append(f"  {stage.name:<16}{note:>18}  (predicted {predicted})")
        return "\n".join(lines)
