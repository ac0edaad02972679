"""How good a result is: measured on the result, with the bounds that theory allows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Certificate:
    """What was measured of a result."""

    converged: bool
    """Whether the result met the accuracy that was asked for."""

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
    """|A^H u - s v| of each mode; A v = s u holds by construction. Some singular value of A lies
    within this distance (plus `rounding`) of s [1]_."""
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
    """Largest entry of |U^H U - I|, as written; 0 if no vectors were asked for."""
    # [1] B. N. Parlett, The Symmetric Eigenvalue Problem, Theorem 4.5.1, for [[0, A], [A^H, 0]].

    def __str__(self) -> str:
        """Show it in words."""
        worst = max(self.residuals, default=0.0)
        top = self.norm or 1.0
        lines = [
            f"{len(self.residuals)} modes by {self.method} in {self.passes:.3g} passes, "
            f"{'converged' if self.converged else 'NOT CONVERGED'}",
            f"  captured variance   {100 * self.captured:.4f} %",
            f"  Frobenius error     {self.frobenius_error:.4g} "
            f"(at most {self.frobenius_bound:.4g}; |A| = {self.norm:.6g})",
            f"  worst residual      {worst:.2e}, {worst / top:.1e} of |A|",
            f"  orthogonality of U  {self.orthogonality:.1e}",
            f"  rounding            {self.rounding:.1e}",
        ]
        return "\n".join(lines)


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
            f"|C| = {self.norm:.6g}"
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
    """What rounding allows: c n eps (where it grows with the pivots: times the growth)."""
    norm: float
    """Frobenius norm of A."""
    growth: float = 1.0
    """Largest entry of U by the largest of A; 1 where nothing can grow."""
    orthogonality: float = 0.0
    """|Q^H Q - I|_F, estimated with random vectors; 0 where there is no Q."""

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
        return "\n".join(lines)


@dataclass(frozen=True)
class SolveCertificate(Certificate):
    """Backward error of the solution of A X = B, from its residuals."""

    backward_error: float
    """Largest |b - A x| / (|A|_F |x| + |b|) of the columns [1]_; where X is too large to come back
    whole, of random combinations of them."""
    bound: float
    """What rounding allows: c n eps."""
    norm: float
    """Frobenius norm of A."""
    condition: float
    """|A|_F |A^-1|, the second estimated from random right-hand sides; the relative error of x is
    at most about condition * backward_error."""
    refinements: int
    precision: str
    """Dtype of the factors."""
    growth: float = 1.0
    """Of the pivots: largest entry of U by the largest of A."""
    # [1] J. L. Rigal, J. Gaches, On the compatibility of a given solution with the data of a linear
    #     system, J. ACM 14, 1967.

    def __str__(self) -> str:
        """Show it in words."""
        refined = "" if not self.refinements else f", refined {self.refinements} times"
        return (
            f"{'backward stable' if self.converged else 'NOT BACKWARD STABLE'}: error "
            f"{self.backward_error:.1e}, rounding allows {self.bound:.1e}\n"
            f"  condition number      {self.condition:.1e}, so x is right to about "
            f"{min(1.0, self.condition * self.backward_error):.1e}\n"
            f"  factors               {self.precision}{refined}, growth {self.growth:.3g}"
        )
