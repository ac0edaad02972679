"""Workers that are SLURM jobs, one each, by dask-jobqueue: submitted again when they are lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import shlex
import sys
import time
from typing import Any

import dask
from dask_jobqueue.slurm import SLURMJob

from leptonhpc.cluster.demand import Demand, dispensable, missing
from leptonhpc.cluster.groups import Group
from leptonhpc.cluster.launching import Launch
from leptonhpc.cluster.runs import Run, by_name

logger = logging.getLogger(__name__)

_call: Any = SLURMJob._call

_LOOK_SECONDS = 0.25
"""Between looks at who has joined, which cost SLURM nothing."""
_ASK_SECONDS = 30.0
"""Between questions to SLURM, which many users ask."""
_ASK_SOON_SECONDS = 2.0
_SOON_SECONDS = 20.0
"""After a worker was lost SLURM is asked more often for so long: its job may take long to end."""
_AGAIN_SECONDS = 30.0
"""After SLURM refused a job."""
_END_SECONDS = 15.0
_SUBMIT_SECONDS = 12.0
"""An sbatch that takes longer is not waited for: its job goes by its name."""
_FAILED = (RuntimeError, OSError, ValueError)
"""What comes of a command of SLURM's that fails, is not there, or answers what nobody can read."""
_MOST_FAILURES = 3
"""A job that ended so often before its worker joined is not submitted again."""
_NANNY_NBYTES = 300_000_000
"""Of a job, beside its worker."""
_SLURMS_OWN: dict[str, Any] = {
    f"jobqueue.slurm.{name}": None
    for name in (
        *("queue", "walltime", "account", "project", "interface", "job-cpu", "job-extra"),
        *("extra", "env-extra", "header-skip"),
    )
} | {"jobqueue.slurm.job-directives-skip": [], "jobqueue.slurm.worker-extra-args": []}
"""What a group does not say is SLURM's choice, not that of dask-jobqueue's configuration."""


class WorkerJob(SLURMJob):
    """A job that runs one worker, which finds everything in the run's folder.

    Parameters
    ----------
    address : str
        Of the scheduler.
    name : str
        Of the worker.
    run : Run
        The run's folder.
    group : Group
        The worker's group.
    prologue : sequence of str
        Lines of the script before the worker.
    """

    def __init__(
        self, address: str, name: str, *, run: Run, group: Group, prologue: tuple[str, ...]
    ) -> None:
        with dask.config.set(_SLURMS_OWN):
            super().__init__(  # type: ignore[no-untyped-call]
                address, name, cores=group.threads, processes=1, memory=f"{group.nbytes} B",
                job_mem=f"{math.ceil((group.nbytes + _NANNY_NBYTES) / 2**20)}M",
                queue=group.partition, walltime=group.walltime,
                job_extra_directives=list(group.options), job_script_prologue=list(prologue),
                log_directory=str(run.folder / "logs"), job_name=run.name, protocol="tls",
                shebang="#!/usr/bin/env bash",
            )  # fmt: skip
        command = [sys.executable, "-P", "-m", "leptonhpc.cluster.member", str(run.folder)]
        # exec: SLURM's signals reach the worker, not a shell before it
        self._command_template = "exec " + shlex.join([*command, group.name, name])


class JobMembers:
    """The jobs of a run.

    Parameters
    ----------
    run : Run
        The run's folder.
    launch : Launch
        What was asked for.
    scheduler : distributed.Scheduler
        The scheduler.
    """

    def __init__(self, run: Run, launch: Launch, scheduler: Any) -> None:
        self._run, self._launch, self._scheduler = run, launch, scheduler
        self._groups = {n: group for group in launch.groups for n in group.worker_names}
        self._demand = Demand(scheduler, launch.groups)
        self._jobs: dict[str, WorkerJob] = {}
        self._failures = dict.fromkeys(self._groups, 0)
        self._joined: set[str] = set()
        self._busy_at, self._refused_at = time.monotonic(), -math.inf
        self._refusals, self._worked = 0, False
        self._submitting: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Submit those that stay when there is no work."""
        (self._run.folder / "logs").mkdir(mode=0o700, exist_ok=True)
        for name in missing(self._launch.groups, (), 0):
            await self._submit(name)

    async def tend(self) -> None:
        """Submit what there is work for, and again what was cancelled or lost; give back."""
        there: set[str] = set()
        lost = asked = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            before, there = there, {ws.name for ws in self._scheduler.workers.values()}
            self._joined |= there
            self._worked |= bool(there)
            lost = now if before - there else lost
            if now - asked > (_ASK_SOON_SECONDS if now - lost < _SOON_SECONDS else _ASK_SECONDS):
                asked = now
                with contextlib.suppress(*_FAILED):  # SLURM is away: later
                    await self._forget_lost()
            await self._follow_work(there)

    async def close(self) -> None:
        """Cancel all, and wait until SLURM has forgotten them."""
        if self._submitting:  # their ids are needed
            await asyncio.wait(self._submitting, timeout=_SUBMIT_SECONDS)
        jobs, self._jobs = self._jobs, {}
        ids = [job.job_id for job in jobs.values()]
        for words in ([ids] if ids else []) + [by_name(self._run)]:
            with contextlib.suppress(*_FAILED):
                await _call(["scancel", *words])
        if not ids:
            return
        with contextlib.suppress(*_FAILED):
            for _ in range(int(_END_SECONDS / 0.25)):
                if not set(ids) & await self._queued():
                    return
                await asyncio.sleep(0.25)

    async def _submit(self, name: str) -> None:
        """Submit a job, and note its id even if this is cancelled meanwhile: sbatch goes on."""
        task = asyncio.create_task(self._submit_and_note(name))
        self._submitting.add(task)
        task.add_done_callback(self._submitting.discard)
        await asyncio.shield(task)

    async def _submit_and_note(self, name: str) -> None:
        job: Any = WorkerJob(
            self._scheduler.address, name, run=self._run, group=self._groups[name],
            prologue=self._launch.prologue,
        )  # fmt: skip
        await job.start()
        self._jobs[name] = job
        with open(self._run.jobs_file, "a") as file:  # whoever finds the run dead cancels them
            file.write(f"{job.job_id}\n")

    async def _forget_lost(self) -> None:
        queued = await self._queued()
        for name in [n for n, job in self._jobs.items() if job.job_id not in queued]:
            logger.warning("job %s of worker %s is gone", self._jobs.pop(name).job_id, name)
            self._failures[name] = 0 if name in self._joined else self._failures[name] + 1
            self._joined.discard(name)
            if self._failures[name] >= _MOST_FAILURES:
                self._demand.given_up.add(name)
                logger.error("worker %s never joined in %d jobs: given up", name, _MOST_FAILURES)

    async def _follow_work(self, joined: set[str]) -> None:
        """Submit what is missing; after a time without work, give back what is not kept."""
        groups, now, wanted = self._launch.groups, time.monotonic(), self._demand.workers()
        given_up = self._demand.given_up
        for name in missing(groups, self._jobs, wanted, given_up=given_up):
            if now - self._refused_at < _AGAIN_SECONDS:
                break  # not yet again
            try:
                await self._submit(name)
                self._refusals = 0
            except _FAILED as error:
                self._refused(error)
                break
        if wanted or self._demand.holds():
            self._busy_at = now
        names = dispensable(groups, self._jobs, joined)
        if names and self._is_idle():
            async with self._demand.giving_back:
                if self._is_idle():  # nobody told anything meanwhile
                    await self._give_back(names)

    def _is_idle(self) -> bool:
        busy_at = max(self._busy_at, self._demand.told_at)
        return time.monotonic() - busy_at > self._launch.idle_seconds

    def _refused(self, error: Exception) -> None:
        """Try later: SLURM may be away. Who never had a worker asks for what there is not."""
        self._refused_at, self._refusals = time.monotonic(), self._refusals + 1
        logger.warning("no job could be submitted: %s", error)
        if self._refusals >= _MOST_FAILURES and not self._worked:
            self._demand.given_up.update(self._groups)
            logger.error("SLURM refused %d jobs: given up", self._refusals)

    async def _give_back(self, names: list[str]) -> None:
        ids = [self._jobs.pop(name).job_id for name in names]
        self._joined.difference_update(names)
        there = [n for n in names if n in {ws.name for ws in self._scheduler.workers.values()}]
        try:
            if there:
                await self._scheduler.retire_workers(
                    names=there, close_workers=True, remove=True, stimulus_id="leptonhpc-idle"
                )
        except Exception:  # nobody knows these jobs any more: they are cancelled anyhow
            logger.exception("workers could not be retired")
        with contextlib.suppress(*_FAILED):  # those that wait, too
            await _call(["scancel", *ids])

    async def _queued(self) -> set[str]:
        """Give the ids of this user's jobs that wait, run or end."""
        out = await _call(["squeue", "--noheader", "--me", "--format=%A"])
        return set(out.split())
