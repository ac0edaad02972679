"""Every case of the table by every method that admits it: right, orthonormal, truly certified."""

import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import NotConvergedWarning, OptionError
from leptonhpc.linalg import SvdCertificate
from leptonhpc.testing import (
    CASES,
    Case,
    factorization_error,
    largest_departure,
    nearest_distance,
    orthogonality,
    rounding,
)

MEMORY = "1 GB"
METHODS = ("gram", "krylov", "sketch")
EXACT = ("gram", "krylov")
BLOCKS = 4  # the Krylov method refuses ranks of which so many blocks exceed the short side
NAMED = {case.name: case for case in CASES}


@dataclass(frozen=True)
class Solved:
    """One case with its answer, in memory."""

    a: np.ndarray
    true: np.ndarray
    """Singular values by NumPy in double precision."""
    u: np.ndarray | None
    s: np.ndarray
    vh: np.ndarray | None
    certificate: SvdCertificate
    warned: bool

    @property
    def wide(self) -> bool:
        return self.a.shape[0] < self.a.shape[1]


@cache
def solved(name: str, method: str) -> Solved:
    """Factor a case once for all tests of it."""
    rank = min(3, NAMED[name].short)
    options = {"compute_uv": False} if method == "values" else {}
    if method not in ("full", "values"):
        options = {"rank": rank, "method": method}
    return _solve(NAMED[name], options)


def _solve(case: Case, options: dict[str, Any]) -> Solved:
    a = case.matrix()
    true = np.linalg.svd(a.astype(np.result_type(a, np.float64)), compute_uv=False)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", NotConvergedWarning)
        r = lh.svd(case.keep(a, Path(folder)), memory=MEMORY, **options)
        u, vh = (None if x is None else np.asarray(x) for x in (r.u, r.vh))
    return Solved(a, true, u, r.s, vh, r.certificate, bool(caught))


def admitted(case: Case, method: str) -> bool:
    return method != "krylov" or case.short >= BLOCKS * 16


GROUPS = [CASES[i : i + 6] for i in range(0, len(CASES), 6)]
every_case = pytest.mark.parametrize("cases", GROUPS, ids=[f"{g[0].name} .." for g in GROUPS])


def answers(
    cases: tuple[Case, ...], methods: tuple[str, ...] = METHODS
) -> Iterator[tuple[str, Case, Solved]]:
    """Give the answers of all methods that admit a case, with a name for failures."""
    for case in cases:
        for method in methods:
            if admitted(case, method):
                yield f"{case.name} by {method}", case, solved(case.name, method)


@every_case
def test_factors_have_the_promised_shapes_and_dtypes(cases: tuple[Case, ...]) -> None:
    for name, case, r in answers(cases):
        a = r.a
        k = len(r.s)
        shapes = (r.u.shape, r.s.shape, r.vh.shape)
        assert shapes == ((a.shape[0], k), (k,), (k, a.shape[1])), name
        assert k == min(3, case.short), name
        assert r.u.dtype == r.vh.dtype == case.computed, name
        assert r.s.dtype == case.computed.type(0).real.dtype, name
        assert np.all(np.diff(r.s) <= 0), name
        assert np.all(r.s >= 0), name


@every_case
def test_both_factors_are_orthonormal_even_where_the_data_has_nothing(
    cases: tuple[Case, ...],
) -> None:
    for name, case, r in answers(cases):
        # each inner product of two rounded unit vectors is off by 2 eps at most, and making them
        # orthogonal in double precision, by sums over the short side, adds n eps: c = 4, twice
        allowed = 4 * max(case.short, len(r.s)) * np.finfo(case.computed).eps
        assert orthogonality(r.u) <= allowed, name
        assert orthogonality(r.vh.conj().T) <= allowed, name


@every_case
def test_certified_orthogonality_is_that_of_the_long_factor_as_written(
    cases: tuple[Case, ...],
) -> None:
    for name, _, r in answers(cases):
        long_factor = r.vh.conj().T if r.wide else r.u
        # both sums of m products are in double precision, of numbers up to one
        slack = 4 * max(r.a.shape) * np.finfo(float).eps
        assert abs(r.certificate.orthogonality - orthogonality(long_factor)) <= slack, name


@every_case
def test_each_value_lies_within_its_residual_and_rounding_of_a_true_one(
    cases: tuple[Case, ...],
) -> None:
    for name, case, r in answers(cases, EXACT):
        a = r.a
        c = r.certificate
        # the stored s is rounded once more
        allowed = np.array(c.residuals) + c.rounding + np.finfo(case.computed).eps * r.s
        assert np.all(nearest_distance(r.s, r.true) <= allowed), name
        assert c.rounding <= rounding(a, case.computed, factor=8), name


@every_case
def test_certified_residuals_are_those_of_the_factors(cases: tuple[Case, ...]) -> None:
    for name, case, r in answers(cases, EXACT):
        a = r.a
        wide = np.result_type(a, np.float64)
        u, v, a = r.u.astype(wide), r.vh.conj().T.astype(wide), a.astype(wide)
        s, allowed = r.s.astype(float), rounding(a, case.computed, terms=max(a.shape))
        long_, short = (v, u) if r.wide else (u, v)
        b = a.conj().T if r.wide else a
        by_construction = np.linalg.norm(b @ short - long_ * s, axis=0)
        residuals = np.linalg.norm(b.conj().T @ long_ - short * s, axis=0)
        assert np.all(by_construction <= allowed), name
        assert np.all(residuals <= np.array(r.certificate.residuals) + allowed), name


@every_case
def test_values_are_the_leading_ones(cases: tuple[Case, ...]) -> None:
    for name, case, r in answers(cases, EXACT):
        a = r.a
        true = r.true[: len(r.s)]
        # Ritz values are below the true ones by no more than the residual; Gram's are exact
        allowed = np.array(r.certificate.residuals) * ("krylov" in name)
        allowed = allowed + rounding(a, case.computed)
        assert np.all(np.abs(r.s - true) <= allowed), name


@every_case
def test_certified_frobenius_error_is_the_error(cases: tuple[Case, ...]) -> None:
    for name, case, r in answers(cases, EXACT):
        a = r.a
        c, error = r.certificate, factorization_error(a, r.u, r.s, r.vh)
        top = float(np.linalg.norm(a.astype(np.result_type(a, np.float64))))
        assert abs(c.norm - top) <= rounding(a, case.computed), name
        # errors are roots of differences of squares, so that rounding of the squares, by
        # 2 n eps |A|_F^2, is felt under the root where the difference is small
        slack = np.sqrt(case.short) * rounding(a, case.computed)
        squares = 2 * slack * top
        assert abs(c.frobenius_error**2 - error**2) <= squares, name
        assert error <= c.frobenius_bound + slack, name


@every_case
def test_certified_shares_never_exceed_those_of_the_best_modes(cases: tuple[Case, ...]) -> None:
    for name, case, r in answers(cases):
        c = r.certificate
        squares = r.true**2
        total = squares.sum()
        best = squares[: len(r.s)].sum() / total if total else 1.0  # Eckart and Young
        eps = np.finfo(case.computed).eps
        allowed = 16 * case.short * eps  # of squares, twice that of values
        assert 0 <= c.captured <= best + allowed, name
        assert abs(sum(c.captured_each) - (c.captured if total else 0)) <= allowed, name


@every_case
def test_one_pass_sketch_stays_within_its_bound(cases: tuple[Case, ...]) -> None:
    for name, case, r in answers(cases, ("sketch",)):
        a = r.a
        error = factorization_error(a, r.u, r.s, r.vh)
        allowed = r.certificate.frobenius_bound + rounding(a, case.computed, terms=max(a.shape))
        assert error <= allowed, name
        assert r.certificate.passes == 1, name


@every_case
def test_full_factorisation_gives_the_matrix_back(cases: tuple[Case, ...]) -> None:
    for name, case, r in answers(cases, ("full",)):
        assert len(r.s) == case.short, name
        # backward error of an SVD: p(m, n) eps |A|, here sqrt(n) columns each with the product's
        allowed = np.sqrt(case.short) * rounding(r.a, case.computed)
        assert factorization_error(r.a, r.u, r.s, r.vh) <= allowed, name


@every_case
def test_full_factors_are_orthonormal(cases: tuple[Case, ...]) -> None:
    for name, case, r in answers(cases, ("full",)):
        allowed = 4 * case.short * np.finfo(case.computed).eps  # as for truncated ones
        assert orthogonality(r.u) <= allowed, name
        assert orthogonality(r.vh.conj().T) <= allowed, name


@every_case
def test_full_factorisation_has_small_values_right_to_rounding_of_the_largest(
    cases: tuple[Case, ...],
) -> None:
    for name, case, r in answers(cases, ("full",)):
        assert largest_departure(r.s, r.true) <= rounding(r.a, case.computed), name


@every_case
def test_values_alone_are_right_to_rounding_of_the_largest(cases: tuple[Case, ...]) -> None:
    for name, case, r in answers(cases, ("values",)):
        assert largest_departure(r.s, r.true) <= rounding(r.a, case.computed), name


@pytest.mark.parametrize("method", ["full", "values"])
@every_case
def test_all_values_need_no_iteration_and_raise_no_false_alarm(
    cases: tuple[Case, ...], method: str
) -> None:
    for name, _, r in answers(cases, (method,)):
        assert r.certificate.converged, name
        assert not r.warned, name


@every_case
def test_a_warning_comes_exactly_with_a_certificate_that_did_not_converge(
    cases: tuple[Case, ...],
) -> None:
    for name, _, r in answers(cases):
        assert r.warned == (not r.certificate.converged), name


@every_case
def test_auto_is_one_of_the_exact_methods(cases: tuple[Case, ...]) -> None:
    for name, case, r in answers(cases, ("auto",)):
        assert r.certificate.method in ("Gram matrix", "block Krylov"), name
        allowed = np.max(r.certificate.residuals) + rounding(r.a, case.computed)
        assert largest_departure(r.s, r.true[: len(r.s)]) <= allowed, name


@every_case
def test_krylov_refuses_ranks_near_the_short_side(cases: tuple[Case, ...]) -> None:
    for case in cases:
        if admitted(case, "krylov"):
            lh.plan("svd", case.matrix(), rank=4, method="krylov", memory=MEMORY)
            continue
        with pytest.raises(OptionError, match="krylov"):
            lh.plan("svd", case.matrix(), rank=1, method="krylov", memory=MEMORY)


@pytest.mark.parametrize("shape", [(5, 3), (300, 40), (40, 300)])
@pytest.mark.parametrize("method", ["gram", "sketch"])
def test_what_is_the_same_in_every_sample_is_zero_once_it_is_centred(
    method: Any, shape: tuple[int, int]
) -> None:
    a = np.tile(np.arange(1.0, shape[1] + 1), (shape[0], 1))
    r = lh.svd(a, rank=2, method=method, center=True, memory="1 GB")
    assert np.all(r.s <= rounding(a, a.dtype))
    np.testing.assert_allclose(r.mean, a[0], rtol=1e-15)
