"""From one line of a table to the command that runs a driver, and the one that explains it.

Typer reads signatures; these functions get theirs from the table, so that the keywords of a driver
are written once for both.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leptonhpc.cli import options as o
from leptonhpc.cli.running import refuse_existing, running


@dataclass(frozen=True)
class Driver:
    """A driver as a command."""

    name: str
    help: str
    """What it does, in one sentence."""
    arrays: Mapping[str, Any]
    """Its positional arguments and their types."""
    options: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    """Type and default of its own keywords, in the order in which they are shown."""
    stored: bool = True
    """Whether its result can be stored."""
    required_out: bool = False
    read: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    """Makes what the function takes of what the command was given."""
    runs: str = ""
    """The function that gives the result, where it is not the one of this name."""

    def value_of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Give the keywords of the function.

        Parameters
        ----------
        values : mapping
            As the command was given them.

        Returns
        -------
        dict
            The same, read.
        """
        return {k: self.read[k](v) if k in self.read else v for k, v in values.items()}


def run_command(driver: Driver) -> Callable[..., None]:
    """Give the command that runs a driver.

    Parameters
    ----------
    driver : Driver
        What it does and takes.

    Returns
    -------
    callable
        With the signature that Typer reads.
    """

    def run(**given: Any) -> None:
        import leptonhpc
        from leptonhpc.cli.results import print_result

        scheduler, as_json = given.pop("scheduler"), given.pop("json")
        arrays = [given.pop(name) for name in driver.arrays]
        shared = {k: given[k] for k in ("out", "resume", "overwrite") if k in given}
        with running(scheduler, **shared):
            function = getattr(leptonhpc, driver.runs or driver.name)
            result = function(*arrays, **driver.value_of(given))
            print_result(result, out=given.get("out"), as_json=as_json, driver=driver.name)

    storing: dict[str, tuple[Any, Any]] = {}
    if driver.stored:
        storing = {"resume": (o.Resume, None), "overwrite": (o.Overwrite, False)}
        out = (o.RequiredOut, inspect.Parameter.empty) if driver.required_out else (o.Out, None)
        storing = {"out": out, "memory": (o.Memory, None), **storing}
    common = {"memory": (o.Memory, None), **storing, "progress": (o.Progress, None)}
    return _signed(run, driver, {**driver.options, **common}, driver.help)


def explain_command(driver: Driver) -> Callable[..., None]:
    """Give the command that says what a driver will cost.

    Parameters
    ----------
    driver : Driver
        What it does and takes.

    Returns
    -------
    callable
        With the signature that Typer reads.
    """

    def explain(**given: Any) -> None:
        from leptonhpc import plan
        from leptonhpc.cli.show import print_json, print_text

        scheduler, as_json = given.pop("scheduler"), given.pop("json")
        timeline = given.pop("timeline")
        machine, policy = given.pop("machine"), given.pop("policy")
        arrays = [given.pop(name) for name in driver.arrays]
        name: Any = driver.name
        with running(scheduler):
            _require_svg(timeline)
            options = driver.value_of(given)
            planned = plan(name, *arrays, machine=machine, policy=policy, **options)
            if timeline is not None:
                timeline.write_text(planned.timeline())
            if as_json:
                print_json(planned.to_dict())
            else:
                print_text(planned.explain())

    text = f"Say what `leptonhpc {shell_name(driver.name)}` will cost."
    common = {
        "memory": (o.Memory, None), "machine": (o.Machine, None), "policy": (o.Policy, None),
        "timeline": (o.Timeline, None),
    }  # fmt: skip
    return _signed(explain, driver, {**driver.options, **common}, text)


def _require_svg(path: Path | None) -> None:
    """Refuse, before anything is simulated, a file that the picture cannot be written to."""
    from leptonhpc.errors import OptionError

    refuse_existing(path)
    if path is None:
        return
    if path.suffix.lower() != ".svg":
        raise OptionError(f"the timeline is drawn as SVG; give a file *.svg, not {path.name!r}")
    if not path.absolute().parent.is_dir():
        raise OptionError(f"there is no folder {str(path.parent)!r} for the timeline")


def shell_name(name: str) -> str:
    """Give the name of a function as a command: ``matrix_rank`` as ``matrix-rank``.

    Parameters
    ----------
    name : str
        Of the function.

    Returns
    -------
    str
        Of the command.
    """
    return name.replace("_", "-")


def _signed(
    function: Callable[..., None], driver: Driver, options: Mapping[str, tuple[Any, Any]], text: str
) -> Callable[..., None]:
    shell = {"scheduler": (o.Scheduler, None), "json": (o.Json, False)}
    empty, kind = inspect.Parameter.empty, inspect.Parameter.KEYWORD_ONLY
    described = {name: (array, empty) for name, array in driver.arrays.items()}
    parameters = [
        inspect.Parameter(name, kind, default=default, annotation=annotation)
        for name, (annotation, default) in {**described, **options, **shell}.items()
    ]
    function.__name__, function.__doc__, function.__annotations__ = driver.name, text, {}
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function
