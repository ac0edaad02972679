"""Truncated SVD by block Krylov iteration: Z = A^H (A Q) in one reading of each band.

The space K = [Q1 .. Qt] keeps every block; Rayleigh-Ritz over all of it needs no further pass,
since Y = A Q is kept in scratch arrays and Z = A^H Y in memory [1]_. New blocks are orthogonalised
twice against all of K; what vanishes is dropped, and when nothing is left the space is invariant.

References
----------
.. [1] C. Musco, C. Musco, Randomized block Krylov methods for stronger and faster approximate
   singular value decomposition, NeurIPS 2015, Algorithm 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import Source
from leptonhpc.errors import OptionError
from leptonhpc.linalg.conditioning import Conditioning
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.operator import Operator
from leptonhpc.linalg.svd_modes import (
    TooManyModesError,
    cannot_suffice,
    layout_with_room,
    rank_is_found,
)
from leptonhpc.linalg.svd_ritz import Basis, Modes, rayleigh_ritz
from leptonhpc.linalg.svd_shared import (
    SvdOptions,
    long_target,
    outcome,
    rounding_bound,
    scratch_target,
)
from leptonhpc.linalg.svd_small import NUMBERS
from leptonhpc.planning import BandLayout, Resources, Stage, Target, choose_bands
from leptonhpc.planning.layout import compute_dtype

EXPECTED_PASSES = 4
_COLUMNS = 64
"""Residuals that are found at once."""


@dataclass
class KrylovSvd:
    """The method for one operator."""

    operator: Operator
    options: SvdOptions
    gives_up: bool = False
    """Leave it to another method where more modes or passes are needed than are expected."""
    name = "krylov"
    title = "fused block Krylov iteration with residual stop"

    @staticmethod
    def choose_layout(
        source: Source, resources: Resources, options: SvdOptions, conditioning: Conditioning
    ) -> BandLayout:
        """Choose bands so that Z of all lanes and the Krylov space fit."""

        def plan(modes: int) -> BandLayout:
            work, fixed = KrylovSvd.demand(source, options, conditioning, modes)
            return choose_bands(
                source, resources, work, passes=2, fixed_nbytes=fixed,
                what="svd by Krylov iteration",
            )  # fmt: skip

        n = source.shape[1]
        width = options.width(n)
        if not rank_is_found(options):
            return layout_with_room(plan, usual=width, most=width)
        most = min(n, options.most_passes * width)
        return layout_with_room(plan, usual=width, most=most, alike=True)

    @staticmethod
    def demand(
        source: Source, options: SvdOptions, conditioning: Conditioning, modes: int | None = None
    ) -> tuple[Callable[[int], int], int]:
        """Give the bytes that a lane needs beside a band of some rows, and a worker once."""
        n, width = source.shape[1], options.width(source.shape[1])
        k = width if modes is None else modes
        if EXPECTED_PASSES * width > n:
            message = (
                f"method='krylov' is for ranks far below the short side; {EXPECTED_PASSES} blocks "
                f"of {width} vectors exceed {n}"
            )
            raise OptionError(message)
        dtype = compute_dtype(source.dtype)
        options.check_resolution(dtype, f"{dtype} products")
        wide = 16 if dtype.kind == "c" else 8
        plain = not (conditioning.center or conditioning.missing == "mean")
        total = min(n, most_passes(options, n, k) * width)

        def work(height: int) -> int:
            tile = 0 if plain and dtype == source.dtype else 2 * min(height, 1024) * n * wide
            # the space is rotated in tiles: its blocks, side by side, and what comes of them
            turned = min(height, 4096) * 2 * (total + k)
            gathered = max(n * width, k * k)
            return (
                height * max(width, k) * dtype.itemsize + (n * width + gathered) * wide
                + tile + turned * wide
            )  # fmt: skip

        # beside the space: a pass and the eigenproblem on it, or modes and how they combine it
        passing = 10 * n * width + 8 * total * total
        finishing = 6 * n * k + 4 * total * k + (1 + NUMBERS) * k * k
        return work, (2 * n * total + max(passing, finishing)) * wide

    @cached_property
    def stages(self) -> list[Stage]:
        """Give the stages, with how often they are expected to run."""
        operator, options = self.operator, self.options
        n, width = operator.columns, options.width(operator.columns)
        target = scratch_target(operator, "y1", width)
        first = operator.stage("normal", "pass", width, target=target, first=True)
        again = operator.stage("normal", "pass again", width, target=target, first=False)
        most = max(1, min(self._passes, -(-n // width)))
        again = replace(again, repeats=min(EXPECTED_PASSES, most) - 1, most_repeats=most - 1)
        stages = [*operator.stages_before(), first]
        stages += [again] if again.most_repeats else []
        k = options.expected_rank(n)
        if options.compute_uv:
            modes = operator.stage("normal", "project", k, target=target, first=False)
            stages.append(replace(modes, repeats=0, most_repeats=1))
        operands = tuple((f"y{i + 1}", width) for i in range(min(EXPECTED_PASSES, most)))
        if options.compute_uv:
            stages.append(operator.rotate_stage("rotate", operands, k, None))
            stages.append(operator.rotate_stage("write", operands, k, long_target(operator, k)))
        return stages

    def targets(self) -> list[Target]:
        """Give the arrays that are made."""
        if not self.options.compute_uv:
            return []
        n = self.operator.columns
        width = self.options.width(n)
        scratch = [
            scratch_target(self.operator, f"y{i + 1}", width)
            for i in range(min(EXPECTED_PASSES, self.options.most_passes))
        ]
        return [long_target(self.operator, self.options.expected_rank(n)), *scratch]

    def host_seconds(self) -> float:
        """Predict the time between passes."""
        total = EXPECTED_PASSES * self.options.width(self.operator.columns)
        return 8.0 * self.operator.columns * total**2 / self.operator.resources.rates.gemm_flops

    @property
    def _modes(self) -> int:
        """How many there is room for, and time."""
        width = self.options.width(self.operator.columns)
        room = max(width, self.operator.layout.modes)
        return width if self.gives_up else room

    @property
    def _passes(self) -> int:
        most = most_passes(self.options, self.operator.columns, self._modes)
        return min(most, EXPECTED_PASSES) if self.gives_up else most

    def run(self, execute: Execute) -> Outcome:
        """Run; see `Job.run`."""
        operator, options = self.operator, self.options
        operator.prepare(execute)
        width = options.width(operator.columns)
        space = _Space(operator, min(operator.columns, self._passes * width))
        q = _random_block(operator, width, options.seed)
        for number in range(1, self._passes + 1):
            # what is multiplied is the block as rounded to the dtype of computing
            q = q.astype(operator.dtype).astype(operator.wide_dtype)
            target = None
            if options.compute_uv:
                target = scratch_target(operator, f"y{number}", q.shape[1])
            z, offset, _ = operator.normal(
                execute, q, name=f"pass-{number}", target=target, first=number == 1
            )
            space.append(q, z, offset)
            values, c = space.ritz()
            k = options.choose_rank(np.maximum(values, 0), operator.square)
            if rank_is_found(options):
                self._require_room(values, k, number)
            needed = k or len(values)
            held = min(needed, self._modes)
            values, c = values[:held], c[:, :held]
            residuals = space.residuals(values, c)
            floor = 8 * operator.eps * max(float(values[0]), 0.0)
            settled = bool(np.all(residuals <= np.maximum(options.accuracy * values, floor)))
            if settled and (k is not None or held < needed):
                break
            q = space.next_block(z)
            if q.shape[1] == 0:  # the space is invariant: nothing more is to be found
                settled = True
                break
        if held < needed or (self.gives_up and k is None):
            raise TooManyModesError(self._modes, k if settled else None)
        return self._finish(
            execute, space, values, c, residuals, converged=settled and k is not None
        )

    def _require_room(self, values: NDArray[Any], k: int | None, number: int) -> None:
        """Refuse to go on where more modes will be needed than there is room for."""
        square, modes = self.operator.square, self._modes
        hopeless = number > 1 and cannot_suffice(self.options, values, modes, square)
        if hopeless and (k is None or k > modes):
            raise TooManyModesError(modes)

    def _finish(
        self, execute: Execute, space: _Space, values: NDArray[Any], c: NDArray[Any],
        residuals: NDArray[Any], *, converged: bool,
    ) -> Outcome:  # fmt: skip
        operator, options = self.operator, self.options
        if not options.compute_uv:
            s = np.sqrt(np.maximum(values, 0))
            safe = np.where(s > 0, s, 1)
            rounding = rounding_bound(operator, float(s[0]))
            left = np.where(s > rounding, residuals / safe, np.sqrt(np.abs(residuals)))
            return outcome(
                operator, options, method="block Krylov", s=s, v=None, residuals=left,
                orthogonality=0.0, converged=converged, rounding=rounding,
            )  # fmt: skip
        operands = tuple((f"y{i + 1}", width) for i, width in enumerate(space.widths))
        basis = Basis(operands, np.concatenate(space.offsets), space.z)
        v = space.k @ c
        modes = rayleigh_ritz(
            operator,
            execute,
            basis,
            c,
            v,
            seed=options.seed,
            write=True,
            limit=self._limit if converged else None,
        )
        if modes is None:
            modes = self._once_more(execute, v)
        limit = self._limit(modes.s)
        return outcome(
            operator, options, method="block Krylov", s=modes.s, v=modes.v,
            residuals=modes.residuals, orthogonality=modes.orthogonality,
            converged=converged and bool(np.all(modes.residuals <= limit)),
            rounding=rounding_bound(operator, float(modes.s[0])),
        )  # fmt: skip

    def _limit(self, s: NDArray[Any]) -> NDArray[Any]:
        rounding = rounding_bound(self.operator, float(s[0]))
        allowed: NDArray[Any] = self.options.accuracy * s + 8 * rounding
        return allowed

    def _once_more(self, execute: Execute, v: NDArray[Any]) -> Modes:
        """Make one more pass with the modes themselves.

        Z of the whole space is right to eps s1^2, which divided by a small s says little; Z of the
        modes is right to eps s1 s.
        """
        operator, k = self.operator, v.shape[1]
        v = v.astype(operator.dtype).astype(operator.wide_dtype)
        target = scratch_target(operator, "y0", k)
        z, offset, _ = operator.normal(execute, v, name="project", target=target, first=False)
        inverse = np.linalg.inv(np.linalg.cholesky(v.conj().T @ v)).conj().T
        modes = rayleigh_ritz(
            operator, execute, Basis((("y0", k),), offset, z), inverse, v @ inverse,
            seed=self.options.seed, write=True,
        )  # fmt: skip
        assert modes is not None
        return modes


def most_passes(options: SvdOptions, short: int, modes: int) -> int:
    """Give how many passes there is room for: with few modes of many, those that are expected.

    Parameters
    ----------
    options : SvdOptions
        What is asked for.
    short : int
        Order of the short side.
    modes : int
        For which there is room.

    Returns
    -------
    int
        Passes.
    """
    few = rank_is_found(options) and modes <= options.width(short)
    return min(options.most_passes, EXPECTED_PASSES) if few else options.most_passes


class _Space:
    """The Krylov space K and Z = A^H A K, in columns; memory is used as blocks come.

    Parameters
    ----------
    operator : Operator
        A.
    most : int
        Most columns.
    """

    def __init__(self, operator: Operator, most: int) -> None:
        shape = (operator.columns, most)
        self._k = np.empty(shape, operator.wide_dtype, order="F")
        self._z = np.empty(shape, operator.wide_dtype, order="F")
        self._eps = operator.eps
        self.widths: list[int] = []
        self.offsets: list[NDArray[Any]] = []

    @property
    def k(self) -> NDArray[Any]:
        """The basis; orthonormal to the rounding of the dtype of computing."""
        return self._k[:, : sum(self.widths)]

    @property
    def z(self) -> NDArray[Any]:
        """A^H A K."""
        return self._z[:, : sum(self.widths)]

    def append(self, q: NDArray[Any], z: NDArray[Any], offset: NDArray[Any]) -> None:
        """Take a block and its image."""
        begin = sum(self.widths)
        self._k[:, begin : begin + q.shape[1]] = q
        self._z[:, begin : begin + q.shape[1]] = z
        self.widths.append(q.shape[1])
        self.offsets.append(offset)
        self._inverse = np.linalg.inv(np.linalg.cholesky(self.k.conj().T @ self.k))

    def ritz(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Solve (K^H Z) c = value (K^H K) c; descending."""
        projected = self._inverse @ (self.k.conj().T @ self.z) @ self._inverse.conj().T
        projected = (projected + projected.conj().T) / 2
        size = float(np.max(np.abs(projected), initial=0.0)) or 1.0
        values, vectors = np.linalg.eigh(projected / size)
        return values[::-1] * size, self._inverse.conj().T @ vectors[:, ::-1]

    def residuals(self, values: NDArray[Any], c: NDArray[Any]) -> NDArray[Any]:
        """Give |A^H A v - value v| of Ritz vectors v = K c."""
        found = np.empty(len(values))
        for low in range(0, len(values), _COLUMNS):
            part = slice(low, low + _COLUMNS)
            left = self.k @ c[:, part]
            left *= -values[part]
            left += self.z @ c[:, part]
            found[part] = np.linalg.norm(left, axis=0)
        return found

    def next_block(self, z: NDArray[Any]) -> NDArray[Any]:
        """Orthogonalise Z against K twice; drop columns in which only rounding is left."""
        room = len(z) - sum(self.widths)
        size = float(np.linalg.norm(z))
        if size == 0 or room <= 0:
            return z[:, :0]
        w = self._away(self._away(z / size))
        u, s, _ = np.linalg.svd(w, full_matrices=False)
        # Z is right to eps (of the dtype of computing), so what is smaller is noise
        keep = min(int(np.count_nonzero(s > 4 * self._eps)), room)
        block: NDArray[Any] = self._away(u[:, :keep])
        return block

    def _away(self, w: NDArray[Any]) -> NDArray[Any]:
        """Give w - K (K^H K)^-1 K^H w."""
        part = self._inverse.conj().T @ (self._inverse @ (self.k.conj().T @ w))
        difference: NDArray[Any] = w - self.k @ part
        return difference


def _random_block(operator: Operator, width: int, seed: int) -> NDArray[Any]:
    key = np.array([seed, 2**63], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    block = generator.standard_normal((operator.columns, width))
    if operator.dtype.kind == "c":
        block = block + 1j * generator.standard_normal(block.shape)
    q: NDArray[Any] = np.linalg.qr(block)[0]
    return q
