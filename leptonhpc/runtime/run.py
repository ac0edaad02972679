"""Running a job: stage after stage, with a journal where there is an output."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leptonhpc.blocks import MemorySource, Source
from leptonhpc.blocks.sources import TransposedSource
from leptonhpc.cluster.demand import present
from leptonhpc.errors import CoverageError, MemoryBudgetError, WorkerError
from leptonhpc.kernels import Accumulator
from leptonhpc.linalg import Job, Outcome
from leptonhpc.placement import Machine, precisions_of
from leptonhpc.planning import Resources, Stage, Target
from leptonhpc.planning.costs import beside_seconds, kept_seconds
from leptonhpc.planning.tasks import ADJOINT
from leptonhpc.runtime.backends import (
    PICKLED_NBYTES,
    Backend,
    Cluster,
    Threads,
    Used,
    connected_client,
)
from leptonhpc.runtime.checkpoints import Part, has_parts, run_in_parts, what_is_kept
from leptonhpc.runtime.execute import prepare
from leptonhpc.runtime.memory import OF_LIMIT, free_nbytes
from leptonhpc.runtime.monitor import Monitor
from leptonhpc.runtime.probe import here
from leptonhpc.runtime.progress import Progress, choose_progress
from leptonhpc.runtime.reading import Context
from leptonhpc.runtime.report import PlacementReport, Report, StageReport, whole_placement
from leptonhpc.runtime.targets import Workspace
from leptonhpc.runtime.ticking import UNTOLD, Ticker
from leptonhpc.store import Journal
from leptonhpc.store.locations import Location, is_local, local_path
from leptonhpc.store.standing import Standing

__all__ = ["cluster_machine", "connected_client", "resources_of", "run_job"]


def resources_of(memory_nbytes: int | None) -> Resources:
    """Say what a job may use: the connected cluster, or this process.

    Parameters
    ----------
    memory_nbytes : int or None
        Budget of each worker; None: the workers' own limits, or half of the free memory here.

    Returns
    -------
    Resources
        Memory, workers, cores and rates.
    """
    client = connected_client()
    if client is None:
        local = memory_nbytes if memory_nbytes is not None else free_nbytes() // 2
        device = here()
        if device.overlaps:  # its blocks are in its own memory
            local = min(local, device.memory_nbytes)
        return Resources(local, 1, device.cores, device.rates, **precisions_of([device]))
    workers = present(client)
    if not workers:
        message = "the connected cluster has no workers; start some, or close the client"
        raise WorkerError(message)
    from leptonhpc.runtime.cluster import absent_workers, machine_of

    worth = machine_of(client).worthwhile()
    absent = absent_workers(client, workers)
    workers = {d.name: workers[d.name] for d in worth.devices if d.name in workers}
    planned_for = [*workers.values(), *absent]
    threads = min(w["nthreads"] for w in planned_for)
    limits = [w["memory_limit"] for w in planned_for if w["memory_limit"]]
    memory = memory_nbytes or 0
    if memory_nbytes is None:
        memory = min(limits) if limits else free_nbytes() // 2 // len(workers)
    if limits and memory > min(limits):
        message = f"memory={memory} is more than a worker's limit of {min(limits)} bytes"
        raise MemoryBudgetError(message)
    if limits:  # Dask pauses a worker at four fifths of its limit, and a paused worker does nothing
        memory = min(memory, int(OF_LIMIT * min(limits)))
    memory = min([memory, *(d.memory_nbytes for d in worth.devices if d.overlaps)])
    rates, speeds = worth.speeds()
    return Resources(
        memory, len(planned_for), threads, rates, distributed=True, speeds=() if absent else speeds,
        **precisions_of(worth.devices),
    )  # fmt: skip


def cluster_machine() -> Machine | None:
    """Give the connected cluster as devices, or None."""
    client = connected_client()
    if client is None:
        return None
    from leptonhpc.runtime.cluster import machine_of

    return machine_of(client)


@dataclass
class _Run:
    """One job while it runs."""

    job: Job
    backend: Backend
    workspace: Workspace
    journal: Journal | None
    progress: Progress
    name: str
    device: str | None
    standing: Standing
    monitor: Monitor
    stages: list[StageReport] = field(default_factory=list)
    read_nbytes: int = 0
    input_nbytes: int = 0
    write_nbytes: int = 0
    flops: float = 0.0
    stage_units: int = 0
    readings: list[tuple[float, float]] = field(default_factory=list)
    """Of each stage over the input: how often it read storage units, and how often planned."""
    scratch: list[Target] = field(default_factory=list)
    placement: PlacementReport | None = None
    """Of the stage that ran last."""

    def execute(self, stage: Stage, small: Mapping[str, Any]) -> dict[str, Any]:
        """Run one stage, or take it from the journal."""
        began = time.perf_counter()
        if stage.target is not None and stage.target.scratch:
            self.scratch.append(stage.target)
        kept = self.journal.load_stage(stage.name) if self.journal is not None else None
        if kept is not None:
            if stage.target is not None:
                self.workspace.reopen(stage.target)
            self.backend.take(stage, kept)
            self.monitor.end(stage, ran=False)
            self._note(stage, began, {}, skipped=True, resumed=True)
            return kept
        if stage.view is not None and self.workspace.see(stage, small["pivots"]):
            self.monitor.end(stage, ran=False)
            self._note(stage, began, {}, skipped=True)
            return {}
        done: Mapping[str, Any] = {}
        part = None
        if self.journal is not None and not stage.chained:
            done = self.journal.done(stage.name)
        elif self.journal is not None and has_parts(stage):
            part = self.journal.load_part(stage.name)
            done = {f"{stage.name}/{key}": {} for key in part[1]} if part else {}
        acc = self._compute(stage, small, done, part)
        self._check_coverage(stage, acc, done)
        self._note(stage, began, acc, done=done)
        result = what_is_kept(acc)
        if self.journal is not None:
            self.journal.save_stage(stage.name, result)
        return result

    def advance(self) -> None:
        """Take note that a task is done, if what it wrote is still this job's to write."""
        if self.journal is not None:
            self.journal.check()
        self.progress.advance()

    def tell(self) -> None:
        """Say how far the job is, to all who may look."""
        self.standing.tell(self.monitor.facts)
        self.backend.tell(self.monitor, "running")

    def end(self, state: str) -> None:
        """Say that the job ended; it did so whether or not that can be told."""
        if state != "done":  # else the journal goes, too
            self.standing.end()
        with contextlib.suppress(*UNTOLD):
            self.backend.tell(self.monitor, state)

    def _compute(
        self, stage: Stage, small: Mapping[str, Any], done: Mapping[str, Any], part: Part | None
    ) -> dict[str, Any]:
        writer = None
        if stage.target is not None:
            begin = self.workspace.take_up if done else self.workspace.create
            writer = begin(stage.target, stage.blas_threads)
        # a stage may read what its own earlier tasks wrote
        sources = {**self.job.sources, **self.workspace.sources()}
        if stage.target is not None and stage.target.name in self.job.sources:
            sources[stage.target.name] = self.job.sources[stage.target.name]  # what it copies
        needed = stage.operands
        for name in (name for name in needed if name.endswith(ADJOINT)):
            sources[name] = TransposedSource(sources[name.removesuffix(ADJOINT)], conjugate=True)
        inputs = frozenset(n for n in needed if n.removesuffix(ADJOINT) in self.job.sources)
        self.stage_units = sum(
            _units(sources[name]) for name in {n.removesuffix(ADJOINT) for n in inputs}
        )
        context = Context(
            self.name, stage.name, {k: v for k, v in sources.items() if k in needed},
            inputs, writer,
            self.journal if not stage.chained else None, stage.blas_threads, stage.chained,
            stage.prefetch, self.device, self.backend.topic, stage.lanes_per_worker,
            None if self.backend.topic is None else stage.resident_nbytes,
            self.job.resources.precision,
        )  # fmt: skip
        self.monitor.begin(stage, len(done))
        self.progress.begin(stage.name, len(stage.tasks) - len(done))
        self.standing.tell(self.monitor.facts, now=True)
        placements: list[PlacementReport] = []

        def run(tasks: Stage, total: Accumulator | None) -> Accumulator:
            again = {} if stage.chained else done
            result, placement = self.backend.compute(
                tasks, context, small, done=again, monitor=self.monitor, total=total
            )
            placements.extend([placement] if placement is not None else [])
            return result

        if self.journal is not None and has_parts(stage):
            result = run_in_parts(stage, self.journal, part, run)
        else:
            result = run(stage, None)
        self.placement = whole_placement(placements)
        self.monitor.end(stage, ran=True)
        return result

    def _check_coverage(self, stage: Stage, acc: dict[str, Any], done: Mapping[str, Any]) -> None:
        """Every step exactly once: an accumulator that missed one would be silently wrong."""
        left = [t for t in stage.tasks if f"{stage.name}/{t.part_of or t.key}" not in done]
        expected = sum(len(t.steps) for t in left)
        if len(acc["steps"]) != expected:
            message = f"stage {stage.name} folded {len(acc['steps'])} of {expected} steps"
            raise CoverageError(message)

    def _note(
        self, stage: Stage, began: float, acc: dict[str, Any], *, skipped: bool = False,
        resumed: bool = False, done: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        seconds = time.perf_counter() - began
        read = int(acc.get("read_nbytes", 0))
        old = done or {}
        ran = [
            t for t in stage.tasks
            if not skipped and f"{stage.name}/{t.part_of or t.key}" not in old
        ]  # fmt: skip
        flops = sum(t.flops for t in ran)
        self.stages.append(
            StageReport(
                stage.name,
                len(stage.tasks),
                seconds,
                stage.seconds + self._beside_seconds(stage),
                read,
                flops,
                resumed,
                len(done or {}),
                None if skipped else self.placement,
            )  # fmt: skip
        )
        self.read_nbytes += read
        self.flops += flops
        self.write_nbytes += sum(t.write_nbytes for t in ran)
        if stage.passes > 0 and acc:
            self.input_nbytes += read
            if self.stage_units:
                self.readings.append((acc["units"] / self.stage_units, stage.passes))

    def _beside_seconds(self, stage: Stage) -> float:
        beside = beside_seconds(self.job.resources, len(stage.tasks), stage.lanes)
        return beside + (kept_seconds(1) if self.journal is not None else 0.0)


def run_job(
    job: Job,
    *,
    output: Location | None = None,
    journal: Journal | None = None,
    progress: bool | None = None,
    device: str | None = None,
) -> tuple[Outcome, Workspace, Report]:
    """Run a job on the connected cluster, or in this process.

    Parameters
    ----------
    job : Job
        What to do.
    output : str or path, optional
        The unfinished output.
    journal : Journal, optional
        Its journal, begun.
    progress : bool, optional
        Show a bar; None: where somebody looks.
    device : str, optional
        Table of kernels; default: that of each worker's device.

    Returns
    -------
    tuple of (Outcome, Workspace, Report)
        Fields and certificate, the arrays behind them, and what it took.
    """
    began = time.perf_counter()
    client = connected_client() if job.resources.distributed else None
    backend: Backend = Threads() if client is None else Cluster(client)
    paths = () if client is None else _shared_paths(job.sources, output)
    spare = job.resources.memory_nbytes - job.explanation.peak_nbytes
    workspace = Workspace(output, 0 if client is not None else max(0, spare))
    name, standing = uuid.uuid4().hex[:12], Standing(journal)
    monitor = Monitor(job.explanation, name)
    run = _Run(
        job, backend, workspace, journal, choose_progress(progress, job.driver, monitor.facts),
        name, device, standing, monitor,
    )  # fmt: skip

    monitor.on_task = run.advance
    prepare()
    backend.begin(run.name, paths, job.resources)
    ticker = Ticker(run.tell)
    state = "failed"
    try:
        outcome = job.run(run.execute)
        state = "done"
    except BaseException:
        workspace.close()
        raise
    finally:
        run.progress.close()
        ticker.close()
        run.end(state)
        used = backend.end(run.name)
    monitor.on_task = None  # else both hold one another, and all that the job read
    if output is None:  # else the journal may still need it: it goes when the output is published
        workspace.drop_scratch(run.scratch)
    return outcome, workspace, _report(run, time.perf_counter() - began, used)


def _report(run: _Run, seconds: float, used: Used) -> Report:
    job = run.job
    size = sum(int(np.prod(s.shape)) * s.dtype.itemsize for s in job.sources.values())
    passes = sum(times for times, _ in run.readings)
    if not run.readings:  # NumPy and Dask inputs have no storage units: by bytes
        passes = run.input_nbytes / max(1, size)
    planned = sum(stage.repeats for stage in job.explanation.planned)
    kept = kept_seconds(planned) if run.journal is not None else 0.0
    return Report(
        driver=job.driver,
        seconds=seconds,
        predicted_seconds=job.explanation.seconds + kept,
        passes=passes,
        read_nbytes=run.read_nbytes,
        reads_per_chunk=max((times / planned for times, planned in run.readings), default=0.0),
        write_nbytes=run.write_nbytes,
        flops=run.flops,
        peak_nbytes=used.peak_nbytes,
        predicted_peak_nbytes=job.explanation.peak_nbytes,
        memory_nbytes=job.resources.memory_nbytes,
        workers=job.resources.workers,
        threads=job.resources.threads,
        stages=tuple(run.stages),
        predicted_passes=job.explanation.passes,
        predicted_read_nbytes=job.explanation.read_nbytes,
        predicted_write_nbytes=job.explanation.write_nbytes + job.explanation.scratch_nbytes,
        spans=tuple(run.monitor.timeline),
        joules=used.joules,
    )


def _units(source: Source) -> int:
    return source.units_in(tuple((0, n) for n in source.shape))


def _shared_paths(sources: Mapping[str, Source], output: Location | None) -> tuple[str, ...]:
    """Give the local folders that workers must see; refuse what only this process has."""
    paths = []
    for source in sources.values():
        if not source.shareable:
            message = f"{source.name} is in this process's memory; workers cannot read it"
            raise WorkerError(message)
        base = getattr(source, "base", source)
        if isinstance(base, MemorySource) and base.array.nbytes > PICKLED_NBYTES:
            message = (
                f"{source.name} is too large to be sent to workers; save it as Zarr on a shared "
                "disk and open that"
            )
            raise WorkerError(message)
        array = getattr(base, "array", None)
        location = getattr(array, "location", None)
        if location is not None and is_local(location):
            paths.append(str(local_path(location)))
    if output is not None and is_local(output):
        paths.append(str(local_path(output)))
    return tuple(dict.fromkeys(paths))
