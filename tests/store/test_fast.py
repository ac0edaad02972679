"""With zarrs, the extra ``fast``, what our own reader does not read is decoded by it: the same."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, GzipCodec

from leptonhpc.errors import CorruptChunkError
from leptonhpc.store import fast, open_array

LAYOUTS: dict[str, dict[str, Any]] = {
    "sharded": {"shards": (40, 30), "chunks": (20, 15)},
    "sharded raw": {"shards": (40, 30), "chunks": (20, 15), "compressors": None},
    "blosc": {"chunks": (20, 15), "compressors": BloscCodec(cname="lz4")},
    "gzip": {"chunks": (20, 15), "compressors": GzipCodec()},
}


def stored(path: Path, layout: str, dtype: str, rng: np.random.Generator) -> np.ndarray:
    values = (100 * rng.standard_normal((101, 67))).astype(dtype)
    array = zarr.create_array(path, shape=values.shape, dtype=dtype, **LAYOUTS[layout])
    values[:40, 30:60] = 0  # what is nothing but fill value is not stored
    array[...] = values
    return values


@pytest.mark.parametrize("dtype", ["f4", "f8", "c16", "i2", "u1", "bool"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_regions_are_what_was_stored(
    layout: str, dtype: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    values = stored(tmp_path / "x", layout, dtype, rng)
    array = open_array(tmp_path / "x")
    assert "Zarrs" in type(array._array._async_array.codec_pipeline).__name__
    cuts = [((0, 101), (0, 67)), ((40, 101), (30, 67)), ((3, 58), (10, 11)), ((100, 101), (66, 67))]
    for rows, columns in cuts:
        found = array.read((rows, columns))
        assert found.dtype == values.dtype
        assert np.array_equal(found, values[slice(*rows), slice(*columns)])
    assert np.array_equal(pickle.loads(pickle.dumps(array)).read(cuts[0]), values)


def test_what_our_own_reader_reads_is_left_to_it(tmp_path: Path, rng: np.random.Generator) -> None:
    array = zarr.create_array(tmp_path / "x", shape=(40, 30), chunks=(20, 30), dtype="f8")
    array[...] = rng.standard_normal((40, 30))
    opened = open_array(tmp_path / "x")
    assert opened._direct is not None
    assert "Zarrs" not in type(opened._array._async_array.codec_pipeline).__name__


def test_without_zarrs_the_same_is_read(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = stored(tmp_path / "x", "sharded", "f8", rng)
    monkeypatch.setattr(fast, "find_spec", lambda _name: None)
    array = open_array(tmp_path / "x")
    assert "Zarrs" not in type(array._array._async_array.codec_pipeline).__name__
    assert np.array_equal(array.read(((0, 101), (0, 67))), values)


@pytest.mark.parametrize("keep", [0.0, 0.5])
@pytest.mark.parametrize("layout", ["blosc", "sharded"])
def test_damage_is_an_error(
    layout: str, keep: float, tmp_path: Path, rng: np.random.Generator
) -> None:
    """A chunk cut off, and an empty file: numcodecs and zarr pass over one each in silence."""
    stored(tmp_path / "x", layout, "f8", rng)
    chunk = tmp_path / "x" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[: int(keep * chunk.stat().st_size)])
    with pytest.raises(CorruptChunkError, match="x' has a chunk"):
        open_array(tmp_path / "x").read(((0, 20), (0, 15)))


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("layout", ["sharded", "sharded raw"])
def test_metadata_of_another_dtype_are_an_error_that_names_the_chunk(
    layout: str, dtype: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Of parts of a shard, zarrs takes as many bytes as it needs, whatever there are."""
    stored(tmp_path / "x", layout, "f8", rng)
    metadata = tmp_path / "x" / "zarr.json"
    metadata.write_text(metadata.read_text().replace("float64", dtype).replace(": 0.0,", ": 0,"))
    array = open_array(tmp_path / "x")
    assert not array.read(((0, 9), (30, 60))).any()  # is not stored, and proves nothing
    for rows, columns in (((3, 58), (10, 11)), ((90, 101), (60, 67))):
        with pytest.raises(CorruptChunkError) as raised:
            array.read((rows, columns))
        assert raised.value.chunk == f"c/{rows[0] // 40}/{columns[0] // 30}"


def test_what_zarrs_cannot_open_is_read_by_zarr(tmp_path: Path, rng: np.random.Generator) -> None:
    """Attributes with NaN are no strict JSON, and zarr-python writes them."""
    array = zarr.create_array(
        tmp_path / "x", shape=(8, 6), shards=(4, 6), chunks=(2, 3), dtype="f4",
        attributes={"missing": float("nan")},
    )  # fmt: skip
    values = rng.standard_normal((8, 6)).astype("f4")
    array[...] = values
    assert np.array_equal(open_array(tmp_path / "x").read(((0, 8), (0, 6))), values)
