"""The devices of a job that runs, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.planning.costs import format_seconds

if TYPE_CHECKING:
    from rich.table import Table

MOST_ROWS = 16
"""Devices that are shown; a screen has no room for more."""
HEADS = ("device", "does", "lanes", "tasks", "share", "memory", "reads", "writes")


def device_table(devices: Sequence[Mapping[str, Any]], count: int) -> Table:
    """Draw what each device does.

    Parameters
    ----------
    devices : sequence of mapping
        As `Monitor.facts` gives them.
    count : int
        Of all devices.

    Returns
    -------
    rich.table.Table
        A row for each of the first 16; a narrow terminal has less of what it does.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, head in enumerate(HEADS):
        table.add_column(
            head, justify="left" if number < 2 else "right", overflow="ellipsis",
            no_wrap=head != "does", style="cyan" if number == 0 else "",
        )  # fmt: skip
    for name, doing, *numbers in device_rows(devices):
        # rich narrows the column that may wrap: this text does not
        does = Text(doing, no_wrap=True, overflow="ellipsis")
        table.add_row(name.rpartition("://")[2], does, *numbers)
    left = count - min(len(devices), MOST_ROWS)
    if left > 0:
        table.add_row(f"and {left} more")
    return table


def device_rows(devices: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Give the cells of that table.

    Parameters
    ----------
    devices : sequence of mapping
        As `Monitor.facts` gives them.

    Returns
    -------
    list of tuple of str
        In the order of `HEADS`.
    """
    return [
        (
            device["name"],
            device["doing"] or "waits",
            str(device["busy_lanes"]),
            f"{device['tasks']:,}",
            f"{device['share']:.0%}",
            "" if device["memory_nbytes"] is None else format_nbytes(device["memory_nbytes"]),
            f"{format_nbytes(device['read_bytes_per_second'])}/s",
            f"{format_nbytes(device['write_bytes_per_second'])}/s",
        )
        for device in devices[:MOST_ROWS]
    ]


def time_line(facts: Mapping[str, Any]) -> str:
    """Say how long the job has run, and will.

    Parameters
    ----------
    facts : mapping
        As `Monitor.facts` gives them.

    Returns
    -------
    str
        One line.
    """
    return (
        f"{format_seconds(facts['seconds'])}, about {format_seconds(facts['left_seconds'])} left "
        f"(planned {format_seconds(facts['planned_seconds'])})"
    )
