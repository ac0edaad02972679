"""Blocked arrays as Dask collections, and Dask and xarray on both sides."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from dask.base import tokenize

import leptonhpc as lh
from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import DTypeError, NotAnArrayError, ShapeError
from leptonhpc.testing import rounding

A = np.random.default_rng(3).standard_normal((23, 17))
TRUE = np.linalg.svd(A, compute_uv=False)


@pytest.fixture
def x(tmp_path: Path) -> BlockedArray:
    zarr.create_array(tmp_path / "x", shape=A.shape, dtype="f8", chunks=(5, 4))[...] = A
    return lh.open(tmp_path / "x")


def singular_values(source: Any) -> np.ndarray:
    return lh.svd(source, rank=5, memory="1 GB").s


def test_it_is_a_collection_of_one_task_a_block(x: BlockedArray) -> None:
    assert dask.is_dask_collection(x)
    assert len(dict(x.__dask_graph__())) == 25
    assert all(task.func.__name__ == "_read_block" for task in dict(x.__dask_graph__()).values())


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_compute_gives_the_values(scheduler: str, x: BlockedArray) -> None:
    assert np.array_equal(x.compute(scheduler=scheduler), A)


def test_it_computes_beside_other_collections(x: BlockedArray) -> None:
    # grouped by kind: dask 2026.8 gives interleaved kinds back in another order, its own too
    found, twice, total, number = dask.compute(
        x, x + x, da.from_array(A, chunks=7).sum(), dask.delayed(len)([1, 2])
    )
    assert np.array_equal(found, A)
    assert np.array_equal(twice, 2 * A)
    assert number == 2
    assert abs(total - A.sum()) <= A.size * np.finfo(float).eps * np.abs(A).sum()


def test_two_grids_of_one_array_do_not_share_keys(x: BlockedArray, tmp_path: Path) -> None:
    other = lh.open(tmp_path / "x", chunks=(23, 3))
    for pair in ((x, other), (x.to_dask(), other.to_dask())):
        for found in dask.compute(*pair):
            assert np.array_equal(found, A)


def test_what_changed_on_disk_has_another_token(x: BlockedArray, tmp_path: Path) -> None:
    before = tokenize(x)
    zarr.open_array(tmp_path / "x", mode="r+")[0, 0] = 7
    assert tokenize(lh.open(tmp_path / "x")) != before


def test_persist_keeps_the_values_when_the_store_is_gone(x: BlockedArray, tmp_path: Path) -> None:
    import shutil

    kept = x.persist()
    shutil.rmtree(tmp_path / "x")
    assert kept.shape == A.shape
    assert np.array_equal(kept.compute(), A)
    assert np.array_equal(kept.persist().compute(), A)
    (again,) = dask.compute(kept)
    assert np.array_equal(again, A)


def test_what_was_persisted_is_opened_and_factored(x: BlockedArray) -> None:
    kept = lh.open(x.persist())
    assert np.all(np.abs(singular_values(kept) - TRUE[:5]) <= rounding(A, float))


def test_delayed_functions_take_it_as_an_argument(x: BlockedArray) -> None:
    assert np.array_equal(dask.delayed(np.asarray)(x).compute(), A)


def test_to_dask_has_the_same_blocks_and_values(x: BlockedArray) -> None:
    lazy = x.to_dask()
    assert lazy.chunks == x.chunks
    assert lazy.dtype == x.dtype
    assert np.array_equal(lazy.compute(scheduler="sync"), A)
    assert np.array_equal((lazy[3:9].T @ lazy[3:9]).shape, (17, 17))
    assert np.array_equal(x.T[2:5].to_dask().compute(), A.T[2:5])


def test_dask_arrays_are_opened_and_factored() -> None:
    lazy = da.from_array(A, chunks=((10, 3, 10), (9, 8)))
    opened = lh.open(lazy)
    assert opened.chunks == lazy.chunks
    assert np.array_equal(np.asarray(opened), A)
    assert np.all(np.abs(singular_values(lazy + 0) - TRUE[:5]) <= rounding(A, float))


def test_sizes_of_chunks_that_are_unknown_are_found() -> None:
    lazy = da.from_array(A, chunks=5)
    with pytest.warns(UserWarning, match="chunks of unknown sizes"):
        opened = lh.open(lazy[lazy[:, 0] > 0])
    assert np.array_equal(np.asarray(opened), A[A[:, 0] > 0])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda b: b[:-1], ShapeError, r"has shape \(\d, 4\), and its chunks say \(\d, 4\)"),
        (lambda b: np.vstack([b, b]), ShapeError, r"has shape \(\d+, 4\)"),  # cut, it would do
        (lambda b: b.ravel(), ShapeError, "has shape"),
        (lambda b: b * 1j, DTypeError, "has dtype complex128, and the array says float64"),
        (lambda b: [b, None], DTypeError, "is no array of numbers"),
    ],
)
def test_a_block_that_is_not_what_the_array_says_is_an_error_that_names_it(
    change: Any, error: Any, words: str, tmp_path: Path
) -> None:
    def of_one(block: np.ndarray, block_info: Any = None) -> Any:
        here = block_info is not None and block_info[0]["chunk-location"] == (2, 1)
        return change(block) if here else block

    lazy = da.from_array(A, chunks=(5, 4)).map_blocks(of_one, dtype=float, meta=np.empty((0, 0)))
    for source in (lazy, lh.open(lazy)[12:]):
        with pytest.raises(error, match=rf"block \(2, 1\) of the dask array {words}"):
            lh.svd(source, rank=2, memory="1 GB", out=tmp_path / "r")
    assert not list(tmp_path.iterdir())


def test_to_dask_and_back_is_the_same_array(x: BlockedArray) -> None:
    assert np.array_equal(np.asarray(lh.open(x.to_dask())), A)


PROGRAM = """
import sys, warnings
warnings.simplefilter("error")
import dask
dask.config.set({"array.query-planning": True})
import numpy as np
import dask.array as da
import leptonhpc as lh
x = lh.open(sys.argv[1]); a = np.asarray(x)
assert np.array_equal(x.compute(), a)
assert np.array_equal(x.persist().compute(), a)
one, two = dask.compute(x, x + 1)
assert np.array_equal(one, a) and np.array_equal(two, a + 1)
lazy = x.to_dask()
assert type(lazy).__module__.startswith("dask.array"), type(lazy)
assert np.array_equal(lazy.compute(), a)
one, two = dask.compute(x)[0], dask.compute(da.from_array(a, chunks=7))[0]
assert np.array_equal(one, a) and np.array_equal(two, a)
other = lh.open(sys.argv[1], chunks=(23, 3)).to_dask()
for found in dask.compute(lazy, other):
    assert np.array_equal(found, a)
s = np.linalg.svd(a, compute_uv=False)[:5]
for source in (x, da.from_array(a, chunks=7), lazy):
    assert np.abs(lh.svd(source, rank=5, memory="1 GB").s - s).max() < 1e-12 * s[0]
print(type(lazy).__module__, "fine")
"""


@pytest.mark.parametrize("planning", ["True", "False"])
def test_it_works_with_and_without_query_planning(
    planning: str, x: BlockedArray, tmp_path: Path
) -> None:
    program = PROGRAM.replace('"array.query-planning": True', f'"array.query-planning": {planning}')
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "x")],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "fine" in done.stdout
    assert ("_array_expr" in done.stdout) is (planning == "True")


def test_xarray_in_and_out(tmp_path: Path) -> None:
    zarr.create_array(
        tmp_path / "x", shape=A.shape, dtype="f8", chunks=(5, 4), dimension_names=("time", "place")
    )[...] = A
    x = lh.open(tmp_path / "x")
    out = x.to_xarray("t2m")
    assert (out.name, out.dims) == ("t2m", ("time", "place"))
    assert out.chunks == x.chunks
    assert np.array_equal(out.values, A)
    back = lh.open(out)
    assert back.dims == ("time", "place")
    assert np.array_equal(np.asarray(back), A)


@pytest.mark.parametrize("lazy", [False, True])
def test_xarray_variables_are_factored(lazy: bool) -> None:
    variable = xr.DataArray(A, dims=("time", "place"))
    variable = variable.chunk({"time": 5}) if lazy else variable
    assert np.all(np.abs(singular_values(variable) - TRUE[:5]) <= rounding(A, float))


def test_a_dataset_is_refused_with_the_way_out() -> None:
    with pytest.raises(NotAnArrayError, match="Select it by name"):
        lh.open(xr.Dataset({"t2m": ("x", [1.0])}))


def test_a_zarr_store_written_by_xarray_is_opened(tmp_path: Path) -> None:
    xr.Dataset({"t2m": (("time", "place"), A)}).to_zarr(tmp_path / "d", consolidated=False)
    x = lh.open(tmp_path / "d" / "t2m")
    assert x.dims == ("time", "place")
    assert np.array_equal(np.asarray(x), A)
    with pytest.raises(NotAnArrayError, match="t2m"):
        lh.open(tmp_path / "d")


def test_a_dask_array_becomes_a_blocked_one_and_back() -> None:
    lazy = da.from_array(A, chunks=((10, 0, 13), (9, 8)))
    x = BlockedArray.from_dask(lazy)
    assert x.chunks == ((10, 13), (9, 8))
    np.testing.assert_array_equal(np.asarray(x), A)
    np.testing.assert_array_equal(x.to_dask().compute(), A)
    assert x.__dask_tokenize__() == BlockedArray.from_dask(lazy).__dask_tokenize__()
    with pytest.raises(DTypeError, match="numbers"):
        BlockedArray.from_dask(da.from_array(np.array(["a", "b"])))


class OnDevice:
    """An array that NumPy does not get at, as one of CuPy."""

    __cuda_array_interface__: dict[str, Any] = {}

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, 2
        self.device, self.is_computed = self, False

    def __getitem__(self, key: Any) -> "OnDevice":
        return OnDevice(self.values[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def synchronize(self) -> None:
        self.is_computed = True

    def get(self) -> np.ndarray:
        assert self.is_computed
        return self.values.copy()


def test_arrays_on_a_device_are_copied_from_it() -> None:
    assert np.array_equal(np.asarray(lh.open(OnDevice(A))), A)
    lazy = da.from_array(OnDevice(A), chunks=A.shape, asarray=False, meta=np.empty((0, 0)))
    q, r = lh.qr(lazy, memory="1 GB")
    assert np.all(np.abs(np.asarray(q) @ np.asarray(r) - A) <= rounding(A, float))
