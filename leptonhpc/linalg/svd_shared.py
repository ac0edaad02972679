"""What the SVD methods share: options, choice of rank, signs, and the factor of the long side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NumericRangeError, OptionError, ShapeError
from leptonhpc.linalg.certificates import SvdCertificate
from leptonhpc.linalg.gram_matrix import mirror_lower
from leptonhpc.linalg.jobs import Execute, Outcome
from leptonhpc.linalg.operator import Operator
from leptonhpc.linalg.sizes import grain
from leptonhpc.linalg.svd_small import small_svd
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


@dataclass(frozen=True)
class Basis:
    """Y = A K for an orthonormal-to-be long factor, and Z = A^H Y, all by pieces."""

    operands: tuple[tuple[str, int], ...]
    """Scratch arrays and their columns."""
    offset: NDArray[Any]
    """Row to be subtracted from [Y1 .. Yt]."""
    z: NDArray[Any]
    """A^H (A K), (n, p)."""


@dataclass(frozen=True)
class Modes:
    """Singular triplets, the long factor still as a combination of Y."""

    s: NDArray[Any]
    v: NDArray[Any]
    residuals: NDArray[Any]
    orthogonality: float


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


def rayleigh_ritz(
    operator: Operator,
    execute: Execute,
    basis: Basis,
    coefficients: NDArray[Any] | None,
    v: NDArray[Any],
    *,
    seed: int,
    write: bool,
    limit: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> Modes | None:
    """Give singular triplets of A on span(V) by passes over the scratch Y only.

    Parameters
    ----------
    operator : Operator
        A.
    execute : callable
        The runtime.
    basis : Basis
        Y = A K and Z = A^H Y.
    coefficients : array of shape (p, k), optional
        C with V = K C orthonormal; None: the identity.
    v : array of shape (n, k)
        V.
    seed : int
        For directions in which A has nothing.
    write : bool
        Write the long factor; else only the values are refined.
    limit : callable, optional
        Gives the largest residuals allowed for singular values; nothing is written beyond.

    Returns
    -------
    Modes or None
        None if a residual is beyond its limit. Else values come from the Gram matrix of the columns
        of A V in double precision, each scaled to one: small values keep the digits that the
        product A V has (cf. one-sided Jacobi [1]_).

    References
    ----------
    .. [1] J. Demmel, K. Veselic, Jacobi's method is more accurate than QR, SIAM J. Matrix Anal.
       Appl. 13 (1992), Theorem 4.
    """
    k = v.shape[1]
    identity = np.eye(k) if coefficients is None else coefficients
    gram, _ = _rotate(operator, execute, basis, identity, seed=seed)
    del identity  # what is deleted is of the order of the basis, which may be that of A
    length = np.sqrt(np.maximum(np.real(np.diagonal(gram)), 0))
    scale = np.where(length > 0, length, 1.0)
    gram /= scale[:, None]
    gram /= scale
    mu, e = np.linalg.eigh(gram)
    del gram
    live = mu > 1e-14
    if not live.all():
        e = e[:, live]
    root = np.sqrt(mu[live])
    # A V = Q M with Q orthonormal: Q = A V S^-1 E mu^-1/2, M = mu^1/2 E^H S
    m = np.zeros((k, k), e.dtype)
    np.multiply(e.conj().T, root[:, None], out=m[: len(root)])
    m *= scale
    e /= root
    e /= scale[:, None]
    p, s, wh = small_svd(operator, execute, m)
    del m
    # below this A V is rounding: such a u would be noise, so fresh columns take its place
    r = int(np.count_nonzero(s > 8 * operator.eps * s[0]))
    v = v @ wh.conj().T
    del wh
    w = e @ p[: len(root), :r]
    del e, p
    if coefficients is not None:
        w = coefficients @ w
    v, w = _with_signs(v, w)
    residuals = np.array(s)  # |A v - s u| of a fresh u
    residuals[:r] = np.linalg.norm(basis.z @ w - v[:, :r] * s[:r], axis=0)
    if limit is not None and np.any(residuals > limit(s)):
        return None
    orthogonality = 0.0
    if write:
        orthogonality = write_long(operator, execute, basis, w, k, mu, seed=seed)
    return Modes(s, v, residuals, orthogonality)


def write_long(
    operator: Operator, execute: Execute, basis: Basis, w: NDArray[Any], k: int, mu: NDArray[Any],
    *, seed: int,
) -> float:  # fmt: skip
    """Write Y W as k orthonormal columns; where W has fewer, random ones complete it."""
    fresh = k - w.shape[1]
    if fresh:
        rows, columns = w.shape
        wider = np.zeros((rows + fresh, k), w.dtype)
        wider[:rows, :columns] = w
        wider[rows:, columns:] = np.eye(fresh)
        w = wider
    if mu.min() < 1e-6:  # Y W cancels: what it gives is kept, and made orthonormal in its turn
        target = scratch_target(operator, "q", k)
        _rotate(operator, execute, basis, w, seed=seed, fresh=fresh, target=target)
        basis = Basis((("q", k),), np.zeros(k), basis.z)
        w, fresh = np.eye(k, dtype=w.dtype), 0
    if w.shape[0] > basis.offset.size or mu.min() < 0.5:  # CholeskyQR, over the scratch arrays
        for _ in range(2):
            gram, _ = _rotate(operator, execute, basis, w, seed=seed, fresh=fresh)
            lower = np.linalg.cholesky(gram)
            del gram
            w = w @ np.linalg.inv(lower.conj().T)
    target = long_target(operator, k)
    gram, _ = _rotate(operator, execute, basis, w, seed=seed, fresh=fresh, target=target)
    return deviation(gram)


def _rotate(
    operator: Operator, execute: Execute, basis: Basis, w: NDArray[Any], *, seed: int,
    fresh: int = 0, target: Target | None = None, psi: int = 0, theta: int = 0,
) -> tuple[NDArray[Any], dict[str, Any]]:  # fmt: skip
    name = operator.counter.next("rotate" if target is None else "write")
    stage = operator.rotate_stage(name, basis.operands, w.shape[1], target)
    p = basis.offset.size
    small = operator.small(
        w=w, offset=basis.offset @ w[:p], fresh=fresh, seed=seed, write=target is not None,
        psi=psi, theta=theta, first=False,
    )  # fmt: skip
    acc = execute(stage, small)
    gram = acc.pop("gram")
    mirror_lower(gram)
    return gram, acc


rotate = _rotate


def deviation(gram: NDArray[Any]) -> float:
    """Give the largest entry of |U^H U - I|."""
    return float(np.max(np.abs(gram - np.eye(len(gram)))))


def _with_signs(v: NDArray[Any], w: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make the largest entry of each v real and positive, and turn u with it."""
    phase = signs(v)
    return v * phase, w * phase[: w.shape[1]]


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
