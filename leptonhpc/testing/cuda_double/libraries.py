"""Libraries of the double: cuBLAS and cuSOLVER by the host's BLAS and LAPACK, same addresses.

Both count columns first and take leading dimensions, as those do: a wrong side, triangle or
leading dimension gives a wrong answer. Names and order of arguments are CuPy's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from leptonhpc.kernels.blas import char, integer, routine
from leptonhpc.testing.cuda_double.device import Device, DoubleError

DTYPES = {"s": "f", "d": "d", "c": "F", "z": "D"}
_OPS = {0: b"N", 1: b"T", 2: b"C"}
_TRIANGLES = {0: b"L", 1: b"U"}
_TYPES = {0: "f", 1: "d", 4: "F", 5: "D"}


class Cublas:
    """The bindings of cuBLAS.

    Parameters
    ----------
    device : Device
        Where addresses must lie.
    """

    CUBLAS_OP_N, CUBLAS_OP_T, CUBLAS_OP_C = 0, 1, 2
    CUBLAS_FILL_MODE_LOWER, CUBLAS_FILL_MODE_UPPER = 0, 1
    CUBLAS_SIDE_LEFT, CUBLAS_SIDE_RIGHT = 0, 1
    CUBLAS_DIAG_NON_UNIT, CUBLAS_DIAG_UNIT = 0, 1

    def __init__(self, device: Device) -> None:
        self._device = device
        self.rounds = False
        """Products of single precision round their factors."""
        for prefix, dtype in DTYPES.items():
            for name in ("gemm", "syrk", "trsm"):
                made = getattr(self, f"_{name}")(np.dtype(dtype))
                setattr(self, prefix + name, made)

    def setMathMode(self, handle: int, mode: int) -> None:  # noqa: N802  (CuPy's name)
        """Let products of single precision round their factors, or not."""
        self.rounds = {0: False, 3: True}[mode]

    def _gemm(self, dtype: Any) -> Callable[..., None]:
        def gemm(
            handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, A: int,
            lda: int, B: int, ldb: int, beta: int, C: int, ldc: int,
        ) -> None:  # fmt: skip
            _use(self._device, f"{dtype.char}gemm", A, B, C)
            keep = []
            if self.rounds and dtype.char in "fF":
                keep = [
                    _rounded(A, lda, (m, k) if transa == 0 else (k, m), dtype),
                    _rounded(B, ldb, (k, n) if transb == 0 else (n, k), dtype),
                ]
                A, B = (int(part.ctypes.data) for part in keep)
                self._device.calls["tf32"] = self._device.calls.get("tf32", 0) + 1
            routine("gemm", dtype, 13)(
                char(_OPS[transa]), char(_OPS[transb]), integer(m), integer(n), integer(k), alpha,
                A, integer(lda), B, integer(ldb), beta, C, integer(ldc),
            )  # fmt: skip
            del keep

        return gemm

    def _syrk(self, dtype: Any) -> Callable[..., None]:
        def syrk(
            handle: int, uplo: int, trans: int, n: int, k: int, alpha: int, A: int, lda: int,
            beta: int, C: int, ldc: int,
        ) -> None:  # fmt: skip
            _use(self._device, f"{dtype.char}syrk", A, C)
            routine("syrk", dtype, 10)(
                char(_TRIANGLES[uplo]), char(_OPS[trans]), integer(n), integer(k), alpha, A,
                integer(lda), beta, C, integer(ldc),
            )  # fmt: skip

        return syrk

    def _trsm(self, dtype: Any) -> Callable[..., None]:
        def trsm(
            handle: int, side: int, uplo: int, trans: int, diag: int, m: int, n: int, alpha: int,
            Aarray: int, lda: int, Barray: int, ldb: int,
        ) -> None:  # fmt: skip
            _use(self._device, f"{dtype.char}trsm", Aarray, Barray)
            routine("trsm", dtype, 11)(
                char({0: b"L", 1: b"R"}[side]), char(_TRIANGLES[uplo]), char(_OPS[trans]),
                char({0: b"N", 1: b"U"}[diag]), integer(m), integer(n), alpha, Aarray,
                integer(lda), Barray, integer(ldb),
            )  # fmt: skip

        return trsm


class Cusolver:
    """The bindings of cuSOLVER.

    Parameters
    ----------
    device : Device
        Where addresses must lie.
    """

    CUSOLVER_EIG_MODE_VECTOR = 1

    def __init__(self, device: Device) -> None:
        self._device = device
        for prefix, char_ in DTYPES.items():
            dtype = np.dtype(char_)
            for name in ("potrf", "getrf", "geqrf"):
                setattr(self, prefix + name, getattr(self, f"_{name}")(dtype))
            for name, made in (("potrf", _potrf_size), ("getrf", _size), ("geqrf", _size)):
                setattr(self, f"{prefix}{name}_bufferSize", made)

    def _potrf(self, dtype: Any) -> Callable[..., None]:
        def potrf(
            handle: int, uplo: int, n: int, A: int, lda: int, work: int, lwork: int, devInfo: int
        ) -> None:
            _use(self._device, f"{dtype.char}potrf", A, work, devInfo)
            routine("potrf", dtype, 5, "lapack")(
                char(_TRIANGLES[uplo]), integer(n), A, integer(lda), devInfo
            )

        return potrf

    def _getrf(self, dtype: Any) -> Callable[..., None]:
        def getrf(
            handle: int, m: int, n: int, A: int, lda: int, work: int, devIpiv: int, devInfo: int
        ) -> None:
            _use(self._device, f"{dtype.char}getrf", A, work, devIpiv, devInfo)
            routine("getrf", dtype, 6, "lapack")(
                integer(m), integer(n), A, integer(lda), devIpiv, devInfo
            )

        return getrf

    def _geqrf(self, dtype: Any) -> Callable[..., None]:
        def geqrf(
            handle: int, m: int, n: int, A: int, lda: int, tau: int, work: int, lwork: int,
            devInfo: int,
        ) -> None:  # fmt: skip
            _use(self._device, f"{dtype.char}geqrf", A, tau, work, devInfo)
            space = np.empty(64 * max(1, n), dtype)
            routine("geqrf", dtype, 8, "lapack")(
                integer(m), integer(n), A, integer(lda), tau, space.ctypes.data,
                integer(space.size), devInfo,
            )  # fmt: skip

        return geqrf

    def createParams(self) -> int:  # noqa: N802  (CuPy's name)
        """Give what routines of 64 bits are told by."""
        self._device.params += 1
        return 1

    def destroyParams(self, params: int) -> None:  # noqa: N802
        """Give it back."""
        self._device.params -= 1

    def xsyevd_bufferSize(  # noqa: N802
        self, handle: int, params: int, jobz: int, uplo: int, n: int, dataTypeA: int, A: int,
        lda: int, dataTypeW: int, W: int, computeType: int,
    ) -> tuple[int, int]:  # fmt: skip
        """Give the bytes of both workspaces."""
        return 48 * n, 16 * n

    def xsyevd(
        self, handle: int, params: int, jobz: int, uplo: int, n: int, dataTypeA: int, A: int,
        lda: int, dataTypeW: int, W: int, computeType: int, bufferOnDevice: int,
        workspaceInBytesOnDevice: int, bufferOnHost: int, workspaceInBytesOnHost: int, info: int,
    ) -> None:  # fmt: skip
        """Give eigenvalues, and eigenvectors in place."""
        dtype, real = np.dtype(_TYPES[dataTypeA]), np.dtype(_TYPES[dataTypeW])
        _use(self._device, f"{dtype.char}syevd", A, W, bufferOnDevice, info)
        if jobz != self.CUSOLVER_EIG_MODE_VECTOR or dtype.char.lower() != real.char:
            raise DoubleError("only eigenvectors, and values of their precision, are doubled")
        if computeType != dataTypeA or workspaceInBytesOnDevice < 48 * n:
            raise DoubleError("xsyevd computes in the type of A, in the space that it asked for")
        _bytes_of(bufferOnHost, workspaceInBytesOnHost)[:] = 0xEE
        a = _columns(A, lda, n, dtype)[:, :n]  # row j is column j
        triangle = np.tril(a.T) if uplo == 0 else np.triu(a.T)
        whole = triangle + triangle.conj().T - np.diag(np.diagonal(triangle).real)
        w, v = np.linalg.eigh(whole)
        if not whole.any():  # as some releases of cuSOLVER have it
            w[...] = v[...] = np.nan
        a[...] = v.T
        _columns(W, n, 1, real)[0, :] = w
        _columns(info, 1, 1, np.dtype("i4"))[0, 0] = 0


def _size(handle: int, m: int, n: int, A: int, lda: int) -> int:
    return 64 * max(1, n)


def _potrf_size(handle: int, uplo: int, n: int, A: int, lda: int) -> int:
    return 64 * max(1, n)


def _use(device: Device, name: str, *addresses: int) -> None:
    """Note a call, as of a kernel that uses what lies at these addresses."""
    with device.lock:
        device.calls[name] = device.calls.get(name, 0) + 1
        device.kernel(*(device.memory_at(address) for address in addresses))


def _columns(address: int, lead: int, count: int, dtype: Any) -> Any:
    """Give columns that lie one after the other, each as a row."""
    flat = _bytes_of(address, lead * count * dtype.itemsize)
    return flat.view(dtype).reshape(count, lead)


def _bytes_of(address: int, nbytes: int) -> Any:
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))


def _rounded(address: int, lead: int, shape: tuple[int, int], dtype: Any) -> Any:
    """Give a copy whose numbers have 11 bits, as TF32 has."""
    rows, columns = shape
    used = lead * (columns - 1) + rows
    bits = np.zeros(lead * columns * dtype.itemsize // 4, np.uint32)
    bits[: used * dtype.itemsize // 4] = _columns(address, used, 1, dtype).reshape(-1).view("u4")
    bits += np.uint32(0x0FFF) + ((bits >> np.uint32(13)) & np.uint32(1))  # to the nearest even
    bits &= np.uint32(0xFFFFE000)
    return bits.view(dtype)
