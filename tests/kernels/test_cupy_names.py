"""CuPy has what we call, with the arguments that the double takes: all that shows without a GPU."""

import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from leptonhpc.testing.cuda_double.arrays import Cupy
from leptonhpc.testing.cuda_double.device import Device
from leptonhpc.testing.cuda_double.libraries import DTYPES, Cublas, Cusolver

if find_spec("cupy") is None:
    pytest.skip("CuPy is not installed", allow_module_level=True)

LIBRARIES = Path(str(find_spec("cupy").origin)).parents[1] / "cupy_backends" / "cuda" / "libs"  # type: ignore[union-attr]


def bindings(name: str) -> bytes:
    """Read a library's bindings: they cannot be imported where there is no CUDA."""
    return next(LIBRARIES.glob(f"{name}.*.so")).read_bytes()


@pytest.mark.parametrize("prefix", DTYPES)
@pytest.mark.parametrize(
    ("library", "name"),
    [("cublas", n) for n in ("gemm", "syrk", "trsm")]
    + [("cusolver", n + end) for n in ("potrf", "getrf", "geqrf") for end in ("", "_bufferSize")]
    + [("cusolver", "xsyevd" + end) for end in ("", "_bufferSize")],
)
def test_bindings_take_the_arguments_of_the_double(library: str, name: str, prefix: str) -> None:
    name = name if name.startswith("x") else prefix + name
    double = (Cublas if library == "cublas" else Cusolver)(Device(1 << 20))
    expected = list(inspect.signature(getattr(double, name)).parameters)
    found = re.search(rb"\b" + name.encode() + rb"\(([^()]*)\)", bindings(library))
    assert found is not None
    given = [part.split()[-1] for part in found.group(1).decode().split(",")]
    same = {"tau": "tau", "work": "work", "info": "info"}
    assert [same.get(g, g) for g in given] == expected


def test_constants_and_modes_are_there() -> None:
    for name in dir(Cublas):
        if name.startswith("CUBLAS_"):
            assert name.encode() in bindings("cublas")
    assert b"setMathMode(intptr_t handle, int mode)" in bindings("cublas")
    for name in ("CUSOLVER_EIG_MODE_VECTOR", "createParams()", "destroyParams(intptr_t params)"):
        assert name.encode() in bindings("cusolver")


def test_names_of_the_namespace_are_those_of_cupy() -> None:
    import cupy

    double = Cupy(Device(1 << 20))
    for name in (n for n in dir(double) if not n.startswith("_")):
        assert hasattr(cupy, name), name
    for name in vars(double.cuda):
        assert hasattr(cupy.cuda, name), name
    for name in vars(double.cuda.device):
        assert hasattr(cupy.cuda.device, name), name
    for method in ("copy_from_host_async", "copy_to_host_async", "__add__"):
        assert hasattr(cupy.cuda.MemoryPointer, method)
    for method in ("record", "synchronize"):
        assert hasattr(cupy.cuda.Event, method)
    assert hasattr(cupy.cuda.Stream, "wait_event")
    assert hasattr(cupy.cuda.MemoryPool, "set_limit")
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, Exception)
