"""What the SVD methods share: options, choice of rank, signs, targets, and the certificate."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NumericRangeError, OptionError, ShapeError
from leptonhpc.linalg.certificates import SvdCertificate
from leptonhpc.linalg.jobs import Outcome
from leptonhpc.linalg.operator import Operator
from leptonhpc.linalg.sizes import grain
from leptonhpc.planning import Target, rounding

OVERSAMPLING = 12


@dataclass(frozen=True)
class SvdOptions:
    """What is asked for."""

    rank: int | None = None
    tol: float | None = None
    """Relative Frobenius error of the truncated factorisation."""
    variance: float | None = None
    """Share of the squared Frobenius norm to capture."""
    compute_uv: bool = True
    accuracy: float = 1e-3
    """Iterate until |A^H u - s v| <= accuracy * s for every mode asked for."""
    most_passes: int = 10
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Give the options as JSON can hold them."""
        return asdict(self)

    def wants_all(self, short: int) -> bool:
        """Say whether every singular value may be needed."""
        return (
            self.rank is None
            and self.tol is None
            and self.variance is None
            or (self.rank is not None and self.rank >= short)
        )

    def expected_rank(self, short: int) -> int:
        """Give the rank to plan with."""
        if self.rank is not None:
            return self.rank
        if self.tol is None and self.variance is None:
            return short
        return min(short, max(32, short // 16))

    def width(self, short: int) -> int:
        """Give the columns of one Krylov block: rank and oversampling, in whole vectors of 8."""
        return min(short, 8 * math.ceil((self.expected_rank(short) + OVERSAMPLING) / 8))

    def check(self, shape: tuple[int, ...], name: str) -> None:
        """Refuse what makes no sense for a matrix of this shape."""
        given = [k for k in ("rank", "tol", "variance") if getattr(self, k) is not None]
        if len(given) > 1:
            message = f"give one of rank=, tol= and variance=; found {' and '.join(given)}"
            raise OptionError(message)
        for key in ("rank", "seed", "most_passes"):
            value = getattr(self, key)
            if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
                raise OptionError(f"{key} is a whole number; found {value!r}")
        for key in ("tol", "variance", "accuracy"):
            value = getattr(self, key)
            if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
                raise OptionError(f"{key} is a number; found {value!r}")
        if self.rank is not None and not 1 <= self.rank <= min(shape):
            message = f"rank is from 1 to {min(shape)} for {name} of shape {shape}"
            raise ShapeError(f"{message}; found {self.rank}")
        for key in ("tol", "variance"):
            value = getattr(self, key)
            if value is not None and not 0 < value <= 1:
                raise OptionError(f"{key} is above 0 and at most 1; found {value}")
        self.check_resolution(np.dtype(float), "double precision")
        if not 0 < self.accuracy < 1:
            raise OptionError(f"accuracy is between 0 and 1; found {self.accuracy}")
        if self.most_passes < 1 or not 0 <= self.seed < 2**63:
            raise OptionError("most_passes is at least 1, and seed is not negative")

    def check_resolution(self, dtype: np.dtype[Any], what: str) -> None:
        """Refuse a question that differences of squared norms cannot answer."""
        share = self.tol**2 if self.tol is not None else 1.0
        if self.variance is not None:
            share = 1 - self.variance or 1.0  # all of it means every mode
        if share < (least := 64 * float(np.finfo(dtype).eps)):
            name = "tol" if self.tol is not None else "variance"
            bound = math.sqrt(least) if name == "tol" else 1 - least
            message = (
                f"{name}={getattr(self, name)!r} is finer than squared norms in {what} tell apart; "
                f"{name} can be {'as small' if name == 'tol' else 'as large'} as {bound:.9g}. Ask "
                "for rank= instead"
            )
            raise OptionError(message)

    def choose_rank(self, squares: NDArray[Any], total: float) -> int | None:
        """Give how many modes answer the question, or None if these are too few.

        Parameters
        ----------
        squares : array
            Squared singular values, descending.
        total : float
            Squared Frobenius norm.
        """
        if self.rank is not None:
            return self.rank if self.rank <= len(squares) else None
        if self.tol is None and self.variance is None:
            return len(squares)
        missing = total - np.cumsum(squares)
        share = 1 - self.variance if self.variance is not None else (self.tol or 0) ** 2
        # rounding of the total must not ask for modes that are not there
        enough = np.flatnonzero(missing <= share * total + 8 * np.finfo(float).eps * total)
        return int(enough[0]) + 1 if len(enough) else None


def long_target(operator: Operator, k: int) -> Target:
    """Give the output array of the long factor: u, or vh where the user's matrix is wide."""
    height, wide = operator.layout.height, operator.transposed
    shape, unit = (operator.rows, k), (height, k)
    return Target(
        "vh" if wide else "u",
        shape[::-1] if wide else shape,
        operator.dtype.str,
        unit[::-1] if wide else unit,
        transposed=wide,
    )


def scratch_target(operator: Operator, name: str, width: int) -> Target:
    """Give a scratch array for one Y."""
    return Target(
        name, (operator.rows, width), operator.dtype.str, (operator.layout.height, width),
        scratch=True,
    )  # fmt: skip


def deviation(gram: NDArray[Any]) -> float:
    """Give the largest entry of |U^H U - I|."""
    return float(np.max(np.abs(gram - np.eye(len(gram)))))


def signs(v: NDArray[Any]) -> NDArray[Any]:
    """Give the factor for each column that makes its largest entry real and positive.

    The first of the entries within a thousandth of the largest counts, so that rounding does not
    choose between equals.
    """
    size = np.abs(v)
    row = np.argmax(size >= 0.999 * size.max(axis=0, initial=0), axis=0)
    value = v[row, np.arange(v.shape[1])]
    length = np.where(np.abs(value) > 0, np.abs(value), 1)
    phase: NDArray[Any] = np.where(np.abs(value) > 0, value.conj() / length, 1)
    return phase


def outcome(
    operator: Operator,
    options: SvdOptions,
    *,
    method: str,
    s: NDArray[Any],
    v: NDArray[Any] | None,
    residuals: NDArray[Any],
    orthogonality: float,
    converged: bool,
    rounding: float,
    frobenius: tuple[float, float] | None = None,
) -> Outcome:
    """Give the user's fields and the certificate, in the units of the data."""
    unit = 1.0 if isinstance(operator.conditioning.scale, str) else 1 / operator.unit_scale
    # an estimate may be too large by its error; what is certified is not
    least = np.maximum(s - (frobenius[1] if frobenius else 0.0), 0.0)
    share = least**2 / operator.square if operator.square > 0 else 0 * s
    total = operator.square
    captured = float(np.sum(s**2))
    square = max(total - captured, 0.0)
    # sums of squares are in double; s carries the rounding of the dtype of computing
    slack = 2 * rounding * float(np.sum(s)) + 64 * np.finfo(float).eps * total
    error, bound = frobenius or (math.sqrt(square), math.sqrt(square + slack))
    real = np.float32 if operator.dtype.char in "fF" else np.float64
    certificate = SvdCertificate(
        converged=converged,
        method=method,
        passes=operator.passes,
        norm=unit * math.sqrt(total),
        residuals=tuple(float(unit * r) for r in residuals),
        rounding=unit * rounding + grain(real, s[0]),
        captured=min(float(np.sum(share)), 1.0) if total > 0 else 1.0,
        captured_each=tuple(float(x) for x in share),
        frobenius_error=unit * error,
        frobenius_bound=unit * bound + len(s) * grain(real, s[0]),
        orthogonality=orthogonality,
    )
    if s[0] * unit > np.finfo(real).max:
        message = f"singular values near {s[0] * unit:.3g} do not fit into {np.dtype(real)}"
        raise NumericRangeError(f"{message}. Scale {operator.user_name} first")
    fields: dict[str, Any] = {"s": (s * unit).astype(real)}
    if options.compute_uv:
        assert v is not None
        short = v.astype(operator.dtype)
        if operator.transposed:
            fields |= {"u": short, "vh": "vh"}
        else:
            fields |= {"u": "u", "vh": np.ascontiguousarray(short.conj().T)}
    if operator.mean is not None and operator.conditioning.center:
        mean = operator.mean / operator.unit_scale
        fields["mean"] = mean.conj() if operator.transposed else mean
    if operator.scale is not None and operator.conditioning.scale is not None:
        given = not isinstance(operator.conditioning.scale, str)
        fields["scale"] = operator.scale / (1.0 if given else operator.unit_scale)
    return Outcome(fields, certificate)


def rounding_bound(operator: Operator, top: float) -> float:
    """Give 8 sqrt(n) eps s1: sums over n short-side entries round like random walks [1]_.

    Factors that are rounded to TF32 add their own roundoff to it, once.

    References
    ----------
    .. [1] N. J. Higham, T. Mary, A new approach to probabilistic rounding error analysis, SIAM J.
       Sci. Comput. 41 (2019), Theorem 3.1.
    """
    precision = operator.resources.precision
    return 8 * rounding(math.sqrt(operator.columns), operator.dtype, precision) * top
