"""A job that a damaged chunk stopped goes on when that chunk, and nothing else, is mended."""

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import ZstdCodec

import leptonhpc as lh
from leptonhpc.errors import CorruptChunkError, JobMismatchError, StoreError
from leptonhpc.runtime import reading
from leptonhpc.store import Journal, open_array

LAYOUTS: dict[str, dict[str, Any]] = {
    "raw": {"compressors": None},
    "checksum": {"compressors": ZstdCodec(checksum=True)},
    "sharded": {"shards": (500, 300)},
}
LAST = {"raw": "c/11/0", "checksum": "c/11/0", "sharded": "c/5/0"}


class Product:
    """A product of many blocks, whose left factor has chunks to damage."""

    def __init__(self, folder: Path, rng: np.random.Generator, layout: str) -> None:
        self.folder = folder
        self.values = {"a": rng.standard_normal((3000, 300)), "b": rng.standard_normal((300, 2400))}
        for name, chunks, more in (("a", (250, 300), LAYOUTS[layout]), ("b", (300, 200), {})):
            array = zarr.create_array(
                folder / name, shape=self.values[name].shape, dtype="f8", chunks=chunks, **more
            )
            array[...] = self.values[name]

    def run(self, **options: Any) -> Any:
        place = self.folder
        return lh.matmul(place / "a", place / "b", memory="240 MB", out=place / "r", **options)

    def chunk(self, key: str) -> Path:
        return self.folder / "a" / key

    def require_right(self, result: Any) -> None:
        exact = self.values["a"] @ self.values["b"]
        # each entry is a sum of 300 products: 300 eps |a|_i |b|_j, in any order, twice
        norms = np.outer(
            np.linalg.norm(self.values["a"], axis=1), np.linalg.norm(self.values["b"], axis=0)
        )
        bound = 2 * 300 * np.finfo(float).eps * norms
        assert (np.abs(np.asarray(result.product) - exact) <= bound).all()


def damage(chunk: Path) -> bytes:
    """Flip a bit in the middle and lose the end; give what was there."""
    whole = chunk.read_bytes()
    spoiled = bytearray(whole)
    spoiled[len(spoiled) // 2] ^= 1
    chunk.write_bytes(bytes(spoiled[: 3 * len(spoiled) // 4]))
    return whole


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_a_job_goes_on_when_its_damaged_chunk_is_mended(
    layout: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    product = Product(tmp_path, rng, layout)
    chunk = product.chunk(LAST[layout])
    whole = damage(chunk)
    with pytest.raises(CorruptChunkError, match=LAST[layout]) as raised:
        product.run()
    assert (raised.value.array, raised.value.chunk) == (str(tmp_path / "a"), LAST[layout])
    assert lh.status(tmp_path / "r").state == "stopped"
    done = len(list((tmp_path / "r.partial" / ".leptonhpc" / "done").rglob("*-*")))
    assert done > 0
    with pytest.raises(CorruptChunkError):
        product.run()  # not mended yet
    chunk.write_bytes(whole)
    result = product.run()
    product.require_right(result)
    assert sum(stage.resumed_tasks for stage in result.report.stages) >= done
    assert product.run().report == lh.load(tmp_path / "r").report  # the stored result is this job's


def test_chunks_that_are_found_and_mended_one_after_the_other(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    product = Product(tmp_path, rng, "raw")
    for key in ("c/9/0", "c/11/0"):
        damage(product.chunk(key))
    for _ in range(2):
        with pytest.raises(CorruptChunkError) as raised:
            product.run()
        rows = int(raised.value.chunk.split("/")[1]) * 250
        part = product.values["a"][rows : rows + 250]
        product.chunk(raised.value.chunk).write_bytes(part.tobytes())
    result = product.run()
    product.require_right(result)
    assert sum(stage.resumed_tasks for stage in result.report.stages) > 0


def test_a_mended_chunk_excuses_no_other_change(tmp_path: Path, rng: np.random.Generator) -> None:
    product = Product(tmp_path, rng, "raw")
    whole = damage(product.chunk("c/11/0"))
    with pytest.raises(CorruptChunkError):
        product.run()
    product.chunk("c/11/0").write_bytes(whole)
    os.utime(product.chunk("c/0/0"))  # as if it were written anew
    with pytest.raises(JobMismatchError, match="chunks"):
        product.run()


def test_a_mended_chunk_is_part_of_the_input_again(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    product = Product(tmp_path, rng, "raw")
    keys = ("c/10/0", "c/11/0")
    whole = {key: damage(product.chunk(key)) for key in keys}
    with pytest.raises(CorruptChunkError) as raised:
        product.run()
    first = raised.value.chunk
    product.chunk(first).write_bytes(whole[first])
    with pytest.raises(CorruptChunkError):
        product.run()
    os.utime(product.chunk(first))
    with pytest.raises(JobMismatchError):
        product.run()


def test_a_chunk_that_was_damaged_after_the_job_began_is_a_changed_input(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = Product(tmp_path, rng, "raw")
    read, numbers = reading.Reader._read, itertools.count()

    def spoil_later(*arguments: Any) -> Any:
        if next(numbers) == 0:  # of one of the lanes, whatever the others do
            damage(product.chunk("c/11/0"))
        return read(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(reading.Reader, "_read", spoil_later)
        with pytest.raises(CorruptChunkError):
            product.run()
    rows = slice(11 * 250, 12 * 250)
    product.chunk("c/11/0").write_bytes(product.values["a"][rows].tobytes())
    with pytest.raises(JobMismatchError):  # what was read before may have been of other contents
        product.run()
    product.require_right(product.run(overwrite=True))


def test_an_input_that_changes_while_it_is_read_gives_no_result(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = Product(tmp_path, rng, "raw")
    read, numbers = reading.Reader._read, itertools.count()

    def lose_a_chunk(*arguments: Any) -> Any:
        if next(numbers) == 0:
            product.chunk("c/11/0").unlink()  # Zarr reads it as zeros
        return read(*arguments)

    monkeypatch.setattr(reading.Reader, "_read", lose_a_chunk)
    with pytest.raises(JobMismatchError, match="changed while the job read it"):
        product.run()
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "r.partial").exists()


def test_a_block_that_was_lost_while_nobody_worked_is_missed(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = Product(tmp_path, rng, "raw")
    mark, numbers = Journal.mark, itertools.count()

    def stopping(*arguments: Any) -> None:
        mark(*arguments)
        if next(numbers) >= 1:  # of two lanes both may see two
            raise KeyError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "mark", stopping)
        with pytest.raises(KeyError, match="stopped"):
            product.run()
    partial = tmp_path / "r.partial" / "product"
    lost = next(path for path in sorted(partial.rglob("c/*/*")) if path.is_file())
    kept = lost.read_bytes()
    lost.unlink()
    with pytest.raises(CorruptChunkError, match="is not there. Put it back") as raised:
        product.run()
    assert (raised.value.array, raised.value.chunk) == (
        str(partial),
        str(lost.relative_to(partial)),
    )
    assert not (tmp_path / "r").exists()
    lost.write_bytes(kept)
    metadata = (partial / "zarr.json").read_bytes()
    for damaged in (metadata[:40], b"", None):
        if damaged is None:
            (partial / "zarr.json").unlink()
        else:
            (partial / "zarr.json").write_bytes(damaged)
        with pytest.raises(StoreError, match=r"put that back, or begin again, with overwrite=True"):
            product.run()
        assert lh.status(tmp_path / "r").state == "stopped"
    (partial / "zarr.json").write_bytes(metadata)
    product.require_right(product.run())


def test_the_error_of_a_damaged_chunk_survives_pickling(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    import pickle

    product = Product(tmp_path, rng, "sharded")
    damage(product.chunk("c/5/0"))
    with pytest.raises(CorruptChunkError) as raised:
        open_array(tmp_path / "a").read(((0, 3000), (0, 300)))
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.array, again.chunk) == (
        str(raised.value), str(tmp_path / "a"), "c/5/0"
    )  # fmt: skip
