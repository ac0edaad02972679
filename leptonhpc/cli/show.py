"""Printing on standard output: words laid out by rich in a terminal, or one JSON document."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_ROW = re.compile(r"(?P<label> +\S+(?: \S+)*  +)(?P<text>\S.*)")


def print_json(document: Any) -> None:
    """Print one JSON document and nothing else; NaN and infinity become null.

    Parameters
    ----------
    document : object
        Of dictionaries, sequences, strings and numbers; NumPy's too.
    """
    sys.stdout.write(json.dumps(_plain(document), indent=2, allow_nan=False) + "\n")


def print_text(text: str) -> None:
    """Print what a plan, report or certificate says of itself.

    Parameters
    ----------
    text : str
        Lines; those with a label and a text after two spaces or more are set as rows, so that a
        long text is wrapped beside its label.
    """
    console = _console()
    if not console.is_terminal:  # for other programs: as it is, never wrapped
        console.print(text, soft_wrap=True)
        return
    for line in text.split("\n"):
        console.print(_row(line))


def print_note(text: str) -> None:
    """Print what matters less.

    Parameters
    ----------
    text : str
        One line.
    """
    _console().print(text, style="dim", soft_wrap=True)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, note: str = "") -> None:
    """Print columns of numbers, to the right.

    Parameters
    ----------
    heads : sequence of str
        Names of the columns; empty for none.
    rows : iterable of sequences of str
        Cells.
    note : str
        A last line.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 0, 0, 2), header_style="bold")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    _console().print(table)
    if note:
        print_note(f"  {note}")


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, emoji=False, markup=False)


def _row(line: str) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    match = _ROW.fullmatch(line)
    if match is None:
        return Text(line, style="bold")
    grid = Table.grid()
    grid.add_column(width=len(match["label"]), no_wrap=True, style="cyan")
    grid.add_column()
    grid.add_row(Text(match["label"].rstrip()), Text(match["text"]))
    return grid


def _plain(value: Any) -> Any:
    """Give the value as JSON can hold it."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float | str | None) else str(value)
