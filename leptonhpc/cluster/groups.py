"""Groups of like workers: how many, how large, on which device."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from leptonhpc.errors import OptionError
from leptonhpc.planning.amounts import parse_nbytes

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]{0,40}")
_WORD = re.compile(r"[A-Za-z0-9_.,:-]+")
"""What a line of a job's script may hold: no blank, no new line, nothing that a shell sees."""
_WALLTIME = re.compile(r"(\d+-)?\d+(:\d{1,2}){0,2}|UNLIMITED|INFINITE", re.IGNORECASE)
"""As SLURM takes it."""
SMALLEST_NBYTES = 100_000_000
"""Less does not hold the libraries of a worker."""


@dataclass(frozen=True, slots=True)
class Group:
    """Like workers of one cluster."""

    name: str
    """Begins the names of its workers."""
    workers: int = 1
    """How many, or with `least` at most; on SLURM each is a job."""
    memory: str | int = "1 GB"
    """Limit of each worker."""
    threads: int = 1
    """Of each worker."""
    device: str | None = None
    """Kind of device that its workers compute with (LEPTONHPC_DEVICE); None: their cores."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """More variables for its workers."""
    partition: str | None = None
    """Of its SLURM jobs."""
    walltime: str | None = None
    """Of its SLURM jobs; a worker whose job reached it is submitted again."""
    options: Sequence[str] = ()
    """More of sbatch's (of a step: srun's) options, such as ``--gres=gpu:1``."""
    least: int | None = None
    """SLURM jobs that stay when there is no work: others come with it, and go; None: all stay."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            message = f"a group's name has letters, digits, dots and _; found {self.name!r}"
            raise OptionError(message)
        for name in ("workers", "threads"):
            count = getattr(self, name)
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                message = f"group {self.name}: {name} is a number from 1; found {count!r}"
                raise OptionError(message)
        least = self.kept
        if not isinstance(least, int) or isinstance(least, bool) or not 0 <= least <= self.workers:
            message = (
                f"group {self.name}: least is a number from 0 to workers={self.workers}; "
                f"found {least!r}"
            )
            raise OptionError(message)
        if self.nbytes < SMALLEST_NBYTES:
            message = (
                f"group {self.name}: a worker needs memory='100 MB' or more; found {self.memory!r}"
            )
            raise OptionError(message)
        self._require_words()

    def _require_words(self) -> None:
        """Refuse what would become another line of a job's script."""
        for name in ("partition", "walltime"):
            word = getattr(self, name)
            if word is not None and not (isinstance(word, str) and _WORD.fullmatch(word)):
                message = (
                    f"group {self.name}: {name} is of letters, digits and _.,:- alone; "
                    f"found {word!r}"
                )
                raise OptionError(message)
        if self.walltime is not None and not _WALLTIME.fullmatch(self.walltime):
            message = (
                f"group {self.name}: walltime is minutes, hours:minutes:seconds or days-hours, "
                f"such as '04:00:00'; found {self.walltime!r}"
            )
            raise OptionError(message)
        table = self.environment
        if not isinstance(table, Mapping) or any("=" in k or not k for k in table):
            message = f"group {self.name}: environment is a table of variables; found {table!r}"
            raise OptionError(message)
        listed = isinstance(self.options, list | tuple)
        for option in self.options if listed else (self.options,):
            plain = listed and isinstance(option, str) and option.isprintable()
            if not plain or not str(option).startswith("-"):
                message = (
                    f"group {self.name}: options are a list of sbatch's, such as "
                    f"['--gres=gpu:1']; found {option!r}"
                )
                raise OptionError(message)

    @property
    def nbytes(self) -> int:
        """Memory limit of each worker in bytes."""
        return parse_nbytes(self.memory) or 0

    @property
    def kept(self) -> int:
        """Workers that stay when there is no work."""
        return self.workers if self.least is None else self.least

    @property
    def variables(self) -> dict[str, str]:
        """Environment of its workers."""
        named = {} if self.device is None else {"LEPTONHPC_DEVICE": self.device}
        return {**{k: str(v) for k, v in self.environment.items()}, **named}

    @property
    def worker_names(self) -> list[str]:
        """Name of each worker."""
        return [f"{self.name}-{number}" for number in range(self.workers)]

    def to_dict(self) -> dict[str, Any]:
        """Give its fields for JSON.

        Returns
        -------
        dict
            As `Group` takes them.
        """
        return {**asdict(self), "options": list(self.options)}


def group_from(name: str, table: Mapping[str, Any]) -> Group:
    """Make a group of a table of a profile.

    Parameters
    ----------
    name : str
        The group.
    table : mapping
        Its fields.

    Returns
    -------
    Group
        The group.

    Raises
    ------
    OptionError
        If a field is not known, or has a value that it cannot take.
    """
    known = [f.name for f in fields(Group) if f.name != "name"]
    unknown = sorted(set(table) - set(known))
    if unknown:
        message = f"group {name}: unknown {', '.join(unknown)}; there are {', '.join(known)}"
        raise OptionError(message)
    return Group(name, **table)
