"""What Krylov methods on blocked matrices share: passes over bands, and small right-hand sides.

A pass multiplies a few vectors at once. Bands that fit in memory stay there from pass to pass.
Vectors, and all that is done with them between passes, are in double precision on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.errors import MemoryBudgetError, NumericRangeError, OptionError, ShapeError
from leptonhpc.linalg.jobs import Execute
from leptonhpc.planning import BandLayout, Read, Resources, Stage, Step, Task, choose_bands
from leptonhpc.planning import seconds as predicted_seconds
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.planning.layout import compute_dtype
from leptonhpc.planning.tasks import StepList

DEFAULT_RANK = 50
"""Columns of the sketch where the user leaves it to the planner."""
EXPECTED_PASSES = 20
_PART = "rows-"
_RANGE = (1e-100, 1e100)
"""Norms of A whose squares, and theirs, are far from the ends of double precision."""


@dataclass(frozen=True)
class Options:
    """What the user asked of an iterative method."""

    tol: float | None
    rank: int | None
    most_passes: int
    seed: int

    def check(self, order: int, driver: str) -> None:
        """Refuse what makes no sense for a preconditioner of this order."""
        if self.rank is not None and not 0 <= self.rank <= order:
            message = f"{driver}: rank is None or from 0 to {order}; found {self.rank}"
            raise OptionError(message)
        if self.most_passes < 4:
            message = f"{driver}: most_passes is at least 4; found {self.most_passes}"
            raise OptionError(message)
        if not 0 <= self.seed < 2**63:
            raise OptionError(f"{driver}: seed is from 0 to 2**63 - 1; found {self.seed}")

    def tolerance(self, dtype: np.dtype[Any], driver: str) -> float:
        """Give the tolerance, which x in its dtype must be able to meet."""
        eps = float(np.finfo(dtype).eps)
        if self.tol is None:
            return 1e-8 if dtype.char in "dD" else 1e-5
        if not eps <= self.tol < 1:
            message = (
                f"{driver}: tol is below 1 and at least {eps:.1e}, for x is {dtype}; found "
                f"{self.tol}. Convert b to double precision to ask for more"
            )
            raise OptionError(message)
        return self.tol


@dataclass(frozen=True)
class Bands:
    """A tall matrix (A, or A^H where A is wide), and how it is streamed."""

    source: Source
    layout: BandLayout
    resources: Resources
    name: str
    transposed: bool
    kernel: str
    """One of "apply_bands" (T = A V) and "normal_bands" (T = A V + [0 C], and A^H T)."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the tall matrix."""
        return self.source.shape[0], self.source.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Double precision, real or complex as A."""
        return np.result_type(compute_dtype(self.source.dtype), np.float64)

    def stage(self, name: str, width: int, *, first: bool) -> Stage:
        """Plan one pass with so many vectors."""
        columns = self.shape[1]
        products = 2 if self.kernel == "normal_bands" else 1
        per_row = (8.0 if self.dtype.kind == "c" else 2.0) * products * columns * width
        tasks = self.layout.tasks(name, self.kernel, (("x", columns),), per_row, first=first)
        rows = {}
        for lane in range(self.layout.lanes):
            bands = self.layout.lane_bands(lane)
            if bands:
                low, high = bands[0] * self.layout.height, self.layout.rows_of(bands[-1])[1]
                rows[lane] = ((low, high),)
        tasks = tuple(replace(task, at=rows[task.lane]) for task in tasks)
        time = predicted_seconds(
            "normal", self.dtype, flops=sum(t.flops for t in tasks),
            read_nbytes=sum(t.read_nbytes for t in tasks), write_nbytes=0,
            resources=self.resources,
        )  # fmt: skip
        return Stage(
            name, tasks, self.layout.lanes, self.layout.lanes_per_worker,
            self.layout.blas_threads, passes=1.0, peak_nbytes=self.layout.peak_nbytes,
            seconds=time, resident_nbytes=self.layout.room_nbytes,
        )  # fmt: skip

    def stages(self, width: int, extra: int, most_passes: int) -> list[Stage]:
        """Plan a first pass with `extra` more vectors, and the others, for `explain`."""
        expected = min(EXPECTED_PASSES, most_passes)
        again = self.stage("pass again", width, first=False)
        return [
            self.stage("pass-1", width + extra, first=True),
            replace(again, repeats=expected - 1, most_repeats=most_passes - 1),
        ]


@dataclass
class Passes:
    """Passes that are made: what they give, how many there were, and |A|_F after the first."""

    bands: Bands
    execute: Execute
    count: int = 0
    norm: float = 0.0

    def apply(self, v: NDArray[Any]) -> NDArray[Any]:
        """Give A V."""
        t = self._run(_as_columns(v, self.bands.dtype), None)[0]
        return _as_vectors(t, v.dtype)

    def normal(
        self, v: NDArray[Any], c: NDArray[Any], sketch: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Give T = A V + C, A^H T, and A^H (A S) for the sketch S."""
        columns = _as_columns(v, self.bands.dtype)
        if sketch is not None:
            columns = np.hstack([sketch, columns])
        c_columns = _as_columns(c, self.bands.dtype)
        t, gathered = self._run(columns, c_columns)
        cut = columns.shape[1] - c_columns.shape[1]
        return (
            _as_vectors(t, c.dtype),
            _as_vectors(gathered[:, cut:], c.dtype),
            gathered[:, :cut],
        )

    def _run(
        self, v: NDArray[Any], c: NDArray[Any] | None
    ) -> tuple[NDArray[Any], NDArray[Any]]:  # fmt: skip
        self.count += 1
        first = self.count == 1
        stage = self.bands.stage(f"pass-{self.count}", v.shape[1], first=first)
        acc = self.execute(
            stage,
            {
                "v": v, "c": c, "kept": v.shape[1] if c is None else c.shape[1], "first": first,
                "name": self.bands.name, "transposed": self.bands.transposed,
            },
        )  # fmt: skip
        t = _assembled(acc)
        if first:
            self.norm = float(acc["hypot_norm"])
            if self.norm and not _RANGE[0] < self.norm < _RANGE[1]:
                message = (
                    f"{self.bands.name} has Frobenius norm {self.norm:.3g}: squares of squares "
                    "leave the range of float64. Scale the array first"
                )
                raise NumericRangeError(message)
        if not np.isfinite(t).all():
            message = f"products with {self.bands.name} overflow float64. Scale the array first"
            raise NumericRangeError(message)
        return t, acc.get("gathered", t)


def plan_bands(
    a: BlockedArray, resources: Resources, *, kernel: str, long: int, short: int, driver: str
) -> Bands:
    """Choose bands of A, or of A^H where that is the taller one.

    Parameters
    ----------
    a : BlockedArray of shape (m, n)
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    kernel : str
        What a pass does.
    long, short : int
        Vectors of the long and of the short side that are held at once, all processes together.
    driver : str
        Who asks.

    Returns
    -------
    Bands
        With as many bands resident as fit.

    Raises
    ------
    MemoryBudgetError
        If not even one band fits.
    """
    transposed = a.shape[0] < a.shape[1]
    source = a.H.source if transposed else a.source
    rows, columns = source.shape
    wide = np.result_type(compute_dtype(a.dtype), np.float64).itemsize

    def work(height: int) -> int:
        converted = transposed or source.dtype.itemsize != wide
        tile = min(height * columns * wide, max(8 << 20, 16 * columns * wide)) if converted else 0
        return int(tile + height * wide)

    layout = choose_bands(
        source, resources, work, fixed_nbytes=(long * rows + short * columns) * wide, passes=2,
        what=driver,
    )  # fmt: skip
    return Bands(source, layout, resources, a.name, transposed, kernel)


def gather_stage(source: Source, operand: str, name: str) -> Stage:
    """Plan the reading of a few vectors.

    Parameters
    ----------
    source : Source of shape (n,) or (n, k)
        The vectors.
    operand : str
        Their name in the job.
    name : str
        Of the stage.

    Returns
    -------
    Stage
        One task.
    """
    rows, rest = source.shape[0], tuple((0, n) for n in source.shape[1:])
    unit = max(1, source.unit[0])
    height = unit * max(1, 65536 // unit)
    steps = []
    for low in range(0, rows, height):
        span = (low, min(low + height, rows))
        steps.append(Step((Read(operand, (span, *rest)),), (span,)))
    nbytes = int(np.prod(source.shape)) * source.dtype.itemsize
    task = Task(name, "gather_rows", StepList(tuple(steps)), 0, at=((0, rows),), read_nbytes=nbytes)
    return Stage(name, (task,), 1, 1, 1, peak_nbytes=LIBRARIES_NBYTES + 3 * nbytes)


def gathered(
    execute: Execute, source: Source, operand: str, name: str, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Read a few vectors as the columns of an array.

    Parameters
    ----------
    execute : callable
        The runtime.
    source : Source of shape (n,) or (n, k)
        The vectors.
    operand, name : str
        Their name in the job, and for messages.
    dtype : dtype
        Wanted.

    Returns
    -------
    array of shape (n, k)
        The vectors.
    """
    width = source.shape[1] if len(source.shape) > 1 else 1
    small = {"width": width, "dtype": dtype, "name": name}
    acc = execute(gather_stage(source, operand, f"gather {operand}"), small)
    return _assembled(acc)


def check_sides(a: BlockedArray, b: BlockedArray, driver: str, *, length: int, what: str) -> int:
    """Refuse vectors that do not fit the matrix; give how many there are.

    Parameters
    ----------
    a, b : BlockedArray
        Matrix and vectors.
    driver : str
        Who asks.
    length : int
        What the vectors must have.
    what : str
        What they are.

    Returns
    -------
    int
        Number of vectors.

    Raises
    ------
    ShapeError
        If they do not fit.
    """
    if a.ndim != 2 or 0 in a.shape:
        message = f"{driver} needs a matrix that is not empty; {a.name} has shape {a.shape}"
        raise ShapeError(message)
    if b.ndim not in (1, 2) or b.shape[0] != length or 0 in b.shape:
        message = (
            f"{driver} needs {what} of length {length}, as {a.name} has shape {a.shape}; "
            f"{b.name} has shape {b.shape}"
        )
        raise ShapeError(message)
    return 1 if b.ndim == 1 else int(b.shape[1])


def choose_sizes(
    options: Options, order: int, build: Callable[[int, int], Bands]
) -> tuple[int, int, Bands]:
    """Give the rank of the preconditioner, and how many vectors are kept to be orthogonal to.

    Parameters
    ----------
    options : Options
        Whose rank may be None.
    order : int
        Of the preconditioner.
    build : callable
        Plans the bands beside so many columns and vectors.

    Returns
    -------
    tuple of (int, int, Bands)
        The largest that fit, and the bands beside them.

    Raises
    ------
    MemoryBudgetError
        If nothing fits.
    """
    rank = min(order, DEFAULT_RANK) if options.rank is None else options.rank
    most = min(order, options.most_passes)
    while True:
        for kept in (most, most // 4, 0):
            try:
                return rank, kept, build(rank, kept)
            except MemoryBudgetError:
                if kept == 0 and (options.rank is not None or rank == 0):
                    raise
        rank //= 2


def _as_columns(v: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """See complex vectors as pairs of real ones where the matrix is real."""
    plain = np.ascontiguousarray(v)
    return plain.view(np.float64) if dtype.kind != "c" and plain.dtype.kind == "c" else plain


def _as_vectors(columns: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """See them again as they were."""
    plain = np.ascontiguousarray(columns)
    return plain.view(dtype) if plain.dtype != dtype else plain


def _assembled(acc: Mapping[str, Any]) -> NDArray[Any]:
    """Put the rows of all lanes together."""
    parts = {int(k.removeprefix(_PART)): v for k, v in acc.items() if k.startswith(_PART)}
    return np.concatenate([parts[row] for row in sorted(parts)])
