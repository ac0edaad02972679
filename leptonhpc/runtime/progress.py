"""A progress bar where somebody looks: a terminal (rich), a notebook (plain HTML), else none."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from typing import Any, Protocol


class Progress(Protocol):
    """What shows how far a job is."""

    def begin(self, stage: str, tasks: int) -> None:
        """Start a stage."""

    def advance(self, tasks: int = 1) -> None:
        """Note finished tasks."""

    def close(self) -> None:
        """End the job."""


def choose_progress(wanted: bool | None, title: str) -> Progress:
    """Give the bar that fits the place.

    Parameters
    ----------
    wanted : bool or None
        None: only where a terminal or a notebook shows it.
    title : str
        The job.

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
        return TerminalProgress(title)
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
    """One line per stage, by rich, on standard error.

    Parameters
    ----------
    title : str
        The job.
    """

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True),
        )  # fmt: skip
        self._title = title
        self._task: Any = None
        self._bar.start()

    def begin(self, stage: str, tasks: int) -> None:
        """Start a stage."""
        self._task = self._bar.add_task(f"{self._title} {stage}", total=tasks)

    def advance(self, tasks: int = 1) -> None:
        """Note finished tasks."""
        self._bar.advance(self._task, tasks)

    def close(self) -> None:
        """End the job."""
        self._bar.stop()


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
