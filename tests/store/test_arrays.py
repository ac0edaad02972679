"""Arrays in every layout: what is read is what zarr reads, and damage has a name."""

import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, ZstdCodec

from leptonhpc.errors import (
    DTypeError,
    NotAnArrayError,
    OutputExistsError,
    ShapeError,
    StoreError,
)
from leptonhpc.store import create_array, open_array

SHAPE, CHUNKS = (23, 17), (5, 4)
LAYOUTS: dict[str, dict[str, Any]] = {
    "raw": {"compressors": None},
    "zstd": {"compressors": ZstdCodec()},
    "zstd with checksum": {"compressors": ZstdCodec(checksum=True)},
    "blosc": {"compressors": BloscCodec()},
    "gzip": {"compressors": GzipCodec()},
    "big-endian": {"compressors": None, "serializer": BytesCodec(endian="big")},
    "big-endian zstd": {"compressors": ZstdCodec(), "serializer": BytesCodec(endian="big")},
    "sharded": {"shards": (10, 8)},
    "sharded raw": {"shards": (10, 8), "compressors": None},
    "fortran": {"filters": [zarr.codecs.TransposeCodec(order=(1, 0))]},
    "dots": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    "zarr 2 raw": {"zarr_format": 2, "compressors": None},
    "zarr 2 default": {"zarr_format": 2},
    "zarr 2 big-endian": {"zarr_format": 2, "dtype": ">f4", "compressors": None},
    "zarr 2 fortran": {"zarr_format": 2, "order": "F", "compressors": None},
    "zarr 2 nested": {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def keep(
    folder: Path, layout: str, values: np.ndarray, **more: Any
) -> tuple[Path, zarr.Array[Any]]:
    options = {"shape": values.shape, "dtype": values.dtype, "chunks": CHUNKS, **LAYOUTS[layout]}
    array = zarr.create_array(folder / "x", **(options | more))
    array[...] = values
    return folder / "x", array


def chunk_files(folder: Path) -> list[Path]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return sorted(p for p in files if not p.name.startswith((".z", "zarr.json")))


def whole(path: Path) -> np.ndarray:
    array = open_array(path)
    return array.read(tuple((0, n) for n in array.shape))


@every_layout
def test_every_region_is_what_zarr_reads(
    layout: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    path, array = keep(tmp_path, layout, rng.standard_normal(SHAPE).astype("f4"))
    opened, expected = open_array(path), array[...]
    cuts = (
        [(0, 23), (0, 5), (3, 4), (4, 11), (20, 23), (7, 7)],
        [(0, 17), (4, 8), (1, 16), (16, 17)],
    )
    for region in itertools.product(*cuts):
        found = opened.read(region)
        assert found.dtype.isnative
        assert np.array_equal(found, expected[tuple(slice(*pair) for pair in region)]), region


@every_layout
def test_reading_into_a_buffer_fills_all_of_it(
    layout: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    path, array = keep(tmp_path, layout, rng.standard_normal(SHAPE).astype("f4"))
    opened = open_array(path)
    out = np.full((9, 17), np.nan, opened.dtype)
    opened.read(((5, 14), (0, 17)), out)
    assert np.array_equal(out, array[5:14])


@given(data=st.data())
def test_any_region_of_any_grid_is_what_zarr_reads(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shape = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    chunks = [data.draw(st.integers(1, n + 2)) for n in shape]
    folder = tmp_path_factory.mktemp("grid")
    values = np.arange(np.prod(shape)).reshape(shape)
    compressors = data.draw(st.sampled_from([None, ZstdCodec()]))
    array = zarr.create_array(
        folder / "x", shape=shape, dtype="i8", chunks=chunks, compressors=compressors
    )
    array[...] = values
    region = tuple(tuple(sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2)))) for n in shape)
    found = open_array(folder / "x").read(region)
    assert np.array_equal(found, values[tuple(slice(*pair) for pair in region)])


@pytest.mark.parametrize("layout", ["raw", "zstd", "blosc", "sharded", "zarr 2 raw"])
@pytest.mark.parametrize("fill", [0, 2.5, np.nan])
def test_unwritten_chunks_hold_the_fill_value(layout: str, fill: float, tmp_path: Path) -> None:
    options = {"dtype": "f8", "chunks": CHUNKS, **LAYOUTS[layout]}
    array = zarr.create_array(tmp_path / "x", shape=SHAPE, fill_value=fill, **options)
    array[:5, :4] = 7
    expected = np.full(SHAPE, float(fill))
    expected[:5, :4] = 7
    assert np.array_equal(whole(tmp_path / "x"), expected, equal_nan=True)


def test_zarr_2_without_a_fill_value_reads_zeros_where_nothing_is_written(tmp_path: Path) -> None:
    zarr.create_array(
        tmp_path / "x", shape=SHAPE, dtype="f8", chunks=CHUNKS, zarr_format=2, compressors=None,
        fill_value=None,
    )  # fmt: skip
    assert np.array_equal(whole(tmp_path / "x"), np.zeros(SHAPE))


def test_a_missing_chunk_holds_the_fill_value(tmp_path: Path, rng: np.random.Generator) -> None:
    path, array = keep(tmp_path, "raw", rng.standard_normal(SHAPE))
    chunk_files(path)[0].unlink()
    found = whole(path)
    assert np.array_equal(found[:5, :4], np.zeros((5, 4)))
    assert np.array_equal(found, array[...])


def _nothing(folder: Path) -> None:
    pass


def _empty_folder(folder: Path) -> None:
    folder.mkdir()


def _file(folder: Path) -> None:
    folder.write_text("not zarr")


def _broken_metadata(folder: Path) -> None:
    folder.mkdir()
    (folder / "zarr.json").write_text("{")


def _foreign_metadata(folder: Path) -> None:
    folder.mkdir()
    (folder / "zarr.json").write_text("{}")


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (_nothing, StoreError, "nothing is stored at"),
        (_empty_folder, NotAnArrayError, "is not a Zarr array: it has none of zarr.json"),
        (_file, NotAnArrayError, "is not a Zarr array: it is a file"),
        (_broken_metadata, NotAnArrayError, "is not a Zarr array"),
        (_foreign_metadata, NotAnArrayError, "is not a Zarr array"),
    ],
)
def test_what_is_not_an_array_is_refused_by_name(
    make: Callable[[Path], None], kind: type[StoreError], words: str, tmp_path: Path
) -> None:
    make(tmp_path / "x")
    with pytest.raises(StoreError, match=words) as caught:
        open_array(tmp_path / "x")
    assert type(caught.value) is kind
    assert str(tmp_path / "x") in str(caught.value)


def test_what_is_called_nearly_so_is_named(tmp_path: Path) -> None:
    (tmp_path / "sst-2024.zarr").mkdir()
    with pytest.raises(StoreError, match=r"nothing is stored.*Near by: sst-2024.zarr"):
        open_array(tmp_path / "sst_2024.zarr")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_group_is_refused_with_the_arrays_that_it_has(zarr_format: int, tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "g", zarr_format=zarr_format)
    for name in ("t2m", "precip"):
        group.create_array(name, shape=(2, 2), dtype="f4")
    with pytest.raises(NotAnArrayError, match="group with the arrays precip, t2m"):
        open_array(tmp_path / "g")


def test_an_array_of_text_is_refused(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "x", shape=(3, 3), dtype="S4", zarr_format=2)
    with pytest.raises(DTypeError, match="numbers or booleans are needed"):
        open_array(tmp_path / "x")


@pytest.mark.parametrize("shards", [None, (8, 12)])
def test_blocks_that_are_not_whole_units_are_refused_and_write_nothing(
    shards: tuple[int, int] | None, tmp_path: Path
) -> None:
    array = create_array(
        tmp_path / "x", shape=(20, 20), dtype="f8", chunks=(4, 6), shards=shards, fill_value=0
    )
    a, b = array.unit
    for start, shape in (((0, 0), (a - 1, b)), ((0, 0), (a, b + 1)), ((1, 0), (20 - a + 1, 20))):
        with pytest.raises(ShapeError, match="whole units"):
            array.write_units(start, np.ones(shape))
    assert not np.any(whole(tmp_path / "x"))


@pytest.mark.parametrize("shards", [None, (8, 12)])
def test_whole_units_up_to_the_edge_round_trip(
    shards: tuple[int, int] | None, tmp_path: Path, rng: np.random.Generator
) -> None:
    array = create_array(tmp_path / "x", shape=(20, 20), dtype="c16", chunks=(4, 6), shards=shards)
    values = rng.standard_normal((20, 20)) * (1 + 1j)
    a, b = array.unit
    for i, j in itertools.product(range(-(-20 // a)), range(-(-20 // b))):
        array.write_units((i, j), values[i * a : (i + 1) * a, j * b : (j + 1) * b])
    assert np.array_equal(whole(tmp_path / "x"), values)
    assert np.array_equal(zarr.open_array(tmp_path / "x")[...], values)


@pytest.mark.parametrize("comes", ["as it was made", "to a worker", "opened again"])
@pytest.mark.parametrize(("chunks", "shards"), [((4, 4), None), ((4, 2), (4, 4))])
def test_arrays_of_fill_values_are_stored_like_others(
    chunks: tuple[int, int], shards: tuple[int, int] | None, comes: str, tmp_path: Path
) -> None:
    array = create_array(tmp_path / "x", shape=(8, 8), dtype="f8", chunks=chunks, shards=shards)
    if comes == "to a worker":
        array = pickle.loads(pickle.dumps(array))
    elif comes == "opened again":
        array = open_array(tmp_path / "x", writable=True)
    array.write_units((0, 0), np.zeros((8, 8)))
    assert len(chunk_files(tmp_path / "x")) == 4


def test_a_taken_place_is_not_written_to(tmp_path: Path) -> None:
    create_array(tmp_path / "x", shape=(4, 4), dtype="f8", chunks=(4, 4))
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        create_array(tmp_path / "x", shape=(2, 2), dtype="f8", chunks=(2, 2))
    assert open_array(tmp_path / "x").shape == (4, 4)


def test_identity_changes_with_any_chunk(tmp_path: Path, rng: np.random.Generator) -> None:
    path, array = keep(tmp_path, "raw", rng.standard_normal(SHAPE))
    before = open_array(path).identity()
    assert open_array(path).identity() == before
    array[0, 0] = 9.0
    assert open_array(path).identity() != before


def test_units_in_a_region_are_those_that_it_touches(tmp_path: Path) -> None:
    array = create_array(tmp_path / "x", shape=(23, 17), dtype="f8", chunks=(5, 4), shards=(10, 8))
    assert array.units_in(((0, 23), (0, 17))) == 9
    assert array.units_in(((9, 11), (7, 8))) == 2
    assert array.units_in(((9, 9), (0, 17))) == 0
