"""Jobs of drivers seen from outside: how far one is, and removing what a dead one left."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

from leptonhpc import store
from leptonhpc.api.destinations import attributes_of_result
from leptonhpc.api.outputs import is_ours
from leptonhpc.errors import NotAnArrayError, OutputExistsError, StoreError
from leptonhpc.planning.costs import format_seconds
from leptonhpc.store.journal import finished_stages, read_note
from leptonhpc.store.leasing import require_nobody
from leptonhpc.store.locations import Location, describe
from leptonhpc.store.making import output_lease
from leptonhpc.store.standing import is_alive

State = Literal["finished", "running", "stopped", "elsewhere"]
_SETTLED_SECONDS = 0.2
"""A job's notes are read one after another: one that was just begun or finished is looked at again
after this."""


@dataclass(frozen=True, repr=False)
class JobStatus:
    """How far a job is."""

    output: str
    state: State
    """`elsewhere`: unfinished, and by a process of another machine, which may run or not."""
    driver: str = ""
    stages_done: tuple[str, ...] = ()
    stages_planned: tuple[str, ...] = ()
    """Names and how often each is expected to run."""
    planned_seconds: float = 0.0
    stage: str | None = None
    """That runs, or was cut short."""
    tasks: int = 0
    """Of that stage."""
    tasks_done: int = 0
    host: str | None = None
    pid: int | None = None
    silent_seconds: float | None = None
    """Since the job said anything."""
    left_seconds: float | None = None
    """Predicted when it did, by the plan and how fast the job was until then."""
    device_count: int = 0
    devices: tuple[dict[str, Any], ...] = ()
    """What each did then: ``name doing busy_lanes tasks share memory_nbytes read_bytes_per_second
    write_bytes_per_second`` and sums; of a hundred, if there are more."""

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as JSON can hold it."""
        return asdict(self)

    def __repr__(self) -> str:
        """Show what a user asks for first."""
        if self.state == "finished":
            return f"{self.output}: {self.driver}, finished"
        words = {
            "running": f"running: process {self.pid} on {self.host}",
            "stopped": "stopped: the same command goes on from here",
            "elsewhere": f"begun by process {self.pid} on {self.host}, which may run still",
        }
        rows = [f"{self.output}: {self.driver}, {words[self.state]}"]
        rows.append(f"  planned  {', '.join(self.stages_planned) or '?'}")
        rows.append(f"           {format_seconds(self.planned_seconds)} in all, as predicted")
        rows.append(f"  done     {', '.join(self.stages_done) or 'no whole stage'}")
        if self.stage is not None:
            rows.append(f"  now      {self.stage}: {self.tasks_done} of {self.tasks} tasks")
        if self.state != "stopped" and self.left_seconds is not None:
            rows.append(f"  left     about {format_seconds(self.left_seconds)}")
        if self.silent_seconds is not None:
            rows.append(f"  heard    {format_seconds(self.silent_seconds)} ago")
        return "\n".join(rows)


def status_of_job(out: Location) -> JobStatus:
    """Say how far the job of a driver's output is.

    Parameters
    ----------
    out : str or path
        What was given to the job as `out`.

    Returns
    -------
    JobStatus
        Its stages and tasks, and who works on it.

    Raises
    ------
    StoreError
        If there is neither a result nor an unfinished one.
    NotAnArrayError
        If what is there is not leptonhpc's.
    """
    found = _seen(out)
    if found.state == "stopped" and found.pid is None:
        time.sleep(_SETTLED_SECONDS)
        found = _seen(out)
    return found


def _seen(out: Location) -> JobStatus:
    partial = store.partial_location(out)
    if store.exists(partial):
        try:
            found = _unfinished(out, partial)
        except (NotAnArrayError, FileNotFoundError):
            if store.exists(partial):  # else it got its final name meanwhile
                raise
        else:
            if found.state != "stopped" or store.exists(partial):
                return found
    if not store.exists(out):
        raise StoreError(f"nothing is stored at {describe(out)!r}, finished or not")
    return JobStatus(describe(out), "finished", attributes_of_result(out)["driver"])


def clean_job(out: Location) -> tuple[str, ...]:
    """Remove what a driver's job that is dead left: its unfinished output, journal and scratch.

    Parameters
    ----------
    out : str or path
        What was given to the job as `out`; a finished result there stays.

    Returns
    -------
    tuple of str
        What was removed.

    Raises
    ------
    OutputExistsError
        If a process works on it. Of another machine's process a sign of life is waited for.
    StoreError
        If there is nothing unfinished.
    NotAnArrayError
        If what is there is not leptonhpc's.
    """
    partial = store.partial_location(out)
    if not store.exists(partial):
        raise StoreError(f"there is no unfinished output {describe(partial)!r}")
    found = _unfinished(out, partial)
    if found.state == "running":
        message = f"{describe(partial)!r} is being made by process {found.pid}; end that first"
        raise OutputExistsError(message)
    require_nobody(output_lease(out).living_owner(), partial)
    store.remove(partial)
    return (describe(partial),)


def _unfinished(out: Location, partial: Location) -> JobStatus:
    job, plan, now = (read_note(partial, name) for name in ("job", "plan", "now"))
    if not job and not is_ours(partial):
        raise NotAnArrayError(f"{describe(partial)!r} is not an unfinished output of leptonhpc")
    done = finished_stages(partial)
    stage = now.get("stage")
    alive = is_alive(now) if now else False
    state: State = "elsewhere" if alive is None else "running" if alive else "stopped"
    return JobStatus(
        describe(out),
        state,
        plan.get("driver", ""),
        tuple(done),
        tuple(plan.get("stages", ())),
        plan.get("seconds", 0.0),
        None if stage in done else stage,
        now.get("tasks", 0),
        now.get("done", 0),
        now.get("host"),
        now.get("pid"),
        max(0.0, time.time() - now["time"]) if now else None,
        now.get("left_seconds"),
        now.get("device_count", 0),
        tuple(now.get("devices", ())),
    )
