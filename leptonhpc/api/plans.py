"""What `leptonhpc.plan` gives: a job that shows its costs and can be run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from leptonhpc.errors import OptionError
from leptonhpc.linalg import Job
from leptonhpc.placement import Machine, PlacedJob, place_job
from leptonhpc.planning import Explanation


@dataclass(frozen=True)
class Plan:
    """A job before it runs."""

    job: Job
    _run: Callable[..., Any]
    machine: Machine | None = None
    """What it is planned for; None: this process."""
    policy: str | None = None
    here: bool = True
    """Whether it can be run: not if it was planned with ``machine=``."""

    @property
    def explanation(self) -> Explanation:
        """Method, passes, bytes, memory, tasks and time."""
        return self.job.explanation

    @cached_property
    def placement(self) -> PlacedJob | None:
        """Who does what on the machine, simulated; None for a plan for this process."""
        if self.machine is None:
            return None
        rounded = self.job.resources.precision == "tf32"
        machine = self.machine.with_tf32() if rounded else self.machine
        return place_job(
            self.explanation.planned, machine, policy=self.policy,
            extra_seconds=self.explanation.extra_seconds,
        )  # fmt: skip

    def explain(self) -> str:
        """Give the explanation in words."""
        placed = self.placement
        return str(self.explanation) + (f"\n{placed}" if placed is not None else "")

    def to_dict(self) -> dict[str, Any]:
        """Give the explanation as JSON can hold it."""
        placed = self.placement
        more = {} if placed is None else {"placement": placed.to_dict()}
        return {**self.explanation.to_dict(), **more}

    def to_json(self) -> str:
        """Give the explanation as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def timeline(self) -> str:
        """Give the simulated timeline as an SVG picture.

        Returns
        -------
        str
            One row for each lane, one colour for each stage.

        Raises
        ------
        OptionError
            If the plan is for this process.
        """
        if self.placement is None:
            message = "a timeline is that of a machine: connect to a cluster, or give machine="
            raise OptionError(message)
        return self.placement.svg()

    def run(
        self,
        *,
        out: Any = None,
        resume: bool | None = None,
        overwrite: bool = False,
        progress: bool | None = None,
    ) -> Any:
        """Run the job.

        Parameters
        ----------
        out : str or path, optional
            Where the result is stored.
        resume : bool, optional
            True: there must be an unfinished output to go on with; False: there must be none.
            Default: go on if it belongs to this job.
        overwrite : bool
            Replace what is at `out`, finished or not.
        progress : bool, optional
            Show a bar; default: where somebody looks.

        Returns
        -------
        SvdResult, MatmulResult or NormResult
            As the driver of the same name gives.

        Raises
        ------
        OptionError
            If it was planned with ``machine=``.
        """
        if not self.here:
            message = "a plan with machine= shows what would be; to run it, plan without machine="
            raise OptionError(message)
        return self._run(self.job, out=out, resume=resume, overwrite=overwrite, progress=progress)

    def __repr__(self) -> str:
        """Show the explanation."""
        return self.explain()

    def _repr_html_(self) -> str:
        placed = self.placement
        more = "" if placed is None else f"<p>{placed._repr_html_()}</p>"
        return self.explanation._repr_html_() + more
