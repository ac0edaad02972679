"""Damaged chunks: an error that names the place, never other numbers."""

import functools
import json
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec

from leptonhpc.errors import (
    CorruptChunkError,
    NotAnArrayError,
    StoreError,
)
from leptonhpc.store import fast, open_array
from leptonhpc.store.appending import append_values
from leptonhpc.store.completeness import EVERY_CHUNK, mark_whole

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
    "zarr 2 blosc": {"zarr_format": 2, "compressors": numcodecs.Blosc()},
    "zarr 2 big-endian": {"zarr_format": 2, "dtype": ">f4", "compressors": None},
    "zarr 2 fortran": {"zarr_format": 2, "order": "F", "compressors": None},
    "zarr 2 nested": {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
}
CODECS = ("raw", "zstd", "zstd with checksum", "blosc", "gzip", "sharded", "zarr 2 default")


@pytest.fixture(autouse=True)
def _without_zarrs(monkeypatch: pytest.MonkeyPatch) -> None:
    """See what is noticed without it; `test_fast` has what is with it."""
    monkeypatch.setattr(fast, "find_spec", lambda _name: None)


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


def whole(path: Path, *, writable: bool = False) -> np.ndarray:
    array = open_array(path, writable=writable)
    return array.read(tuple((0, n) for n in array.shape))


@pytest.mark.parametrize("layout", [*CODECS, "zarr 2 blosc"])
def test_a_truncated_chunk_is_an_error_that_names_the_array(
    layout: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    path, _ = keep(tmp_path, layout, rng.standard_normal(SHAPE))
    chunk = chunk_files(path)[1]
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])
    with pytest.raises(CorruptChunkError, match=str(path)):
        whole(path)


@pytest.mark.parametrize("layout", [*CODECS, "zarr 2 blosc"])
def test_an_empty_chunk_file_is_an_error(
    layout: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    path, _ = keep(tmp_path, layout, rng.standard_normal(SHAPE))
    chunk_files(path)[1].write_bytes(b"")
    with pytest.raises(CorruptChunkError, match=str(path)):
        whole(path)


@pytest.mark.parametrize("layout", [name for name in CODECS if name != "raw"])
def test_a_destroyed_header_is_an_error(
    layout: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    path, _ = keep(tmp_path, layout, rng.standard_normal(SHAPE))
    chunk = chunk_files(path)[1]
    data = bytearray(chunk.read_bytes())
    data[:16] = bytes(255 - x for x in data[:16])
    data[-16:] = bytes(255 - x for x in data[-16:])  # a shard's index is at its end
    chunk.write_bytes(bytes(data))
    with pytest.raises(CorruptChunkError, match=str(path)):
        whole(path)


CHECKED: dict[str, dict[str, Any]] = {
    "zstd": {"compressors": ZstdCodec(checksum=True)},
    "crc32c": {"compressors": Crc32cCodec()},
    "gzip and crc32c": {"compressors": [GzipCodec(), Crc32cCodec()]},
    "gzip": {"compressors": GzipCodec()},
    "sharded": {"compressors": Crc32cCodec(), "shards": (10, 8)},
}


@pytest.mark.parametrize("place", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("codec", CHECKED)
def test_a_flipped_bit_under_a_checksum_is_an_error(
    codec: str, place: float, tmp_path: Path, rng: np.random.Generator
) -> None:
    path, _ = keep(tmp_path, "zstd", rng.standard_normal(SHAPE), **CHECKED[codec])
    chunk = chunk_files(path)[1]
    data = bytearray(chunk.read_bytes())
    data[int(len(data) * place)] ^= 1
    chunk.write_bytes(bytes(data))
    with pytest.raises(CorruptChunkError) as raised:
        whole(path)
    assert str(path) in str(raised.value)
    assert raised.value.chunk == str(chunk.relative_to(path))


def test_a_chunk_that_is_not_there_holds_the_fill_value_as_zarr_says(tmp_path: Path) -> None:
    """Zarr stores no chunk of fill values: nobody can tell a lost chunk of a finished array."""
    path, _ = keep(tmp_path, "raw", np.ones(SHAPE), fill_value=-7.0)
    chunk_files(path)[0].unlink()
    expected = np.ones(SHAPE)
    expected[:5, :4] = -7.0
    assert np.array_equal(whole(path), expected)


@pytest.mark.parametrize(
    ("layout", "fill"),
    [*((layout, 0.0) for layout in LAYOUTS), ("raw", np.nan), ("sharded", np.nan), ("blosc", -7.0)],
)
def test_a_lost_chunk_of_an_array_that_stores_all_is_an_error_that_names_it(
    layout: str, fill: float, tmp_path: Path, rng: np.random.Generator
) -> None:
    path, array = keep(
        tmp_path, layout, rng.standard_normal(SHAPE).astype(LAYOUTS[layout].get("dtype", float)),
        fill_value=fill, config={"write_empty_chunks": True},
    )  # fmt: skip
    array[:10, :8] = fill  # what looks like a lost chunk and is none
    mark_whole(path)
    expected = whole(path)
    chunk = chunk_files(path)[1]
    values = chunk.read_bytes()
    chunk.unlink()
    for writable in (False, True):  # as a job has what it reads of its own output
        with pytest.raises(CorruptChunkError, match="not there") as raised:
            whole(path, writable=writable)
        assert raised.value.array == str(path)
        assert raised.value.chunk == str(chunk.relative_to(path))
    with pytest.raises(CorruptChunkError, match="not there"):
        mark_whole(path)
    chunk.write_bytes(values)
    assert np.array_equal(whole(path), expected, equal_nan=True)


@pytest.mark.parametrize("layout", ["raw", "sharded", "zarr 2 default"])
def test_an_array_that_lacks_a_chunk_does_not_say_that_it_stores_all(
    layout: str, tmp_path: Path
) -> None:
    path, _ = keep(tmp_path, layout, np.ones(SHAPE), fill_value=0.0)
    chunk_files(path)[0].unlink()
    mark_whole(path)
    assert EVERY_CHUNK not in open_array(path).attributes
    assert (whole(path) == 0).any()


@pytest.mark.parametrize("layout", ["raw", "gzip"])
@pytest.mark.parametrize("side", ["lower", "upper"])
def test_a_triangle_may_lack_zeros_beside_it_and_no_other_chunk(
    side: str, layout: str, tmp_path: Path
) -> None:
    values = np.tril(np.ones(SHAPE)) if side == "lower" else np.triu(np.ones(SHAPE))
    path, _ = keep(tmp_path, layout, values, fill_value=0.0, attributes={EVERY_CHUNK: side})
    mark_whole(path)
    there = chunk_files(path)
    assert len(there) < 5 * 5
    assert np.array_equal(whole(path), values)
    for chunk in there:
        data = chunk.read_bytes()
        chunk.unlink()
        for look in (whole, mark_whole):
            with pytest.raises(CorruptChunkError, match="not there") as raised:
                look(path)
            assert raised.value.chunk == str(chunk.relative_to(path))
        chunk.write_bytes(data)


def test_factors_say_which_triangle_they_are(tmp_path: Path, rng: np.random.Generator) -> None:
    import leptonhpc as lh

    a = rng.standard_normal((20, 20))
    for driver, array, sides in (
        ("cholesky", a @ a.T + 20 * np.eye(20), {"l": "lower"}),
        ("lu", a, {"l": "lower", "u": "upper", "perm": True}),
        ("qr", a, {"r": "upper", "q": True}),
        ("svd", a, {"u": True, "vh": True}),
    ):
        getattr(lh, driver)(array, memory="1 GB", out=tmp_path / driver)
        for name, side in sides.items():
            assert open_array(tmp_path / driver / name).attributes[EVERY_CHUNK] == side


def test_results_say_that_they_store_all_and_arrays_that_grow_by_rows_still_do(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    import leptonhpc as lh

    path, _ = keep(tmp_path, "raw", rng.standard_normal(SHAPE))
    lh.svd(path, rank=2, memory="1 GB", out=tmp_path / "r")
    for name in ("u", "s", "vh"):
        assert open_array(tmp_path / "r" / name).attributes[EVERY_CHUNK] is True
    chunk_files(tmp_path / "r" / "u")[0].unlink()
    with pytest.raises(CorruptChunkError, match="'c/0/0' is not there"):
        np.asarray(lh.load(tmp_path / "r").u)
    append_values(tmp_path / "r" / "vh", np.zeros((3, SHAPE[1])), axis=0)
    grown = open_array(tmp_path / "r" / "vh")
    assert grown.attributes[EVERY_CHUNK] is True  # zeros are stored, too
    assert (whole(tmp_path / "r" / "vh")[-3:] == 0).all()


def test_a_job_that_a_lost_chunk_stopped_goes_on_when_it_is_put_back(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    import leptonhpc as lh

    values = rng.standard_normal(SHAPE)
    path, _ = keep(tmp_path, "raw", values, config={"write_empty_chunks": True})
    mark_whole(path)
    chunk = chunk_files(path)[3]
    kept = chunk.read_bytes()
    chunk.unlink()
    with pytest.raises(CorruptChunkError, match="not there") as raised:
        lh.svd(path, rank=2, memory="1 GB", out=tmp_path / "r")
    assert raised.value.chunk == str(chunk.relative_to(path))
    assert lh.status(tmp_path / "r").state == "stopped"
    chunk.write_bytes(kept)
    found = lh.svd(path, rank=2, memory="1 GB", out=tmp_path / "r", resume=True).s
    s = np.linalg.svd(values, compute_uv=False)
    # of a Gram matrix: sqrt(n) eps |A|^2 / s_k, with 10 for the order of the sums
    bound = 10 * np.sqrt(SHAPE[1]) * np.finfo(float).eps * s[0] ** 2 / s[1]
    assert np.abs(np.asarray(found) - s[:2]).max() <= bound


GZIP = {"name": "gzip", "configuration": {"level": 1}}


def spoil(path: Path, **changes: Any) -> None:
    """Change what the metadata say; a name with __ is of what is inside."""
    metadata = json.loads((path / "zarr.json").read_text())
    for name, value in changes.items():
        *outer, last = name.split("__")
        functools.reduce(dict.__getitem__, outer, metadata)[last] = value
    (path / "zarr.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"data_type": "float32"}, CorruptChunkError),
        ({"chunk_grid__configuration__chunk_shape": [6, 4]}, CorruptChunkError),
        ({"chunk_grid__configuration__chunk_shape": [4, 4]}, CorruptChunkError),
        # newer versions of zarr want the order of bytes first
        ({"codecs": [{"name": "bytes"}, GZIP]}, (CorruptChunkError, NotAnArrayError)),
        ({"chunk_grid__configuration__chunk_shape": [0, 4]}, NotAnArrayError),
        ({"chunk_grid__configuration__chunk_shape": [4]}, NotAnArrayError),
        ({"data_type": "float77"}, NotAnArrayError),
        ({"codecs": [{"name": "bytes"}, {"name": "no-such-codec"}]}, NotAnArrayError),
        ({"shape": [-1, 17]}, NotAnArrayError),
        ({"fill_value": "x"}, NotAnArrayError),
        ({"zarr_format": 4}, NotAnArrayError),
    ],
)
@pytest.mark.parametrize("layout", ["raw", "zstd"])
@pytest.mark.filterwarnings("ignore:.*stored chunk shape")  # of zarr, which then reads fill values
def test_wrong_metadata_are_an_error_that_names_array_or_chunk(
    layout: str, changes: dict[str, Any], error: Any, tmp_path: Path
) -> None:
    path, _ = keep(tmp_path, layout, np.ones(SHAPE))
    spoil(path, **changes)
    with pytest.raises(error, match=str(path)) as raised:
        whole(path)
    if isinstance(raised.value, CorruptChunkError):
        assert raised.value.chunk == "c/0/0"


@pytest.mark.parametrize("text", ["", "[]", '{"zarr_format": 3, "node_', "\x00"])
def test_metadata_that_are_none_are_an_error_that_names_the_array(
    text: str, tmp_path: Path
) -> None:
    path, _ = keep(tmp_path, "raw", np.ones(SHAPE))
    (path / "zarr.json").write_text(text)
    with pytest.raises(NotAnArrayError, match=str(path)):
        whole(path)


@pytest.mark.parametrize("keep_rows", [1, 4])
def test_a_chunk_that_decodes_to_too_few_bytes_is_an_error(
    keep_rows: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    from numcodecs.zstd import Zstd

    path, _ = keep(tmp_path, "zstd", rng.standard_normal(SHAPE))
    chunk = chunk_files(path)[1]
    block = np.frombuffer(Zstd().decode(chunk.read_bytes())).reshape(CHUNKS)
    chunk.write_bytes(Zstd().encode(np.ascontiguousarray(block[:keep_rows])))
    with pytest.raises(CorruptChunkError, match=str(chunk)):
        whole(path)


@pytest.mark.parametrize("layout", ["raw", "zstd", "blosc", "sharded"])
def test_a_chunk_that_cannot_be_read_is_a_store_error(
    layout: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    path, _ = keep(tmp_path, layout, rng.standard_normal(SHAPE))
    chunk = chunk_files(path)[1]
    chunk.unlink()
    chunk.symlink_to(chunk)
    with pytest.raises(StoreError, match=str(path)):
        whole(path)


@pytest.mark.parametrize(
    ("driver", "layout"),
    [
        ("svd", "raw"), ("matmul", "gzip"), ("cholesky", "sharded"), ("lu", "zarr 2 default"),
        ("qr", "sharded raw"), ("inv", "zarr 2 blosc"), ("eigh", "zstd"), ("solve", "blosc"),
        ("lstsq", "zarr 2 default"), ("pinv", "gzip"), ("polar", "sharded"), ("cg", "zarr 2 blosc"),
        ("lsmr", "zstd with checksum"), ("nmf", "sharded"),
    ],
)  # fmt: skip
def test_a_driver_stops_at_a_damaged_chunk_and_goes_on_when_it_is_mended(
    driver: str, layout: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    import leptonhpc as lh

    n = 12
    a = abs(rng.standard_normal((n, n)))
    path, _ = keep(tmp_path, layout, a @ a.T + n * np.eye(n))
    sides = {
        "matmul": np.eye(n),
        **dict.fromkeys(("solve", "lstsq", "cg", "lsmr"), np.ones((n, 1))),
    }
    operands = (path, sides[driver]) if driver in sides else (path,)
    options = {"rank": 2} if driver in ("svd", "nmf") else {}

    def run() -> Any:
        return getattr(lh, driver)(*operands, **options, memory="1 GB", out=tmp_path / "r")

    chunk = chunk_files(path)[-1]
    data = chunk.read_bytes()
    chunk.write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptChunkError) as raised:
        run()
    assert (raised.value.array, raised.value.chunk) == (str(path), str(chunk.relative_to(path)))
    assert not (tmp_path / "r").exists()
    assert lh.status(tmp_path / "r").state == "stopped"
    chunk.write_bytes(data)
    for name, values in run().arrays().items():
        assert np.isfinite(np.asarray(values)).all(), name
