"""Exit codes, and errors as one line on standard error in the words of a shell."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from typing import Any

import typer
from typer.core import TyperGroup

FAILED, USAGE, INTERRUPTED = 1, 2, 130

DEBUG = "LEPTONHPC_DEBUG"
"""Environment variable; set, errors end with their traceback."""

_KEYWORD = re.compile(
    r"(?<![\w/.'\"-])(?P<name>[a-z_]+)=(?:(?P<value>'[^']*'|True|False|\d+)(?![\w.-])|(?=[\s,;:.)]|$))"
)

_running: ContextVar[Any] = ContextVar("_running", default=None)
"""The group of all commands, while one of them runs."""


class GuardedGroup(TyperGroup):
    """Commands whose errors become exit codes."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named.

        Parameters
        ----------
        ctx : typer.Context
            The parsed command line.

        Returns
        -------
        object
            What the command gives.
        """
        token = _running.set(self)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print_line("interrupted", "", style="bold red")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if _is_of_typer(error) or os.environ.get(DEBUG):
                raise
            print_line("error", describe_error(error), style="bold red")
            raise typer.Exit(exit_code(error)) from None
        finally:
            _running.reset(token)


def exit_code(error: Exception) -> int:
    """Give 2 for what another command line would mend, else 1.

    Parameters
    ----------
    error : Exception
        What was raised.

    Returns
    -------
    int
        The exit code.
    """
    from leptonhpc import errors

    usage = (
        errors.OptionError, errors.ShapeError, errors.DTypeError, errors.MemoryBudgetError,
        errors.OutputExistsError, errors.JobMismatchError,
    )  # fmt: skip
    return USAGE if isinstance(error, usage) else FAILED


def describe_error(error: Exception) -> str:
    """Give an error's message in one line; of an error that nobody foresaw also its type.

    Parameters
    ----------
    error : Exception
        What was raised.

    Returns
    -------
    str
        The line.
    """
    from leptonhpc.errors import LeptonError

    if isinstance(error, LeptonError):
        return in_shell_words(str(error))
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"{text} (with {DEBUG}=1 the traceback is shown)"


def in_shell_words(message: str) -> str:
    """Write keywords as options: ``rank=`` as ``--rank``, ``memory='2 GB'`` as ``--memory '2 GB'``.

    Parameters
    ----------
    message : str
        The message of a function. Where a command runs, what is no option of any, such as the
        ``lat=5`` of a place in a field, stays as it is.

    Returns
    -------
    str
        The same for somebody at a shell, in one line.

    Examples
    --------
    >>> in_shell_words("pass overwrite=True, or give one of tol= and most_passes=")
    'pass --overwrite, or give one of --tol and --most-passes'
    """
    message = re.sub(r"\s*\n\s*", " ", message)
    message = message.replace("leptonhpc.load", "`leptonhpc load`")
    options = _options()

    def in_words(match: re.Match[str]) -> str:
        option = _as_option(match)
        known = options is None or option.split()[0] in options
        return option if known else match[0]

    return _KEYWORD.sub(in_words, message)


def print_line(label: str, text: str, *, style: str) -> None:
    """Print one line on standard error, however long.

    Parameters
    ----------
    label : str
        "error", "warning".
    text : str
        What there is to say.
    style : str
        Of the label, in a terminal.
    """
    from rich.console import Console
    from rich.text import Text

    line = Text.assemble((f"leptonhpc: {label}", style), f": {text}" if text else "")
    Console(stderr=True).print(line, soft_wrap=True)


def _options() -> set[str] | None:
    """Give the options of all commands; None where none runs."""
    running = _running.get()
    if running is None:
        return None
    found: set[str] = set()
    commands: list[Any] = [running]
    while commands:
        command = commands.pop()
        for parameter in command.params:
            found |= {*parameter.opts, *parameter.secondary_opts}
        commands += getattr(command, "commands", {}).values()
    return found


def _is_of_typer(error: Exception) -> bool:
    """Say whether typer ends the program by it: usage errors, exits, a reader that went away."""
    return hasattr(error, "exit_code") or isinstance(error, typer.Abort | BrokenPipeError)


def _as_option(match: re.Match[str]) -> str:
    name, value = match["name"].replace("_", "-"), match["value"]
    if value in ("True", "False"):
        return f"--{'no-' * (value == 'False')}{name}"
    return f"--{name}" if value is None else f"--{name} {value}"
