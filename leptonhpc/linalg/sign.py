"""Odd cubics that take the eigenvalues of a Hermitian matrix to their signs, by products alone.

X becomes p(X) = a X - b X^3 with the a and b for which the least |eigenvalue| grows most while none
leaves [-1, 1] [1]_: two Hermitian products of n^3 flops each. No cubic takes the largest to less
than a quarter of what the largest becomes: that is what keeps the iteration backward stable [2]_.

References
----------
.. [1] J. Chen, E. Chow, A stable scaling of Newton-Schulz for improving the sign function
   computation of a Hermitian matrix, Argonne National Laboratory, ANL/MCS-P5059-0114, 2014.
.. [2] Y. Nakatsukasa, N. J. Higham, Backward stability of iterations for computing the polar
   decomposition, SIAM J. Matrix Anal. Appl. 33, 2012, Theorem 4.1.
"""

from __future__ import annotations

import math

_STEEP = 0.9
"""b / a while the least eigenvalue is small: p(1) is then a quarter of the maximum of p."""
_CLOSE = 0.98
"""From here on the Newton-Schulz iteration, whose fixed points are the signs themselves."""


def cubic(lower: float) -> tuple[float, float, float]:
    """Choose p(x) = a x - b x^3 for eigenvalues whose absolute values are from `lower` to 1.

    Parameters
    ----------
    lower : float
        Between 0 and 1.

    Returns
    -------
    tuple of float
        a, b, and the least value of p from `lower` to 1; the largest is 1.

    Examples
    --------
    >>> cubic(1.0)
    (1.5, 0.5, 1.0)
    """
    if lower >= _CLOSE:
        return 1.5, 0.5, 1.5 * lower - 0.5 * lower**3
    # equal at both ends: a (l - l^3 b/a) = a - b, and the maximum 2 a / 3 sqrt(a / 3b) is 1
    ratio = 1 / (1 + lower + lower**2)
    ratio = min(ratio, _STEEP)
    a = 1.5 * math.sqrt(3 * ratio)
    return a, a * ratio, a * min(lower - ratio * lower**3, 1 - ratio)


def iterations(lower: float) -> int:
    """Count iterations until all eigenvalues of at least `lower` are signs to working precision.

    Parameters
    ----------
    lower : float
        Least absolute value.

    Returns
    -------
    int
        How many.
    """
    count = 0
    while lower < 1 - 1e-15 and count < 200:
        lower = cubic(lower)[2]
        count += 1
    return count
