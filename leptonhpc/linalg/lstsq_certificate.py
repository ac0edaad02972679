"""How close X is to a least-squares solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.linalg.certificates import Certificate


@dataclass(frozen=True)
class LstsqCertificate(Certificate):
    """How close X is to a least-squares solution, from its residuals."""

    optimality: float
    """Largest |A^H r| / (|A|_F |r|), r = b - A x, of the columns: zero for a solution; without
    meaning where r is nothing but rounding."""
    backward_error: float
    """Largest |A^H r| / (|A|_F (|r| + |A|_F |x|)): what optimality can be told from rounding."""
    bound: float
    """What rounding allows, c n eps; and rcond, where singular values were dropped."""
    residual: float
    """Largest |b - A x| / |b|."""
    norm: float
    """Frobenius norm of A."""
    rank: int
    """Singular values above rcond times the largest."""
    rcond: float
    condition: float
    """Largest by smallest singular value of those that were kept; |A|_F |A^+|_F where they are not
    known, the second estimated with random vectors."""
    refinements: int = 0

    def __str__(self) -> str:
        """Show it in words."""
        return (
            f"{'optimal' if self.converged else 'NOT OPTIMAL'}: |A^H r| is {self.optimality:.1e} "
            f"of |A||r|, {self.backward_error:.1e} of |A|(|r| + |A||x|), where {self.bound:.1e} is "
            f"allowed\n"
            f"  residual              {self.residual:.1e} of |b|\n"
            f"  rank                  {self.rank} (singular values above {self.rcond:.1e} of the "
            f"largest), condition number {self.condition:.1e}"
        )


def judged(
    shape: tuple[int, int], dtype: np.dtype[Any], *, sizes: NDArray[Any], normal: NDArray[Any],
    left: NDArray[Any], sides: NDArray[Any], norm: float, rank: int, rcond: float,
    condition: float, refinements: int = 0, units: tuple[float, float] = (1.0, 1.0),
) -> tuple[LstsqCertificate, NDArray[Any]]:  # fmt: skip
    """Judge X by norms of its columns.

    Parameters
    ----------
    shape : tuple of int
        Of A.
    dtype : dtype
        Of computing.
    sizes, normal, left, sides : array of shape (k,)
        |x|, |A^H r|, |r| and |b| of each column, all in scaled units.
    norm : float
        |A|_F, scaled.
    rank : int
        Singular values that were kept.
    rcond : float
        Relative to the largest: what counted as zero.
    condition : float
        Of what was kept.
    refinements : int
        How often X was refined.
    units : tuple of float
        By which A and B were multiplied.

    Returns
    -------
    tuple of (LstsqCertificate, array)
        The certificate; squared norms of r, as NumPy gives them.
    """
    size, (scale, side_scale) = norm or 1.0, units
    optimality = _largest_ratio(normal, size * left)
    backward = _largest_ratio(normal, size * (left + size * sizes))
    bound = 8 * (min(shape) + max(shape) ** 0.5) * float(np.finfo(dtype).eps)
    short = rank < min(shape)
    bound += rcond * short
    certificate = LstsqCertificate(
        converged=backward <= bound, optimality=optimality, backward_error=backward, bound=bound,
        residual=_largest_ratio(left, sides), norm=norm / scale, rank=rank, rcond=rcond,
        condition=condition, refinements=refinements,
    )  # fmt: skip
    real = np.empty(0, dtype).real.dtype
    residuals = np.zeros(0, real)
    if not short and shape[0] > shape[1]:
        with np.errstate(over="ignore", under="ignore"):
            residuals = np.square(left / side_scale).astype(real)
    return certificate, residuals


def _largest_ratio(numbers: NDArray[Any], scales: NDArray[Any]) -> float:
    """Give the largest of some ratios, 0 / 0 counting as zero and NaN as infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where((numbers == 0) & (scales == 0), 0.0, numbers / scales)
    return float(np.max(np.nan_to_num(ratios, nan=np.inf)))
