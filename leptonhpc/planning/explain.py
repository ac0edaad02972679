"""What a job will cost, shown before it runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import escape
from typing import Any

from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.planning.costs import (
    LIBRARIES_NBYTES,
    Resources,
    around_seconds,
    beside_seconds,
    format_seconds,
)
from leptonhpc.planning.precision import arithmetic_of
from leptonhpc.planning.tasks import Stage, Target


@dataclass(frozen=True)
class Alternative:
    """A method that was considered."""

    method: str
    seconds: float | None
    """Predicted; None if it does not fit."""
    reason: str


@dataclass(frozen=True)
class Explanation:
    """The costs of one job, derived from its plan alone."""

    driver: str
    inputs: tuple[str, ...]
    method: str
    why: str
    passes: float
    """Readings of the whole input that are expected."""
    most_passes: float
    read_nbytes: int
    write_nbytes: int
    scratch_nbytes: int
    flops: float
    tasks: int
    peak_nbytes: int
    """Largest memory of a worker, libraries included."""
    memory_nbytes: int
    """The budget."""
    workers: int
    threads: int
    seconds: float
    """Predicted."""
    measured_rates: bool
    resident_nbytes: int
    stages: tuple[dict[str, Any], ...]
    alternatives: tuple[Alternative, ...] = field(default=())
    planned: tuple[Stage, ...] = field(default=(), repr=False, compare=False)
    """The stages themselves, as they are expected to run."""
    extra_seconds: float = 0.0
    """Of small problems solved between stages."""
    precision: str = ""
    """What products are computed with, and what they are summed in."""

    def to_dict(self) -> dict[str, Any]:
        """Give all of it, but for the stages' tasks, as JSON can hold it."""
        return asdict(replace(self, planned=()))

    def to_json(self) -> str:
        """Give all of it as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def __str__(self) -> str:
        """Show it in words."""
        lines = [f"{self.driver} of {' and '.join(self.inputs)}"]
        lines += [f"  {label:<11}{text}" for label, text in self._rows()]
        lines.append("  stages")
        for stage in self.stages:
            lines.append(
                f"    {stage['name']:<22}{stage['times']:>7}  {stage['tasks']:>6} tasks  "
                f"reads {format_nbytes(stage['read_nbytes']):>8}  "
                f"{stage['flops']:.2g} flops  {format_seconds(stage['seconds'])}"
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{a}</th><td>{escape(b)}</td></tr>" for a, b in self._rows())
        stages = "".join(
            f"<tr><td>{escape(s['name'])}</td><td>{s['times']}</td><td>{s['tasks']}</td>"
            f"<td>{format_nbytes(s['read_nbytes'])}</td><td>{s['flops']:.2g}</td>"
            f"<td>{format_seconds(s['seconds'])}</td></tr>"
            for s in self.stages
        )
        head = "".join(
            f"<th>{h}</th>" for h in ("stage", "times", "tasks", "reads", "flops", "time")
        )
        return (
            f"<b>{escape(self.driver)}</b> of {escape(' and '.join(self.inputs))}"
            f"<table>{rows}</table><table><tr>{head}</tr>{stages}</table>"
        )

    def _rows(self) -> list[tuple[str, str]]:
        passes = f"{self.passes:.3g}"
        if self.most_passes > self.passes:
            passes += f" expected, at most {self.most_passes:.3g}"
        rates = "measured rates" if self.measured_rates else "default rates; `leptonhpc probe`"
        rows = [
            ("method", self.method),
            ("why", self.why),
            ("passes", f"{passes} over the input"),
            ("reads", format_nbytes(self.read_nbytes)),
            (
                "writes",
                f"{format_nbytes(self.write_nbytes)}"
                + (
                    f", scratch {format_nbytes(self.scratch_nbytes)}" if self.scratch_nbytes else ""
                ),
            ),
            (
                "memory",
                f"{format_nbytes(self.peak_nbytes)} of {format_nbytes(self.memory_nbytes)} on each "
                f"of {self.workers} worker{'s' * (self.workers > 1)} with {self.threads} "
                f"core{'s' * (self.threads > 1)}; {format_nbytes(self.resident_nbytes)} stay "
                "resident",
            ),
            ("precision", self.precision),
            ("tasks", f"{self.tasks:,}"),
            ("flops", f"{self.flops:.3g}"),
            ("time", f"about {format_seconds(self.seconds)} ({rates})"),
        ]
        rows += [
            (
                "not",
                f"{a.method}: {a.reason}"
                + (f" (about {format_seconds(a.seconds)})" if a.seconds is not None else ""),
            )
            for a in self.alternatives
        ]
        return rows


def explain(
    driver: str,
    inputs: Sequence[str],
    stages: Sequence[Stage],
    resources: Resources,
    *,
    method: str,
    why: str,
    targets: Sequence[Target] = (),
    extra_seconds: float = 0.0,
    resident_nbytes: int = 0,
    alternatives: Sequence[Alternative] = (),
) -> Explanation:
    """Add up the stages of a job.

    Parameters
    ----------
    driver : str
        Its name.
    inputs : sequence of str
        Its arrays in words.
    stages : sequence of Stage
        What will run, each with its expected and largest number of repeats.
    resources : Resources
        What it may use.
    method, why : str
        The algorithm and why it was chosen.
    targets : sequence of Target
        Arrays that are made.
    extra_seconds : float
        Of small problems solved between stages.
    resident_nbytes : int
        Bands that stay in a worker's memory.
    alternatives : sequence of Alternative
        What else was considered.

    Returns
    -------
    Explanation
        The sums.
    """
    took = [_stage_seconds(stage, resources) for stage in stages]
    computed = [_arithmetic(stage, resources.precision) for stage in stages]
    rows = tuple(
        {
            "name": stage.name,
            "times": str(stage.repeats)
            + (f"-{stage.most_repeats}" if stage.most_repeats > stage.repeats else ""),
            "tasks": len(stage.tasks),
            "read_nbytes": stage.read_nbytes,
            "flops": stage.flops,
            "seconds": expected,
            "passes": stage.passes,
            "products": _joined(part[0] for part in parts),
            "sums": _joined(part[1] for part in parts),
        }
        for stage, parts, expected in zip(stages, computed, took, strict=True)
    )
    return Explanation(
        driver=driver,
        inputs=tuple(inputs),
        method=method,
        why=why,
        passes=sum(s.passes * s.repeats for s in stages),
        most_passes=sum(s.passes * s.most_repeats for s in stages),
        read_nbytes=sum(s.read_nbytes * s.repeats for s in stages),
        write_nbytes=sum(t.nbytes for t in targets if not t.scratch),
        scratch_nbytes=sum(t.nbytes for t in targets if t.scratch),
        flops=sum(s.flops * s.repeats for s in stages),
        tasks=sum(len(s.tasks) * s.repeats for s in stages),
        peak_nbytes=max((s.peak_nbytes for s in stages), default=LIBRARIES_NBYTES),
        memory_nbytes=resources.memory_nbytes,
        workers=resources.workers,
        threads=resources.threads,
        seconds=predict_seconds(stages, resources, len(targets), extra_seconds),
        measured_rates=resources.rates.measured,
        resident_nbytes=resident_nbytes,
        stages=rows,
        alternatives=tuple(alternatives),
        planned=tuple(stages),
        extra_seconds=extra_seconds,
        precision=_in_words([part for parts in computed for part in parts], resources),
    )


def predict_seconds(
    stages: Iterable[Stage], resources: Resources, arrays: int, extra_seconds: float = 0.0
) -> float:
    """Predict the seconds of a job: of its work and of what is beside it.

    Parameters
    ----------
    stages : iterable of Stage
        Its work.
    resources : Resources
        What it would run on.
    arrays : int
        That it makes.
    extra_seconds : float
        Predicted seconds outside the stages.

    Returns
    -------
    float
        Seconds.
    """
    work = sum(_stage_seconds(stage, resources) * stage.repeats for stage in stages)
    return work + around_seconds(resources, arrays) + extra_seconds


def _stage_seconds(stage: Stage, resources: Resources) -> float:
    return stage.seconds + beside_seconds(resources, len(stage.tasks), stage.lanes)


def _arithmetic(stage: Stage, precision: str | None) -> list[tuple[str, str]]:
    """Give products and sums of each kernel that has any."""
    kernels = dict.fromkeys(task.kernel for task in stage.tasks if task.flops)
    return [arithmetic_of(kernel, stage.dtype, precision) for kernel in kernels]


def _in_words(parts: Sequence[tuple[str, str]], resources: Resources) -> str:
    """Say what is computed with, and where that is not the same on all workers."""
    products, sums = (_joined(part[i] for part in parts) for i in (0, 1))
    text = f"products in {products}, sums in {sums}" if parts else "nothing is computed"
    others = resources.workers - resources.tf32_workers
    if "tf32" in products:
        text += " (tf32: factors are rounded to 11 bits)"
        if others > 0:
            text += f"; {others} of {resources.workers} workers have no TF32: theirs in float32"
    elif resources.precision == "tf32":
        text += "; nothing of this is done in TF32"
    return text


def _joined(names: Iterable[str]) -> str:
    return " and ".join(sorted(set(names)))
