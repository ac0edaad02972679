"""Rankings as tables: on the screen, as JSON, or in a file that is there whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonhpc.cli.running import refuse_existing

if TYPE_CHECKING:
    from leptonhpc.recommend import Ranked

_AT_ONCE = 4096
"""Queries that are ranked together."""
Rank = Callable[[Any], "Ranked"]
Row = tuple[Any, int, Any, float]


def labels_of(labels: Any, count: int, words: Sequence[str] | None, what: str) -> Any:
    """Read what somebody at a shell calls users or items.

    Parameters
    ----------
    labels : array of shape (count,) or None
        What they are called; None: numbers from 0.
    count : int
        How many there are.
    words : sequence of str or None
        As they were given; None: all.
    what : str
        "user" or "item", for messages.

    Returns
    -------
    array
        Labels, of the dtype of those there are.

    Raises
    ------
    OptionError
        If labels are whole numbers, and a word is none.
    """
    import numpy as np

    from leptonhpc.errors import OptionError

    known = np.arange(count) if labels is None else labels
    if words is None:
        return known
    if known.dtype.kind not in "iu":
        return np.array(words)
    try:
        return np.array([int(word) for word in words])
    except (ValueError, OverflowError) as error:
        message = f"{what}s are called by whole numbers here; found {' '.join(words)!r}"
        raise OptionError(message) from error


def show_rankings(
    heads: tuple[str, str], asked: Any, rank: Rank, *, out: Path | None, overwrite: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Rank, and show or write what was found.

    Parameters
    ----------
    heads : tuple of (str, str)
        What is asked for, and what is found.
    asked : array of labels
        The queries.
    rank : callable
        Gives what is best of some queries.
    out : path or None
        A table to be made, by many queries at a time.
    overwrite : bool
        Replace it.
    as_json : bool
        As one JSON document.
    """
    from leptonhpc.cli.show import print_json, print_table, print_text

    rows = _rows(asked, rank)
    if out is not None:
        count = _write(out, (heads[0], "rank", heads[1], "score"), rows, overwrite=overwrite)
        facts = {"out": str(out), f"{heads[0]}s": len(asked), "rows": count}
        if as_json:
            print_json(facts)
        else:
            print_text(f"{count} rows of {len(asked)} {heads[0]}s in {out}")
    elif as_json:
        found: dict[str, list[Any]] = {str(label): [] for label in asked.tolist()}
        for label, _, item, score in rows:
            found[str(label)].append({heads[1]: item, "score": score})
        print_json([{heads[0]: label, "ranked": found[str(label)]} for label in asked.tolist()])
    else:
        lines = [(str(a), str(place), str(b), f"{score:.4g}") for a, place, b, score in rows]
        print_table((heads[0], "rank", heads[1], "score"), lines)


def _rows(asked: Any, rank: Rank) -> Iterator[Row]:
    """Give a row for each that was found; where fewer are left there are fewer."""
    import math

    for begin in range(0, len(asked), _AT_ONCE):
        some = asked[begin : begin + _AT_ONCE]
        found = rank(some)
        lists = some.tolist(), found.items.tolist(), found.scores.tolist()
        for label, items, scores in zip(*lists, strict=True):
            for place, (item, score) in enumerate(zip(items, scores, strict=True), 1):
                if math.isfinite(score):
                    yield label, place, item, score


def _write(path: Path, heads: Sequence[str], rows: Iterator[Row], *, overwrite: bool) -> int:
    """Write a table under another name, and give it its own when it is whole."""
    if not overwrite:
        refuse_existing(path)
    partial, count = path.with_name(f"{path.name}.partial"), 0
    try:
        with partial.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(heads)
            for count, row in enumerate(rows, 1):  # noqa: B007  (the last is how many)
                table.writerow(row)
        partial.replace(path)
    except OSError as error:
        from leptonhpc.errors import StoreError

        raise StoreError(f"{str(path)!r} could not be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return count
