"""Options that all benchmarks share."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from leptonhpc.planning.amounts import parse_nbytes

HERE = Path(__file__).parent


def nbytes(text: str) -> int:
    """Read "1GB"."""
    value = parse_nbytes(text)
    assert value is not None
    return value


def parser(subject: str, description: str, peers: Sequence[str]) -> argparse.ArgumentParser:
    """Make a parser with the shared options.

    Parameters
    ----------
    subject : str
        Name of the file of rows.
    description : str
        What is measured.
    peers : sequence of str
        Contestants beside leptonhpc.

    Returns
    -------
    ArgumentParser
        To which a benchmark adds its sizes.
    """
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    made.add_argument("--tiny", action="store_true", help="sizes for a few seconds")
    made.add_argument(
        "--out", type=Path, default=HERE / "results" / f"{subject}.jsonl",
        help="JSON-lines file to which rows are added",
    )  # fmt: skip
    made.add_argument(
        "--data", type=Path, default=Path(tempfile.gettempdir()) / "leptonhpc-benchmarks",
        help="folder for inputs, which are kept, and outputs, which are not",
    )  # fmt: skip
    made.add_argument("--repeats", type=int, default=1, help="runs of each contestant")
    made.add_argument(
        "--limit-seconds", type=float, default=1800.0, help="end a contestant after this"
    )
    made.add_argument(
        "--limit-memory", type=nbytes, default=int(0.8 * psutil.virtual_memory().available),
        help="end a contestant whose processes hold more than this",
    )  # fmt: skip
    made.add_argument(
        "--hot-memory", type=nbytes, default=0,
        help="touch so much memory just before each contestant: a virtual machine's host may take "
        "back what was freed, and hand it out again at 1 GB/s",
    )  # fmt: skip
    if peers:
        made.add_argument(
            "--peers", type=names(peers), default=list(peers),
            help="who else runs, or none; separated by commas",
        )  # fmt: skip
        made.add_argument(
            "--limits", action=argparse.BooleanOptionalAction, default=True,
            help="also measure gemm, and the reading of the input",
        )  # fmt: skip
        made.add_argument("--gemm-size", type=int, default=4096, help="of the gemm limit")
    return made


def parse(
    made: argparse.ArgumentParser, argv: Sequence[str] | None, tiny: Mapping[str, Any]
) -> argparse.Namespace:
    """Parse; with --tiny, sizes that are not given are those of `tiny`."""
    if made.parse_args(argv).tiny:
        made.set_defaults(**tiny)
    arguments = made.parse_args(argv)
    arguments.data = arguments.data.resolve()
    arguments.data.mkdir(parents=True, exist_ok=True)
    return arguments


def names(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Make a reader of lists such as "a,b", or "none"."""

    def chosen_names(text: str) -> list[str]:
        chosen = [] if text == "none" else text.split(",")
        unknown = [name for name in chosen if name not in known]
        if unknown:
            message = f"peers are {', '.join(known)}; found {', '.join(unknown)}"
            raise argparse.ArgumentTypeError(message)
        return chosen

    return chosen_names
