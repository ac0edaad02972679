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
_MOST_NUMBERS = 2**30
"""Of a block that cuSOLVER factors at once: routines of 32 bits count them so, and workspaces."""
_PREFIX = {"f": "s", "d": "d", "F": "c", "D": "z"}
_CUDA_TYPES = {"f": 0, "d": 1, "F": 4, "D": 5}  # library_types.h: CUDA_R_32F, R_64F, C_32F, C_64F


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
        """Factor A = L L^H in place, large ones by halves; see `leptonhpc.kernels.dense.potrf`."""
        n = a.shape[0]
        if n * n <= _MOST_NUMBERS:
            self._block_potrf(a)
            return
        half = n // 2
        self.potrf(a[:half, :half])
        below = a[half:, :half]
        self.products.trsm(a[:half, :half], below, right=True, adjoint=True)
        self.products.syrk(a[half:, half:], below, alpha=-1.0, right_adjoint=True)
        try:
            self.potrf(a[half:, half:])
        except NotPositiveDefiniteError as error:
            raise NotPositiveDefiniteError(str(error), order=error.order + half) from None

    def getrf(self, a: Any) -> NDArray[np.int64]:
        """Factor P A = L U in place with partial pivoting; see `leptonhpc.kernels.dense.getrf`."""
        m, n = a.shape
        pivots, step = np.arange(min(m, n)), _columns_at_once(m)
        for low in range(0, min(m, n), step):
            high = min(low + step, m, n)
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
        taus, step = np.zeros(k, a.dtype), _columns_at_once(a.shape[0])
        for low in range(0, k, step):
            high = min(low + step, k)
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
        if not (n and bool(self.cupy.any(a))):  # some of its releases give NaN for zeros
            a[...] = self.hybrid.put(np.eye(n, dtype=a.dtype))
            return np.zeros(n, a.dtype.char.lower()), a
        a = self.cupy.ascontiguousarray(a)
        values, lib = self.cupy.empty(n, a.dtype.char.lower()), self.cusolver
        kind, real = _CUDA_TYPES[a.dtype.char], _CUDA_TYPES[values.dtype.char]
        params, info = lib.createParams(), self._info()
        # columns of the result are eigenvectors of conj(A): read by rows they are V^H
        what = (
            self._handle, params, lib.CUSOLVER_EIG_MODE_VECTOR, self.cublas.CUBLAS_FILL_MODE_LOWER,
            n, kind, a.data.ptr, leading(a), real, values.data.ptr, kind,
        )  # fmt: skip
        try:  # sizes are of 64 bits: dsyevd's workspace of 2 n^2 numbers is not from n = 32768
            there, here = lib.xsyevd_bufferSize(*what)
            work, host = self.cupy.empty(max(1, there), np.uint8), np.empty(max(1, here), np.uint8)
            lib.xsyevd(*what, work.data.ptr, there, host.ctypes.data, here, info.data.ptr)
            found = self._checked("syevd", info)  # waits: until then `host` is used
        finally:
            lib.destroyParams(params)
        if found:
            raise LinAlgError(f"cuSOLVER's syevd did not converge on a matrix of order {n}")
        return self.cupy.asnumpy(values), a

    def permute(self, a: Any, pivots: NDArray[np.int64], *, first: int = 0) -> None:
        """Exchange rows in place; see `leptonhpc.kernels.dense.permute`."""
        order = dense.permutation(pivots, a.shape[0] - first)
        moved = np.flatnonzero(order != np.arange(len(order)))
        if len(moved) and a.shape[1]:
            put = self.hybrid.put
            # rows are taken before any is overwritten
            a[put(moved + first)] = a[put(order[moved] + first)]

    def _block_potrf(self, a: Any) -> None:
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
        if self._checked("getrf", info):  # what is below a zero pivot is not said: LAPACK goes on
            panel = self.hybrid.get(a)
            taken = dense.getrf(panel)
            a[...] = self.hybrid.put(panel)
            return taken
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


def _columns_at_once(rows: int) -> int:
    return max(1, min(_PANEL, _MOST_NUMBERS // max(1, rows)))
