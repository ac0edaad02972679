"""What `leptonhpc.plan` gives: a job that shows its costs and can be run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from leptonhpc.linalg import Job
from leptonhpc.planning import Explanation


@dataclass(frozen=True)
class Plan:
    """A job before it runs."""

    job: Job
    _run: Callable[..., Any]

    @property
    def explanation(self) -> Explanation:
        """Method, passes, bytes, memory, tasks and time."""
        return self.job.explanation

    def explain(self) -> str:
        """Give the explanation in words."""
        return str(self.explanation)

    def to_json(self) -> str:
        """Give the explanation as JSON."""
        return self.explanation.to_json()

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
        """
        return self._run(self.job, out=out, resume=resume, overwrite=overwrite, progress=progress)

    def __repr__(self) -> str:
        """Show the explanation."""
        return str(self.explanation)

    def _repr_html_(self) -> str:
        return self.explanation._repr_html_()
