"""One fit: who computes, within what memory, and where the factors go."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from leptonhpc.errors import NumericRangeError, OptionError, WorkerError
from leptonhpc.planning import Resources
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.recommend.budget import Allowance, allowance
from leptonhpc.recommend.certificates import AlsCertificate, AlsReport
from leptonhpc.recommend.checkpoints import Checkpoints
from leptonhpc.recommend.crews import ClusterCrew, Crew, ThreadCrew
from leptonhpc.recommend.half_sweeps import Problem, Team, forget, solve_block
from leptonhpc.recommend.outputs import Output, Path, StoredFactors
from leptonhpc.recommend.ratings import Ratings
from leptonhpc.recommend.sweeps import State, start, sweep
from leptonhpc.runtime import connected_client, memory, resources_of
from leptonhpc.runtime.backends import PICKLED_NBYTES
from leptonhpc.runtime.progress import choose_progress
from leptonhpc.store.locations import is_local, local_path
from leptonhpc.store.standing import Standing

_RATING_NBYTES = 8
"""Index and value."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a fit does, beside what it minimises."""

    kind: str
    """Of the estimator."""
    width: int
    """Columns of the factors, with that of the bias."""
    dtype: str
    most: int
    """Sweeps."""
    tol: float
    seed: int
    memory: int | float | str | None
    progress: bool | None
    parameters: Mapping[str, Any]
    """Of the estimator, as the output keeps them."""


@dataclass(frozen=True)
class Fitted:
    """What a fit gave."""

    state: State
    certificate: AlsCertificate
    report: AlsReport


def fit(
    ratings: Ratings, problem: Problem, settings: Settings, *, begin: State | None = None,
    out: Path | None = None, overwrite: bool = False,
) -> Fitted:  # fmt: skip
    """Factor ratings, on the connected cluster or in this process.

    Parameters
    ----------
    ratings : Ratings
        What is factored.
    problem : Problem
        What is minimised.
    settings : Settings
        How.
    begin : State, optional
        Factors to begin from; default: drawn from the seed.
    out : str or path, optional
        Where factors are kept: the same call goes on after a kill, and gives what is there when it
        is finished.
    overwrite : bool
        Replace what is there.

    Returns
    -------
    Fitted
        Factors, certificate and report.

    Raises
    ------
    OptionError
        If `overwrite` is given without `out`.
    NumericRangeError
        If ratings are so small that their squares vanish, or so large that the loss is not finite.
    """
    from leptonhpc.recommend.solvers import is_compiled  # brings numba

    output = None
    if out is None and overwrite:
        raise OptionError("overwrite= is about an output; give out=")
    if not problem.implicit:
        _require_squares(ratings, np.dtype(settings.dtype))
    if out is not None:
        output = Output(out, _description(ratings, problem, settings), overwrite=overwrite)
        found = output.finished()
        if found is not None:
            return _restored(found)
    began = time.perf_counter()
    memory.reset_peak()
    resources = resources_of(parse_nbytes(settings.memory))
    itemsize = np.dtype(settings.dtype).itemsize
    allowed = allowance(
        ratings, settings.width, itemsize, resources, compiled=is_compiled(problem.solver)
    )
    state = begin or start(
        ratings, settings.width, settings.dtype, seed=settings.seed, biases=problem.biases
    )
    return _run(ratings, problem, settings, state, resources, allowed, output, began)


def _require_squares(ratings: Ratings, dtype: np.dtype[Any]) -> None:
    """Refuse ratings whose squares the dtype of the factors does not hold to full precision."""
    size = 0.0 if ratings.least is None else max(abs(ratings.mean), abs(ratings.least.value))
    if 0 < size < 100 * math.sqrt(np.finfo(dtype).tiny):
        message = (
            f"ratings of {ratings.name} near {size:.3g} are too small: their squares vanish in "
            f"{dtype}. Scale them, or pass dtype='float64'"
        )
        raise NumericRangeError(message)


def _run(
    ratings: Ratings, problem: Problem, settings: Settings, state: State, resources: Resources,
    allowed: Allowance, output: Output | None, began: float,
) -> Fitted:  # fmt: skip
    checkpoints, standing = None, Standing(None)
    if output is not None:
        stages = [f"sweep ({settings.most} times at most)"]
        journal = output.begin({"driver": settings.kind, "stages": stages, "seconds": 0.0})
        standing = Standing(journal)
        checkpoints = Checkpoints(output.partial, journal)
        done, factors = checkpoints.restore()
        state.done = done
        state.users = factors.get("users", state.users)
        state.items = factors.get("items", state.items)
    resumed = len(state.done)
    progress = choose_progress(settings.progress, settings.kind)

    def tell(*, now: bool = False) -> None:
        facts = {"stage": "half sweeps", "tasks": 2 * settings.most, "done": len(state.done)}
        standing.tell(lambda: facts, now=now)

    tell(now=True)
    try:
        with _team(ratings, resources, allowed) as team:
            certificate = sweep(
                ratings, state, problem, team, most=settings.most, tol=settings.tol,
                checkpoints=checkpoints, progress=progress, tell=tell,
            )  # fmt: skip
        report = AlsReport(
            time.perf_counter() - began, tuple(half.seconds for half in state.done), resumed,
            ratings.count, memory.peak_nbytes(), resources.memory_nbytes, resources.workers,
            allowed.lanes,
        )  # fmt: skip
        fitted = Fitted(state, certificate, report)
        if output is not None:
            _finish(output, ratings, problem, settings, fitted)
    except BaseException:
        standing.end()  # one that is published has no journal any more
        raise
    finally:
        progress.close()
        if output is not None:
            output.close()
    return fitted


def _finish(
    output: Output, ratings: Ratings, problem: Problem, settings: Settings, fitted: Fitted
) -> None:
    facts = {
        "kind": settings.kind, "parameters": dict(settings.parameters),
        "mean": problem.mean, "biases": problem.biases,
        "certificate": fitted.certificate.to_dict(), "report": fitted.report.to_dict(),
        "ratings": None if ratings.location is None else str(ratings.location),
    }  # fmt: skip
    output.finish(ratings, fitted.state.users, fitted.state.items, facts)


@contextmanager
def _team(ratings: Ratings, resources: Resources, allowed: Allowance) -> Iterator[Team]:
    job = uuid.uuid4().hex[:12]
    crew: Crew = ThreadCrew(solve_block, allowed.lanes)
    if resources.distributed:
        _require_shareable(ratings)
        local = ratings.location is not None and is_local(ratings.location)
        paths = [str(local_path(ratings.location))] if local and ratings.location else []
        leave = partial(forget, job)
        crew = ClusterCrew(connected_client(), solve_block, paths, leave)
    try:
        yield Team(crew, job, allowed.kept_nbytes, resources.distributed)
    finally:
        crew.close()
        forget(job)


def _require_shareable(ratings: Ratings) -> None:
    """Refuse to send much from the memory of this process again and again."""
    nbytes = 2 * _RATING_NBYTES * ratings.count
    if ratings.location is None and nbytes > PICKLED_NBYTES:
        message = (
            f"{ratings.name} is in this process and too large ({nbytes / 1e6:.0f} MB) to be sent "
            "to workers; write it with store_ratings where all see it, and fit to that"
        )
        raise WorkerError(message)


def _description(ratings: Ratings, problem: Problem, settings: Settings) -> dict[str, Any]:
    """Give what the factors depend on: not the memory, which changes nothing."""
    parameters = {**asdict(problem), **asdict(settings)}
    for name in ("memory", "progress", "parameters"):
        del parameters[name]
    return {"inputs": ratings.identity(), "parameters": parameters}


def _restored(found: StoredFactors) -> Fitted:
    facts: Mapping[str, Any] = found.attributes
    return Fitted(
        State(found.users, found.items, []), certificate_of(facts), report_of(facts)
    )  # fmt: skip


def certificate_of(facts: Mapping[str, Any]) -> AlsCertificate:
    """Give the certificate that an output holds."""
    data = facts["certificate"]
    return AlsCertificate(**{**data, "losses": tuple(data["losses"])})


def report_of(facts: Mapping[str, Any]) -> AlsReport:
    """Give the report that an output holds."""
    data = facts["report"]
    return AlsReport(**{**data, "half_sweep_seconds": tuple(data["half_sweep_seconds"])})
