"""QR of a tall matrix by Cholesky factors of Gram matrices: A is read in bands, Q written once.

X_0 = A; while X_i^H X_i, measured, is far from the identity, X_{i+1} = X_i R^-1 with R^H R = X_i^H
X_i; the last of them is Q, and R the product. With two factors this is CholeskyQR2 [1]_, with three
(the first one shifted where it breaks down) shifted CholeskyQR3 [2]_. All of it is in double
precision, with columns scaled to length one; nothing but A is read: X_i is formed anew from each
band, by triangular solves one after the other. Columns that depend on one another are left to
`qr_basis`.

References
----------
.. [1] Y. Yamamoto, Y. Nakatsukasa, Y. Yanagisawa, T. Fukaya, Roundoff error analysis of the
   CholeskyQR2 algorithm, ETNA 44, 2015.
.. [2] T. Fukaya, R. Kannan, Y. Nakatsukasa, Y. Yamamoto, Y. Yanagisawa, Shifted Cholesky QR for
   computing the QR factorization of ill-conditioned matrices, SIAM J. Sci. Comput. 42, 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Source
from leptonhpc.errors import LinAlgError
from leptonhpc.linalg.bands import BandPasses, streamable
from leptonhpc.linalg.certificates import FactorCertificate
from leptonhpc.linalg.jobs import Counter, Execute, Outcome
from leptonhpc.linalg.qr_basis import Basis, revealed, scaled
from leptonhpc.linalg.sizes import length
from leptonhpc.linalg.svd_small import NUMBERS, small_svd_stage
from leptonhpc.planning import BandLayout, Resources, Stage, Target, choose_bands, rounding

_NEAR = 0.5
"""|X^H X - I|_F up to which one more Cholesky factor gives Q to rounding ([1]_, Theorem 3.3)."""
_MOST_FACTORS = 3
_MOST_WRITES = 3
_CUTS = (8.0, 128.0, 2048.0)
"""What counts as rounding of the triangle, one after the other until no column is nothing else."""
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class QrCertificate(FactorCertificate):
    """Backward error and orthogonality, and how the factors were made."""

    method: str = ""
    """The method that gave them; where it is not the one that was planned, why."""

    def __str__(self) -> str:
        """Show it in words."""
        return f"{super().__str__()}\n  by                    {self.method}"


def qr_certificate(
    error: float, orthogonality: float, norm: float, shape: tuple[int, int], dtype: Any,
    method: str, precision: str | None = None,
) -> QrCertificate:  # fmt: skip
    """Judge the factors of a matrix.

    Parameters
    ----------
    error : float
        |A - Q R|_F / |A|_F, estimated.
    orthogonality : float
        |Q^H Q - I|_F.
    norm : float
        |A|_F.
    shape : tuple of int
        Of A.
    dtype : dtype
        Of computing.
    method : str
        How they were made.
    precision : str, optional
        Of products, where they are in the dtype of computing.

    Returns
    -------
    QrCertificate
        Converged where both errors are what rounding explains.
    """
    # columns err by gamma_mk (Higham 2002, Theorem 19.4), which as a random walk of roundings in
    # sums of length m, k times, is sqrt(m) + k; sqrt(k) of it in the Frobenius norm of Q
    k = min(shape)
    bound = 8 * rounding(max(k, 2) + shape[0] ** 0.5, dtype, precision)
    return QrCertificate(
        converged=error <= bound and orthogonality <= k**0.5 * bound, backward_error=error,
        bound=bound, norm=norm, orthogonality=orthogonality, method=method,
    )  # fmt: skip


@dataclass(frozen=True)
class TallQr:
    """The method for one matrix."""

    before: tuple[Stage, ...]
    gram: Stage
    again: Stage
    """The pass for the next Gram matrix."""
    write: Stage
    basis: tuple[Stage, Stage] | None
    """Triangle and its SVD, where columns depend on one another; None: then there is no Q."""
    layout: BandLayout
    small: Mapping[str, Any]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What is expected to run."""
        return (*self.before, self.gram, self.again, self.write)

    def run(self, execute: Execute) -> Outcome | str:
        """Give Q and R, or the reason why there are none."""
        for stage in self.before:
            execute(stage, {})
        passes = _Passes(self, execute)
        found = passes.by_factors()
        if isinstance(found, str) and self.basis is not None:
            return passes.completed(self.basis, found)
        return found


class _Passes:
    """The passes of one run, and what the first of them found."""

    def __init__(self, job: TallQr, execute: Execute) -> None:
        self.job, self.execute, self.counter = job, execute, Counter()
        self.first = execute(self.named(job.gram), {**job.small, "first": True})
        self.gram = self.first.pop("gram")

    def named(self, stage: Stage) -> Stage:
        """Give a stage a name of its own."""
        return replace(stage, name=self.counter.next(stage.name))

    def by_factors(self) -> Outcome | str:
        """Give Q = A R^-1, or the reason why this does not do."""
        gram, self.gram = self.gram, None
        reason = _unsuited(_norms(gram), self.first["sizes"], self.first)
        if reason:
            return reason
        factors = self._factors({**self.first, "gram": gram}, None)
        if factors is None:
            return "its columns depend on one another to working precision"
        method = f"Cholesky factors of Gram matrices, {len(factors)} of them"
        outcome = self._written(factors, _product(factors), method)
        if outcome.certificate.converged:
            return outcome
        certificate: Any = outcome.certificate
        return f"its Q departs from orthogonality by {certificate.orthogonality:.1e}"

    def completed(self, stages: tuple[Stage, Stage], why: str) -> Outcome:
        """Give Q and R from a basis of the columns that is completed by random ones."""
        small = {**self.job.small, "tile": self.job.small["stack_tile"]}
        stacked = self.execute(stages[0], small).pop("stacked")
        matrix, scale = scaled(stacked, small["name"])
        del stacked
        found = self.execute(stages[1], {"matrix": matrix, "left": False})
        del matrix
        for cut in _CUTS:
            basis = revealed(found["s"], found["vh"], scale, cut=cut)
            factors = self._factors(self._measured([], basis), basis)
            if factors is not None:
                break
        else:
            message = (
                f"qr of {small['name']}: no basis of its columns is well conditioned. Pass "
                "method='householder'"
            )
            raise LinAlgError(message)
        turn, r = basis.factored(_product(factors))
        method = (
            f"Cholesky factors of a basis that TSQR found, {basis.rank} columns of it from those "
            f"of A, for {why}"
        )
        return self._written(factors, r, method, basis, turn)

    def _measured(self, factors: list[NDArray[Any]], basis: Basis | None) -> dict[str, Any]:
        small = {**self.job.small, "factors": factors, "basis": basis and basis.of_bands}
        return self.execute(self.named(self.job.again), small)

    def _factors(self, acc: dict[str, Any], basis: Basis | None) -> list[NDArray[Any]] | None:
        """Give triangles whose inverses make the columns orthonormal; None if they cannot."""
        factors: list[NDArray[Any]] = []
        while True:
            norms = _norms(acc["gram"])
            if _unsuited(norms, norms, acc):
                return None
            correlation = _hermitian(acc["gram"], norms)
            near = float(np.linalg.norm(correlation - np.eye(len(norms)))) <= _NEAR
            factors.append(_cholesky(correlation) * norms)
            if near:
                return factors
            if len(factors) == _MOST_FACTORS:
                return None
            acc = self._measured(factors, basis)

    def _written(
        self, factors: list[NDArray[Any]], r: NDArray[Any], method: str,
        basis: Basis | None = None, turn: NDArray[Any] | None = None,
    ) -> Outcome:  # fmt: skip
        """Write Q, and judge what was written; once more where workers round unlike one another.

        What one of them measured another one may have written: Q is then off by c eps times the
        condition of A, and a triangle of its own Gram matrix mends it.
        """
        small = {**self.job.small, "factors": factors, "write": True}
        small["basis"] = basis and basis.of_bands
        while True:
            acc = self.execute(self.named(self.job.write), {**small, "turn": turn})
            gram = _hermitian(acc["gram"], np.ones(len(r)))
            certificate = self._judged(r, gram, acc["left"], method)
            again = self.counter.names[self.job.write.name] < _MOST_WRITES
            if certificate.converged or not certificate.orthogonality <= _NEAR or not again:
                return Outcome({"q": "q", "r": r.astype(small["dtype"])}, certificate)
            more = _cholesky(gram)
            r = np.triu(more @ r)
            turn = np.linalg.inv(more) if turn is None else turn @ np.linalg.inv(more)

    def _judged(
        self, r: NDArray[Any], gram: NDArray[Any], left: NDArray[Any], method: str
    ) -> QrCertificate:
        dtype = self.job.small["dtype"]
        r = r.astype(dtype)
        norm = length(r)
        defect = (left.conj().T @ r - self.first["expected"].conj().T) / (norm or 1.0)
        return qr_certificate(
            float(np.linalg.norm(defect)) / len(defect) ** 0.5,
            float(np.linalg.norm(gram - np.eye(len(r)))),
            norm, (self.job.layout.rows, len(r)), dtype, method,
        )  # fmt: skip


def _product(factors: list[NDArray[Any]]) -> NDArray[Any]:
    """Give R_t ... R_2 R_1."""
    r = factors[0]
    for factor in factors[1:]:
        r = np.triu(factor @ r)
    return r


def _norms(gram: NDArray[Any]) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.sqrt(np.maximum(gram.diagonal().real, 0))
    return norms


def _unsuited(norms: NDArray[Any], sizes: NDArray[Any], acc: Mapping[str, Any]) -> str:
    """Say why a Gram matrix cannot be used, if it cannot."""
    if acc["max_overflow"]:
        return "its squares overflow float64"
    if np.any(norms[sizes > 0] < 1e-140):
        return "its squares underflow float64"
    zeros = np.flatnonzero(norms == 0)
    return f"its column {int(zeros[0])} is zero" if len(zeros) else ""


def _hermitian(gram: NDArray[Any], norms: NDArray[Any]) -> NDArray[Any]:
    """Give the whole of a Gram matrix whose lower triangle was summed, of columns of length one."""
    lower = np.tril(gram, -1) / norms[:, None] / norms
    whole: NDArray[Any] = lower + lower.conj().T
    np.fill_diagonal(whole, gram.diagonal().real / norms / norms)
    return whole


def _cholesky(gram: NDArray[Any]) -> NDArray[Any]:
    """Give upper triangular R with R^H R = G + s I, s the smallest shift of some that will do.

    G has ones on its diagonal and errors of some eps from summing; the shift that is proven to do,
    11 (mn + n (n + 1)) eps |A|^2 ([2]_, Lemma 4.1), is a worst case, and what it is too large makes
    the next factor worse conditioned.
    """
    n = len(gram)
    for shift in (0.0, *(n * _EPS * 16.0**power for power in range(14))):
        try:
            lower = np.linalg.cholesky(gram + shift * np.eye(n))
        except np.linalg.LinAlgError:
            continue
        return np.ascontiguousarray(lower.conj().T)
    raise AssertionError  # a shift of more than n makes any such matrix diagonally dominant


def plan_tall(
    x: BlockedArray, resources: Resources, *, seed: int, dtype: np.dtype[Any],
    independent: bool = False,
) -> TallQr:  # fmt: skip
    """Plan the passes.

    Parameters
    ----------
    x : BlockedArray of shape (m, n), m >= n
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    seed : int
        Of the vectors that check the factors, and of columns that complete those of x.
    dtype : dtype
        Of computing: of what is written.
    independent : bool
        Give up where columns depend on one another.

    Returns
    -------
    TallQr
        The plan.

    Raises
    ------
    MemoryBudgetError
        If a band and the Gram matrices do not fit; the message names the smallest budget.
    """
    m, n = x.shape
    wide, tile = np.result_type(dtype, np.float64), max(256, min(4096, (1 << 18) // n))
    square, stack_tile = n * n * wide.itemsize, max(512, n)

    def work(height: int) -> int:
        return square + 3 * min(height, tile) * n * wide.itemsize + 3 * height * n * dtype.itemsize

    def stack(height: int) -> int:
        return square + (n + min(height, stack_tile)) * (n + 512) * wide.itemsize

    def choose(source: Source) -> BandLayout:
        return choose_bands(
            source, resources, work, fixed_nbytes=NUMBERS * square, passes=3, what="qr",
            other=None if independent else stack,
        )  # fmt: skip

    layout, operand, before = streamable(x.source, "a", resources, choose)
    factor = 4.0 if dtype.kind == "c" else 1.0
    target = Target("q", (m, n), dtype.str, (layout.height, n))
    bands = BandPasses(layout, resources, ((operand, n),))
    gram = bands.stage("gram", "solved_gram", 2 * factor * n**2, first=True)
    again = bands.stage("again", "solved_gram", 3 * factor * n**2)
    most = _MOST_FACTORS - 1 if independent else 2 * _MOST_FACTORS
    again = replace(again, most_repeats=most)
    write = bands.stage("write", "solved_gram", 3 * factor * n**2, target=target)
    triangle = bands.stage("triangle", "stack", 4 * factor * n**2)
    basis = (triangle, small_svd_stage(n, layout, resources, wide))
    small = {
        "dtype": dtype, "wide": wide, "seed": seed, "name": x.name, "names": (x.name,),
        "columns": n, "sides": 0, "tile": tile, "stack_tile": stack_tile, "factors": [],
        "basis": None, "turn": None, "write": False, "first": False,
    }  # fmt: skip
    return TallQr(before, gram, again, write, None if independent else basis, layout, small)
