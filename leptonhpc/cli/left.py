"""How far commands and functions of the domains are, by what they leave until they are whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonhpc.cli.unfinished import MARK as COMMAND
from leptonhpc.cli.unfinished import folder_of, is_held

if TYPE_CHECKING:
    from leptonhpc import JobStatus

_JOBS = (
    "svd", "product", "sums", "counts", "both_het", "opposite", "het_called", "residuals",
    "deviations",
)  # fmt: skip
"""What outputs of drivers are called, beside the output that is made of them."""
_PARTS = "blocks"
"""What blocks of a pass, and parts of several outputs of drivers, are kept in."""


def status_of(out: str) -> JobStatus | None:
    """Say how far the command or function of a domain is that makes an output.

    Parameters
    ----------
    out : str
        Its PREFIX or OUT.

    Returns
    -------
    JobStatus or None
        None if there is nothing of that kind.
    """
    found = _of_command(out)
    if found is None:
        found = _beside(out)
    return _finished(out) if found is None else found


def remove_left(out: str) -> tuple[str, ...]:
    """Remove what a dead command or function of a domain left of an output.

    Parameters
    ----------
    out : str
        Its PREFIX or OUT.

    Returns
    -------
    tuple of str
        What was removed: nothing if there is nothing of that kind.

    Raises
    ------
    OutputExistsError
        If a process works on it, or may do so on another machine.
    """
    from leptonhpc import store
    from leptonhpc.errors import OutputExistsError

    folder = folder_of(out)
    if (folder / COMMAND).exists():
        places = [str(folder)]
    else:
        places = [place for _, place in _jobs([f"{out}.{name}" for name in _JOBS])] + _parts(out)
    found = status_of(out)
    if places and found is not None and found.state in ("running", "elsewhere"):
        verb = "is" if found.state == "running" else "may be"
        message = f"{out!r} {verb} being made by process {found.pid} on {found.host}"
        raise OutputExistsError(f"{message}; end that first, or remove {places[0]!r} yourself")
    for place in places:
        store.remove(place)
    return tuple(places)


def _of_command(prefix: str) -> JobStatus | None:
    from leptonhpc import JobStatus
    from leptonhpc.store.journal import finished_stages, read_note
    from leptonhpc.store.standing import is_alive

    folder = folder_of(prefix)
    if not (folder / COMMAND).exists():
        return None
    process = json.loads((folder / COMMAND).read_text()).get("process")
    alive = is_alive(process) if process else False
    if is_held(folder):
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


def _beside(out: str) -> JobStatus | None:
    """Look at what is kept beside an output: jobs of drivers, and blocks of passes."""
    from leptonhpc import JobStatus, status
    from leptonhpc.store.journal import finished_stages, read_note
    from leptonhpc.store.standing import is_alive

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
        job = status(place.removesuffix(".partial"))
        if job.state == "finished":
            done += (name,)
            found = found or replace(job, output=out, state="stopped")
        else:
            found = replace(job, output=out)
    return None if found is None else replace(found, stages_done=(*done, *found.stages_done))


def _jobs(places: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Give names and places of those that are outputs of drivers, finished or not."""
    from leptonhpc import store
    from leptonhpc.api.destinations import attributes_at
    from leptonhpc.api.outputs import FORMAT
    from leptonhpc.store.journal import read_note

    for place in places:
        name = place.replace("/", ".").rsplit(".", 1)[-1]
        partial = str(store.partial_location(place))
        if store.exists(partial) and read_note(partial, "job"):
            yield name, partial
        elif attributes_at(place).get("format") == FORMAT:
            yield name, place


def _parts(out: str) -> list[str]:
    from leptonhpc.api.destinations import attributes_at
    from leptonhpc.store.making import MARK

    place = f"{out}.{_PARTS}"
    return [place] if MARK in attributes_at(place) else []


def _finished(out: str) -> JobStatus | None:
    """See whether a dataset or the log of a command is there."""
    from leptonhpc import JobStatus
    from leptonhpc.api.destinations import MADE_BY, attributes_at

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


def _state(alive: bool | None) -> Any:
    return "elsewhere" if alive is None else "running" if alive else "stopped"
