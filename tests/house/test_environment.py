"""pyproject.toml and environment.yml name the same dependencies."""

import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
CONDA_NAMES = {
    "build": "python-build",
    "dask": "dask-core",
    "matplotlib": "matplotlib-base",
    "torch": "pytorch",
}
LEFT_TO_PIP = {"cuda12", "cuda13"}


def test_environment_has_the_same_dependencies_and_bounds_as_pyproject() -> None:
    assert _environment() == _pyproject()


def test_python_bounds_are_the_same() -> None:
    spec = next(s for s in _conda_entries() if isinstance(s, str) and s.startswith("python "))
    assert SpecifierSet(spec.split()[1]) == SpecifierSet(_project()["requires-python"])


def test_one_package_has_one_bound_in_all_extras() -> None:
    bounds: dict[str, set[str]] = {}
    for requirement in _requirements(skip=set()):
        bounds.setdefault(requirement.name, set()).add(str(requirement.specifier))
    assert {name: found for name, found in bounds.items() if len(found) > 1} == {}


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _requirements(skip: set[str]) -> list[Requirement]:
    project = _project()
    extras = project["optional-dependencies"]
    texts = list(project["dependencies"])
    for name in sorted(set(extras) - skip):
        texts += extras[name]
    return [Requirement(text) for text in texts]


def _pyproject() -> dict[str, SpecifierSet]:
    return {CONDA_NAMES.get(r.name, r.name): r.specifier for r in _requirements(LEFT_TO_PIP)}


def _conda_entries() -> list[str | dict[str, list[str]]]:
    return yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]


def _environment() -> dict[str, SpecifierSet]:
    texts: list[str] = []
    for entry in _conda_entries():
        texts += entry["pip"] if isinstance(entry, dict) else [entry]
    found = {r.name: r.specifier for r in map(Requirement, texts)}
    return {name: bound for name, bound in found.items() if name not in {"python", "pip"}}
