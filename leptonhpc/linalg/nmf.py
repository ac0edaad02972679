"""Planning a non-negative factorisation X ~ W H."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.linalg.conditioning import Conditioning
from leptonhpc.linalg.gram_matrix import while_summed
from leptonhpc.linalg.iterations import gather_stage
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.nmf_options import NmfOptions
from leptonhpc.linalg.nmf_passes import GIVEN, SHORT, Tall, sweep_flops, write_stage
from leptonhpc.linalg.nmf_run import NmfRun
from leptonhpc.linalg.nmf_start import SpectrumStages, split_stage
from leptonhpc.linalg.operator import Operator
from leptonhpc.linalg.svd import COPIED, choose_algorithm, made_streamable, tall_source
from leptonhpc.linalg.svd_gram import GramSvd
from leptonhpc.linalg.svd_krylov import KrylovSvd
from leptonhpc.linalg.svd_shared import SvdOptions
from leptonhpc.planning import BandLayout, Explanation, Resources, Stage, choose_bands
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype

EXPECTED_SWEEPS = 50
_START_ACCURACY = 1e-2
"""Of the singular vectors that a factorisation begins with."""
_START_PASSES = 6
_TITLES = {
    "frobenius": "hierarchical alternating least squares, extrapolated, one pass a sweep",
    "kullback-leibler": "multiplicative updates, extrapolated, one pass a sweep",
    "compressed": "hierarchical alternating least squares on the leading modes, one last pass",
    "solve": "non-negative least squares with the given H, one pass",
}


@dataclass(frozen=True)
class NmfJob:
    """One factorisation, planned."""

    tall: Tall
    options: NmfOptions
    start: str
    """As `NmfOptions.start` gives it."""
    spectrum: SpectrumStages | None
    before: tuple[Stage, ...]
    """Makes the array streamable, where its chunks are not."""
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: str = "nmf"

    def run(self, execute: Execute) -> Outcome:
        """Run the stages; see `Job.run`."""
        for stage in self.before:
            execute(stage, {})
        return NmfRun(self, execute).run()


def plan_nmf(
    x: BlockedArray, resources: Resources, *, options: NmfOptions,
    w0: BlockedArray | None = None, h0: BlockedArray | None = None,
) -> NmfJob:  # fmt: skip
    """Plan a non-negative factorisation.

    Parameters
    ----------
    x : BlockedArray of shape (m, n)
        The matrix. The longer side is streamed; with ``update_h=False`` the rows are.
    resources : Resources
        Memory, workers, cores and rates.
    options : NmfOptions
        Rank, loss, method, start, tolerance.
    w0, h0 : BlockedArray of shapes (m, k) and (k, n), optional
        To begin with, or (h0 alone) the H that is kept.

    Returns
    -------
    NmfJob
        The plan.

    Raises
    ------
    ShapeError, DTypeError, OptionError, MemoryBudgetError
        If the question makes no sense, or does not fit.
    """
    options.check(x, w0, h0)
    transposed = options.update_h and x.shape[0] < x.shape[1]
    source = tall_source(x, transposed=transposed)
    planned, before = made_streamable(source, resources)
    start = options.start(min(x.shape), given=h0 is not None)

    def tall_with(layout: BandLayout) -> Tall:
        dtype = compute_dtype(x.dtype)
        return Tall(
            source, transposed, layout, resources, dtype, options.rank, x.name, x.grid
        )  # fmt: skip

    spectrum = None
    if start.startswith("nndsvd") or options.method == "compressed":
        spectrum = _plan_spectrum(x, planned, options, tall_with, resources)
        tall = spectrum.tall
    else:
        tall = tall_with(_choose_layout(planned, resources, options))
    sources = {"x": source, **_starts(w0, h0, transposed=transposed)}
    stages = [*before, *_stages(tall, options, start, spectrum, sources)]
    explanation = _explain(
        x, stages, tall, options, start, spectrum, resources, copied=bool(before)
    )
    parameters = {
        "driver": "nmf", **options.to_dict(), "layout": [tall.layout.height, tall.layout.lanes],
    }  # fmt: skip
    return NmfJob(
        tall, options, start, spectrum, before, sources, parameters, resources, explanation
    )


def _starts(
    w0: BlockedArray | None, h0: BlockedArray | None, *, transposed: bool
) -> dict[str, Source]:
    """Give the user's start as operands: the long factor, and the short one as (k, n)."""
    if h0 is None:
        return {}
    if w0 is None:
        return {SHORT: h0.source}
    long, short = (h0.T, w0.T) if transposed else (w0, h0)
    return {GIVEN: long.source, SHORT: short.source}


def _choose_layout(
    source: Source, resources: Resources, options: NmfOptions,
    others: tuple[Callable[[int], int], int] | None = None,
) -> BandLayout:  # fmt: skip
    """Choose bands for sweeps, and for the SVD before them: what is resident serves both."""
    n, k = source.shape[1], options.rank
    dtype = compute_dtype(source.dtype)
    copies = 2 if options.loss == "frobenius" else 5

    def work(height: int) -> int:
        tile = min(height * n * dtype.itemsize, max(4 << 20, 64 * n * dtype.itemsize))
        rows = 2 * height * k * dtype.itemsize + 6 * min(height, 8192) * k * 8
        own = copies * tile + rows + 3 * n * k * 8 + k * k * 8
        return max(own, others[0](height) if others else 0)

    fixed = max(12 * n * k * 8, others[1] if others else 0)
    passes = 1 if not options.update_h else 2
    return choose_bands(
        source, resources, work, fixed_nbytes=fixed, passes=passes, what="nmf"
    )  # fmt: skip


def _plan_spectrum(
    x: BlockedArray, source: Source, options: NmfOptions, tall_with: Callable[[BandLayout], Tall],
    resources: Resources,
) -> SpectrumStages:  # fmt: skip
    short = min(x.shape)
    compressed = options.method == "compressed"
    rank = options.compressed_rank(short) if compressed else min(short, options.rank)
    asked = SvdOptions(
        rank=rank, accuracy=_START_ACCURACY, most_passes=_START_PASSES, seed=options.seed
    )
    nothing = Conditioning()
    kinds: dict[str, type[GramSvd] | type[KrylovSvd]] = {"gram": GramSvd, "krylov": KrylovSvd}

    def build(kind: str) -> GramSvd | KrylovSvd:
        work, fixed = kinds[kind].demand(source, asked, nothing)
        square = source.shape[1] ** 2 * 8
        adding = while_summed(source, resources, square) if kind == "gram" else None
        demand = (lambda rows: max(work(rows), adding(rows)) if adding else work(rows)), fixed
        tall = tall_with(_choose_layout(source, resources, options, demand))
        operator = Operator(
            tall.source, tall.transposed, nothing, tall.layout, resources, x.grid, x.name
        )
        return kinds[kind](operator, asked)

    algorithm, _, _ = choose_algorithm(build, x, asked, "auto")
    return SpectrumStages(tall_with(algorithm.operator.layout), algorithm)


def _stages(
    tall: Tall, options: NmfOptions, start: str, spectrum: SpectrumStages | None,
    sources: Mapping[str, Source],
) -> list[Stage]:  # fmt: skip
    """Give the stages that are expected to run."""
    columns, k = tall.shape[1], options.rank
    stages = [gather_stage(sources[SHORT], SHORT, f"gather {SHORT}")] if SHORT in sources else []
    if spectrum is not None:
        stages += spectrum.stages
        if start.startswith("nndsvd"):
            stages.append(split_stage(tall, spectrum.operand))
    kernel = "hals" if options.loss == "frobenius" else "kl_update"
    operand = {"given": (GIVEN, k)}.get(start, (tall.scratch(1).name, k))
    over = ("x", columns)
    if options.method == "compressed":
        assert spectrum is not None
        over = spectrum.operand

    def sweep(name: str, data: tuple[str, int], *, first: bool, kept: bool) -> Stage:
        return tall.stage(
            name, kernel, (data, operand) if kept else (data,),
            sweep_flops(kernel, data[1], k), target=tall.scratch(0), first=first,
        )  # fmt: skip

    stages.append(sweep("sweep-1", over, first=spectrum is None, kept=start == "given"))
    if options.update_h and options.most_sweeps > 1:
        again = sweep("sweep again", over, first=False, kept=True)
        expected = min(EXPECTED_SWEEPS, options.most_sweeps)
        stages.append(replace(again, repeats=expected - 1, most_repeats=options.most_sweeps - 1))
    if options.method == "compressed":
        stages.append(sweep("measure-1", ("x", columns), first=False, kept=True))
    stages.append(write_stage(tall, 0))
    return stages


def _explain(
    x: BlockedArray, stages: list[Stage], tall: Tall, options: NmfOptions, start: str,
    spectrum: SpectrumStages | None, resources: Resources, *, copied: bool,
) -> Explanation:  # fmt: skip
    targets = [stage.target for stage in stages if stage.target is not None]
    title = _TITLES["compressed" if options.method == "compressed" else options.loss]
    why = {
        "given": "from the W and H that were given",
        "random": "from random numbers, which take no pass",
    }.get(start, f"from singular vectors ({start})")
    if not options.update_h:
        title, why = _TITLES["solve"], "H was given and stays"
    return explain(
        "nmf", [f"{x.name} {x.shape} {x.dtype}"], stages, resources,
        method=title, why=why + COPIED * copied,
        targets=list({target.name: target for target in targets}.values()),
        extra_seconds=0.0 if spectrum is None else spectrum.algorithm.host_seconds(),
        resident_nbytes=tall.layout.resident_nbytes,
    )  # fmt: skip
