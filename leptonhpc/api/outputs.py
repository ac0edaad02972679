"""From a job to its stored result: the unfinished output, its journal, and the final name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import leptonhpc
from leptonhpc import store
from leptonhpc.api.begun import attributes_of, resources_at
from leptonhpc.api.mending import begun_as, note_damage, stored_arrays
from leptonhpc.api.precisions import described
from leptonhpc.errors import (
    CorruptChunkError,
    DTypeError,
    JobMismatchError,
    LeptonError,
    LinAlgError,
    MemoryBudgetError,
    NegativeValueError,
    NonFiniteError,
    NumericRangeError,
    OptionError,
    OutputExistsError,
    ShapeError,
    StoreError,
)
from leptonhpc.linalg import Job, Outcome
from leptonhpc.runtime import Report, run_job
from leptonhpc.runtime.targets import Workspace
from leptonhpc.store.journal import FOLDER, differences, digest, read_note
from leptonhpc.store.leasing import Lease, require_nobody
from leptonhpc.store.locations import (
    Location,
    describe,
    full_disk,
    is_local,
    require_name,
    same_place,
)
from leptonhpc.store.making import output_lease
from leptonhpc.store.standing import is_alive, tell_ended

FORMAT = "leptonhpc-result-1"
_NO_ANSWER = (
    DTypeError, LinAlgError, MemoryBudgetError, NegativeValueError, NonFiniteError,
    NumericRangeError, ShapeError,
)  # fmt: skip
"""What the numbers or blocks of the input do not allow, however often it is tried."""


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
        "parameters": {**job.parameters, **described(job)},
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
        return _named(job, outcome), workspace, report, False
    if resume and overwrite:
        raise OptionError("give one of resume= (go on with an output) and overwrite= (begin again)")
    require_name(out)
    check_place(job, out)
    description = describe_job(job)
    partial = store.partial_location(out)
    if not overwrite:
        _refuse_other_result(out, description)
    _check_existing(out, partial, resume=resume, overwrite=overwrite)
    lease = output_lease(out)
    try:
        if resources_at(partial) is None:
            store.remove(partial)
            store.create_group(partial, attributes=attributes_of(job.resources))
        require_nobody(lease.take(), partial)
        journal = store.Journal(partial, begun_as(job, partial, description))
        journal.check = lease.check
        journal.begin()
        journal.note("plan", _plan_of(job))
        try:
            outcome, workspace, report = run_job(
                job, output=partial, journal=journal, progress=progress
            )
        except CorruptChunkError as error:
            note_damage(job, journal, error)
            raise
        outcome = _named(job, outcome)
        try:
            lease.require()
            _require_same_inputs(job, description, partial, lease)
            snapshot = _finish(
                job, outcome, report, partial, out, description, overwrite=overwrite,
                single=single, lease=lease,
            )  # fmt: skip
        except BaseException:
            tell_ended(partial)
            raise
        report = replace(report, snapshot=snapshot)
    except _NO_ANSWER:
        lease.stop()
        store.remove(partial)  # no call can go on with it: another input is another job
        raise
    except LeptonError:
        raise
    except OSError as error:
        message = f"the output {describe(out)!r} could not be written: {error}"
        raise StoreError(full_disk(out, error) or message) from error
    finally:
        lease.release()
    return outcome, workspace, report, True


def _named(job: Job, outcome: Outcome) -> Outcome:
    """Have the certificate say what was computed with."""
    certificate = replace(outcome.certificate, computed=job.explanation.precision)
    return replace(outcome, certificate=certificate)


def _require_same_inputs(
    job: Job, description: Mapping[str, Any], partial: Location, lease: Lease
) -> None:
    """Refuse numbers of an input that changed while it was read; nothing of them is kept."""
    if describe_job(job)["inputs"] != description["inputs"]:
        lease.stop()
        store.remove(partial)
        message = (
            f"{', '.join(job.explanation.inputs)} changed while the job read it; its numbers would "
            "be of no one state. Nothing is kept: run it again when the input stays as it is"
        )
        raise JobMismatchError(message)


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
    lacks_name = not store.exists(out) or store.is_half_published(partial, out)
    if lacks_name and _holds_result(job, partial):  # killed before, or in, the last step
        require_nobody(output_lease(out).living_owner(), partial)
        store.publish(partial, out, without=FOLDER)
    if not _holds_result(job, out):
        return False
    if is_local(out):  # killed within the last step
        store.remove(store.join(out, FOLDER))
        store.remove_replaced(out)
    if _is_left_over(job, partial, output_lease(out).owner()):
        store.remove(partial)
    return True


def _is_left_over(job: Job, partial: Location, owner: Mapping[str, Any]) -> bool:
    """Say whether a kill came when the array of this job had its name, and the journal was left."""
    begun = read_note(partial, "job")
    if not begun or result_digest(begun) != result_digest(describe_job(job)):
        return False
    return not owner or is_alive(dict(owner)) is False


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
    return digest(_question(description))


def _question(description: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {k: v for k, v in description["parameters"].items() if k != "layout"}
    return {**description, "parameters": parameters}


def _refuse_other_result(out: Location, description: Mapping[str, Any]) -> None:
    """Say what differs, where the finished result of another job has the name."""
    try:
        attributes = store.read_attributes(out) if store.exists(out) else {}
    except LeptonError:
        return  # something else is there
    other = attributes.get("description")
    if attributes.get("format") != FORMAT or not isinstance(other, dict):
        return
    found = differences(_question(other), _question(description))
    if found:
        message = (
            f"{describe(out)!r} exists, and is the result of another job: {'; '.join(found)}. "
            "Choose another output, or pass overwrite=True to replace it"
        )
        raise OutputExistsError(message)


def check_place(job: Job, out: Location) -> None:
    """Refuse an output that is an input, lies in one, or holds one; also while it is unfinished."""
    for location in (array.location for array in stored_arrays(list(job.sources.values()))):
        for place in (out, store.partial_location(out)):
            if same_place(location, place):
                message = (
                    f"the output {describe(place)!r} and the input {describe(location)!r} are in "
                    "one another; choose another output"
                )
                raise OptionError(message)


def _check_existing(
    out: Location, partial: Location, *, resume: bool | None, overwrite: bool
) -> None:  # fmt: skip
    store.require_free(out, overwrite=overwrite)
    if store.exists(partial) and not is_ours(partial):
        message = (
            f"{describe(partial)!r}, where the output would be made, is something else; move it, "
            "or choose another output"
        )
        raise OutputExistsError(message)
    if store.exists(partial):  # two processes would write the same files
        require_nobody(output_lease(out).living_owner(), partial)
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


def is_ours(partial: Location) -> bool:
    """Say the same, also of what is left if a run was killed before it had written anything."""
    if resources_at(partial) is not None:
        return True
    if not is_local(partial):
        return False
    return store.exists(store.join(partial, FOLDER)) or store.is_only_begun(partial)


def _finish(
    job: Job, outcome: Outcome, report: Report, partial: Location, out: Location,
    description: Mapping[str, Any], *, overwrite: bool, single: str | None, lease: Lease,
) -> str | None:  # fmt: skip
    """Write small fields and attributes, then rename without the journal; give a snapshot's id."""
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
        snapshot = store.publish(array, out, overwrite=overwrite)
        lease.stop()
        store.remove(partial)
        return snapshot
    for name, value in outcome.fields.items():
        if isinstance(value, np.ndarray):
            _write_small(store.join(partial, name), value)
    store.update_attributes(partial, attributes)
    return store.publish(partial, out, overwrite=overwrite, without=FOLDER, leaving=lease.stop)


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
