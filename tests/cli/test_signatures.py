"""The command line and the functions have the same names and the same keywords."""

import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

import leptonhpc
from leptonhpc import datasets
from leptonhpc.api import planned
from leptonhpc.cli.app import app
from leptonhpc.cli.commands import shell_name
from leptonhpc.cli.drivers import DRIVERS

ROOT = Path(__file__).parents[2]
OF_THE_SHELL = {"json", "scheduler", "help", "watch"}
OF_PLAN = {"machine", "policy", "timeline"}  # of `plan`, and of what it gives
OF_PACKAGES = {"cluster", "datasets", "eof", "gpca", "grm", "gwas", "recommend"}
OF_PYTHON = {"open", "plan"}  # `plan` is the command `explain`; `open` needs no command
COMMANDS = typer.main.get_command(app).commands

PLANNERS = {name: planner for name, (planner, _) in planned._DRIVERS.items()}
COMPUTING = [*PLANNERS, "det"]  # the determinant is planned as slogdet

PAIRS = [
    *((shell_name(name), getattr(leptonhpc, name)) for name in COMPUTING),
    *((f"explain {shell_name(name)}", planner) for name, planner in PLANNERS.items()),
    ("probe", leptonhpc.probe),
    ("info", leptonhpc.info),
    ("load", leptonhpc.load),
    ("report", leptonhpc.report),
    ("status", leptonhpc.status),
    ("clean", leptonhpc.clean),
    ("datasets fetch", datasets.fetch),
]


@pytest.mark.parametrize(("name", "function"), PAIRS, ids=[name for name, _ in PAIRS])
def test_command_has_the_keywords_of_its_function(name: str, function: Callable[..., Any]) -> None:
    options = {p.name: p for p in _command(name).params if p.param_type_name == "option"}
    keywords = _parameters(function, inspect.Parameter.KEYWORD_ONLY)
    of_plan = OF_PLAN if name.startswith("explain") else set()
    assert set(options) - OF_THE_SHELL - of_plan == set(keywords)
    for keyword in keywords:
        assert f"--{keyword.replace('_', '-')}" in options[keyword].opts


@pytest.mark.parametrize(("name", "function"), PAIRS, ids=[name for name, _ in PAIRS])
def test_command_has_the_defaults_of_its_function(name: str, function: Callable[..., Any]) -> None:
    options = {p.name: p for p in _command(name).params if p.param_type_name == "option"}
    for keyword, parameter in _parameters(function, inspect.Parameter.KEYWORD_ONLY).items():
        option = options[keyword]
        if not option.required:
            assert option.default == parameter.default, keyword


@pytest.mark.parametrize(("name", "function"), PAIRS, ids=[name for name, _ in PAIRS])
def test_command_takes_the_arrays_of_its_function(name: str, function: Callable[..., Any]) -> None:
    arguments = [p.name for p in _command(name).params if p.param_type_name == "argument"]
    positional = _parameters(function, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert arguments == list(positional)


def test_explain_takes_what_the_driver_takes_but_how_to_run_it() -> None:
    how_to_run = {"out", "resume", "overwrite", "progress"}
    for name in map(shell_name, PLANNERS):
        driver = {p.name for p in _command(name).params}
        assert {p.name for p in _command(f"explain {name}").params} == driver - how_to_run | OF_PLAN


def test_every_public_function_is_a_command_and_the_reverse() -> None:
    functions = {name for name in leptonhpc.__all__ if inspect.isfunction(getattr(leptonhpc, name))}
    names = {shell_name(name) for name in functions - OF_PYTHON}
    assert set(COMMANDS) == names | {"explain"} | OF_PACKAGES
    assert set(COMMANDS["explain"].commands) == set(map(shell_name, PLANNERS))


def test_choices_of_a_command_are_those_of_its_function() -> None:
    for driver in DRIVERS:
        hints = typing.get_type_hints(getattr(leptonhpc, driver.name))
        for keyword, (annotation, _) in driver.options.items():
            if typing.get_origin(hints[keyword]) is typing.Literal:
                assert typing.get_args(annotation.__origin__) == typing.get_args(hints[keyword])


def test_help_lists_every_command_in_its_order() -> None:
    group = typer.main.get_command(app)
    assert set(group.list_commands(None)) == set(COMMANDS)


def _command(name: str) -> Any:
    first, _, second = name.partition(" ")
    command = COMMANDS[first]
    return command.commands[second] if second else command


def _parameters(function: Callable[..., Any], kind: Any) -> dict[str, inspect.Parameter]:
    return {n: p for n, p in inspect.signature(function).parameters.items() if p.kind == kind}


def test_reference_page_names_every_command_and_every_option_of_the_drivers() -> None:
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    for name in COMMANDS:
        assert f"`leptonhpc {name}" in page
    for name in map(shell_name, COMPUTING):
        options = {opt for p in _command(name).params for opt in p.opts if opt.startswith("--")}
        assert {opt for opt in options - {"--help"} if f"`{opt}" not in page} == set()
