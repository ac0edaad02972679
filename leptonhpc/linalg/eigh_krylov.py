"""A few eigenpairs of a Hermitian matrix of any size: block Lanczos with thick restart.

Each pass multiplies a block of vectors with A, reading one triangle of it. The basis is kept, and
kept orthonormal, on the host (full reorthogonalisation, twice), together with A times it: so Ritz
values and residuals come from true products. When the basis is full its best Ritz vectors are kept
and the iteration goes on from them [1]_, which bounds memory and loses nothing that matters.

The block has more columns than pairs are asked for, so that no multiplicity hides an eigenvalue.

.. [1] K. Wu, H. Simon, Thick-restart Lanczos method for large symmetric eigenvalue problems, SIAM
   J. Matrix Anal. Appl. 22, 2000.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.errors import MemoryBudgetError
from leptonhpc.linalg.certificates import spectrum_certificate
from leptonhpc.linalg.hermitian import SIDES, hermitian_tile, lower_tiles, passes_of
from leptonhpc.linalg.jobs import Counter, Execute, Outcome
from leptonhpc.linalg.krylov_basis import Basis, unit_of
from leptonhpc.linalg.rechunk import in_squares
from leptonhpc.linalg.sizes import grain
from leptonhpc.planning import Alternative, Explanation, Resources, Stage, Task, seconds
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.planning.explain import explain
from leptonhpc.planning.layout import compute_dtype
from leptonhpc.planning.tasks import StepList

OVERSAMPLING = 8
_BLOCKS = range(16, 1, -1)
"""Blocks of the basis: as many as memory has room for."""
_EXPECTED = 24
"""Passes that are planned with."""
_TOLERANCE = {"f": 1e-4, "d": 1e-8}
"""Residuals, relative to |A|_2. Eigenvalues are right to their square over the gap."""


@dataclass(frozen=True)
class KrylovEigh:
    """A few eigenpairs, planned."""

    before: tuple[Stage, ...]
    first: Stage
    """Reads all of A, and compares the triangles."""
    later: Stage
    """Reads one triangle."""
    shape: tuple[int, int, int, int]
    """Order of A, pairs, columns of a block, columns of the basis."""
    which: str
    tol: float
    most_passes: int
    seed: int
    name: str
    dtype: np.dtype[Any]
    sources: Mapping[str, Source]
    parameters: Mapping[str, Any]
    resources: Resources
    explanation: Explanation
    driver: str = "eigh"

    def run(self, execute: Execute) -> Outcome:
        """Iterate until residuals are small; measure what is given; see `Job.run`."""
        for stage in self.before:
            execute(stage, {})
        product = _Products(self, execute)
        n, k, width, most = self.shape
        space = Basis(n, k, most, self.which == "largest", np.result_type(self.dtype, float))
        generator = np.random.Generator(np.random.Philox(key=self.seed))
        block = space.completed(space.q[:, :0], width, generator)
        for left in range(self.most_passes - 2, -1, -1):  # the last pass measures
            space.add(block, product(block))
            largest = max(space.residuals, default=0.0)
            if largest <= self.tol * space.top or space.filled == n or not left:
                break
            block = space.following(width, generator)
        return self._measured(product, space)

    def _measured(self, product: _Products, space: Basis) -> Outcome:
        """Give the pairs as they will be stored, with residuals from one more pass."""
        n, k = self.shape[:2]
        v = space.vectors().astype(self.dtype)
        wide = v.astype(space.q.dtype)
        w = product(wide)
        lengths = np.sum(np.abs(wide) ** 2, axis=0)
        theta = np.sum(wide.conj() * w, axis=0).real / lengths
        order = np.argsort(theta, kind="stable")
        residuals = np.linalg.norm(w - wide * theta, axis=0)[order] / np.sqrt(lengths[order])
        v, theta, wide = v[:, order], theta[order], wide[:, order]
        gram = wide.conj().T @ wide - np.eye(k)
        eps = float(np.finfo(self.dtype).eps)
        rounding = 8 * math.sqrt(n) * eps * space.top
        certificate = spectrum_certificate(
            "block Krylov", product.passes, product.norm, residuals / product.unit,
            rounding / product.unit + grain(self.dtype, space.top),
            deviation=float(np.max(np.abs(gram))), spread=float(np.linalg.norm(gram)),
            allowed=(self.tol * space.top + rounding) / product.unit, complete=k == n,
        )  # fmt: skip
        real = v.real.dtype
        fields = {"eigenvalues": (theta / product.unit).astype(real), "eigenvectors": v}
        return Outcome(fields, certificate)


@dataclass
class _Products:
    """A times blocks of vectors, one pass each."""

    job: KrylovEigh
    execute: Execute
    counter: Counter = field(default_factory=Counter)
    passes: float = 0.0
    norm: float = 0.0
    """Frobenius norm of A."""
    unit: float = 1.0
    """Power of two that brings A near one where squares of its products leave the range."""

    def __call__(self, block: NDArray[Any]) -> NDArray[Any]:
        """Give unit A times a block, in double precision."""
        job, check = self.job, self.passes == 0
        stage = job.first if check else job.later
        small = {
            "y": np.ascontiguousarray(block, job.dtype), "check": check, "name": job.name,
            "driver": job.driver, "columns": job.shape[0], "dtype": job.dtype,
        }  # fmt: skip
        acc = self.execute(replace(stage, name=self.counter.next(stage.name)), small)
        self.passes += stage.passes
        if check:
            self.norm = float(acc["hypot_norm"])
            self.unit = unit_of(self.norm)
        product: NDArray[Any] = acc["product"].astype(block.dtype) * self.unit
        return product


def plan_krylov(
    x: BlockedArray,
    resources: Resources,
    *,
    k: int,
    which: str,
    tol: float | None,
    most_passes: int,
    seed: int,
    alternatives: tuple[Alternative, ...] = (),
) -> KrylovEigh:
    """Plan the k largest or smallest eigenpairs.

    Parameters
    ----------
    x : BlockedArray of shape (n, n)
        Hermitian.
    resources : Resources
        Memory, workers, cores and rates.
    k : int
        How many.
    which : {"largest", "smallest"}
        By algebraic value.
    tol : float, optional
        Largest residual, relative to |A|_2; default 1e-8, in single precision 1e-4.
    most_passes : int
        When to stop.
    seed : int
        Of the first block.
    alternatives : tuple of Alternative
        What else was considered.

    Returns
    -------
    KrylovEigh
        The plan.

    Raises
    ------
    MemoryBudgetError
        If not even a small basis fits.
    """
    n, dtype = x.shape[0], compute_dtype(x.dtype)
    before: list[Stage] = []
    a = in_squares(x, "a", before, resources)
    width = min(n, 8 * math.ceil((k + OVERSAMPLING) / 8))
    # a smaller basis takes more passes, but below four blocks many more: rather small tiles
    choices = sorted(itertools.product(_BLOCKS, SIDES), key=lambda c: (c[0] < 4, -c[1], -c[0]))
    for blocks, side in choices:
        most, tile = min(n, blocks * width), hermitian_tile(a.source, side)
        need = _need(n, k, width, most, tile, dtype, a.source.dtype)
        if need <= resources.memory_nbytes:
            break
    else:
        message = (
            f"eigh of {k} pairs of {x.name} keeps {2 * most} vectors of length {n}: that needs at "
            f"least memory='{-(-need // 10**6)} MB'; found "
            f"{format_nbytes(resources.memory_nbytes)}. Ask for fewer pairs, or give more"
        )
        raise MemoryBudgetError(message)
    first, later = (
        krylov_pass(name, a.source, resources, dtype, tile, width, need, mirror=name == "first")
        for name in ("first", "iterate")
    )
    later = replace(later, repeats=min(_EXPECTED, most_passes) - 1, most_repeats=most_passes - 1)
    host = _EXPECTED * n * (8.0 * most * width + 4.0 * most * k)
    host *= (4.0 if dtype.kind == "c" else 1.0) / resources.rates.skinny_flops
    explanation = explain(
        "eigh", [f"{x.name} {x.shape} {x.dtype}"], [*before, first, later], resources,
        method=f"block Krylov with thick restart, {width} vectors a pass",
        why=f"{k} of {n} pairs; a basis of up to {most} vectors",
        targets=[s.target for s in before if s.target is not None], extra_seconds=host,
        alternatives=alternatives,
    )  # fmt: skip
    single = dtype.char in "fF"
    chosen = _TOLERANCE["f" if single else "d"] if tol is None else tol
    parameters = {
        "driver": "eigh", "method": "krylov", "k": k, "which": which, "tol": chosen, "seed": seed,
        "most_passes": most_passes, "layout": [tile, width, most],
    }  # fmt: skip
    return KrylovEigh(
        tuple(before), first, later, (n, k, width, most), which, chosen, most_passes, seed, x.name,
        dtype, {"a": x.source}, parameters, resources, explanation,
    )  # fmt: skip


def krylov_pass(
    name: str, source: Source, resources: Resources, dtype: np.dtype[Any], tile: int, width: int,
    need: int, *, mirror: bool,
) -> Stage:  # fmt: skip
    """Plan the product of a Hermitian matrix, operand "a", with a few vectors.

    Parameters
    ----------
    name : str
        Of the stage.
    source : Source of shape (n, n)
        The matrix.
    resources : Resources
        Workers, cores and rates.
    dtype : dtype
        Of computing.
    tile : int
        Rows and columns that are read at once.
    width : int
        Vectors.
    need : int
        Bytes of a worker.
    mirror : bool
        Read both triangles, to be compared.

    Returns
    -------
    Stage
        One task per row of tiles.
    """
    n, item = source.shape[0], source.dtype.itemsize
    factor = 4.0 if dtype.kind == "c" else 1.0
    tasks: list[Task] = []
    previous: dict[int, str] = {}
    for i, steps in enumerate(lower_tiles(n, tile, mirror=mirror)):
        lane, rows = i % resources.workers, steps[0].at[0]
        height = rows[1] - rows[0]
        elements = height * (2 * rows[0] + height)  # of the tiles and their mirror images
        task = Task(
            f"hemm-{rows[0]}", "hemm", StepList(steps), lane, previous.get(lane), (rows,),
            flops=factor * 2.0 * elements * width,
            read_nbytes=item * (elements if mirror else height * rows[1]),
        )  # fmt: skip
        previous[lane] = task.key
        tasks.append(task)
    predicted = seconds(
        "normal", dtype, flops=sum(t.flops for t in tasks),
        read_nbytes=sum(t.read_nbytes for t in tasks), write_nbytes=0, resources=resources,
    )  # fmt: skip
    return Stage(
        name, tuple(tasks), min(resources.workers, len(tasks)), 1, resources.threads, None,
        passes=passes_of(source, tasks), peak_nbytes=need, seconds=predicted, prefetch="always",
        dtype=dtype.str,
    )  # fmt: skip


def _need(
    n: int, k: int, width: int, most: int, tile: int, dtype: np.dtype[Any], stored: np.dtype[Any]
) -> int:
    """Bytes: Q and W, what a restart copies, blocks being orthonormalised; tiles being read."""
    wide = 16 if dtype.kind == "c" else 8
    host = n * (2 * most + max(most, 3 * k) + 6 * width) * wide + 6 * most * most * wide
    tiles = tile * tile * (4 * stored.itemsize + 6 * dtype.itemsize)
    return LIBRARIES_NBYTES + host + tiles + 4 * n * width * dtype.itemsize
