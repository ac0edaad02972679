"""What surrounds a command that computes: the cluster, warnings as lines, and Ctrl-C."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

import typer

from leptonhpc.cli.exits import INTERRUPTED, in_shell_words, print_line

_INSECURE = "insecure+"
"""Before an address: yes, without encryption."""


@contextmanager
def running(
    scheduler: str | None,
    *,
    out: str | None = None,
    resume: bool | None = None,
    overwrite: bool = False,
) -> Iterator[None]:
    """Run what is inside on the named cluster, if any.

    Parameters
    ----------
    scheduler : str, optional
        Address or file.
    out : str, optional
        The output; with the next two it decides what is said after Ctrl-C.
    resume, overwrite : bool
        As the command was given them.

    Yields
    ------
    None
        Inside, warnings are lines on standard error.
    """
    with ExitStack() as stack:
        stack.enter_context(_warnings_as_lines())
        try:
            if scheduler is not None:
                stack.enter_context(_connected(scheduler))
            yield
        except KeyboardInterrupt:
            hint = _how_to_go_on(out, resume=resume, overwrite=overwrite)
            print_line("interrupted", hint, style="bold red")
            raise typer.Exit(INTERRUPTED) from None


def refuse_existing(path: Path | None) -> None:
    """Refuse a file that would be overwritten.

    Parameters
    ----------
    path : path or None
        What is to be written.

    Raises
    ------
    OutputExistsError
        If it is there.
    """
    if path is not None and path.exists():
        from leptonhpc.errors import OutputExistsError

        raise OutputExistsError(f"{str(path)!r} exists; give a file that does not")


def load_numbers(path: Path | str | None, *, option: str) -> Any:
    """Read one array from a file of NumPy.

    Parameters
    ----------
    path : path or None
        The file.
    option : str
        What names it, for messages.

    Returns
    -------
    ndarray or None
        Its numbers.

    Raises
    ------
    OptionError
        If it is not such a file.
    """
    if path is None:
        return None
    import numpy as np

    from leptonhpc.errors import OptionError

    try:
        numbers = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        message = f"{option} needs a file that numpy.save wrote; {str(path)!r}: {error}"
        raise OptionError(message) from error
    if not isinstance(numbers, np.ndarray):
        message = f"{option} needs one array (.npy); {str(path)!r} holds several"
        raise OptionError(message)
    return numbers


@contextmanager
def _connected(scheduler: str) -> Iterator[None]:
    """Connect to a cluster; one without encryption must be asked for in so many words."""
    from leptonhpc.cluster import connect
    from leptonhpc.errors import OptionError

    place = scheduler.removeprefix(_INSECURE)
    with ExitStack() as stack:
        try:
            stack.enter_context(connect(place, insecure=place != scheduler))
        except OptionError as error:
            words = str(error).replace("pass insecure=True", f"give {_INSECURE}{place}")
            raise OptionError(words) from error
        yield


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    from leptonhpc.errors import NotConvergedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", NotConvergedWarning)
        warnings.showwarning = _show_warning
        yield


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print_line("warning", in_shell_words(str(message)), style="bold yellow")


def _how_to_go_on(out: str | None, *, resume: bool | None, overwrite: bool) -> str:
    if out is None:
        return "nothing was stored; with --out the same command would go on"
    changed = ["--overwrite"] * overwrite + ["--no-resume"] * (resume is False)
    if changed:
        return f"the same command without {' and '.join(changed)} goes on from here"
    return "the same command goes on from here"
