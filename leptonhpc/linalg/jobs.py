"""What every algorithm gives: a job that can be explained, and then run by any runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from leptonhpc.blocks import Source
from leptonhpc.linalg.certificates import Certificate
from leptonhpc.planning import Explanation, Resources, Stage

Execute = Callable[[Stage, Mapping[str, Any]], dict[str, Any]]
"""Runs one stage with small arrays; gives its summed accumulator."""


@dataclass(frozen=True)
class Outcome:
    """What a job gives."""

    fields: dict[str, Any]
    """Small host arrays by name; a large one is the name of the target that holds it."""
    certificate: Certificate


class Job(Protocol):
    """One question, planned."""

    @property
    def driver(self) -> str:
        """Name of the driver."""

    @property
    def sources(self) -> Mapping[str, Source]:
        """Inputs by operand."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What the answer depends on, beside the sources: bound into the journal's digest."""

    @property
    def resources(self) -> Resources:
        """What the job may use."""

    @property
    def explanation(self) -> Explanation:
        """What it will cost."""

    def run(self, execute: Execute) -> Outcome:
        """Run the stages one after another.

        Parameters
        ----------
        execute : callable
            The runtime.

        Returns
        -------
        Outcome
            Fields and certificate.
        """


@dataclass
class Counter:
    """Gives stages of one job distinct names in the order in which they run."""

    names: dict[str, int] = field(default_factory=dict)

    def next(self, name: str) -> str:
        """Give `name`, or `name` with a number from the second time on."""
        self.names[name] = self.names.get(name, 0) + 1
        count = self.names[name]
        return name if count == 1 else f"{name}-{count}"
