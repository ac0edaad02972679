"""Truncated and full SVD of a matrix with one side that is streamed: choice of the method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.blocks.sources import TransposedSource
from leptonhpc.errors import MemoryBudgetError, NumericRangeError, OptionError, ShapeError
from leptonhpc.linalg.conditioning import Conditioning
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.operator import Operator
from leptonhpc.linalg.rechunk import rechunk_stage
from leptonhpc.linalg.svd_gram import GramSvd
from leptonhpc.linalg.svd_krylov import KrylovSvd
from leptonhpc.linalg.svd_mixed import MixedSvd
from leptonhpc.linalg.svd_modes import TooManyModesError, rank_is_found
from leptonhpc.linalg.svd_shared import SvdOptions
from leptonhpc.linalg.svd_sketch import SketchSvd
from leptonhpc.planning import Alternative, Explanation, Resources, Stage
from leptonhpc.planning.amounts import smallest_megabytes
from leptonhpc.planning.explain import explain, predict_seconds
from leptonhpc.planning.layout import BAND_NBYTES

Method = Literal["auto", "gram", "krylov", "sketch", "mixed", "divide"]

COPIED = "; its chunks are too tall to be streamed, so it is copied to others first"

Algorithm = GramSvd | KrylovSvd | SketchSvd | MixedSvd

_METHODS: dict[str, type[Algorithm]] = {
    "gram": GramSvd, "krylov": KrylovSvd, "sketch": SketchSvd, "mixed": MixedSvd,
}  # fmt: skip


@dataclass(frozen=True)
class SvdJob:
    """One SVD, planned."""

    algorithm: Algorithm
    before: tuple[Stage, ...]
    """Makes the array streamable, where its chunks are not."""
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    instead: GramSvd | None = None
    """Answers where more modes are needed than the algorithm has room for."""
    driver: str = "svd"

    def run(self, execute: Execute) -> Outcome:
        """Run the stages; see `Job.run`."""
        for stage in self.before:
            execute(stage, {})
        # what a run finds out stays with the run: the plan can be run again
        algorithm = replace(self.algorithm, operator=self.algorithm.operator.unused())
        try:
            return _in_range(algorithm, execute)
        except TooManyModesError as error:
            refused = error.with_traceback(None)  # what it holds is not needed any more
        if self.instead is None:
            raise self._too_many(algorithm, refused)
        passes = algorithm.operator.passes
        operator = replace(self.instead.operator.unused(), passes=passes)
        del algorithm
        instead = replace(self.instead, operator=operator)
        try:
            return _in_range(instead, execute)
        except TooManyModesError as error:
            refused = error.with_traceback(None)
        raise self._too_many(instead, refused)

    def _too_many(self, algorithm: Algorithm, refused: TooManyModesError) -> MemoryBudgetError:
        """Say what would do: a budget in which a Gram matrix has room for all modes, or a rank."""
        operator, options = algorithm.operator, algorithm.options
        source, conditioning = operator.source, operator.conditioning

        def fits(kind: type[Algorithm], asked: SvdOptions, megabytes: int) -> bool:
            resources = replace(self.resources, memory_nbytes=megabytes * 10**6)
            try:
                planned = made_streamable(source, resources)[0]
                layout = kind.choose_layout(planned, resources, asked, conditioning)
            except (MemoryBudgetError, OptionError):
                return False
            return asked.rank is not None or layout.modes >= operator.columns

        now = self.resources.memory_nbytes // 10**6
        enough = smallest_megabytes(lambda size: fits(GramSvd, options, size), now)
        rank = min(refused.room, operator.columns)
        plain = replace(options, tol=None, variance=None)
        while rank > 1 and not fits(type(algorithm), replace(plain, rank=rank), now):
            rank //= 2
        share = f"tol={options.tol}" if options.variance is None else f"variance={options.variance}"
        needed = f"{refused.needed} modes, more than" if refused.needed else "more modes than"
        message = (
            f"svd of {operator.user_name}: {share} takes {needed} the {refused.room} that there is "
            f"room for in memory='{now} MB'. Any number of them fits into memory='{enough} MB' "
            f"(method 'auto' or 'gram'); rank={rank} into what there is"
        )
        return MemoryBudgetError(message)


def _in_range(algorithm: Algorithm, execute: Execute) -> Outcome:
    try:
        return algorithm.run(execute)
    except NumericRangeError:  # rare: one pass to see how large the numbers are, then again
        algorithm.operator.bring_into_range(execute)
        return algorithm.run(execute)


def plan_svd(
    x: BlockedArray,
    resources: Resources,
    *,
    options: SvdOptions,
    conditioning: Conditioning,
    method: Method = "auto",
) -> SvdJob:
    """Plan the SVD of a matrix.

    Parameters
    ----------
    x : BlockedArray of shape (m, n)
        The matrix. The longer side is streamed in bands.
    resources : Resources
        Memory, workers, cores and rates.
    options : SvdOptions
        Rank, accuracy, seed.
    conditioning : Conditioning
        Centring, scaling, weights, imputation.
    method : {"auto", "gram", "krylov", "sketch", "mixed"}
        The algorithm; "auto" takes the one predicted to be fastest of the exact ones.

    Returns
    -------
    SvdJob
        The plan.

    Raises
    ------
    ShapeError, OptionError, MemoryBudgetError
        If the question makes no sense, or does not fit.
    """
    check_svd(x, options, conditioning, method)
    transposed = x.shape[0] < x.shape[1]
    source = tall_source(x, transposed=transposed)
    planned, before = made_streamable(source, resources)

    def build(kind: str) -> Algorithm:
        algorithm = _METHODS[kind]
        layout = algorithm.choose_layout(planned, resources, options, conditioning)
        operator = Operator(source, transposed, conditioning, layout, resources, x.grid, x.name)
        return algorithm(operator, options)

    chosen, why, others = choose_algorithm(build, x, options, method)
    instead = None
    if isinstance(chosen, KrylovSvd) and method == "auto" and rank_is_found(options):
        chosen, instead = _with_other(chosen, build)
    explanation = explain(
        "svd",
        [f"{x.name} {x.shape} {x.dtype}"],
        [*before, *chosen.stages, *_only_if_needed(instead)],
        resources,
        method=chosen.title,
        why=why + COPIED * bool(before),
        targets=[*chosen.targets(), *(s.target for s in before if s.target is not None)],
        extra_seconds=chosen.host_seconds(),
        resident_nbytes=chosen.operator.layout.resident_nbytes,
        alternatives=others,
    )
    parameters = {
        "driver": "svd", "method": chosen.name, **options.to_dict(),
        "center": conditioning.center, "missing": conditioning.missing,
        "scale": _described(conditioning.scale), "weights": _described(conditioning.weights),
        "layout": [chosen.operator.layout.height, chosen.operator.layout.lanes],
    }  # fmt: skip
    return SvdJob(chosen, before, {"x": source}, parameters, resources, explanation, instead)


def _with_other(
    chosen: KrylovSvd, build: Callable[[str], Any]
) -> tuple[KrylovSvd, GramSvd | None]:  # fmt: skip
    """Have the Gram matrix answer where more modes are needed than are expected, if it fits."""
    try:
        gram: GramSvd = build("gram")
    except MemoryBudgetError:
        return chosen, None
    layout, other = chosen.operator.layout, gram.operator.layout
    # bands that the first method keeps stay; the second keeps none beside them
    left = gram.operator.resources.arrays_nbytes - other.need_nbytes
    each = max(1, layout.lanes_per_worker * layout.band_nbytes)
    resident = min(layout.resident, int(0.95 * left) // each)
    room = min(layout.room_nbytes, resident * each)
    layout = replace(layout, resident=resident, room_nbytes=room)
    other = replace(
        other, resident=0, room_nbytes=0, need_nbytes=other.need_nbytes + layout.resident_nbytes
    )
    return (
        replace(chosen, operator=replace(chosen.operator, layout=layout), gives_up=True),
        replace(gram, operator=replace(gram.operator, layout=other, instead=True)),
    )


def _only_if_needed(instead: GramSvd | None) -> list[Stage]:
    """Give the stages of a method that may not run, for `explain`."""
    return [] if instead is None else [replace(stage, repeats=0) for stage in instead.stages]


def made_streamable(source: Source, resources: Resources) -> tuple[Source, tuple[Stage, ...]]:
    """Have bands of whole chunk rows that leave room for lanes; else a scratch copy that does.

    Parameters
    ----------
    source : Source of shape (m, n)
        A tall matrix, operand "x" of the job.
    resources : Resources
        Memory, workers and cores.

    Returns
    -------
    tuple of (Source, tuple of Stage)
        What to plan with, and the stage that makes it, if one must.
    """
    rows, columns = source.shape
    row_nbytes = columns * source.dtype.itemsize
    unit = max(1, min(source.unit[0], rows))
    most = max(1, resources.arrays_nbytes // (4 * resources.threads))
    few = -(-rows // unit) < 4 * resources.cores and unit * row_nbytes > 2 * BAND_NBYTES
    if unit * row_nbytes <= most and not (few and source.unit[1] < columns):
        return source, ()
    if tuple(source.unit) == (1, 1):
        return source, ()
    height = max(1, min(BAND_NBYTES, most // 2) // row_nbytes)
    planned, stage = rechunk_stage("x", source, (height, columns), resources)
    return planned, (stage,)


def choose_algorithm(
    build: Any, x: BlockedArray, options: SvdOptions, method: Method
) -> tuple[Any, str, list[Alternative]]:
    """Choose the faster of the exact methods, where none is asked for.

    Parameters
    ----------
    build : callable
        Plans a method, given its name.
    x : BlockedArray of shape (m, n)
        The matrix.
    options : SvdOptions
        Rank, accuracy, seed.
    method : str
        What was asked for.

    Returns
    -------
    tuple of (algorithm, str, list of Alternative)
        The method, why, and what else there was.
    """
    if method != "auto":
        return build(method), "asked for", []
    short = min(x.shape)
    if options.wants_all(short):
        reason = "all singular values: the Gram matrix of the short side is exact in one pass"
        return build("gram"), reason, []
    plans: dict[str, Any] = {}
    refused: dict[str, MemoryBudgetError | OptionError] = {}
    for kind in ("gram", "krylov"):
        try:
            plans[kind] = build(kind)
        except (MemoryBudgetError, OptionError) as error:
            refused[kind] = error
    if not plans:  # of two refusals that which more memory would lift
        asked = [error for error in refused.values() if isinstance(error, MemoryBudgetError)]
        raise asked[-1] if asked else refused["krylov"]
    others = [Alternative(kind, None, str(error)) for kind, error in refused.items()]
    costs = {
        kind: predict_seconds(p.stages, p.operator.resources, len(p.targets()), p.host_seconds())
        for kind, p in plans.items()
    }
    best = min(costs, key=lambda kind: costs[kind])
    others += [
        Alternative(plans[kind].title, cost, "predicted to be slower")
        for kind, cost in costs.items()
        if kind != best
    ]
    why = {
        "gram": f"the short side ({short}) is small enough for an exact Gram matrix in one pass",
        "krylov": f"{options.width(short)} vectors a pass cost less than a Gram matrix of order "
        f"{short}",
    }
    return plans[best], why[best], others


def tall_source(x: BlockedArray, *, transposed: bool) -> Source:
    """Give the source of the matrix, or of its adjoint.

    Parameters
    ----------
    x : BlockedArray of shape (m, n)
        The matrix.
    transposed : bool
        Whether the adjoint is wanted.

    Returns
    -------
    Source
        Of shape (m, n), or (n, m).
    """
    source = x.source
    if not transposed:
        return source
    if isinstance(source, TransposedSource) and source.conjugate == (x.dtype.kind == "c"):
        return source.base
    return TransposedSource(source, conjugate=x.dtype.kind == "c")


def check_svd(
    x: BlockedArray, options: SvdOptions, conditioning: Conditioning, method: Method
) -> None:
    """Refuse a question that makes no sense.

    Parameters
    ----------
    x, options, conditioning, method : see `plan_svd`
        The question.

    Raises
    ------
    ShapeError, OptionError
        If it makes none.
    """
    if x.ndim < 2:
        message = f"svd needs a matrix, of two dimensions; {x.name} has shape {x.shape}"
        raise ShapeError(message)
    if x.ndim > 2:
        message = (
            f"svd needs a matrix; {x.name} has shape {x.shape}. In Python, x.as_matrix() of "
            "leptonhpc.open gives one: the first axis by all others"
        )
        raise ShapeError(message)
    if 0 in x.shape:
        message = f"svd needs at least one row and column; {x.name} has shape {x.shape}"
        raise ShapeError(message)
    options.check(x.shape, x.name)
    if method not in ("auto", *_METHODS, "divide"):
        message = f"method is one of auto, {', '.join(_METHODS)}, divide; found {method!r}"
        raise OptionError(message)
    if method == "sketch" and (options.rank is None or conditioning.needs_moments):
        message = "method='sketch' makes one pass only: it needs rank=, and missing='raise'"
        raise OptionError(message)
    if method == "sketch" and isinstance(conditioning.scale, str):
        message = "method='sketch' makes one pass only: give scale= as an array, or choose another"
        raise OptionError(message)
    if method == "mixed" and options.rank is None:
        raise OptionError("method='mixed' finds the largest modes only: give rank=")
    if conditioning.missing not in ("raise", "mean"):
        message = f"missing is 'raise' or 'mean'; found {conditioning.missing!r}"
        raise OptionError(message)
    for name, value in (("scale", conditioning.scale), ("weights", conditioning.weights)):
        if isinstance(value, str):
            if name == "weights" or value != "std":
                message = f"{name} is an array of {x.shape[1]} numbers" + (
                    " or 'std'" if name == "scale" else ""
                )
                raise OptionError(f"{message}; found {value!r}")
        elif value is not None:
            if value.shape != (x.shape[1],):
                message = f"{name} needs one number per column, shape ({x.shape[1]},)"
                raise ShapeError(f"{message}; found {value.shape}")
            if not (np.isrealobj(value) and np.isfinite(value).all() and np.all(value >= 0)):
                raise OptionError(f"{name} needs finite numbers that are not negative")
            if name == "scale" and not np.all(value > 0):
                raise OptionError("scale divides the columns; it has zeros")


def _described(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
