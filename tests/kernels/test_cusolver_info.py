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


def device_that_says(info: int, name: str) -> Blas:
    """Make a GPU, one of whose factorisations says so in its info; it is the last argument."""
    device = Device(1 << 24)
    solver = Cusolver(device)
    real = getattr(solver, name)

    def said(*arguments: int) -> None:
        real(*arguments)
        _columns(arguments[-1], 1, 1, np.dtype("i4"))[0, 0] = info

    setattr(solver, name, said)
    return made_of(Cupy(device), Cublas(device), solver)


@pytest.mark.parametrize("root", ["potrf", "getrf", "geqrf", "syevd", "heevd"])
@pytest.mark.parametrize("info", [-3, 2])
def test_info_of_each_factorisation_is_read(root: str, info: int) -> None:
    dtype, prefix = ("c16", "z") if root == "heevd" else ("f8", "d")
    blas = device_that_says(info, prefix + root)
    a: Any = blas.put(np.diag(np.arange(1.0, 7)).astype(dtype))
    call = getattr(blas, root.replace("heevd", "syevd"))
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
