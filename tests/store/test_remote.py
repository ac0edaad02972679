"""Arrays that are not on a disk: in fsspec's memory, behind HTTP, in a server that speaks S3."""

import json
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import fsspec
import numpy as np
import obstore.store
import pytest
import zarr
from distributed import Client, LocalCluster
from zarr.codecs import Crc32cCodec
from zarr.storage import FsspecStore, MemoryStore, ObjectStore, WrapperStore, ZipStore

import leptonhpc as lh
from leptonhpc.errors import CorruptChunkError, NotAnArrayError, OutputExistsError, StoreError
from leptonhpc.store import retrying
from leptonhpc.store.completeness import mark_whole
from leptonhpc.store.opening import opened
from leptonhpc.testing import matrix_with_spectrum, rounding

from .conftest import serve

A = matrix_with_spectrum((60, 12), np.geomspace(1, 0.1, 12), seed=5)
TRUE = np.linalg.svd(A, compute_uv=False)
HTTP_SERVER = """
import functools, http.server, sys
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(
    ("127.0.0.1", 0), functools.partial(Quiet, directory=sys.argv[1]))
print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("www")
    for url in serve(HTTP_SERVER, str(folder)):
        yield url, folder


@pytest.fixture
def bucket(endpoint: str, request: pytest.FixtureRequest) -> str:
    name = f"bucket-{abs(hash(request.node.name)):x}"
    fsspec.filesystem("s3").mkdir(name)
    put(f"s3://{name}/x")
    return name


def put(location: Any, values: np.ndarray = A, **more: Any) -> None:
    array = zarr.create_array(
        location, shape=values.shape, dtype=values.dtype, chunks=(16, 12), **more
    )
    array[...] = values


def check(source: Any) -> None:
    x = lh.open(source)
    assert np.array_equal(np.asarray(x), A)
    r = lh.svd(x, rank=4, memory="1 GB")
    assert np.all(np.abs(r.s - TRUE[:4]) <= rounding(A, float))


def test_memory_urls_are_read_and_factored(tmp_path: Path) -> None:
    put(f"memory://{tmp_path.name}/x")
    check(f"memory://{tmp_path.name}/x")


def test_memory_urls_take_outputs(tmp_path: Path) -> None:
    put(f"memory://{tmp_path.name}/x")
    out = f"memory://{tmp_path.name}/r"
    r = lh.svd(f"memory://{tmp_path.name}/x", rank=4, memory="1 GB", out=out)
    again = lh.load(out)
    assert np.array_equal(again.s, r.s)
    assert np.array_equal(np.asarray(again.u), np.asarray(r.u))
    assert not fsspec.filesystem("memory").exists(f"{tmp_path.name}/r.partial")


def test_nothing_in_memory_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing is stored"):
        lh.open(f"memory://{tmp_path.name}/nothing")


def test_zarr_stores_are_opened_as_they_are(tmp_path: Path) -> None:
    memory = MemoryStore()
    put(memory)
    check(memory)
    with ZipStore(tmp_path / "x.zip", mode="w") as archive:
        put(archive)
    with ZipStore(tmp_path / "x.zip", mode="r") as archive:
        check(archive)


@pytest.mark.parametrize("kind", ["memory", "zip", "fsspec"])
def test_two_arrays_of_one_store_are_two_arrays(kind: str, tmp_path: Path) -> None:
    store: Any = {
        "memory": MemoryStore,
        "zip": lambda: ZipStore(tmp_path / "x.zip", mode="w"),
        "fsspec": lambda: FsspecStore.from_url(f"memory://{tmp_path.name}/g"),
    }[kind]()
    group = zarr.create_group(store)
    other = A[::-1].copy()
    for name, values in (("a", A), ("b", other)):
        group.create_array(name, shape=A.shape, dtype=A.dtype, chunks=(16, 12))[...] = values
    a, b = lh.open(group["a"]), lh.open(group["b"])
    product = np.asarray(lh.matmul(a.H, b, memory="1 GB"))
    assert np.all(np.abs(product - A.T @ other) <= rounding(A, float, terms=60))
    assert a.source.identity() != b.source.identity()
    store.close()


class Foreign(WrapperStore):
    """A store that another package brings, as icechunk does."""


def test_stores_of_other_packages_are_opened() -> None:
    memory = MemoryStore()
    put(memory)
    check(zarr.open_array(Foreign(memory), mode="r"))
    check(Foreign(memory))


def test_an_array_of_a_group_travels_to_workers(tmp_path: Path) -> None:
    import pickle

    store = FsspecStore.from_url(f"memory://{tmp_path.name}/g")
    group = zarr.create_group(store)
    group.create_array("a", shape=A.shape, dtype=A.dtype, chunks=(16, 12))[...] = A
    source = pickle.loads(pickle.dumps(lh.open(group["a"]).source))
    assert np.array_equal(source.read(((0, 60), (0, 12))), A)


def test_http_is_read_and_factored(http: tuple[str, Path]) -> None:
    url, folder = http
    put(folder / "x")
    check(f"{url}/x")


def test_nothing_behind_http_is_said_so(http: tuple[str, Path]) -> None:
    with pytest.raises(StoreError, match="nothing"):
        lh.open(f"{http[0]}/nothing")


def test_a_server_that_is_not_there_is_said_at_once_and_waited_for_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retrying, "WAITS_SECONDS", (0.0,))
    for host in ("127.0.0.1:9", "no-such-host.invalid"):
        with pytest.raises(StoreError, match=f"nobody answers there.*{host}"):
            lh.open(f"http://{host}/x")
    assert "trying again" not in caplog.text
    with pytest.raises(StoreError, match="nobody answers there"):
        opened("http://127.0.0.1:9/x", writable=False, inside="")  # as a worker does
    assert "trying again" in caplog.text


def test_what_a_silent_server_is_waited_for_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retrying, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(retrying, "WAITS_SECONDS", ())
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        job = pool.submit(lh.open, url)
        deadline = time.monotonic() + 300
        while f"waiting for an answer of {url!r}" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        server.close()  # who waits in its queue is told
        with pytest.raises(StoreError, match="127"):
            job.result()


def test_a_page_is_not_an_array(http: tuple[str, Path]) -> None:
    (http[1] / "page").mkdir()
    (http[1] / "page" / "index.html").write_text("<p>hello</p>")
    with pytest.raises(NotAnArrayError, match="not a Zarr array"):
        lh.open(f"{http[0]}/page")


def test_an_unknown_protocol_is_a_store_error_that_says_what_to_install() -> None:
    with pytest.raises(StoreError, match="leptonhpc\\[remote\\]"):
        lh.open("nowhere://x")


def test_s3_urls_are_read_and_factored(bucket: str) -> None:
    check(f"s3://{bucket}/x")


@pytest.mark.parametrize("options", [{"shards": (32, 12)}, {"zarr_format": 2}])
def test_s3_holds_any_layout(bucket: str, options: dict[str, Any]) -> None:
    put(f"s3://{bucket}/y", **options)
    check(f"s3://{bucket}/y")


def test_nothing_in_s3_is_said_so(bucket: str) -> None:
    with pytest.raises(StoreError, match="nothing is stored"):
        lh.open(f"s3://{bucket}/nothing")


def test_a_bucket_that_is_not_there_is_a_store_error(bucket: str) -> None:
    with pytest.raises(StoreError, match="no-such-bucket"):
        lh.open("s3://no-such-bucket/x")


def test_obstore_reads_s3_as_s3fs_does(bucket: str, endpoint: str) -> None:
    s3 = obstore.store.S3Store(
        bucket, prefix="x", endpoint=endpoint, client_options={"allow_http": True},
        virtual_hosted_style_request=False,
    )  # fmt: skip
    check(ObjectStore(s3, read_only=True))
    check(s3)


def test_s3_takes_the_output_of_svd(bucket: str) -> None:
    out = f"s3://{bucket}/r"
    r = lh.svd(f"s3://{bucket}/x", rank=4, memory="1 GB", out=out)
    again = lh.load(out)
    assert np.all(np.abs(again.s - TRUE[:4]) <= rounding(A, float))
    assert np.array_equal(np.asarray(again.u), np.asarray(r.u))
    files = fsspec.filesystem("s3")
    files.invalidate_cache()
    assert not [name for name in files.find(bucket) if "partial" in name or "leptonhpc" in name]
    with pytest.raises(OutputExistsError):
        lh.svd(f"s3://{bucket}/x", rank=3, memory="1 GB", out=out)
    lh.svd(f"s3://{bucket}/x", rank=3, memory="1 GB", out=out, overwrite=True)
    assert lh.load(out).s.shape == (3,)


def test_s3_takes_the_output_of_matmul(bucket: str) -> None:
    out = f"s3://{bucket}/r"
    x = lh.open(f"s3://{bucket}/x")
    lh.matmul(x.H, x, memory="1 GB", out=out)
    assert np.all(np.abs(np.asarray(lh.load(out)) - A.T @ A) <= rounding(A, float, terms=60))


def test_a_finished_output_in_s3_is_loaded_not_computed(bucket: str) -> None:
    out = f"s3://{bucket}/r"
    first = lh.svd(f"s3://{bucket}/x", rank=4, memory="1 GB", out=out)
    second = lh.svd(f"s3://{bucket}/x", rank=4, memory="1 GB", out=out)
    assert second.report == first.report


def test_a_mirror_in_s3_is_not_a_folder_of_this_machine(bucket: str) -> None:
    facts = lh.info(f"s3://{bucket}/x")
    assert json.loads(json.dumps(facts))["shape"] == [60, 12]
    assert facts["chunks"] == [16, 12]


def test_workers_read_s3_themselves(bucket: str) -> None:
    # what forks workers began before the keys were in the environment
    spawned = dask.config.set({"distributed.worker.multiprocessing-method": "spawn"})
    with spawned, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
        )  # fmt: skip
    with cluster, Client(cluster):
        check(f"s3://{bucket}/x")


def places(tmp_path: Path, http: tuple[str, Path], bucket: str, endpoint: str) -> dict[str, Any]:
    """Give places of each kind: what writes there, and what is read."""
    name = f"{tmp_path.name}-{abs(hash(bucket)):x}"
    memory = MemoryStore()
    s3 = obstore.store.S3Store(
        bucket, prefix="y", endpoint=endpoint, client_options={"allow_http": True},
        virtual_hosted_style_request=False,
    )  # fmt: skip
    return {
        "memory": (f"memory://{name}/y", f"memory://{name}/y"),
        "MemoryStore": (memory, memory),
        "http": (http[1] / name, f"{http[0]}/{name}"),
        "s3": (f"s3://{bucket}/y", f"s3://{bucket}/y"),
        "obstore": (f"s3://{bucket}/y", ObjectStore(s3, read_only=True)),
    }


@pytest.mark.parametrize("kind", ["memory", "MemoryStore", "http", "s3", "obstore"])
def test_a_result_of_what_has_changed_since_is_not_given_again(
    kind: str, tmp_path: Path, http: tuple[str, Path], bucket: str, endpoint: str
) -> None:
    written, read = places(tmp_path, http, bucket, endpoint)[kind]
    put(written)
    first = lh.svd(read, rank=2, out=tmp_path / "r")
    assert lh.svd(read, rank=2, out=tmp_path / "r").report == first.report
    time.sleep(1.1)  # web servers tell times of change in seconds
    array = zarr.open_array(written, mode="r+")
    array[...] = 1000 * A
    with pytest.raises(OutputExistsError):
        lh.svd(read, rank=2, out=tmp_path / "r")
    again = lh.svd(read, rank=2, out=tmp_path / "r", overwrite=True)
    np.testing.assert_allclose(again.s, 1000 * first.s, rtol=1e-12)


@pytest.mark.parametrize("harm", ["cut", "bit", "lost"])
@pytest.mark.parametrize("kind", ["http", "obstore"])
def test_a_harmed_chunk_of_a_remote_array_is_named_and_the_job_goes_on_once_it_is_mended(
    kind: str, harm: str, tmp_path: Path, http: tuple[str, Path]
) -> None:
    path = http[1] / f"harmed-{kind}-{harm}"
    put(path, compressors=Crc32cCodec(), config={"write_empty_chunks": True})
    mark_whole(path)
    objects = ObjectStore(obstore.store.LocalStore(str(path)), read_only=True)
    place = f"{http[0]}/{path.name}" if kind == "http" else objects
    chunk = path / "c" / "1" / "0"
    whole = chunk.read_bytes()
    if harm == "lost":
        chunk.unlink()
    else:
        chunk.write_bytes(whole[:99] if harm == "cut" else bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(CorruptChunkError) as raised:
        lh.svd(place, rank=4, memory="1 GB", out=tmp_path / "r")
    assert raised.value.chunk == "c/1/0"
    chunk.write_bytes(whole)
    r = lh.svd(place, rank=4, memory="1 GB", out=tmp_path / "r", resume=True)
    assert np.all(np.abs(r.s - TRUE[:4]) <= rounding(A, float))


def test_a_store_that_tells_nothing_of_its_contents_is_new_to_each_process() -> None:
    program = (
        "from leptonhpc.store.contents import contents_of\n"
        "print(contents_of(object(), '', ()), contents_of(object(), '', ()))"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert said[0][0] == said[0][1]
    assert said[0] != said[1]
