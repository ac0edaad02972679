"""QR factorisation A = Q R: by Cholesky factors of Gram matrices, or Householder panels.

Panels are left-looking, as those of LU: the reflectors of earlier panels stream by. Q is formed
from them in a second stage (panel by panel of the identity, backwards), R unpacked in a third.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.errors import LinAlgError, MemoryBudgetError, OptionError
from leptonhpc.linalg.bands import RenamedSteps
from leptonhpc.linalg.cholesky import reason
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.lu import require_matrix, unpack_stage
from leptonhpc.linalg.panels import Panels, choose_panels, panel_stage
from leptonhpc.linalg.qr_tall import TallQr, plan_tall, qr_certificate
from leptonhpc.linalg.rechunk import in_squares
from leptonhpc.planning import (
    Alternative,
    Explanation,
    Read,
    Resources,
    Stage,
    Step,
    Target,
    Task,
    seconds,
)
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import BAND_NBYTES, compute_dtype
from leptonhpc.planning.tasks import StepList

QrMethod = Literal["auto", "cholesky", "householder"]

PACKED = "packed"
"""Scratch array that holds R above the reflectors."""
_PROBES = 4
_TILE = 64
"""Rows of Q that its check converts at once."""
_HOUSEHOLDER = "Householder panels"
_BASIS = "a basis by TSQR, completed with random columns"
_CHOLESKY = "Cholesky factors of Gram matrices (CholeskyQR2, shifted CholeskyQR3)"


@dataclass(frozen=True)
class HouseholderQr:
    """The method of panels for one matrix."""

    before: tuple[Stage, ...]
    factor: Stage
    form: Stage
    isometry: Stage
    unpack: Stage
    panels: Panels
    small: Mapping[str, Any]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All of them."""
        return (*self.before, self.factor, self.form, self.isometry, self.unpack)

    @property
    def peak_nbytes(self) -> int:
        """Largest memory of a worker."""
        return max(stage.peak_nbytes for stage in self.stages)

    def run(self, execute: Execute) -> Outcome:
        """Factor, form Q, measure it, unpack R."""
        for stage in self.before:
            execute(stage, {})
        acc = execute(self.factor, self.small)
        signs = np.where(acc["diagonal"].real < 0, -1, 1)
        small = {**self.small, "taus": acc["taus"], "signs": signs}
        left = execute(self.form, small)["left"]
        w = _draw(len(signs), np.result_type(small["dtype"], np.float64))
        orthogonality = float(
            np.linalg.norm(execute(self.isometry, {"w": w, "tile": _TILE})["twice"] - w)
        )
        small |= {"left": left, "expected": acc["expected"], "part": "upper"}
        norm = float(acc["hypot_norm"])
        defect = float(execute(self.unpack, small)["hypot_defect"]) / (norm or 1.0)
        certificate = qr_certificate(
            defect / left.shape[1] ** 0.5, orthogonality / w.shape[1] ** 0.5,
            norm, self.panels.shape, small["dtype"], _HOUSEHOLDER, small["precision"],
        )  # fmt: skip
        return Outcome({"q": "q", "r": "r"}, certificate)


def _draw(k: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    generator = np.random.default_rng(0)
    w: np.ndarray[Any, Any] = generator.standard_normal((k, _PROBES))
    if dtype.kind == "c":
        w = (w + 1j * generator.standard_normal(w.shape)) / np.sqrt(2)
    return w.astype(dtype)


@dataclass(frozen=True)
class QrJob:
    """One QR factorisation, planned."""

    method: TallQr | HouseholderQr
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: str = "qr"

    def run(self, execute: Execute) -> Outcome:
        """Run the method that was chosen; see `Job.run`."""
        found = self.method.run(execute)
        if isinstance(found, Outcome):
            return found
        message = (
            f"qr by Cholesky factors cannot orthonormalise {', '.join(self.explanation.inputs)}: "
            f"{found}. Pass method='auto', which can"
        )
        raise LinAlgError(message)


def plan_qr(
    x: BlockedArray, resources: Resources, *, method: QrMethod = "auto", seed: int = 0
) -> QrJob:
    """Plan A = Q R, reduced.

    Parameters
    ----------
    x : BlockedArray of shape (m, n)
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    method : {"auto", "cholesky", "householder"}
        Cholesky factors of Gram matrices need m >= n and independent columns; "auto" takes them
        where m >= 2n and n x n fits, and finds a basis by TSQR where columns are dependent.
    seed : int
        Of the vectors that check the factors.

    Returns
    -------
    QrJob
        The plan.

    Raises
    ------
    ShapeError, OptionError
        If the question makes no sense.
    MemoryBudgetError
        If no plan fits; the message names the smallest budget that would do.
    """
    require_matrix(x, "qr")
    if method not in ("auto", "cholesky", "householder"):
        raise OptionError(f"method is 'auto', 'cholesky' or 'householder'; found {method!r}")
    m, n = x.shape
    if method == "cholesky" and m < n:
        message = f"method='cholesky' needs at least as many rows as columns; {x.name} has shape "
        raise OptionError(f"{message}{x.shape}. Use method='householder'")
    dtype = compute_dtype(x.dtype)
    chosen, others = _chosen(x, resources, method, seed, dtype)
    tall = isinstance(chosen, TallQr)
    why = "asked for" if method != "auto" else ""
    if isinstance(chosen, TallQr):
        why = why or "at least twice as many rows as columns: bands of A"
        layout: Any = [chosen.layout.height, chosen.layout.lanes]
    else:
        why = "; ".join(filter(None, (why, reason(chosen.panels, bool(chosen.before)))))
        layout = [chosen.panels.edges, chosen.panels.unit]
    explanation = explain(
        "qr", [f"{x.name} {x.shape} {x.dtype}"], chosen.stages, resources,
        method=_CHOLESKY if tall else _HOUSEHOLDER, why=why,
        targets=[s.target for s in chosen.stages if s.target is not None],
        resident_nbytes=chosen.layout.resident_nbytes if isinstance(chosen, TallQr) else 0,
        alternatives=others,
    )  # fmt: skip
    parameters = {"driver": "qr", "seed": seed, "method": method, "layout": layout}
    return QrJob(chosen, {"a": x.source}, parameters, resources, explanation)


def _chosen(
    x: BlockedArray, resources: Resources, method: QrMethod, seed: int, dtype: np.dtype[Any]
) -> tuple[TallQr | HouseholderQr, list[Alternative]]:
    m, n = x.shape
    if method == "cholesky":
        return plan_tall(x, resources, seed=seed, dtype=dtype, independent=True), []
    if method == "householder" or m < 2 * n:
        return plan_householder(x, resources, seed=seed, dtype=dtype), []
    try:
        tall = plan_tall(x, resources, seed=seed, dtype=dtype)
    except MemoryBudgetError as error:
        panels = plan_householder(x, resources, seed=seed, dtype=dtype)
        return panels, [Alternative(_CHOLESKY, None, str(error))]
    assert tall.basis is not None
    more = sum(stage.seconds for stage in (*tall.basis, tall.again, tall.again))
    text = "only where columns depend on one another to working precision, this much longer"
    return tall, [Alternative(_BASIS, more, text)]


def plan_householder(
    x: BlockedArray, resources: Resources, *, seed: int, dtype: np.dtype[Any]
) -> HouseholderQr:
    """Plan the panels.

    Parameters
    ----------
    x : BlockedArray of shape (m, n)
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    seed : int
        Of the vectors that check the factors.
    dtype : dtype
        Of computing.

    Returns
    -------
    HouseholderQr
        The plan.

    Raises
    ------
    MemoryBudgetError
        If not even a narrow panel fits.
    """
    (m, n), k = x.shape, min(x.shape)
    before: list[Stage] = []
    a = in_squares(x, "a", before, resources)
    operand = "a"
    if before:  # the copy has a name of its own: a stage cannot read the input that it hides
        operand, copy = "squares", before[0].target
        assert copy is not None
        before = [replace(before[0], target=replace(copy, name=operand))]
    factor = 4.0 if dtype.kind == "c" else 1.0
    flops = 2 * factor * float(k) ** 2 * (max(m, n) - k / 3)
    panels = choose_panels(a.source, resources, dtype, what="qr", flops=flops)
    unit = (panels.unit, panels.unit)
    stage = panel_stage(
        "factor", panels, resources, dtype, Target(PACKED, (m, n), dtype.str, unit, scratch=True),
        load=("load", lambda j: iter(_renamed(panels.load_steps(j), operand))),
        update=("update_geqrf", lambda _, k: panels.sweeps(PACKED, k)),
        factor="geqrf", source=a.source,
        flops=lambda rows, width, done: 2 * factor * width * (
            (2.0 * rows - done) * min(done, rows) + width * max(0.0, rows - done - width / 3)
        ),
    )  # fmt: skip
    target = Target("r", (k, n), dtype.str, unit, triangle="upper")
    upper = unpack_stage("upper", panels, target, resources, PACKED)
    upper = replace(upper, tasks=tuple(replace(t, kernel="unpack_r") for t in upper.tasks))
    small = {
        "dtype": dtype, "seed": seed, "name": x.name, "driver": "qr", "columns": n, "rows": m,
        "edges": panels.edges, "precision": resources.precision,
    }  # fmt: skip
    form = _form_stage(panels, Target("q", (m, k), dtype.str, unit), resources, factor)
    return HouseholderQr(
        tuple(before), stage, form, _isometry_stage(panels, dtype, resources), upper, panels, small
    )


def _renamed(steps: Iterable[Step], operand: str) -> RenamedSteps:
    return RenamedSteps(StepList(tuple(steps)), "a", operand)


def _form_stage(panels: Panels, target: Target, resources: Resources, factor: float) -> Stage:
    """Plan Q: each of its panels needs the reflectors of its own and earlier ones, backwards."""
    (m, k), item = target.shape, np.dtype(target.dtype).itemsize
    tasks: list[Task] = []
    previous: dict[int, str] = {}
    swept: list[Step] = []
    for j in range(len(panels)):
        c0, c1 = panels.edges[j], min(panels.edges[j + 1], k)
        if c1 <= c0:
            break
        swept += panels.sweeps(PACKED, j)
        lane, key = j % resources.workers, f"form_q-{j}"
        width = c1 - c0  # its own reflectors meet only the columns behind them
        own = width**2 * ((m - c0) / 2 - width / 6)
        tasks.append(
            Task(
                key, "form_q", StepList(tuple(reversed(swept))), lane, previous.get(lane),
                ((0, m), (c0, c1)), flops=4 * factor * (width * (m * c0 - c0**2 / 2) + own),
                read_nbytes=item * sum((m - s.at[0][0]) * (s.at[1][1] - s.at[1][0]) for s in swept),
                write_nbytes=item * m * (c1 - c0),
            )
        )  # fmt: skip
        previous[lane] = key
    predicted = seconds(
        "gemm", target.dtype, flops=sum(t.flops for t in tasks),
        read_nbytes=sum(t.read_nbytes for t in tasks),
        write_nbytes=sum(t.write_nbytes for t in tasks), resources=resources,
    )  # fmt: skip
    return Stage(
        "form q", tuple(tasks), resources.workers, 1, resources.threads, target, chained=False,
        peak_nbytes=panels.peak_nbytes, seconds=predicted, prefetch="always",
        dtype=target.dtype,
    )  # fmt: skip


def _isometry_stage(panels: Panels, dtype: np.dtype[Any], resources: Resources) -> Stage:
    """Plan one reading of Q in bands of whole rows."""
    m, k = panels.shape[0], min(panels.shape)
    wide = np.result_type(dtype, np.float64)
    row, tiles = k * dtype.itemsize, 2 * _TILE * k * wide.itemsize
    chunks = 8 * panels.unit**2 * dtype.itemsize
    left = panels.peak_nbytes - LIBRARIES_NBYTES - tiles - chunks
    # whole chunk rows, and as many as memory and a band of ordinary size allow
    height = max(1, min(BAND_NBYTES, left) // row // panels.unit) * panels.unit
    if height * row > left:  # a chunk is then decoded for several bands
        height = max(1, left // row)
    tasks: list[Task] = []
    previous: dict[int, str] = {}
    for number, low in enumerate(range(0, m, height)):
        at = ((low, min(low + height, m)), (0, k))
        lane, key = number % resources.workers, f"isometry-{low}"
        steps = StepList((Step((Read("q", at),), at),))
        rows = at[0][1] - low
        tasks.append(
            Task(
                key, "isometry", steps, lane, previous.get(lane), flops=4.0 * rows * k * _PROBES,
                read_nbytes=rows * k * dtype.itemsize,
            )
        )  # fmt: skip
        previous[lane] = key
    predicted = seconds(
        "normal", dtype, flops=sum(t.flops for t in tasks),
        read_nbytes=m * k * dtype.itemsize, write_nbytes=0, resources=resources,
    )  # fmt: skip
    return Stage(
        "isometry", tuple(tasks), resources.workers, 1, resources.threads,
        peak_nbytes=LIBRARIES_NBYTES + height * row + tiles + chunks, seconds=predicted,
    )  # fmt: skip
