"""The command `status --watch`: a job of another process, followed until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leptonhpc import JobStatus

_LOOK_SECONDS = 1.0


def watch_job(out: str, *, as_json: bool, look: Callable[[str], JobStatus]) -> None:
    """Show how far a job is until it is finished or stopped.

    Parameters
    ----------
    out : str
        What was given to the job as `out`.
    as_json : bool
        As one JSON document a line, each time that something changed.
    look : callable
        Gives the status of an output.
    """
    import json
    import sys

    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False, emoji=False, markup=False)
    if as_json or not console.is_terminal:  # for other programs, and logs
        for found in _changes(out, look):
            line = json.dumps(found.to_dict()) if as_json else repr(found)
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        return
    found = look(out)
    with Live(_drawn(found), console=console, auto_refresh=False) as live:
        while found.state in ("running", "elsewhere"):
            time.sleep(_LOOK_SECONDS)
            found = look(out)
            live.update(_drawn(found), refresh=True)


def _changes(out: str, look: Callable[[str], JobStatus]) -> Any:
    """Give a job's status whenever another task is done, and at the end."""
    last: tuple[object, ...] | None = None
    while True:
        found = look(out)
        now = (found.state, found.stage, found.tasks_done, found.stages_done)
        if now != last:
            yield found
        last = now
        if found.state not in ("running", "elsewhere"):
            return
        time.sleep(_LOOK_SECONDS)


def _drawn(found: JobStatus) -> Any:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from leptonhpc.runtime.view import device_table

    parts: list[Any] = [Text(repr(found))]
    if found.state != "finished" and found.tasks:
        line = Table.grid()  # a bar alone does not end its line
        line.add_row(ProgressBar(total=found.tasks, completed=found.tasks_done, width=60))
        parts.append(line)
    if found.state in ("running", "elsewhere") and found.devices:
        parts.append(device_table(found.devices, found.device_count))
    return Group(*parts)
