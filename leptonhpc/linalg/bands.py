"""Passes over the bands of a tall matrix whose numbers are taken as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from leptonhpc.blocks import Source
from leptonhpc.errors import MemoryBudgetError
from leptonhpc.linalg.rechunk import rechunk_stage
from leptonhpc.planning import BandLayout, Resources, Stage, Step, Target, seconds
from leptonhpc.planning.layout import BAND_NBYTES
from leptonhpc.planning.tasks import Steps


@dataclass(frozen=True)
class BandPasses:
    """Passes over the bands of some operands side by side; bands of the first may stay resident."""

    layout: BandLayout
    resources: Resources
    operands: tuple[tuple[str, int], ...]
    """Names and columns."""

    def stage(
        self, name: str, kernel: str, flops_per_row: float, *, target: Target | None = None,
        first: bool = False,
    ) -> Stage:  # fmt: skip
        """Plan one pass.

        Parameters
        ----------
        name, kernel : str
            Of the stage; its kernel.
        flops_per_row : float
            Of the kernel.
        target : Target, optional
            What each band writes.
        first : bool
            Resident bands are not there yet.

        Returns
        -------
        Stage
            The pass.
        """
        layout, resources = self.layout, self.resources
        matrix, *others = self.operands
        row_nbytes = 0 if target is None else target.nbytes // max(1, layout.rows)
        tasks = tuple(
            replace(task, steps=RenamedSteps(task.steps, "x", matrix[0]))
            for task in layout.tasks(
                name, kernel, (("x", matrix[1]), *others), flops_per_row,
                write_row_nbytes=row_nbytes, first=first,
            )
        )  # fmt: skip
        predicted = seconds(
            "gram" if kernel == "solved_gram" else kernel, "f8", flops=sum(t.flops for t in tasks),
            read_nbytes=sum(t.read_nbytes for t in tasks),
            write_nbytes=sum(t.write_nbytes for t in tasks), resources=resources,
        )  # fmt: skip
        return Stage(
            name, tasks, layout.lanes, layout.lanes_per_worker, layout.blas_threads, target,
            passes=1.0, peak_nbytes=layout.peak_nbytes, seconds=predicted,
            resident_nbytes=layout.room_nbytes,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RenamedSteps:
    """Steps that read an operand under another name."""

    steps: Steps
    old: str
    new: str

    @property
    def operands(self) -> tuple[str, ...]:
        """What the steps read."""
        return tuple(self.new if name == self.old else name for name in self.steps.operands)

    def __iter__(self) -> Iterator[Step]:
        """Make the steps."""
        for step in self.steps:
            reads = (
                replace(r, operand=self.new) if r.operand == self.old else r for r in step.reads
            )
            yield Step(tuple(reads), step.at)

    def __len__(self) -> int:
        """Count them."""
        return len(self.steps)


def streamable(
    source: Source, operand: str, resources: Resources, choose: Callable[[Source], BandLayout]
) -> tuple[BandLayout, str, tuple[Stage, ...]]:
    """Have bands of whole chunk rows that leave room for lanes; else a scratch copy that does.

    Parameters
    ----------
    source : Source of shape (m, n)
        A tall matrix.
    operand : str
        Its name in the job.
    resources : Resources
        Memory, workers and cores.
    choose : callable
        Gives the bands of a source.

    Returns
    -------
    tuple of (BandLayout, str, tuple of Stage)
        Bands, the name of what they are read from, and the copy if there is one.

    Raises
    ------
    MemoryBudgetError
        If neither the matrix nor a copy of it has bands that fit.
    """
    rows, columns = source.shape
    row_nbytes = columns * source.dtype.itemsize
    unit = max(1, min(source.unit[0], rows))
    most = max(1, resources.arrays_nbytes // (4 * resources.threads))
    few = -(-rows // unit) < 4 * resources.cores and unit * row_nbytes > 2 * BAND_NBYTES
    streams = unit * row_nbytes <= most and not (few and source.unit[1] < columns)
    if streams or unit == 1:
        try:
            return choose(source), operand, ()
        except MemoryBudgetError:
            if unit == 1:
                raise
    height = max(1, min(BAND_NBYTES, most // 4) // row_nbytes)
    planned, stage = rechunk_stage(operand, source, (height, columns), resources)
    assert stage.target is not None
    copy = replace(stage.target, name="bands")
    stage = replace(stage, name=f"bands of {operand}", target=copy)
    return choose(planned), copy.name, (stage,)
