"""From a job to its stored result: the unfinished output, its journal, and the final name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import leptonhpc
from leptonhpc import store
from leptonhpc.errors import (
    JobMismatchError,
    LeptonError,
    LinAlgError,
    NonFiniteError,
    NumericRangeError,
    OptionError,
    OutputExistsError,
    StoreError,
)
from leptonhpc.linalg import Job, Outcome
from leptonhpc.runtime import Report, run_job
from leptonhpc.runtime.targets import Workspace
from leptonhpc.store.journal import FOLDER, digest, read_note
from leptonhpc.store.locations import Location, describe, is_local, local_path, same_place
from leptonhpc.store.standing import is_alive

FORMAT = "leptonhpc-result-1"
_MEMORY = "memory_nbytes"
_NO_ANSWER = (LinAlgError, NonFiniteError, NumericRangeError)
"""What the numbers of the input do not allow, however often it is tried."""


def describe_job(job: Job) -> dict[str, Any]:
    """Give what binds an output to its job: inputs, parameters, version.

    Parameters
    ----------
    job : Job
        The job.

    Returns
    -------
    dict
        As JSON can hold it.
    """
    description = {
        "inputs": {name: source.identity() for name, source in job.sources.items()},
        "parameters": dict(job.parameters),
        "version": leptonhpc.__version__,
    }
    result: dict[str, Any] = json.loads(json.dumps(description, default=str))
    return result


def run_to_output(
    job: Job,
    *,
    out: Location | None,
    resume: bool | None,
    overwrite: bool,
    progress: bool | None,
    single: str | None = None,
) -> tuple[Outcome, Workspace, Report, bool]:
    """Run a job, into `out` if that is given.

    Parameters
    ----------
    job : Job
        What to do.
    out : str or path, optional
        Final name of the result.
    resume, overwrite, progress : bool
        See `Plan.run`.
    single : str, optional
        The result is this one array, not a group.

    Returns
    -------
    tuple of (Outcome, Workspace, Report, bool)
        And whether the result was written to `out`.
    """
    if out is None:
        if resume or overwrite:
            raise OptionError("resume= and overwrite= are about an output; give out=")
        outcome, workspace, report = run_job(job, progress=progress)
        return outcome, workspace, report, False
    check_place(job, out)
    description = describe_job(job)
    partial = store.partial_location(out)
    _check_existing(out, partial, resume=resume, overwrite=overwrite)
    try:
        if not _is_begun(partial):
            store.remove(partial)
            store.create_group(partial, attributes={_MEMORY: job.resources.memory_nbytes})
        journal = store.Journal(partial, description)
        journal.begin()
        journal.note("plan", _plan_of(job))
        outcome, workspace, report = run_job(
            job, output=partial, journal=journal, progress=progress
        )
        _finish(job, outcome, report, partial, out, description, overwrite=overwrite, single=single)
    except _NO_ANSWER:
        store.remove(partial)  # no call can go on with it: another input is another job
        raise
    except LeptonError:
        raise
    except OSError as error:
        message = f"the output {describe(out)!r} could not be written: {error}"
        raise StoreError(message) from error
    return outcome, workspace, report, True


def _plan_of(job: Job) -> dict[str, Any]:
    """Give what whoever asks how far the job is has to know of its plan."""
    names = (
        str(stage["name"]) + ("" if stage["times"] == "1" else f" ({stage['times']} times)")
        for stage in job.explanation.stages
    )
    return {"driver": job.driver, "stages": list(names), "seconds": job.explanation.seconds}


def is_finished(job: Job, out: Location | None) -> bool:
    """Say whether the finished result of this very job is at `out`."""
    if out is None:
        return False
    partial = store.partial_location(out)
    if not store.exists(out) and _holds_result(job, partial):  # killed between the last two steps
        store.remove(store.join(partial, FOLDER))
        store.publish(partial, out)
    return _holds_result(job, out)


def _holds_result(job: Job, place: Location) -> bool:
    if not store.exists(place):
        return False
    try:
        attributes = store.read_attributes(place)
    except StoreError:
        return False
    return attributes.get("format") == FORMAT and attributes.get("job") == result_digest(
        describe_job(job)
    )


def result_digest(description: Mapping[str, Any]) -> str:
    """Give the digest of what the numbers depend on: all but how the job was laid out."""
    parameters = {k: v for k, v in description["parameters"].items() if k != "layout"}
    return digest({**description, "parameters": parameters})


def remembered_memory(out: Location | None) -> int | None:
    """Give the budget with which an unfinished output was begun, so that its layout is kept."""
    if out is None:
        return None
    partial = store.partial_location(out)
    if not store.exists(partial):
        return None
    try:
        return int(store.read_attributes(partial)[_MEMORY])
    except (StoreError, KeyError):
        return None


def check_place(job: Job, out: Location) -> None:
    """Refuse an output that is an input, lies in one, or holds one; also while it is unfinished."""
    for location in _locations(list(job.sources.values())):
        for place in (out, store.partial_location(out)):
            if same_place(location, place):
                message = (
                    f"the output {describe(place)!r} and the input {describe(location)!r} are in "
                    "one another; choose another output"
                )
                raise OptionError(message)


def _locations(sources: list[Any]) -> Iterator[Location]:
    """Find the stores below sources of any kind."""
    for source in sources:
        location = getattr(getattr(source, "array", None), "location", None)
        if location is not None:
            yield location
        parts = (getattr(source, name, None) for name in ("base", "left", "right"))
        yield from _locations([part for part in parts if hasattr(part, "read")])


def _check_existing(
    out: Location, partial: Location, *, resume: bool | None, overwrite: bool
) -> None:  # fmt: skip
    store.require_free(out, overwrite=overwrite)
    if store.exists(partial) and not _is_ours(partial):
        message = (
            f"{describe(partial)!r}, where the output would be made, is something else; move it, "
            "or choose another output"
        )
        raise OutputExistsError(message)
    if store.exists(partial):
        _require_idle(partial)
    if overwrite:
        store.remove(partial)
        return
    if store.exists(partial) and resume is False:
        message = (
            f"{describe(partial)!r} is an unfinished output; pass resume=True to go on with it, or "
            "overwrite=True to begin again"
        )
        raise OutputExistsError(message)
    if resume and not store.exists(partial):
        message = f"there is no unfinished output {describe(partial)!r} to go on with"
        raise JobMismatchError(message)


def _require_idle(partial: Location) -> None:
    """Refuse an output that another process is making: two would write the same files."""
    now = read_note(partial, "now")
    if now and is_alive(now) and now["pid"] != os.getpid():
        message = (
            f"{describe(partial)!r} is being made by process {now['pid']} on this machine; wait "
            "for it, end it, or choose another output"
        )
        raise OutputExistsError(message)


def _is_begun(partial: Location) -> bool:
    """Say whether a place holds an unfinished output of ours."""
    try:
        return store.exists(partial) and _MEMORY in store.read_attributes(partial)
    except StoreError:
        return False


def _is_ours(partial: Location) -> bool:
    """Say the same, also of what is left if a run was killed before it had written anything."""
    if _is_begun(partial):
        return True
    if not is_local(partial):
        return False
    left = {path.name for path in local_path(partial).iterdir()}
    return FOLDER in left or all(name.startswith("zarr.json.") for name in left)


def _finish(
    job: Job, outcome: Outcome, report: Report, partial: Location, out: Location,
    description: Mapping[str, Any], *, overwrite: bool, single: str | None,
) -> None:  # fmt: skip
    """Write small fields and attributes, drop the journal, and rename."""
    attributes = {
        "format": FORMAT,
        "driver": job.driver,
        "job": result_digest(description),
        "description": dict(description),
        "certificate": outcome.certificate.to_dict(),
        "report": report.to_dict(),
    }
    attributes = json.loads(json.dumps(attributes, default=_plain))
    if single is not None:
        array = store.join(partial, single)
        store.update_attributes(array, attributes)
        store.publish(array, out, overwrite=overwrite)
        store.remove(partial)
        return
    for name, value in outcome.fields.items():
        if isinstance(value, np.ndarray):
            _write_small(store.join(partial, name), value)
    store.update_attributes(partial, attributes)
    store.remove(store.join(partial, FOLDER))
    store.publish(partial, out, overwrite=overwrite)


def _write_small(location: Location, value: np.ndarray[Any, Any]) -> None:
    chunks = tuple(max(1, n) for n in value.shape)
    rows = max(1, int(2**27 // max(1, value.nbytes // max(1, chunks[0]))))
    chunks = (min(chunks[0], rows), *chunks[1:])
    store.remove(location)  # what a run that was killed left, whole or half-made
    array = store.create_array(location, shape=value.shape, dtype=value.dtype, chunks=chunks)
    for number, begin in enumerate(range(0, value.shape[0], chunks[0])):
        block = np.ascontiguousarray(value[begin : begin + chunks[0]])
        array.write_units((number,) + (0,) * (value.ndim - 1), block)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(type(value).__name__)
