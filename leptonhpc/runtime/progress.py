"""Progress where somebody looks: in a terminal (rich), a notebook (plain HTML), else none."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol

from leptonhpc.runtime.view import device_table, time_line


class Progress(Protocol):
    """What shows how far a job is."""

    def begin(self, stage: str, tasks: int) -> None:
        """Start a stage."""

    def advance(self, tasks: int = 1) -> None:
        """Note finished tasks."""

    def close(self) -> None:
        """End the job."""


Facts = Callable[[], Mapping[str, Any]]
_REDRAWN_A_SECOND = 4
_MOST_STAGES = 8


def choose_progress(wanted: bool | None, title: str, facts: Facts | None = None) -> Progress:
    """Give the bar that fits the place.

    Parameters
    ----------
    wanted : bool or None
        None: only where a terminal or a notebook shows it.
    title : str
        The job.
    facts : callable, optional
        Gives what its devices do.

    Returns
    -------
    Progress
        The bar.
    """
    if wanted is False:
        return Silent()
    if _in_notebook():
        return NotebookProgress(title)
    if wanted or sys.stderr.isatty():
        return TerminalProgress(title, facts)
    return Silent()


class Silent:
    """Shows nothing."""

    def begin(self, stage: str, tasks: int) -> None:
        """Start a stage."""

    def advance(self, tasks: int = 1) -> None:
        """Note finished tasks."""

    def close(self) -> None:
        """End the job."""


class TerminalProgress:
    """A line for each stage, and under them what each device does, by rich, on standard error.

    Parameters
    ----------
    title : str
        The job.
    facts : callable, optional
        Gives what devices do, as `Monitor.facts`; None: only stages are shown.
    """

    def __init__(self, title: str, facts: Facts | None = None) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), auto_refresh=False,
        )  # fmt: skip
        self._title, self._facts = title, facts
        self._stages: list[Any] = []
        self.console = Console(stderr=True)
        self._live = Live(
            console=self.console, get_renderable=self._drawn, refresh_per_second=_REDRAWN_A_SECOND,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        self._live.start()

    def begin(self, stage: str, tasks: int) -> None:
        """Start a stage; of many only the last ones are shown."""
        self._stages.append(self._bar.add_task(f"{self._title} {stage}", total=tasks))
        if len(self._stages) > _MOST_STAGES:
            self._bar.remove_task(self._stages.pop(0))

    def advance(self, tasks: int = 1) -> None:
        """Note finished tasks."""
        self._bar.advance(self._stages[-1], tasks)

    def close(self) -> None:
        """End the job; the stages stay on the screen."""
        self._facts = None
        self._live.stop()

    def _drawn(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        facts = self._facts() if self._facts is not None else None
        if facts is None or facts["stage"] is None:
            return self._bar
        devices = device_table(facts["devices"], facts["device_count"])
        return Group(self._bar, Text(time_line(facts), style="dim"), devices)


class NotebookProgress:
    """An HTML bar without widgets, redrawn at most five times a second.

    Parameters
    ----------
    title : str
        The job.
    """

    def __init__(self, title: str) -> None:
        display: Any = import_module("IPython.display").display
        self._title, self._stage, self._done, self._tasks = title, "", 0, 0
        self._drawn = self._began = time.monotonic()
        self._handle = display(self, display_id=True)

    def _repr_html_(self) -> str:
        seconds = time.monotonic() - self._began
        return (
            f"{self._title} {self._stage} <progress value='{self._done}' max='{self._tasks or 1}'>"
            f"</progress> {self._done}/{self._tasks}, {seconds:.0f} s"
        )

    def begin(self, stage: str, tasks: int) -> None:
        """Start a stage."""
        self._stage, self._done, self._tasks = stage, 0, tasks
        self._draw(force=True)

    def advance(self, tasks: int = 1) -> None:
        """Note finished tasks."""
        self._done += tasks
        self._draw(force=self._done >= self._tasks)

    def close(self) -> None:
        """End the job."""
        self._draw(force=True)

    def _draw(self, *, force: bool) -> None:
        now = time.monotonic()
        if force or now - self._drawn > 0.2:
            self._drawn = now
            self._handle.update(self)


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})
