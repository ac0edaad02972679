"""Profiles: what a cluster is made of, in one TOML file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from leptonhpc.cluster.groups import Group, group_from
from leptonhpc.errors import OptionError

Kind = Literal["local", "slurm", "in-allocation", "connect"]
KINDS: tuple[str, ...] = get_args(Kind)

IDLE_SECONDS = 60.0
"""A job that is given back may have to wait in SLURM's queue again."""
PROFILES = "LEPTONHPC_PROFILES"
"""Environment variable: the folder of the user's profiles."""

_STARTED = ("interface", "dashboard", "audit", "groups")
_KEYS: dict[str, tuple[str, ...]] = {
    "local": ("dashboard", "audit", "groups"),
    "slurm": (*_STARTED, "prologue", "idle_seconds"),
    "in-allocation": _STARTED,
    "connect": ("scheduler", "security", "insecure"),
}


@dataclass(frozen=True, slots=True)
class Profile:
    """What a cluster is made of."""

    kind: Kind
    """How it is started."""
    groups: tuple[Group, ...] = ()
    """Its workers."""
    interface: str | None = None
    """Network interface that all of it listens on, such as "ib0"; None: loopback."""
    dashboard: bool = False
    """Serve Dask's dashboard on the scheduler's loopback, behind a token."""
    audit: str | None = None
    """Path of the audit log; None: in a file that goes with the cluster."""
    prologue: tuple[str, ...] = ()
    """Lines of each SLURM job before its worker, such as "module load python"."""
    idle_seconds: float = IDLE_SECONDS
    """Without work for so long, groups with `least` give their other SLURM jobs back."""
    scheduler: str | None = None
    """Of "connect": address or file."""
    security: str | None = None
    """Of "connect": folder with keys."""
    insecure: bool = False
    """Of "connect": take an unencrypted scheduler."""


def load_profile(name: str | Path) -> Profile:
    """Read a profile.

    Parameters
    ----------
    name : str or path
        A TOML file, or the name of one in $LEPTONHPC_PROFILES (default
        ``~/.config/leptonhpc/profiles``) without its ending.

    Returns
    -------
    Profile
        What it says.

    Raises
    ------
    OptionError
        If there is no such file, or it says what cannot be.
    """
    path = _path(name)
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OptionError(f"a profile is a TOML file; {str(path)!r}: {error}") from error
    try:
        return profile_from(table)
    except OptionError as error:
        raise OptionError(f"{str(path)!r}: {error}") from error


def profile_from(table: Mapping[str, Any]) -> Profile:
    """Make a profile of its table.

    Parameters
    ----------
    table : mapping
        As the file has it.

    Returns
    -------
    Profile
        What it says.

    Raises
    ------
    OptionError
        If it says what cannot be.
    """
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in _KEYS:
        raise OptionError(f"kind is one of {', '.join(KINDS)}; found {kind!r}")
    keys = _KEYS[kind]
    unknown = sorted(set(table) - {"kind", *keys})
    if unknown:
        message = f"unknown {', '.join(unknown)}; a profile of kind {kind} has {', '.join(keys)}"
        raise OptionError(message)
    options = {key: table[key] for key in keys if key in table and key != "groups"}
    _require_types(options)
    options["prologue"] = tuple(options.get("prologue", ()))
    return Profile(
        kind=cast("Kind", kind),
        groups=_groups(kind, table.get("groups", {})),
        **_complete(kind, options),
    )


def _path(name: str | Path) -> Path:
    path = Path(name).expanduser()
    if path.suffix == ".toml" or path.is_file():
        return path
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    folder = Path(os.environ.get(PROFILES) or Path(base) / "leptonhpc" / "profiles")
    found = folder / f"{path.name}.toml"
    if path.name != str(name) or not found.is_file():
        there = ", ".join(sorted(p.stem for p in folder.glob("*.toml"))) or "none"
        message = f"there is no profile {str(name)!r}; in {str(folder)!r}: {there}"
        raise OptionError(message)
    return found


def _groups(kind: str, tables: Any) -> tuple[Group, ...]:
    if kind == "connect":
        return ()
    if not isinstance(tables, dict) or not tables:
        message = f"a profile of kind {kind} needs groups of workers: tables [groups.NAME]"
        raise OptionError(message)
    if not all(isinstance(table, dict) for table in tables.values()):
        raise OptionError("groups are tables [groups.NAME]")
    return tuple(group_from(name, table) for name, table in tables.items())


def _require_types(options: Mapping[str, Any]) -> None:
    wanted = {"dashboard": bool, "insecure": bool, "prologue": list}
    for key, value in options.items():
        if key == "idle_seconds":
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise OptionError(f"idle_seconds is a number above 0; found {value!r}")
            continue
        kind = wanted.get(key, str)
        if not isinstance(value, kind):
            raise OptionError(f"{key} is a {kind.__name__}; found {value!r}")
        if isinstance(value, list) and not all(isinstance(line, str) for line in value):
            raise OptionError(f"{key} is a list of lines, each a string; found {value!r}")


def _complete(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """Refuse what would have to be guessed: nothing listens where nobody said."""
    if kind == "slurm" and not options.get("interface"):
        message = "kind slurm needs interface, the network that nodes share, such as 'ib0'"
        raise OptionError(message)
    if kind == "connect" and not options.get("scheduler"):
        raise OptionError("kind connect needs scheduler, an address or a file")
    return options
