"""What cuSOLVER says in its info is read after each factorisation, and is an error of ours."""

from typing import Any

import numpy as np
import pytest

from leptonhpc.errors import LinAlgError, NotPositiveDefiniteError
from leptonhpc.kernels.cuda import made_of
from leptonhpc.kernels.fold import Blas
from leptonhpc.testing.cuda_double.arrays import Cupy
from leptonhpc.testing.cuda_double.device import Device
from leptonhpc.testing.cuda_double.libraries import Cublas, Cusolver, _columns


def device_that_says(info: int, name: str) -> tuple[Blas, Device]:
    """Make a GPU, one of whose factorisations says so in its info; it is the last argument."""
    device = Device(1 << 24)
    solver = Cusolver(device)
    real = getattr(solver, name)

    def said(*arguments: int) -> None:
        real(*arguments)
        if name == "dgetrf":  # what it leaves of a singular matrix is not said
            _, m, n, a, lead, *_ = arguments
            _columns(a, lead, n, np.dtype("f8"))[...] = np.nan
        _columns(arguments[-1], 1, 1, np.dtype("i4"))[0, 0] = info

    setattr(solver, name, said)
    return made_of(Cupy(device), Cublas(device), solver), device


@pytest.mark.parametrize("root", ["potrf", "getrf", "geqrf", "xsyevd"])
@pytest.mark.parametrize("info", [-3, 2])
def test_info_of_each_factorisation_is_read(root: str, info: int) -> None:
    blas, device = device_that_says(info, root if root == "xsyevd" else "d" + root)
    a: Any = blas.put(np.diag(np.arange(1.0, 7)))
    call = getattr(blas, root.removeprefix("x"))
    if info < 0:
        with pytest.raises(LinAlgError, match="refused its argument 3"):
            call(a)
    elif root == "potrf":
        with pytest.raises(NotPositiveDefiniteError) as caught:
            call(a)
        assert caught.value.order == 2
    elif root.endswith("evd"):
        with pytest.raises(LinAlgError, match="did not converge"):
            call(a)
    else:  # a zero pivot stays in U, where who asked for the factors finds it
        call(a)
        if root == "getrf":
            assert np.array_equal(blas.get(a), np.diag(np.arange(1.0, 7)))
    assert device.params == 0  # given back, whatever was said
