"""What a user asks of an output: how far it is, whoever makes it, and to remove what is left."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from leptonhpc import store
from leptonhpc.api.destinations import MADE_BY, attributes_at
from leptonhpc.api.jobs import JobStatus, State, clean_job, status_of_job
from leptonhpc.api.outputs import FORMAT
from leptonhpc.errors import OutputExistsError
from leptonhpc.store.journal import finished_stages, read_note
from leptonhpc.store.locations import Location
from leptonhpc.store.making import MARK
from leptonhpc.store.standing import is_alive

COMMAND_MARK = "leptonhpc-command.json"
"""A file in the folder of a command: who works there."""
LOCK = ".lock"
"""A file that is locked while a process works in the folder of a command."""
_JOBS = (
    "svd", "product", "sums", "counts", "both_het", "opposite", "het_called", "residuals",
    "deviations",
)  # fmt: skip
"""What outputs of drivers are called, beside the output that is made of them."""
_PARTS = "blocks"
"""What blocks of a pass, and parts of several outputs of drivers, are kept in."""


def status(out: Location) -> JobStatus:
    """Say how far the job of an output is.

    Parameters
    ----------
    out : str or path
        What was given as `out`: to a driver, or to a function of `leptonhpc.climate` or
        `leptonhpc.genomics`; or the PREFIX of one of their commands.

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

    Notes
    -----
    A job says where it is when a stage begins, and every two seconds while its tasks end.
    """
    found = _of_domain(out)
    return status_of_job(out) if found is None else found


def clean(out: Location) -> tuple[str, ...]:
    """Remove what a job that is dead left: its unfinished output, with journal and scratch.

    Parameters
    ----------
    out : str or path
        As for `status`; a finished result there stays.

    Returns
    -------
    tuple of str
        What was removed.

    Raises
    ------
    OutputExistsError
        If a process works on it. Of another machine's process a sign of life is waited for; of a
        command's, and of what is kept beside the output of a function, there is none: that is
        refused.
    StoreError
        If there is nothing unfinished.
    NotAnArrayError
        If what is there is not leptonhpc's.
    """
    return _clean_domain(out) or clean_job(out)


def folder_of(prefix: str) -> Path:
    """Give the folder in which a command works until its files are whole.

    Parameters
    ----------
    prefix : str
        What the files' names begin with.

    Returns
    -------
    Path
        There or not.
    """
    return Path(f"{prefix}.unfinished")


def mark_of(folder: Path) -> dict[str, Any]:
    """Read who works in the folder of a command.

    Parameters
    ----------
    folder : Path
        There or not.

    Returns
    -------
    dict
        What the command left there; empty where nothing is, or what a loss of power spoiled.
    """
    try:
        found = json.loads((folder / COMMAND_MARK).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: v for key, v in found.items() if key != "process" or isinstance(v, dict)}


def _of_domain(out: Location) -> JobStatus | None:
    """See how far the command or function of a domain is; None if there is nothing of that kind."""
    name = _name(out)
    if name is None:
        return None
    found = _of_command(name)
    if found is None and not any(_jobs([name])):
        found = _beside(name) or _finished(name)
    return found


def _clean_domain(out: Location) -> tuple[str, ...]:
    """Remove what a command or function of a domain left; nothing if there is none of that kind."""
    name = _name(out)
    if name is None:
        return ()
    folder = folder_of(name)
    if _is_of_command(folder):
        places, found = [str(folder)], _of_command(name)
    else:
        places = [place for _, place in _jobs([f"{name}.{job}" for job in _JOBS])] + _parts(name)
        found = _beside(name)
    if places and found is not None and found.state in ("running", "elsewhere"):
        verb = "is" if found.state == "running" else "may be"
        message = f"{name!r} {verb} being made by process {found.pid} on {found.host}"
        raise OutputExistsError(f"{message}; end that first, or remove {places[0]!r} yourself")
    for place in places:
        store.remove(place)
    return tuple(places)


def _name(out: Location) -> str | None:
    """Give what the names of things beside an output begin with; None of a store, not a name."""
    return os.fspath(out).rstrip("/") if isinstance(out, str | os.PathLike) else None


def _of_command(prefix: str) -> JobStatus | None:
    folder = folder_of(prefix)
    if not _is_of_command(folder):
        return None
    process = mark_of(folder).get("process")
    alive = is_alive(process) if process else False
    if _is_held(folder):
        alive = True
    elif alive:  # its process went on to something else
        alive = False
    driver = read_note(folder, "job").get("parameters", {}).get("command", "")
    results = sorted(path for path in folder.glob("*.zarr") if path.suffix == ".zarr")
    done = (*finished_stages(folder), *(path.stem for path in results))
    found = JobStatus(
        prefix, _state(alive), driver, done, host=(process or {}).get("host"),
        pid=(process or {}).get("pid"),
    )  # fmt: skip
    for name in sorted({path.name.split(".zarr.")[0] for path in folder.glob("*.zarr.*")}):
        inner = _beside(str(folder / f"{name}.zarr"))
        if inner is not None:
            stage = name if inner.stage is None else f"{name}: {inner.stage}"
            found = replace(found, stage=stage, tasks=inner.tasks, tasks_done=inner.tasks_done)
    return found


def _is_of_command(folder: Path) -> bool:
    """Say whether a command made a folder, also one that was killed as soon as it had."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
    return COMMAND_MARK in names or names <= {LOCK}


def _beside(out: str) -> JobStatus | None:
    """Look at what is kept beside an output: jobs of drivers, and blocks of passes."""
    jobs = list(_jobs([f"{out}.{name}" for name in _JOBS]))
    done: tuple[str, ...] = ()
    found: JobStatus | None = None
    for place in _parts(out):
        now = read_note(place, "now")
        found = JobStatus(
            out, _state(is_alive(now) if now else False), "blocks",
            host=now.get("host"), pid=now.get("pid"),
        )  # fmt: skip
        done += tuple(finished_stages(place))
        inside = {child.name.removesuffix(".partial") for child in Path(place).glob("[!.]*")}
        jobs += _jobs([f"{place}/{name}" for name in sorted(inside)])
    for name, place in jobs:
        job = status_of_job(place.removesuffix(".partial"))
        if job.state == "finished":
            done += (name,)
            found = found or replace(job, output=out, state="stopped")
        else:
            found = replace(job, output=out)
    return None if found is None else replace(found, stages_done=(*done, *found.stages_done))


def _jobs(places: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Give names and places of those that are outputs of drivers, finished or not."""
    for place in places:
        name = place.replace("/", ".").rsplit(".", 1)[-1]
        partial = str(store.partial_location(place))
        if store.exists(partial) and read_note(partial, "job"):
            yield name, partial
        elif attributes_at(place).get("format") == FORMAT:
            yield name, place


def _parts(out: str) -> list[str]:
    place = f"{out}.{_PARTS}"
    return [place] if MARK in attributes_at(place) else []


def _finished(out: str) -> JobStatus | None:
    """See whether a dataset or the log of a command is there."""
    attributes: Any = attributes_at(out)
    if MADE_BY in attributes and "format" not in attributes:
        driver = str(attributes.get("method", attributes.get("model", "dataset")))
        return JobStatus(out, "finished", driver)
    log = Path(f"{out}.log")
    if log.is_file():
        lines = log.read_text(errors="replace").splitlines()
        words = lines[1].split() if len(lines) > 1 else []
        if lines[0].startswith("leptonhpc ") and words[:1] == ["command"]:
            return JobStatus(out, "finished", " ".join(words[1:2]))
    return None


def _state(alive: bool | None) -> State:
    return "elsewhere" if alive is None else "running" if alive else "stopped"


def _is_held(folder: Path) -> bool:
    """Say whether a process works in a folder of a command; False also if it has no lock."""
    import fcntl

    try:
        with (folder / LOCK).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
