"""How good a result is: measured on the result, with the bounds that theory allows."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class Certificate:
    """What was measured of a result."""

    converged: bool
    """Whether the result met the accuracy that was asked for."""
    computed: str = field(default="", kw_only=True)
    """What products were computed with, and what they were summed in."""

    def __post_init__(self) -> None:
        """Keep Python's own numbers: NumPy's are not the same when they were stored and loaded."""
        for part in fields(self):
            object.__setattr__(self, part.name, _plain(getattr(self, part.name)))

    def _ending(self, width: int = 22) -> str:
        """Give the last line of it in words, numbers in the column of those above."""
        return f"\n  {'computed':{width}}{self.computed}" if self.computed else ""

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as JSON can hold it."""
        return {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in asdict(self).items()
        }


@dataclass(frozen=True)
class SvdCertificate(Certificate):
    """Errors of singular triplets (u, s, v) of A, all absolute, in the units of A."""

    method: str
    passes: float
    """Readings of the whole input."""
    norm: float
    """Frobenius norm of A, after centring, scaling and weights."""
    residuals: tuple[float, ...]
    """Of each mode the larger of |A^H u - s v| and |A v - s u|, which are no more than this and
    `rounding`; some singular value of A lies within that distance of s [1]_. For one pass: bounds
    by independent draws, all of which hold at 99.9 % confidence. Without vectors: of s alone."""
    rounding: float
    """What the arithmetic may have added: c eps |A|."""
    captured: float
    """Share of |A|_F^2 in these modes."""
    captured_each: tuple[float, ...]
    frobenius_error: float
    """|A - U S V^H|_F, from |A|_F^2 - sum s^2; for one pass, estimated with independent draws."""
    frobenius_bound: float
    """An upper bound of it: with rounding, and for one pass at 99.9 % confidence."""
    orthogonality: float
    """Largest entry of |U^H U - I|, U the longer factor, as written; 0 if no vectors were asked
    for."""
    # [1] B. N. Parlett, The Symmetric Eigenvalue Problem, Theorem 4.5.1, for [[0, A], [A^H, 0]].

    def __str__(self) -> str:
        """Show it in words."""
        worst = max(self.residuals, default=0.0)
        top = self.norm or 1.0
        lines = [
            f"{len(self.residuals)} modes by {self.method} in {self.passes:.3g} passes, "
            f"{'converged' if self.converged else 'NOT CONVERGED'}",
            f"  captured variance   {100 * self.captured:.4f} %"
            if self.norm
            else "  captured variance   all: there is none",
            f"  Frobenius error     {self.frobenius_error:.4g} "
            f"(at most {self.frobenius_bound:.4g}; |A| = {self.norm:.6g})",
            f"  worst residual      {worst:.2e}, {worst / top:.1e} of |A|",
            f"  orthogonality of U  {self.orthogonality:.1e}",
            f"  rounding            {self.rounding:.1e}",
        ]
        return "\n".join(lines) + self._ending(20)


@dataclass(frozen=True)
class ProductCertificate(Certificate):
    """Errors of C = A B, checked on each block against random vectors x (Freivalds 1979)."""

    largest_error: float
    """Largest |C x - A (B x)| / (|A|_F |B|_F |x|) of all blocks."""
    bound: float
    """What rounding allows: c k eps, k the inner length."""
    blocks: int
    """Blocks that were checked: all."""
    norm: float
    """Frobenius norm of C."""

    def __str__(self) -> str:
        """Show it in words."""
        return (
            f"{self.blocks} blocks checked, {'all right' if self.converged else 'FAULTY'}: largest "
            f"error {self.largest_error:.1e} of |A||B|, rounding allows {self.bound:.1e}; "
            f"|C| = {self.norm:.6g}{self._ending()}"
        )


@dataclass(frozen=True)
class NormCertificate(Certificate):
    """Error of a norm."""

    relative_error: float
    """Bound: rounding, or the truncation of an iterative method."""

    def __str__(self) -> str:
        """Show it in words."""
        return f"relative error at most {self.relative_error:.1e}"


@dataclass(frozen=True)
class FactorCertificate(Certificate):
    """Backward error of a factorisation, checked with random vectors y (Freivalds 1979)."""

    backward_error: float
    """|A - F|_F / |A|_F, F the product of the factors, estimated by |(A - F)^H y|."""
    bound: float
    """What rounding allows: c n eps, c = 8 [1]_; more than that is pivots that grew, or a fault."""
    norm: float
    """Frobenius norm of A."""
    growth: float = 1.0
    """Largest entry of U by the largest of A; 1 where nothing can grow."""
    orthogonality: float = 0.0
    """|Q^H Q - I|_F, estimated with random vectors; 0 where there is no Q."""
    # [1] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., Theorems 9.3, 10.3
    #     and 19.4; see "What rounding allows" in the reference of functions.

    def __str__(self) -> str:
        """Show it in words."""
        lines = [
            f"{'backward stable' if self.converged else 'NOT BACKWARD STABLE'}: error "
            f"{self.backward_error:.1e} of |A|, rounding allows {self.bound:.1e}; "
            f"|A| = {self.norm:.6g}"
        ]
        if self.growth != 1.0:
            lines.append(f"  growth of the pivots  {self.growth:.3g}")
        if self.orthogonality:
            lines.append(f"  orthogonality of Q    {self.orthogonality:.1e}")
        return "\n".join(lines) + self._ending()


@dataclass(frozen=True)
class SolveCertificate(Certificate):
    """Backward error of the solution of A X = B, from its residuals."""

    backward_error: float
    """Largest |b - A x| / (|A|_F |x| + |b|) of the columns [1]_; where X is too large to come back
    whole, of random combinations of them."""
    bound: float
    """What rounding allows: c n eps, c = 8, as for factors; three times their n u at most."""
    norm: float
    """Frobenius norm of A."""
    condition: float
    """|A|_F |A^-1|_F, the second estimated from random right-hand sides."""
    error: float
    """About |x - x*| / |x| at most: 2 condition (backward_error + eps), eps for what rounding may
    have hidden in the residual."""
    refinements: int
    precision: str
    """Dtype of the factors."""
    growth: float = 1.0
    """Of the pivots: largest entry of U by the largest of A."""
    scaled: bool = False
    """Rows and columns of A were scaled, without which it is singular to working precision; all of
    these numbers are those of the scaled system: D_r A D_c, D_c^-1 x and D_r b."""
    # [1] J. L. Rigal, J. Gaches, On the compatibility of a given solution with the data of a linear
    #     system, J. ACM 14, 1967.

    def __str__(self) -> str:
        """Show it in words."""
        scaled = "\n  scaled                rows and columns: these are numbers of that system"
        refined = "" if not self.refinements else f", refined {self.refinements} times"
        return (
            f"{'backward stable' if self.converged else 'NOT BACKWARD STABLE'}: error "
            f"{self.backward_error:.1e}, rounding allows {self.bound:.1e}\n"
            f"  condition number      {self.condition:.1e}, so x is right to about "
            f"{min(1.0, self.error):.1e}\n"
            f"  factors               {self.precision}{refined}, growth {self.growth:.3g}"
            + scaled * self.scaled
            + self._ending()
        )


@dataclass(frozen=True)
class SpectrumCertificate(Certificate):
    """Errors of eigenpairs (w, v) of a Hermitian A, all absolute, in the units of A."""

    method: str
    passes: float
    """Readings of the whole input."""
    norm: float
    """Frobenius norm of A."""
    residuals: tuple[float, ...]
    """|A v - w v| of each pair, measured: within it (and `rounding`) is an eigenvalue of A [1]_."""
    eigenvalue_bound: float
    """k eigenvalues of A can be put in order so that each is within this distance of its w [2]_; if
    all pairs were asked for, that is the order that they have."""
    orthogonality: float
    """Largest entry of |V^H V - I|."""
    rounding: float
    """What arithmetic may have added: c eps |A|."""
    complete: bool
    """Whether these are all pairs of A."""
    # [1] B. N. Parlett, The Symmetric Eigenvalue Problem, Theorem 4.5.1.
    # [2] Z.-H. Cao, J.-J. Xie, R.-C. Li, A sharp version of Kahan's theorem on clustered
    #     eigenvalues, Linear Algebra Appl. 245, 1996: |R|_2 / smallest singular value of V.

    def __str__(self) -> str:
        """Show it in words."""
        worst, top = max(self.residuals, default=0.0), self.norm or 1.0
        return (
            f"{len(self.residuals)} eigenpairs, {self.method}, {self.passes:.3g} passes, "
            f"{'converged' if self.converged else 'NOT CONVERGED'}\n"
            f"  worst residual      {worst:.2e}, {worst / top:.1e} of |A|\n"
            f"  eigenvalues within  {self.eigenvalue_bound:.2e}\n"
            f"  orthogonality of V  {self.orthogonality:.1e}\n"
            f"  rounding            {self.rounding:.1e}"
        )


def spectrum_certificate(
    method: str, passes: float, norm: float, residuals: NDArray[Any], rounding: float, *,
    deviation: float, spread: float, allowed: float, complete: bool,
) -> SpectrumCertificate:  # fmt: skip
    """Derive bounds from what was measured of pairs (w, v).

    Parameters
    ----------
    method : str
        How the pairs were found.
    passes, norm, rounding : float
        As in the certificate.
    residuals : array of shape (k,)
        |A v - w v| of each pair.
    deviation, spread : float
        Largest entry, and Frobenius norm, of V^H V - I.
    allowed : float
        Largest residual that counts as converged.
    complete : bool
        Whether these are all pairs.

    Returns
    -------
    SpectrumCertificate
        The certificate.
    """
    total = math.hypot(*residuals.tolist()) + rounding
    return SpectrumCertificate(
        converged=bool(np.max(residuals, initial=0.0) <= allowed and spread < 0.5),
        method=method,
        passes=passes,
        norm=norm,
        residuals=tuple(float(r) for r in residuals),
        eigenvalue_bound=total / float(np.sqrt(1 - spread)) if spread < 1 else float("inf"),
        orthogonality=deviation,
        rounding=rounding,
        complete=complete,
    )


@dataclass(frozen=True)
class RankCertificate(Certificate):
    """How clearly singular values say what the rank is."""

    cutoff: float
    """Singular values up to this one count as zero; absolute."""
    smallest: float
    """Of those that count; 0 if there are none."""
    largest_dropped: float
    """Of those that do not; 0 if there are none."""
    rounding: float
    """How far a computed singular value may be from the true one: c eps |A|."""
    norm: float
    """Frobenius norm of A."""

    def __str__(self) -> str:
        """Show it in words."""
        return (
            f"rank {'decided' if self.converged else 'NOT DECIDED'} at {self.cutoff:.2e}: smallest "
            f"singular value that counts {self.smallest:.2e}, largest that does not "
            f"{self.largest_dropped:.2e}, each right to {self.rounding:.1e}"
        )


@dataclass(frozen=True)
class ConditionCertificate(Certificate):
    """Between which numbers a condition number lies."""

    lower: float
    """From singular values and what rounding may have added to them."""
    upper: float
    """The same; infinite if the matrix is singular to working precision."""
    rounding: float
    """How far a computed singular value may be from the true one: c eps |A|."""

    def __str__(self) -> str:
        """Show it in words."""
        if not self.converged:
            return f"singular to working precision: condition number at least {self.lower:.2e}"
        return f"condition number between {self.lower:.6g} and {self.upper:.6g}"


@dataclass(frozen=True)
class PseudoinverseCertificate(Certificate):
    """Error of a pseudoinverse X of A, checked with random vectors."""

    identity_error: float
    """|X A - P|_F for a tall A, |A X - P|_F for a wide one, estimated; P projects on the singular
    vectors that were kept. About the relative error of X."""
    bound: float
    """What rounding allows: c n eps times the condition of what was kept."""
    rank: int
    """Singular values that were kept."""
    cutoff: float
    """Singular values up to this one count as zero; absolute."""
    condition: float
    """Largest by smallest singular value that was kept; |A|_F |A^+|_F where they are not known, the
    second estimated with random vectors."""
    norm: float
    """Frobenius norm of A."""

    def __str__(self) -> str:
        """Show it in words."""
        return (
            f"rank {self.rank}, condition {self.condition:.1e}, "
            f"{'right' if self.converged else 'NOT RIGHT'}: error {self.identity_error:.1e}, "
            f"rounding allows {self.bound:.1e}"
        )


@dataclass(frozen=True)
class IterationCertificate(Certificate):
    """Residuals of an iterative solution, computed from A and x after the last iteration."""

    residual: float
    """Largest |b - A x| / |b| of the columns, A with its shift."""
    backward_error: float
    """Largest |b - A x| / (|A| |x| + |b|) of the columns [1]_ (with damp: of [A; damp I] and
    [b; 0]); for lsmr the smaller of this and `optimality`."""
    optimality: float | None
    """lsmr: largest |A^H r - damp^2 x| / (|A| |(r, damp x)|), zero at the solution; None where A is
    wide and r nothing but rounding."""
    tol: float
    """What was asked for: of `residual` (cg), of `backward_error` (lsmr)."""
    error: float
    """About |x - x*| / |x|: what the residual leaves possible, by the least eigenvalue that the
    iteration saw (an estimate: the least may be smaller)."""
    condition: float
    """Condition number of the preconditioned operator, as the iteration saw it: a lower bound."""
    norm: float
    """Frobenius norm of A."""
    iterations: int
    passes: int
    """Multiplications with A, sketch and residuals included."""
    rank: int
    """Of the preconditioner."""
    history: tuple[float, ...]
    """After each pass: the largest relative residual (lsmr: backward error) of the columns, by the
    recurrences; where it was computed anew, from A."""
    # [1] J. L. Rigal, J. Gaches, On the compatibility of a given solution with the data of a linear
    #     system, J. ACM 14, 1967.

    def __str__(self) -> str:
        """Show it in words."""
        reached = "converged" if self.converged else "NOT CONVERGED"
        lines = [
            f"{reached} in {self.iterations} iterations, {self.passes} passes; residual "
            f"{self.residual:.1e}, backward error {self.backward_error:.1e}, asked for "
            f"{self.tol:.1e}",
            f"  condition number      at least {self.condition:.1e}"
            + (f", preconditioned with rank {self.rank}" if self.rank else ""),
            f"  error of x            about {self.error:.1e}",
        ]
        if self.optimality is not None:
            lines.append(f"  |A^H r| / (|A| |r|)   {self.optimality:.1e}")
        return "\n".join(lines)
