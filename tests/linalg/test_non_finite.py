"""NaN and infinity raise an error that names them, and nothing gets the output's name."""

import itertools
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import NonFiniteError, NumericRangeError
from leptonhpc.testing import matrix_with_spectrum, put

MEMORY = "1 GB"
CHUNKS = (64, 17)
TALL, WIDE = (300, 80), (80, 300)
PLACES = [(0, 0), (77, 79), (70, 33)]
OPTIONS = {
    "plain": {},
    "centred": {"center": True},
    "standardised": {"center": True, "scale": "std"},
    "scaled": {"scale": "std"},
    "weighted": {"weights": True},
}


def spoilt(shape: tuple[int, int], at: tuple[int, int], value: object, dtype: str) -> np.ndarray:
    a = matrix_with_spectrum(shape, 0.5 ** np.arange(min(shape)), dtype=dtype)
    a[at] = value
    return a


def options_for(name: str, columns: int) -> dict[str, object]:
    chosen = dict(OPTIONS[name])
    return {"weights": np.linspace(1, 2, columns)} if "weights" in chosen else chosen


@pytest.mark.parametrize("method", ["gram", "krylov", "sketch"])
@pytest.mark.parametrize("shape", [TALL, WIDE])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_the_error_names_value_global_index_and_block(
    method: str, shape: tuple[int, int], dtype: str, tmp_path: Path
) -> None:
    values = [np.nan, np.inf, -np.inf]
    for number, (at, value, name) in enumerate(itertools.product(PLACES, values, OPTIONS)):
        if method == "sketch" and name in ("standardised", "scaled"):
            continue
        if number % 3 != len(method) % 3:
            continue  # a third of the product, another for each method
        place = put(spoilt(shape, at, value, dtype), tmp_path / f"{number}.zarr", chunks=CHUNKS)
        out = tmp_path / f"out-{number}"
        with pytest.raises(NonFiniteError) as caught:
            lh.svd(
                place, rank=2, method=method, memory=MEMORY, out=out,
                **options_for(name, shape[1]),
            )  # fmt: skip
        message = str(caught.value)
        block = (at[0] // CHUNKS[0], at[1] // CHUNKS[1])
        assert f"index {at}" in message, (name, value)
        assert f"block {block}" in message, (name, value)
        assert f"{number}.zarr" in message
        assert not out.exists()
        assert str(pickle.loads(pickle.dumps(caught.value))) == message


@pytest.mark.parametrize("shape", [TALL, WIDE])
@pytest.mark.parametrize("center", [False, True])
def test_both_infinities_in_one_column_raise_the_same_error(
    shape: tuple[int, int], center: bool
) -> None:
    a = matrix_with_spectrum(shape, np.ones(80))
    a[3, 5], a[9, 5] = np.inf, -np.inf
    with pytest.raises(NonFiniteError, match=r"index \(3, 5\)"):
        lh.svd(a, rank=2, center=center, memory=MEMORY)


@pytest.mark.parametrize("method", ["gram", "krylov"])
@pytest.mark.parametrize("shape", [TALL, WIDE])
def test_infinity_is_not_a_missing_value(method: str, shape: tuple[int, int]) -> None:
    a = spoilt(shape, (70, 33), np.inf, "float64")
    a[0, 0] = np.nan
    with pytest.raises(NonFiniteError, match=r"inf at index \(70, 33\)"):
        lh.svd(a, rank=2, method=method, missing="mean", memory=MEMORY)


def test_index_and_block_are_those_of_an_irregular_dask_array() -> None:
    da = pytest.importorskip("dask.array")
    a = matrix_with_spectrum((30, 10), np.ones(10))
    a[9, 7] = np.nan
    x = da.from_array(a, chunks=((3, 5, 2, 20), (6, 4)))
    with pytest.raises(NonFiniteError, match=r"index \(9, 7\), in block \(2, 1\)"):
        lh.svd(x, rank=2, memory=MEMORY)


def test_index_and_block_are_those_of_a_slice(tmp_path: Path) -> None:
    a = matrix_with_spectrum((40, 12), np.ones(12))
    a[9, 7] = np.nan
    part = lh.open(put(a, tmp_path / "a.zarr", chunks=(4, 5)))[3:, 1:]
    assert part.grid.block_of((6, 6)) == (2, 1)
    with pytest.raises(NonFiniteError, match=r"index \(6, 6\), in block \(2, 1\)"):
        lh.svd(part, rank=2, memory=MEMORY)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("spoilt_factor", ["a", "b"])
def test_a_product_names_the_global_index_in_the_factor(
    value: float, spoilt_factor: str, tmp_path: Path
) -> None:
    factors = {"a": np.ones((300, 40)), "b": np.ones((40, 300))}
    at = (250, 33) if spoilt_factor == "a" else (33, 250)
    factors[spoilt_factor][at] = value
    stored = {k: put(x, tmp_path / f"{k}.zarr", chunks=(60, 60)) for k, x in factors.items()}
    out = tmp_path / "c.zarr"
    with pytest.raises(NonFiniteError) as caught:
        lh.matmul(stored["a"], stored["b"], out=out, memory=MEMORY)
    assert f"{spoilt_factor}.zarr" in str(caught.value)
    assert str(at) in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize("order", ["fro", 1, np.inf, 2, "nuc"])
def test_norms_name_the_index(order: object) -> None:
    for value, shape in itertools.product((np.nan, np.inf), (TALL, WIDE)):
        with pytest.raises(NonFiniteError, match=r"index \(70, 33\)"):
            lh.norm(spoilt(shape, (70, 33), value, "float64"), ord=order, memory=MEMORY)


@pytest.mark.parametrize("method", ["gram", "krylov", "sketch"])
@pytest.mark.parametrize("value", [1e200, 1.7e308])
def test_a_large_finite_number_is_never_called_infinite(method: str, value: float) -> None:
    a = np.full((300, 80), value)
    try:
        r = lh.svd(a, rank=1, method=method, memory=MEMORY)
    except NumericRangeError:
        return
    assert r.s[0] / value == pytest.approx(np.sqrt(a.size), rel=1e-10)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "driver", ["matmul", "gram", "cholesky", "lu", "qr", "eigh", "solve", "lstsq", "inv"]
)
def test_every_driver_names_a_block_that_holds_the_index(
    driver: str, value: float, tmp_path: Path
) -> None:
    a = np.eye(300) + 0.001
    a[70, 33] = a[33, 70] = value
    x = lh.open(put(a, tmp_path / "a.zarr", chunks=(64, 64)))
    arrays = {"gram": (x.H, x), "matmul": (x, x), "solve": (x, np.ones(300))}
    arrays["lstsq"] = arrays["solve"]
    function = getattr(lh, "matmul" if driver == "gram" else driver)
    with pytest.raises(NonFiniteError) as caught:
        function(*arrays.get(driver, (x,)), memory=MEMORY)
    found = re.search(
        r"at index \((\d+), (\d+)\), in block \[(\d+):(\d+), (\d+):(\d+)\]", str(caught.value)
    )
    assert found is not None, caught.value
    row, column, r0, r1, c0, c1 = map(int, found.groups())
    assert {row, column} == {33, 70}
    assert r0 <= row < r1 <= 300
    assert c0 <= column < c1 <= 300
