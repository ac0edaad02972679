"""Results as tables: every contestant beside leptonhpc, and the ratios that matter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rows import Row

BASELINE = "leptonhpc"


def best(rows: Sequence[Row], contestant: str) -> Row | None:
    """Give the fastest of a contestant's runs that went well."""
    done = [r for r in rows if r["contestant"] == contestant and r["status"] == "ok"]
    return min(done, key=lambda row: row["seconds"], default=None)


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """Show the best run of each contestant; what became of those that failed stands below."""
    base = best(rows, BASELINE)
    table = Table(title=title, title_justify="left")
    table.add_column("contestant")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    failures: list[str] = []
    for contestant in dict.fromkeys(row["contestant"] for row in rows):
        row = best(rows, contestant)
        if row is None:
            row = next(r for r in rows if r["contestant"] == contestant)
            word = row["status"].partition(":")[0]
            table.add_row(contestant, word, *[""] * 2, _gigabytes(row["peak_nbytes"]))
            failures.append(f"{contestant} {row['status']}")
            continue
        table.add_row(contestant, *(show(row, base) for show in _COLUMNS.values()))
    _console().print(table, *failures, sep="\n", highlight=False, markup=False)


def print_ratios(title: str, ratios: Mapping[str, float | None]) -> None:
    """Show named numbers; None where a contestant that it needs failed or was left out."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in ratios.items():
        table.add_row(name, "" if value is None else f"{value:.3g}")
    _console().print(table)


def print_table(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Show lines under headings; the first column is words, the others are numbers."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for line in lines:
        table.add_row(*line)
    _console().print(table)


def ratio(above: Any, below: Any) -> float | None:
    """Divide, where both are known."""
    return None if above is None or not below else float(above) / float(below)


def value_of(row: Row | None, name: str) -> Any:
    """Give a row's value, or None."""
    return None if row is None else row.get(name)


def _console() -> Console:
    return Console(width=130)


def _number(name: str, pattern: str) -> Callable[[Row, Row | None], str]:
    def show(row: Row, _: Row | None) -> str:
        return "" if row.get(name) is None else format(row[name], pattern)

    return show


def _times(name: str) -> Callable[[Row, Row | None], str]:
    def show(row: Row, base: Row | None) -> str:
        if row["contestant"].startswith("limit"):
            return ""
        value = ratio(row.get(name), value_of(base, name))
        return "" if value is None else f"{value:.2f}"

    return show


def _gigabytes(nbytes: float | None) -> str:
    return "" if not nbytes else f"{nbytes / 1e9:.2f}"


_COLUMNS: dict[str, Callable[[Row, Row | None], str]] = {
    "seconds": _number("seconds", ".3g"),
    "x time": _times("seconds"),
    "GFLOP/s": _number("gflops", ".3g"),
    "peak GB": lambda row, _: _gigabytes(row.get("peak_nbytes")),
    "x peak": _times("peak_nbytes"),
    "read GB": lambda row, _: _gigabytes(row.get("read_nbytes")),
    "passes": _number("passes", ".2f"),
    "GB/s": _number("gbytes_per_second", ".3g"),
    "error": _number("error", ".1e"),
}
