"""Truncated and full SVD of a matrix with one side that is streamed: choice of the method."""

from __future__ import annotations

from collections.abc import Mapping
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
from leptonhpc.linalg.svd_shared import SvdOptions
from leptonhpc.linalg.svd_sketch import SketchSvd
from leptonhpc.planning import Alternative, Explanation, Resources, Stage
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import BAND_NBYTES

Method = Literal["auto", "gram", "krylov", "sketch"]

_COPIED = "; its chunks are too tall to be streamed, so it is copied to others first"

Algorithm = GramSvd | KrylovSvd | SketchSvd

_METHODS: dict[str, type[Algorithm]] = {"gram": GramSvd, "krylov": KrylovSvd, "sketch": SketchSvd}


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
    driver: str = "svd"

    def run(self, execute: Execute) -> Outcome:
        """Run the stages; see `Job.run`."""
        for stage in self.before:
            execute(stage, {})
        # what a run finds out stays with the run: the plan can be run again
        algorithm = replace(self.algorithm, operator=self.algorithm.operator.unused())
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
    method : {"auto", "gram", "krylov", "sketch"}
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
    _check(x, options, conditioning, method)
    transposed = x.shape[0] < x.shape[1]
    source = _tall_source(x, transposed=transposed)
    planned, before = _streamable(source, resources)

    def build(kind: str) -> Algorithm:
        algorithm = _METHODS[kind]
        layout = algorithm.choose_layout(planned, resources, options, conditioning)
        operator = Operator(source, transposed, conditioning, layout, resources, x.grid, x.name)
        return algorithm(operator, options)

    chosen, why, others = _choose(build, x, options, method)
    explanation = explain(
        "svd",
        [f"{x.name} {x.shape} {x.dtype}"],
        [*before, *chosen.stages],
        resources,
        method=chosen.title,
        why=why + _COPIED * bool(before),
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
    return SvdJob(chosen, before, {"x": source}, parameters, resources, explanation)


def _streamable(source: Source, resources: Resources) -> tuple[Source, tuple[Stage, ...]]:
    """Have bands of whole chunk rows that leave room for lanes; else a scratch copy that does."""
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


def _choose(
    build: Any, x: BlockedArray, options: SvdOptions, method: Method
) -> tuple[Any, str, list[Alternative]]:
    if method != "auto":
        return build(method), "asked for", []
    short = min(x.shape)
    if options.wants_all(short):
        reason = "all singular values: the Gram matrix of the short side is exact in one pass"
        return build("gram"), reason, []
    plans: dict[str, Any] = {}
    others: list[Alternative] = []
    for kind in ("gram", "krylov"):
        try:
            plans[kind] = build(kind)
        except (MemoryBudgetError, OptionError) as error:
            others.append(Alternative(kind, None, str(error)))
            refused = error
    if not plans:
        raise refused
    costs = {kind: p.predicted_seconds() for kind, p in plans.items()}
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


def _tall_source(x: BlockedArray, *, transposed: bool) -> Source:
    source = x.source
    if not transposed:
        return source
    if isinstance(source, TransposedSource) and source.conjugate == (x.dtype.kind == "c"):
        return source.base
    return TransposedSource(source, conjugate=x.dtype.kind == "c")


def _check(
    x: BlockedArray, options: SvdOptions, conditioning: Conditioning, method: Method
) -> None:
    if x.ndim != 2:
        message = (
            f"svd needs a matrix; {x.name} has shape {x.shape}. For more dimensions use "
            "x.as_matrix(): the first axis by all others"
        )
        raise ShapeError(message)
    if 0 in x.shape:
        message = f"svd needs at least one row and column; {x.name} has shape {x.shape}"
        raise ShapeError(message)
    options.check(x.shape, x.name)
    if method not in ("auto", *_METHODS):
        message = f"method is one of auto, {', '.join(_METHODS)}; found {method!r}"
        raise OptionError(message)
    if method == "sketch" and (options.rank is None or conditioning.needs_moments):
        message = "method='sketch' makes one pass only: it needs rank=, and missing='raise'"
        raise OptionError(message)
    if method == "sketch" and isinstance(conditioning.scale, str):
        message = "method='sketch' makes one pass only: give scale= as an array, or choose another"
        raise OptionError(message)
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
