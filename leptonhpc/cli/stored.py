"""The commands that look at what is stored: `load` a result, `info` of an array."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from leptonhpc.cli.options import Array, Json


def load(
    location: Annotated[str, typer.Argument(metavar="OUT", help="A stored result: a path or URL.")],
    json: Json = False,
) -> None:
    """Show a stored result: values, certificate and report."""
    from leptonhpc import load
    from leptonhpc.cli.results import print_result

    found = load(location)
    print_result(found, out=location, as_json=json)


def report(
    out: Annotated[str, typer.Argument(metavar="OUT", help="A stored result: a path or URL.")],
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write it as a page for a browser.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what a job took: predicted beside actual, who did what and when."""
    from leptonhpc import report
    from leptonhpc.cli.running import refuse_existing
    from leptonhpc.cli.show import print_json, print_text

    refuse_existing(html)
    found = report(out, html=html)
    if json:
        print_json(found.to_dict())
    else:
        print_text(str(found))


def status(
    out: Annotated[str, typer.Argument(metavar="OUT", help="What was given as --out.")],
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again and again, until the job ends.")
    ] = False,
    json: Json = False,
) -> None:
    """Say how far the job of an output is."""
    from leptonhpc import status
    from leptonhpc.cli.show import print_json, print_text

    if watch:
        from leptonhpc.cli.watching import watch_job

        watch_job(out, as_json=json, look=status)
        return
    found = status(out)
    if json:
        print_json(found.to_dict())
    else:
        print_text(repr(found))


def clean(
    out: Annotated[str, typer.Argument(metavar="OUT", help="What was given as --out.")],
    json: Json = False,
) -> None:
    """Remove the unfinished output that a dead job left."""
    from leptonhpc import clean
    from leptonhpc.cli.show import print_json, print_text

    removed = clean(out)
    if json:
        print_json({"removed": removed})
    else:
        print_text("\n".join(f"removed {name}" for name in removed))


def info(source: Array, json: Json = False) -> None:
    """Describe a Zarr array: shape, dtype, bytes, chunks."""
    print_info(source, as_json=json)


def print_info(source: str, *, as_json: bool) -> None:
    """Print the description of an array.

    Parameters
    ----------
    source : str
        Path or URL.
    as_json : bool
        As one JSON document.
    """
    from leptonhpc import info
    from leptonhpc.cli.show import print_json, print_text

    facts = info(source)
    if as_json:
        print_json(facts)
    else:
        print_text("\n".join([source, *_rows(facts)]))


def _rows(facts: dict[str, Any]) -> list[str]:
    from leptonhpc.blocks.drawing import format_nbytes

    unit = "shards" if facts.get("sharded") else "chunks"
    count = " x ".join(map(str, facts["blocks"]))
    rows = [
        ("shape", _shape(facts["shape"])),
        ("dtype", facts["dtype"]),
        ("size", format_nbytes(facts["nbytes"])),
        (unit, f"{count} of {_shape(facts['unit'])}"),
    ]
    if facts.get("sharded"):
        rows.append(("chunks", f"of {_shape(facts['chunks'])} inside each shard"))
    if facts["dims"] is not None:
        rows.append(("dims", ", ".join(facts["dims"])))
    rows += [(name, str(value)) for name, value in facts.get("attributes", {}).items()]
    width = max(len(name) for name, _ in rows) + 2
    return [f"  {name:<{width}}{value}" for name, value in rows]


def _shape(lengths: list[int]) -> str:
    return " x ".join(map(str, lengths))
