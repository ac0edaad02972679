"""Launchers: a cluster with TLS that leaves nothing behind, or one that is there already."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leptonhpc.cluster.connecting import connect
    from leptonhpc.cluster.detached import RunStatus, down, status, up
    from leptonhpc.cluster.groups import Group
    from leptonhpc.cluster.launchers import cuda, in_allocation, local, mixed, slurm
    from leptonhpc.cluster.profiles import Profile, load_profile
    from leptonhpc.cluster.security import invite, security_of
    from leptonhpc.cluster.starting import from_profile

_HOMES = {
    "Group": "groups",
    "Profile": "profiles",
    "RunStatus": "detached",
    "connect": "connecting",
    "cuda": "launchers",
    "down": "detached",
    "from_profile": "starting",
    "in_allocation": "launchers",
    "invite": "security",
    "load_profile": "profiles",
    "local": "launchers",
    "mixed": "launchers",
    "security_of": "security",
    "slurm": "launchers",
    "status": "detached",
    "up": "detached",
}

__all__ = [
    "Group",
    "Profile",
    "RunStatus",
    "connect",
    "cuda",
    "down",
    "from_profile",
    "in_allocation",
    "invite",
    "load_profile",
    "local",
    "mixed",
    "security_of",
    "slurm",
    "status",
    "up",
]


def __getattr__(name: str) -> Any:
    """Load public names on first use: importing this package imports no Dask."""
    if name in _HOMES:
        return getattr(import_module(f"leptonhpc.cluster.{_HOMES[name]}"), name)
    message = f"module 'leptonhpc.cluster' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    """List public names."""
    return list(__all__)
