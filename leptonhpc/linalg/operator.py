"""The conditioned matrix A = (X - 1 mu) D of a tall source, and the stages that touch it.

X is read as stored. Centring (mu), scaling and weights (D, diagonal) and imputation are applied
on the band in cache, or to the small arrays. What is subtracted on the band is a provisional mean,
from the first rows, rounded to the dtype of computing; with X_c = X - 1 shift and d = mu - shift
the mean of X_c, known after the first pass, the rest is of rank one:

    A^H A W = X_c^H X_c D W - m conj(d) (d^T D W)      (times D on the left).

The first p m rows alone cannot be far off: |d| <= sqrt((1 - p) / p) standard deviations.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockGrid, Source
from leptonhpc.errors import NumericRangeError
from leptonhpc.linalg.conditioning import Conditioning
from leptonhpc.linalg.gram_matrix import mirror_lower
from leptonhpc.linalg.jobs import Counter, Execute
from leptonhpc.planning import BandLayout, Resources, Stage, Target, flops, seconds
from leptonhpc.planning.layout import BandSteps, compute_dtype
from leptonhpc.planning.tasks import Task

PILOT_ROWS = 1024
"""Rows whose mean is subtracted provisionally; fixed, so that no grid changes the numbers."""


@dataclass
class Operator:
    """A tall source, its conditioning, and what is known of its columns so far."""

    source: Source
    transposed: bool
    """Whether the user's matrix is the transpose of the source (then features are rows)."""
    conditioning: Conditioning
    layout: BandLayout
    resources: Resources
    user_grid: BlockGrid
    """Blocks as the user sees them, for messages."""
    user_name: str
    dtype: np.dtype[Any] = field(init=False)
    shift: NDArray[Any] | None = None
    """What is subtracted on the band, in the dtype of computing."""
    offset: NDArray[Any] | None = None
    """Mean of what is left, in double precision; None until it is known, or if nothing is
    centred."""
    fill: NDArray[Any] | None = None
    factor: NDArray[Any] | None = None
    mean: NDArray[Any] | None = None
    scale: NDArray[Any] | None = None
    square: float = float("nan")
    """|A|_F^2, once a pass was made."""
    passes: float = 0.0
    unit_scale: float = 1.0
    """Power of two by which the data is multiplied where its squares would leave the range."""
    counter: Counter = field(default_factory=Counter)
    instead: bool = False
    """Whether another method came before, whose stages have the same names."""

    def __post_init__(self) -> None:
        self.dtype = compute_dtype(self.source.dtype)

    def unused(self) -> Operator:
        """Give the operator with nothing known of its columns yet."""
        fresh = copy.copy(self)
        fresh.counter = Counter()
        return fresh

    # -- sizes

    @property
    def rows(self) -> int:
        """Length of the long side."""
        return self.source.shape[0]

    @property
    def columns(self) -> int:
        """Length of the short side."""
        return self.source.shape[1]

    @property
    def wide_dtype(self) -> np.dtype[Any]:
        """Double precision, real or complex as the data."""
        return np.result_type(self.dtype, np.float64)

    @property
    def eps(self) -> float:
        """Rounding unit of the dtype of computing."""
        return float(np.finfo(self.dtype).eps)

    @property
    def columns_are_features(self) -> bool:
        """Whether means are over the long side."""
        return not self.transposed

    # -- stages, as values

    def stage(
        self, kernel: str, name: str, width: int, *, target: Target | None, first: bool
    ) -> Stage:
        """Plan one pass over X."""
        per_row = flops(kernel, self.dtype, rows=1, columns=self.columns, width=width)
        row_nbytes = 0 if target is None else target.nbytes // max(1, self.rows)
        tasks = self.layout.tasks(
            name, kernel, (("x", self.columns),), per_row, write_row_nbytes=row_nbytes, first=first,
            already=self._pilot_bands[1],
        )  # fmt: skip
        return self._stage(name, kernel, tasks, target, passes=1.0, width=width or None)

    def rotate_stage(
        self, name: str, operands: tuple[tuple[str, int], ...], width: int, target: Target | None
    ) -> Stage:
        """Plan one pass over scratch arrays beside X."""
        total = sum(columns for _, columns in operands)
        per_row = flops("rotate", self.dtype, rows=1, columns=total, width=width)
        row_nbytes = 0 if target is None else target.nbytes // max(1, self.rows)
        layout = replace(self.layout, resident=0, columns=total, itemsize=self.dtype.itemsize)
        tasks = layout.tasks(
            name, "rotate", operands, per_row, write_row_nbytes=row_nbytes, first=True
        )
        return self._stage(name, "rotate", tasks, target, passes=0.0, width=width)

    def _stage(
        self, name: str, kernel: str, tasks: tuple[Task, ...], target: Target | None,
        passes: float, width: float | None = None,
    ) -> Stage:  # fmt: skip
        name += " in range" * (self.unit_scale != 1) + " instead" * self.instead
        predicted = seconds(
            kernel, self.dtype, flops=sum(t.flops for t in tasks),
            read_nbytes=sum(t.read_nbytes for t in tasks),
            write_nbytes=sum(t.write_nbytes for t in tasks), resources=self.resources, width=width,
        )  # fmt: skip
        # beside the product with X^H: column sums, squares, a Gram matrix, sums of each row
        wide = int(width or 0)
        numbers = (self.columns + wide) * (wide + 2) + 2 * self.rows * self.transposed
        return Stage(
            name, tasks, self.layout.lanes, self.layout.lanes_per_worker,
            self.layout.blas_threads, target, passes=passes,
            peak_nbytes=self.layout.peak_nbytes, seconds=predicted,
            dtype={"gram": "f8", "rotate": "f8", "gram_narrow": "f4"}.get(kernel, self.dtype.str),
            resident_nbytes=self.layout.room_nbytes, width=width,
            sum_nbytes=None if "gram" in kernel else self.wide_dtype.itemsize * numbers,
        )  # fmt: skip

    def gram_stage(self, *, late_scale: bool, kernel: str = "gram") -> Stage:
        """Plan the pass for A^H A; what a pass for moments kept is not read again."""
        first = not (self.columns_are_features and self._needs_moments(late_scale=late_scale))
        return self.stage(kernel, "gram", 0, target=None, first=first)

    def pilot_stage(self) -> Stage:
        """Plan the reading of a few rows for provisional means."""
        height = self.layout.height
        # the bands of the passes to come, so that what is resident is read once
        count, kept = self._pilot_bands
        sources = (("x", self.columns),)
        steps = BandSteps(self.rows, self.columns, height, 0, count, kept, sources)
        rows = min(count * height, self.rows)
        nbytes = rows * self.columns * self.source.dtype.itemsize
        task = Task("pilot", "moments", steps, 0, read_nbytes=nbytes)
        stage = self._stage("pilot", "moments", (task,), None, passes=rows / self.rows)
        return replace(stage, lanes=1)

    @property
    def _pilot_bands(self) -> tuple[int, int]:
        """Give the bands that the pilot reads, and how many of them stay resident."""
        if not (self.columns_are_features and self._needs_pilot):
            return 0, 0
        count = -(-min(PILOT_ROWS, self.rows) // self.layout.height)
        return count, min(count, self.layout.resident, len(self.layout.lane_bands(0)))

    def stages_before(self, *, late_scale: bool = False) -> list[Stage]:
        """Plan what `prepare` will run."""
        stages = []
        if self.columns_are_features:
            if self._needs_pilot:
                stages.append(self.pilot_stage())
            if self._needs_moments(late_scale=late_scale):
                stages.append(self.stage("moments", "moments", 0, target=None, first=True))
        return stages

    @property
    def _needs_pilot(self) -> bool:
        c = self.conditioning
        return c.center or c.missing == "mean" or isinstance(c.scale, str)

    def _needs_moments(self, *, late_scale: bool) -> bool:
        c = self.conditioning
        deviation = isinstance(c.scale, str)
        return c.missing == "mean" or (deviation and not (late_scale and c.center))

    # -- running them

    def small(self, **more: Any) -> dict[str, Any]:
        """Give what every kernel of a band is told."""
        c = self.conditioning
        rows = not self.columns_are_features
        return {
            "dtype": self.dtype,
            "rows": self.rows,
            "columns": self.columns,
            "features": "rows" if rows else "columns",
            "shift": self.shift,
            "fill": self.fill,
            "factor": self._distinct_factor,
            "unit_scale": self.unit_scale,
            "missing": c.missing,
            "center": c.center and rows,
            "scale": c.scale if rows else None,
            "weights": c.weights if rows else None,
            "transposed": self.transposed,
            "edges": self.user_grid.bounds,
            "name": self.user_name,
            **more,
        }

    def prepare(self, execute: Execute, *, late_scale: bool = False) -> None:
        """Find means and deviations as far as they are needed before the first product."""
        c = self.conditioning
        if not self.columns_are_features:
            return
        factor = np.ones(self.columns)
        if c.weights is not None:
            factor = factor * c.weights
        if c.scale is not None and not isinstance(c.scale, str):
            self.scale = np.asarray(c.scale, float)
            factor = factor / self.scale
        self.factor = factor
        if self._needs_pilot:
            small = self.small(shift=None, first=False, most_rows=PILOT_ROWS)
            acc = execute(self.pilot_stage(), small)
            with np.errstate(over="ignore", invalid="ignore"):
                mean = acc["sum"] / np.maximum(acc["count"], 1)
            # NaN or infinity is found, and named, by the first pass
            self.shift = np.where(np.isfinite(mean), mean, 0).astype(self.dtype)
        if self._needs_moments(late_scale=late_scale):
            stage = self.stage("moments", "moments", 0, target=None, first=True)
            acc = execute(stage, self.small(first=True))
            self.passes += 1
            self._use_moments(acc)

    def _use_moments(self, acc: dict[str, Any]) -> None:
        c = self.conditioning
        count = np.maximum(acc["count"], 1)
        offset = acc["sum"] / count
        assert self.shift is not None
        self._check_range(float(acc["square"].sum()), acc)
        self.mean = self.shift.astype(self.wide_dtype) + offset
        if isinstance(c.scale, str):
            before = acc["square"] / count
            self._use_variance(before - np.abs(offset) ** 2, before)
        if c.center:
            self.fill = offset
            self.offset = offset if c.missing == "mean" else None
        else:
            self.shift, self.fill = None, self.mean

    def _use_offset(self, total: NDArray[Any]) -> NDArray[Any] | None:
        """Take the sum of the columns of X_c; give its mean, if columns are centred."""
        if not (self.columns_are_features and self.conditioning.center):
            return None
        assert self.shift is not None
        self.offset = total / self.rows
        self.mean = self.shift.astype(self.wide_dtype) + self.offset
        return self.offset

    def _use_variance(self, variance: NDArray[Any], before: NDArray[Any]) -> None:
        """Take variances, and the mean squares from which they are what is left."""
        # what is left of equal numbers is rounding: such columns are zero, not blown up
        flat = variance <= 64 * np.finfo(float).eps * before
        self.scale = np.sqrt(np.where(flat, 1.0, variance))
        assert self.factor is not None
        self.factor = np.where(flat & self.conditioning.center, 0.0, self.factor / self.scale)

    def gram(self, execute: Execute, *, late_scale: bool, kernel: str = "gram") -> NDArray[Any]:
        """Give A^H A, summed in double precision, by one pass; in place of the pass's own sum."""
        stage = self.gram_stage(late_scale=late_scale, kernel=kernel)
        acc = execute(stage, self.small(first=True))
        self.passes += 1
        gram: NDArray[Any] = acc["gram"]
        if "narrow" in acc:
            gram += acc.pop("narrow")
        mirror_lower(gram)
        self._check_range(float(np.real(np.trace(gram))), acc, narrow=kernel == "gram_narrow")
        before = np.real(np.diagonal(gram)) / self.rows
        offset = self._use_offset(acc["sum"])
        if offset is not None:
            for i, row in enumerate(gram):  # gram -= m conj(offset) offset
                row -= self.rows * offset[i].conj() * offset
        late_scale = late_scale and self.columns_are_features
        if late_scale and isinstance(self.conditioning.scale, str) and self.scale is None:
            self._use_variance(np.real(np.diagonal(gram)) / self.rows, before)
        if self.columns_are_features:
            assert self.factor is not None
            gram *= self.factor[:, None]
            gram *= self.factor
        self._note_rows(acc)
        self.square = float(np.real(np.trace(gram)))
        return gram

    def normal(
        self,
        execute: Execute,
        w: NDArray[Any],
        *,
        name: str,
        target: Target | None,
        first: bool,
        y_gram: bool = False,
    ) -> tuple[NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Give Z = A^H A W, the offset of the written Y, and all sums.

        A W is Y - 1 offset^T; the offset is not zero only in the first pass with centring.
        """
        lifted = self._lift(w).astype(self.dtype)
        known = None if self.offset is None else self.offset @ lifted.astype(self.wide_dtype)
        small = self.small(w=lifted, offset=known, first=first, y_gram=y_gram)
        acc = execute(self.stage("normal", name, w.shape[1], target=target, first=first), small)
        self.passes += 1
        z, left = acc["z"], np.zeros(w.shape[1], self.wide_dtype)
        if first:
            self._note_rows(acc)
            self.square = acc["square"]
            self._check_range(self.square, acc)
            offset = self._use_offset(acc["sum"])
            if offset is not None:
                self.square = self._centred_square(self.square, offset)
                if known is None:
                    left = offset @ lifted.astype(self.wide_dtype)
                    z = z - self.rows * np.outer(offset.conj(), left)
        return self._lift(z), left, acc

    def sketch(
        self, execute: Execute, w: NDArray[Any], *, psi: int, theta: int, seed: int, target: Target
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Give [Psi Theta]^H A and the offset of the written Y by one pass."""
        small = self.small(
            w=self._lift(w).astype(self.dtype), first=True, psi=psi, theta=theta, seed=seed
        )
        stage = self.stage("sketch", "sketch", w.shape[1] + psi + theta, target=target, first=True)
        acc = execute(stage, small)
        self.passes += 1
        core, left = acc["core"], np.zeros(w.shape[1], self.wide_dtype)
        self.square = acc["square"]
        self._check_range(self.square, acc)
        offset = self._use_offset(acc["sum"])
        if offset is not None:
            left = offset @ small["w"].astype(self.wide_dtype)
            core = core - np.outer(acc["ones"], offset)
            self.square = self._centred_square(self.square, offset)
        self._note_rows(acc)
        return self._lift(core.T).T, left

    def _check_range(self, square: float, acc: dict[str, Any], *, narrow: bool = False) -> None:
        """Refuse sums of squares that have lost digits; the job then runs once more, scaled."""
        typical = math.sqrt(square / self.rows / self.columns)
        narrow = narrow or self.dtype.char in "fF"
        low, high = (1e-12, 1e12) if narrow else (1e-60, 1e60)
        if (square > 0 or "max_tiny" in acc) and not low < typical < high:
            message = f"numbers of {self.user_name} near {typical:.3g} leave the range of squares"
            raise NumericRangeError(message)

    def bring_into_range(self, execute: Execute) -> None:
        """Forget what is known, and choose a power of two that makes the largest row sum one."""
        stage = self.stage("norms", "norms", 0, target=None, first=True)
        acc = execute(stage, self.small(power=1.0, first=True))
        largest = float(acc["max_row"])
        if not 0 < largest < math.inf:
            message = f"the row sums of {self.user_name} overflow float64. Scale the array first"
            raise NumericRangeError(message)
        self.passes += 1
        exponent = -round(math.log2(largest / math.sqrt(self.columns)))
        self.unit_scale = 2.0 ** max(-1000, min(1000, exponent))
        self.shift = self.offset = self.fill = self.factor = self.mean = self.scale = None

    @property
    def _distinct_factor(self) -> NDArray[Any] | None:
        return None if self.factor is None or np.all(self.factor == 1) else self.factor

    def _centred_square(self, square: float, mean: NDArray[Any]) -> float:
        factor = 1.0 if self.factor is None else self.factor
        return max(square - self.rows * float(np.sum(np.abs(mean * factor) ** 2)), 0.0)

    def _lift(self, w: NDArray[Any]) -> NDArray[Any]:
        lifted: NDArray[Any] = w if self.factor is None else self.factor[:, None] * w
        return lifted

    def _note_rows(self, acc: dict[str, Any]) -> None:
        if "mean" in acc:
            self.mean, self.scale = acc["mean"], acc["scale"]
