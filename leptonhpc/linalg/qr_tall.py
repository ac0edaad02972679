"""QR of a tall matrix by Cholesky factors of Gram matrices: A is read in bands, Q written once.

X_0 = A; while X_i^H X_i, measured, is far from the identity, X_{i+1} = X_i R^-1 with R^H R = X_i^H
X_i; the last of them is Q, and R the product. With two factors this is CholeskyQR2 [1]_, with three
(the first one shifted where it breaks down) shifted CholeskyQR3 [2]_. All of it is in double
precision, with columns scaled to length one; nothing but A is read: X_i is formed anew from each
band, by triangular solves one after the other.

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
from leptonhpc.linalg.bands import BandPasses, streamable
from leptonhpc.linalg.certificates import FactorCertificate
from leptonhpc.linalg.jobs import Counter, Execute, Outcome
from leptonhpc.planning import BandLayout, Resources, Stage, Target, choose_bands

_NEAR = 0.5
"""|X^H X - I|_F up to which one more Cholesky factor gives Q to rounding ([1]_, Theorem 3.3)."""
_MOST_FACTORS = 3
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
    error: float, orthogonality: float, norm: float, shape: tuple[int, int], dtype: Any, method: str
) -> QrCertificate:
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

    Returns
    -------
    QrCertificate
        Converged where both errors are what rounding explains.
    """
    # columns err by gamma_mk (Higham 2002, Theorem 19.4), which as a random walk of roundings in
    # sums of length m, k times, is sqrt(m) + k; sqrt(k) of it in the Frobenius norm of Q
    k = min(shape)
    bound = 8 * (max(k, 2) + shape[0] ** 0.5) * float(np.finfo(dtype).eps)
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
    layout: BandLayout
    small: Mapping[str, Any]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What is expected to run."""
        return (*self.before, self.gram, self.again, self.write)

    def run(self, execute: Execute) -> Outcome | str:
        """Give Q and R, or the reason why another method has to."""
        for stage in self.before:
            execute(stage, {})
        counter, factors = Counter(), list[NDArray[Any]]()

        def measured() -> dict[str, Any]:
            stage = replace(self.again, name=counter.next("again")) if factors else self.gram
            return execute(stage, {**self.small, "factors": factors, "first": not factors})

        first = acc = measured()
        norms = _norms(acc["gram"])
        reason = _unsuited(norms, acc["sizes"], acc)
        while not reason:
            correlation = _hermitian(acc["gram"], norms)
            near = float(np.linalg.norm(correlation - np.eye(len(norms)))) <= _NEAR
            factors.append(_cholesky(correlation) * norms)
            if near:
                return self._written(execute, factors, first)
            if len(factors) == _MOST_FACTORS:
                break
            acc = measured()
            norms = _norms(acc["gram"])
            reason = _unsuited(norms, norms, acc)
        return reason or "its columns depend on one another to working precision"

    def _written(
        self, execute: Execute, factors: list[NDArray[Any]], first: Mapping[str, Any]
    ) -> Outcome | str:
        small = {**self.small, "factors": factors, "write": True}
        acc = execute(self.write, small)
        r = factors[0]
        for factor in factors[1:]:
            r = np.triu(factor @ r)
        r = r.astype(small["dtype"])
        norm = float(np.linalg.norm(_norms(first["gram"])))
        left = (acc["left"].conj().T @ r - first["expected"].conj().T) / norm
        gram = _hermitian(acc["gram"], np.ones(len(r)))
        method = f"Cholesky factors of Gram matrices, {len(factors)} of them"
        certificate = qr_certificate(
            float(np.linalg.norm(left)) / len(left) ** 0.5,
            float(np.linalg.norm(gram - np.eye(len(r)))),
            norm, (self.layout.rows, len(r)), small["dtype"], method,
        )  # fmt: skip
        if not certificate.converged:
            return f"its Q departs from orthogonality by {certificate.orthogonality:.1e}"
        return Outcome({"q": "q", "r": r}, certificate)


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


def plan_tall(x: BlockedArray, resources: Resources, *, seed: int, dtype: np.dtype[Any]) -> TallQr:
    """Plan the passes.

    Parameters
    ----------
    x : BlockedArray of shape (m, n), m >= n
        The matrix.
    resources : Resources
        Memory, workers, cores and rates.
    seed : int
        Of the vectors that check the factors.
    dtype : dtype
        Of computing: of what is written.

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
    square = n * n * wide.itemsize

    def work(height: int) -> int:
        return square + 3 * min(height, tile) * n * wide.itemsize + 3 * height * n * dtype.itemsize

    def choose(source: Source) -> BandLayout:
        return choose_bands(source, resources, work, fixed_nbytes=8 * square, passes=3, what="qr")

    layout, operand, before = streamable(x.source, "a", resources, choose)
    factor = 4.0 if dtype.kind == "c" else 1.0
    target = Target("q", (m, n), dtype.str, (layout.height, n))
    bands = BandPasses(layout, resources, ((operand, n),))
    gram = bands.stage("gram", "solved_gram", 2 * factor * n**2, first=True)
    again = bands.stage("again", "solved_gram", 3 * factor * n**2)
    again = replace(again, most_repeats=_MOST_FACTORS - 1)
    write = bands.stage("write", "solved_gram", 3 * factor * n**2, target=target)
    small = {
        "dtype": dtype, "wide": wide, "seed": seed, "name": x.name, "columns": n, "tile": tile,
        "write": False, "first": False,
    }  # fmt: skip
    return TallQr(before, gram, again, write, layout, small)


def with_resident(tall: TallQr, nbytes: int) -> TallQr:
    """Keep no more bands resident than fit into so many bytes.

    Parameters
    ----------
    tall : TallQr
        The plan.
    nbytes : int
        Of a worker.

    Returns
    -------
    TallQr
        The plan with fewer resident bands.
    """
    layout = tall.layout
    most = max(0, nbytes) // max(1, layout.lanes_per_worker * layout.band_nbytes)
    if most >= layout.resident:
        return tall
    fewer = replace(layout, resident=most, room_nbytes=max(0, nbytes))

    def cut(stage: Stage) -> Stage:
        tasks = []
        for task in stage.tasks:
            steps: Any = task.steps
            kept = fewer.lane_bands(task.lane).start + most
            bands = replace(steps.steps, kept=kept)
            tasks.append(replace(task, steps=replace(steps, steps=bands)))
        return replace(
            stage, tasks=tuple(tasks), peak_nbytes=fewer.peak_nbytes,
            resident_nbytes=fewer.room_nbytes,
        )  # fmt: skip

    return replace(
        tall, gram=cut(tall.gram), again=cut(tall.again), write=cut(tall.write), layout=fewer
    )
