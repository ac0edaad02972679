"""Running a planned job and giving its result: just made, or stored by an earlier run."""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

from leptonhpc.api.outputs import is_finished, run_to_output
from leptonhpc.api.results import Result, from_outcome, load
from leptonhpc.errors import NotConvergedWarning
from leptonhpc.linalg import Job

R = TypeVar("R", bound=Result)


def run(
    kind: type[R],
    job: Job,
    *,
    out: Any,
    resume: bool | None,
    overwrite: bool,
    progress: bool | None,
) -> R:
    """Run a job, unless its finished result is at `out` already.

    Parameters
    ----------
    kind : type
        The driver's result.
    job : Job
        What to do.
    out : str or path, optional
        Where the result is stored.
    resume, overwrite, progress : bool
        See `Plan.run`.

    Returns
    -------
    Result
        Of that kind.
    """
    if not overwrite and resume is not False and is_finished(job, out):
        found: Any = load(out)
        warn_unless_converged(job, found.certificate)
        return found  # type: ignore[no-any-return]
    outcome, workspace, report, stored = run_to_output(
        job, out=out, resume=resume, overwrite=overwrite, progress=progress, single=kind.SINGLE
    )
    fields = {
        name: from_outcome(
            outcome.fields.get(name), workspace, out if stored else None, name,
            single=kind.SINGLE is not None,
        )
        for name in kind.FIELDS
    }  # fmt: skip
    warn_unless_converged(job, outcome.certificate)
    made: Any = kind
    return made(  # type: ignore[no-any-return]
        **fields, certificate=outcome.certificate, report=report, _workspace=workspace
    )


def warn_unless_converged(job: Job, certificate: Any) -> None:
    """Say that a result is not as accurate as it should be.

    Parameters
    ----------
    job : Job
        What was done.
    certificate : Certificate
        Of its result.
    """
    if not certificate.converged:
        message = f"{job.driver} of {', '.join(job.explanation.inputs)}: {certificate}"
        warnings.warn(message, NotConvergedWarning, stacklevel=4)
