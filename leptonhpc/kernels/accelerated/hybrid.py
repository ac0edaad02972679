"""Factorisations for a device that brings products: narrow parts go to the host and come back.

Nearly all flops are in gemm, which is the device's. What the host gets of a block of order n is
its panels of a few hundred columns, one after the other [1]_.

References
----------
.. [1] S. Tomov, J. Dongarra, M. Baboulin, Towards dense linear algebra for hybrid GPU accelerated
   manycore systems, Parallel Computing 36, 2010.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NotPositiveDefiniteError
from leptonhpc.kernels import blas, dense, spectra

_NARROW = 128
"""Columns that go to the host at once."""


@dataclass(frozen=True)
class Hybrid:
    """What follows from a device's gemm and its copies in and out; all work in place."""

    gemm: Callable[..., None]
    put: Callable[[NDArray[Any]], Any]
    get: Callable[[Any], NDArray[Any]]
    take: Callable[[NDArray[Any]], Any]
    """As `put`, of what nobody else uses."""
    give: Callable[[Any], NDArray[Any]]
    """As `get`, of what nobody else uses."""

    def trsm(
        self, t: Any, b: Any, *, right: bool = False, lower: bool = True, adjoint: bool = False,
        unit: bool = False,
    ) -> None:  # fmt: skip
        """Solve with a triangle in place, by halves; see `leptonhpc.kernels.blas.trsm`."""
        k = t.shape[0]
        if k <= _NARROW:
            self._on_host(blas.trsm, t, b, right=right, lower=lower, adjoint=adjoint, unit=unit)
            return
        ends, corner = self._halves(t, lower)
        how = {"lower": lower, "adjoint": adjoint, "unit": unit}
        # op(T) is lower triangular: from the left its first half is solved with first
        first = 0 if (lower != adjoint) != right else 1
        for number in (first, 1 - first):
            self.trsm(t[ends[number], ends[number]], self._part(b, ends[number], right),
                      right=right, **how)  # fmt: skip
            if number == first:
                done, left = (self._part(b, ends[i], right) for i in (first, 1 - first))
                self._add(left, corner, done, alpha=-1.0, right=right, adjoint=adjoint)

    def trmm(
        self, t: Any, b: Any, *, right: bool = False, lower: bool = True, adjoint: bool = False,
        unit: bool = False,
    ) -> None:  # fmt: skip
        """Multiply with a triangle in place, by halves; see `leptonhpc.kernels.blas.trmm`."""
        k = t.shape[0]
        if k <= _NARROW:
            self._on_host(blas.trmm, t, b, right=right, lower=lower, adjoint=adjoint, unit=unit)
            return
        ends, corner = self._halves(t, lower)
        how = {"lower": lower, "adjoint": adjoint, "unit": unit}
        # the half that the other contributes to comes first
        first = 1 if (lower != adjoint) != right else 0
        for number in (first, 1 - first):
            part = self._part(b, ends[number], right)
            self.trmm(t[ends[number], ends[number]], part, right=right, **how)
            if number == first:
                other = self._part(b, ends[1 - first], right)
                self._add(part, corner, other, alpha=1.0, right=right, adjoint=adjoint)

    def potrf(self, a: Any) -> None:
        """Factor A = L L^H in place, by halves; see `leptonhpc.kernels.dense.potrf`."""
        n = a.shape[0]
        if n <= _NARROW:
            block = self.get(a)
            dense.potrf(block)
            a[...] = self.put(block)
            return
        half = _half(n)
        self.potrf(a[:half, :half])
        self.trsm(a[:half, :half], a[half:, :half], right=True, adjoint=True)
        below = a[half:, :half]
        self.gemm(a[half:, half:], below, below, alpha=-1.0, right_adjoint=True)
        try:
            self.potrf(a[half:, half:])
        except NotPositiveDefiniteError as error:
            raise NotPositiveDefiniteError(str(error), order=error.order + half) from None

    def getrf(self, a: Any) -> NDArray[np.int64]:
        """Factor P A = L U in place, panel by panel; see `leptonhpc.kernels.dense.getrf`."""
        m, n = a.shape
        pivots = np.arange(min(m, n))
        for low in range(0, min(m, n), _NARROW):
            high = min(low + _NARROW, m, n)
            panel = self.get(a[low:, low:high])
            found = dense.getrf(panel)
            pivots[low:high] = found + low
            a[low:, low:high] = self.put(panel)
            self.permute(a[:, :low], found, first=low)
            self.permute(a[:, high:], found, first=low)
            if high < n:
                self.trsm(a[low:high, low:high], a[low:high, high:], unit=True)
                self.gemm(a[high:, high:], a[high:, low:high], a[low:high, high:], alpha=-1.0)
        return pivots

    def permute(self, a: Any, pivots: NDArray[np.int64], *, first: int = 0) -> None:
        """Exchange rows in place; see `leptonhpc.kernels.dense.permute`."""
        if not a.shape[1]:
            return
        order = dense.permutation(pivots, a.shape[0] - first)
        moved = np.flatnonzero(order != np.arange(len(order)))
        rows = [a[first + int(order[i]), :] + 0 for i in moved]  # copies: each is overwritten
        for place, row in zip(moved, rows, strict=True):
            a[first + int(place), :] = row

    def geqrf(self, a: Any) -> NDArray[Any]:
        """Factor A = Q R in place, panel by panel; see `leptonhpc.kernels.dense.geqrf`."""
        k, n = min(a.shape), a.shape[1]
        taus = []
        for low in range(0, k, _NARROW):
            high = min(low + _NARROW, k)
            panel = self.get(a[low:, low:high])
            taus.append(dense.geqrf(panel))
            a[low:, low:high] = self.put(panel)
            if high < n:
                self.reflect(a[low:, low:high], taus[-1], a[low:, high:], adjoint=True)
        return np.concatenate(taus) if taus else np.zeros(0, self.get(a[:0, :]).dtype)

    def reflect(self, v: Any, taus: NDArray[Any], c: Any, *, adjoint: bool = False) -> None:
        """Apply the reflectors of a panel in place; see `leptonhpc.kernels.dense.reflect`.

        Q = I - V T V^H with T formed, whose inverse is what V^H V and the factors tell.
        """
        lows = range(0, len(taus), dense.REFLECTORS)
        for low in lows if adjoint else reversed(lows):
            high = min(low + dense.REFLECTORS, len(taus))
            self._reflect_at_once(v[low:, low:high], taus[low:high], c[low:, :], adjoint=adjoint)

    def syevd(self, a: Any) -> tuple[NDArray[Any], Any]:
        """Give eigenvalues and V^H; all on the host, where one is enough for the matrix."""
        w, rows = spectra.syevd(self.give(a))
        return w, self.take(rows)

    def _reflect_at_once(self, v: Any, taus: NDArray[Any], c: Any, *, adjoint: bool) -> None:
        k, n = len(taus), c.shape[1]
        if not n:
            return
        top = np.tril(self.get(v[:k, :]), -1)
        np.fill_diagonal(top, 1)
        inner = self.put(np.zeros((k, k), taus.dtype))
        self.gemm(inner, v[k:, :], v[k:, :], adjoint=True)
        factor = self.put(_block_reflector(top.conj().T @ top + self.get(inner), taus))
        there = self.put(top)
        w, image = (self.put(np.zeros((k, n), taus.dtype)) for _ in range(2))
        self.gemm(w, there, c[:k, :], adjoint=True)
        self.gemm(w, v[k:, :], c[k:, :], adjoint=True)  # W = V^H C
        self.gemm(image, factor, w, adjoint=adjoint)
        self.gemm(c[:k, :], there, image, alpha=-1.0)
        self.gemm(c[k:, :], v[k:, :], image, alpha=-1.0)

    def _on_host(
        self, routine: Callable[..., None], t: Any, b: Any, *, right: bool, lower: bool,
        adjoint: bool, unit: bool,
    ) -> None:  # fmt: skip
        if 0 in b.shape:
            return
        # a block of an adjoint comes back by columns
        triangle, block = (np.ascontiguousarray(self.get(a)) for a in (t, b))
        routine(triangle, block, right=right, lower=lower, adjoint=adjoint, unit=unit)
        b[...] = self.put(block)

    def _add(
        self, c: Any, corner: Any, b: Any, *, alpha: float, right: bool, adjoint: bool
    ) -> None:  # fmt: skip
        """Add op(corner) B, or B op(corner), to C."""
        if 0 in c.shape:
            return
        if right:
            self.gemm(c, b, corner, alpha=alpha, right_adjoint=adjoint)
        else:
            self.gemm(c, corner, b, alpha=alpha, adjoint=adjoint)

    def _halves(self, t: Any, lower: bool) -> tuple[tuple[slice, slice], Any]:
        half = _half(t.shape[0])
        ends = slice(None, half), slice(half, None)
        return ends, t[ends[1], ends[0]] if lower else t[ends[0], ends[1]]

    def _part(self, b: Any, end: slice, right: bool) -> Any:
        return b[:, end] if right else b[end, :]


def _half(n: int) -> int:
    """Halve n at a multiple of what the host takes at once."""
    return max(1, round(n / 2 / _NARROW)) * _NARROW


def _block_reflector(gram: NDArray[Any], taus: NDArray[Any]) -> NDArray[Any]:
    """Give T of Q = I - V T V^H: T^-1 is the upper triangle of V^H V, 1 / tau on its diagonal."""
    largest = np.sqrt(np.finfo(gram.dtype).max)  # as dense.reflect has it, for a tau of zero
    inverse = np.triu(gram)
    np.fill_diagonal(inverse, np.where(taus == 0, largest, 1 / np.where(taus == 0, 1, taus)))
    factor = np.eye(len(taus), dtype=gram.dtype)
    blas.trsm(np.ascontiguousarray(inverse), factor, lower=False)
    return factor
