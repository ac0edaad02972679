"""Factorisations of cuSOLVER on row-major arrays; its info is read after each, and said.

CuPy's own wrappers let a Cholesky factorisation of an indefinite matrix pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import LinAlgError, NotPositiveDefiniteError
from leptonhpc.kernels import dense
from leptonhpc.kernels.accelerated.hybrid import Hybrid
from leptonhpc.kernels.cuda.products import Products, leading

_PANEL = 1024
"""Columns that cuSOLVER factors at once: it wants a copy of them, column by column."""
_PREFIX = {"f": "s", "d": "d", "F": "c", "D": "z"}


@dataclass(frozen=True)
class Factorisations:
    """What kernels need of LAPACK."""

    cupy: Any
    cublas: Any
    cusolver: Any
    products: Products
    hybrid: Hybrid
    """What follows from products."""

    def potrf(self, a: Any) -> None:
        """Factor A = L L^H in place; see `leptonhpc.kernels.dense.potrf`."""
        n = a.shape[0]
        if not n:
            return
        # row-major A is conj(A) to cuSOLVER, whose upper factor of it, read by rows, is L
        upper = self.cublas.CUBLAS_FILL_MODE_UPPER
        size = self._routine("potrf_bufferSize", a)(self._handle, upper, n, a.data.ptr, leading(a))
        work, info = self._work(size, a), self._info()
        self._routine("potrf", a)(
            self._handle, upper, n, a.data.ptr, leading(a), work.data.ptr, size, info.data.ptr
        )
        order = self._checked("potrf", info)
        if not order:
            pivots = self.cupy.asnumpy(self.cupy.diagonal(a)).real
            bad = np.flatnonzero(~(pivots > 0))  # catches NaN too
            order = int(bad[0]) + 1 if len(bad) else 0
        if order:
            raise NotPositiveDefiniteError("a pivot is not positive", order=order)

    def getrf(self, a: Any) -> NDArray[np.int64]:
        """Factor P A = L U in place with partial pivoting; see `leptonhpc.kernels.dense.getrf`."""
        m, n = a.shape
        pivots = np.arange(min(m, n))
        for low in range(0, min(m, n), _PANEL):
            high = min(low + _PANEL, m, n)
            found = self._panel_getrf(a[low:, low:high])
            pivots[low:high] = found + low
            for rest in (a[:, :low], a[:, high:]):
                self.permute(rest, found, first=low)
            if high < n:
                self.products.trsm(a[low:high, low:high], a[low:high, high:], unit=True)
                below, right = a[high:, low:high], a[low:high, high:]
                self.products.gemm(a[high:, high:], below, right, alpha=-1.0)
        return pivots

    def geqrf(self, a: Any) -> NDArray[Any]:
        """Factor A = Q R in place by reflectors; see `leptonhpc.kernels.dense.geqrf`."""
        k, n = min(a.shape), a.shape[1]
        taus = np.zeros(k, a.dtype)
        for low in range(0, k, _PANEL):
            high = min(low + _PANEL, k)
            taus[low:high] = self._panel_geqrf(a[low:, low:high])
            if high < n:
                panel = a[low:, low:high]
                self.hybrid.reflect(panel, taus[low:high], a[low:, high:], adjoint=True)
        return taus

    def syevd(self, a: Any) -> tuple[NDArray[Any], Any]:
        """Give eigenvalues and V^H of a Hermitian matrix, by divide and conquer.

        Parameters
        ----------
        a : array of the device, of shape (n, n)
            All of it; overwritten with V^H.

        Returns
        -------
        tuple of (array of the host, array of the device)
            Eigenvalues, ascending, and V^H.

        Raises
        ------
        LinAlgError
            If it does not converge.
        """
        n = a.shape[0]
        a = self.cupy.ascontiguousarray(a)
        values = self.cupy.empty(n, a.dtype.char.lower())
        name = "heevd" if a.dtype.kind == "c" else "syevd"
        # columns of the result are eigenvectors of conj(A): read by rows they are V^H
        how = self.cusolver.CUSOLVER_EIG_MODE_VECTOR, self.cublas.CUBLAS_FILL_MODE_LOWER, n
        size = self._routine(name + "_bufferSize", a)(
            self._handle, *how, a.data.ptr, leading(a), values.data.ptr
        )
        work, info = self._work(size, a), self._info()
        self._routine(name, a)(
            self._handle, *how, a.data.ptr, leading(a), values.data.ptr, work.data.ptr, size,
            info.data.ptr,
        )  # fmt: skip
        if self._checked(name, info):
            raise LinAlgError(f"cuSOLVER's {name} did not converge on a matrix of order {n}")
        return self.cupy.asnumpy(values), a

    def permute(self, a: Any, pivots: NDArray[np.int64], *, first: int = 0) -> None:
        """Exchange rows in place; see `leptonhpc.kernels.dense.permute`."""
        order = dense.permutation(pivots, a.shape[0] - first)
        moved = np.flatnonzero(order != np.arange(len(order)))
        if len(moved) and a.shape[1]:
            put = self.hybrid.put
            # rows are taken before any is overwritten
            a[put(moved + first)] = a[put(order[moved] + first)]

    def _panel_getrf(self, a: Any) -> NDArray[np.int64]:
        """Factor some columns; a zero pivot stays on the diagonal of U."""
        m, n = a.shape
        columns = self._by_columns(a)
        pivots = self.cupy.empty(min(m, n), np.int32)
        size = self._routine("getrf_bufferSize", a)(self._handle, m, n, columns.data.ptr, m)
        work, info = self._work(size, a), self._info()
        self._routine("getrf", a)(
            self._handle, m, n, columns.data.ptr, m, work.data.ptr, pivots.data.ptr, info.data.ptr
        )
        self._checked("getrf", info)
        a[...] = columns
        found: NDArray[np.int64] = self.cupy.asnumpy(pivots).astype(np.int64) - 1
        return found

    def _panel_geqrf(self, a: Any) -> NDArray[Any]:
        """Factor some columns."""
        m, n = a.shape
        columns = self._by_columns(a)
        taus = self.cupy.empty(min(m, n), a.dtype)
        size = self._routine("geqrf_bufferSize", a)(self._handle, m, n, columns.data.ptr, m)
        work, info = self._work(size, a), self._info()
        self._routine("geqrf", a)(
            self._handle, m, n, columns.data.ptr, m, taus.data.ptr, work.data.ptr, size,
            info.data.ptr,
        )  # fmt: skip
        self._checked("geqrf", info)
        a[...] = columns
        found: NDArray[Any] = self.cupy.asnumpy(taus)
        return found

    @property
    def _handle(self) -> Any:
        return self.cupy.cuda.device.get_cusolver_handle()

    def _routine(self, name: str, a: Any) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(self.cusolver, _PREFIX[a.dtype.char] + name)
        return found

    def _by_columns(self, a: Any) -> Any:
        """Give a copy whose columns are contiguous, as cuSOLVER pivots rows of such."""
        return self.cupy.array(a, order="F")

    def _work(self, size: int, a: Any) -> Any:
        return self.cupy.empty(max(1, int(size)), a.dtype)

    def _info(self) -> Any:
        return self.cupy.zeros(1, np.int32)

    def _checked(self, name: str, info: Any) -> int:
        """Give cuSOLVER's info; a wrong argument is an error of ours."""
        found = int(self.cupy.asnumpy(info)[0])
        if found < 0:
            raise LinAlgError(f"cuSOLVER's {name} refused its argument {-found}")
        return found
