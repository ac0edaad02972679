"""A job that a damaged chunk stopped goes on when the chunk is mended.

Else a changed input is another job. But a chunk that could not be decoded since the job began has
given nothing to what the job has finished. So if that chunk, and nothing else, is another one now,
the journal is as true as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from leptonhpc.errors import CorruptChunkError
from leptonhpc.linalg import Job
from leptonhpc.store import Journal, StoredArray
from leptonhpc.store.journal import read_note
from leptonhpc.store.locations import Location

_NOTE = "mended"


def note_damage(job: Job, journal: Journal, error: CorruptChunkError) -> None:
    """Note which chunk stopped a job, if nothing else of its array changed since it began.

    Parameters
    ----------
    job : Job
        That was stopped.
    journal : Journal
        Its journal.
    error : CorruptChunkError
        By what.
    """
    for array in stored_arrays(list(job.sources.values())):
        if array.name != error.array or not error.chunk:
            continue
        identity, notes = array.identity(), read_note(journal.output, _NOTE)
        begun = _contents_in(journal.job, identity["location"])
        note = notes.get(identity["location"], {"begun": begun, "accepted": begun})
        if note["accepted"] != identity["chunks"]:
            return  # it was damaged meanwhile: what was read before may be of use no more
        note |= {"chunk": error.chunk, "rest": array.contents(without=error.chunk)}
        journal.note(_NOTE, {**notes, identity["location"]: note})
        return


def begun_as(job: Job, partial: Location, description: dict[str, Any]) -> dict[str, Any]:
    """Give the description that an unfinished output has of this job.

    Parameters
    ----------
    job : Job
        The job as it is now.
    partial : str or path
        The unfinished output.
    description : dict
        Of the job as it is now.

    Returns
    -------
    dict
        That with which it was begun if only chunks were mended since, else `description`.
    """
    notes, begun = read_note(partial, _NOTE), read_note(partial, "job")
    if not notes or not begun:
        return description
    found: Any = description
    for array in stored_arrays(list(job.sources.values())):
        identity = array.identity()
        note = notes.get(identity["location"])
        if note is None:
            continue
        if note["accepted"] != identity["chunks"]:
            chunk = note.get("chunk")
            if chunk is None or array.contents(without=chunk) != note["rest"]:
                continue
            note |= {"accepted": identity["chunks"], "chunk": None}
        found = _with_contents(found, identity["location"], note["begun"])
    if found != begun:
        return description
    Journal(partial, begun).note(_NOTE, notes)
    return begun


def stored_arrays(sources: list[Any]) -> Iterator[StoredArray]:
    """Find the stored arrays below sources of any kind."""
    for source in sources:
        array = getattr(source, "array", None)
        if isinstance(array, StoredArray):
            yield array
        parts = (getattr(source, name, None) for name in ("base", "left", "right"))
        yield from stored_arrays([part for part in parts if hasattr(part, "read")])


def _contents_in(description: Any, location: str) -> str | None:
    """Find the digest of an array's chunks in the description of a job."""
    if isinstance(description, dict):
        if description.get("location") == location and "chunks" in description:
            return str(description["chunks"])
        description = list(description.values())
    if isinstance(description, list):
        found = (_contents_in(part, location) for part in description)
        return next((chunks for chunks in found if chunks is not None), None)
    return None


def _with_contents(description: Any, location: str, chunks: str) -> Any:
    """Give a description in which an array's chunks have another digest."""
    if isinstance(description, list):
        return [_with_contents(part, location, chunks) for part in description]
    if not isinstance(description, dict):
        return description
    if description.get("location") == location and "chunks" in description:
        return {**description, "chunks": chunks}
    return {key: _with_contents(part, location, chunks) for key, part in description.items()}
