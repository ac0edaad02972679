"""Objects of S3 that one process of all makes, or replaces as it saw them."""

import json
import threading
import time
from typing import Any

import fsspec
import numpy as np
import obstore.store
import pytest
import zarr
from s3fs import S3FileSystem
from zarr.storage import FsspecStore, ObjectStore

from leptonhpc.errors import StoreError
from leptonhpc.store import conditional, leasing, retrying
from leptonhpc.store.appending import append_values
from leptonhpc.store.conditional import create_object, replace_object
from leptonhpc.store.leasing import Lease
from leptonhpc.store.objects import get_object, put_object
from leptonhpc.store.standing import this_process


@pytest.fixture
def bucket(endpoint: str, request: pytest.FixtureRequest) -> str:
    name = f"bucket-{abs(hash(request.node.name)):x}"
    fsspec.filesystem("s3").mkdir(name)
    return name


def conditional_store(kind: str, bucket: str, endpoint: str) -> Any:
    if kind == "s3":
        return FsspecStore.from_url(f"s3://{bucket}/c")
    return ObjectStore(
        obstore.store.S3Store(
            bucket,
            prefix="c",
            endpoint=endpoint,
            client_options={"allow_http": True},
            virtual_hosted_style_request=False,
        )  # fmt: skip
    )


@pytest.mark.parametrize("kind", ["s3", "obstore"])
def test_s3_lets_one_make_an_object_and_one_replace_what_it_saw(
    kind: str, bucket: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = conditional_store(kind, bucket, endpoint)
    assert [create_object(place, "k", b"first"), create_object(place, "k", b"2")] == [True, False]
    assert get_object(place, "k") == b"first"
    assert not replace_object(place, "k", b"other", b"3")
    assert replace_object(place, "k", b"first", b"second")
    assert not replace_object(place, "none", b"first", b"4")

    def look_and_lose(store: Any, key: str) -> bytes | None:
        """Look, and have somebody else write before anything else is done."""
        found = get_object(store, key)
        put_object(store, key, b"theirs")
        return found

    monkeypatch.setattr(conditional, "get_object", look_and_lose)
    assert not replace_object(place, "k", b"second", b"ours")
    assert get_object(place, "k") == b"theirs"


def test_of_many_that_want_a_place_in_s3_one_gets_it(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leasing, "BEAT_SECONDS", 0.02)
    leases = [Lease(f"s3://{bucket}/x", "owner.json") for _ in range(4)]
    dead = {**this_process(), "process_began": 0.0, "token": "of a dead one"}
    put_object(leases[0]._store, "owner.json", json.dumps(dead).encode())
    refused: list[str] = []
    threads = [
        threading.Thread(target=lambda it=it: refused.append(str(it.take().get("token", ""))))
        for it in leases
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused.count("") == 1
    assert len(set(refused)) == 2
    (winner,) = [it for it in leases if it.owner()["token"] == it._token]
    beats = winner.owner()["beats"]
    while winner.owner()["beats"] == beats:
        time.sleep(0.01)
    # what was made though the answer was lost is one's own
    winner.release()
    real, lost = S3FileSystem._pipe_file, [ConnectionResetError()]

    async def lose(self: Any, *args: Any, **options: Any) -> Any:
        done = await real(self, *args, **options)
        if lost:
            raise lost.pop()
        return done

    monkeypatch.setattr(S3FileSystem, "_pipe_file", lose)
    monkeypatch.setattr(retrying, "WAITS_SECONDS", (0.0,))
    assert leases[0].take() == {}
    assert not lost
    leases[0].release()


def test_a_server_without_conditions_is_written_to_and_said(
    bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = S3FileSystem._call_s3

    async def call(self: Any, method: str, *args: Any, **options: Any) -> Any:
        if {"IfMatch", "IfNoneMatch"} & options.keys():
            error = OSError(5, "A header you provided implies functionality not implemented")
            error.response = {"ResponseMetadata": {"HTTPStatusCode": 501}}  # type: ignore[attr-defined]
            raise error
        return await real(self, method, *args, **options)

    monkeypatch.setattr(S3FileSystem, "_call_s3", call)
    place = FsspecStore.from_url(f"s3://{bucket}/c")
    assert create_object(place, "k", b"1")
    assert replace_object(place, "k", b"1", b"2")
    assert get_object(place, "k") == b"2"
    assert caplog.text.count("knows no conditions") == 2


def test_a_stream_in_s3_has_one_writer_at_a_time(bucket: str) -> None:
    location = f"s3://{bucket}/x"
    zarr.create_array(location, shape=(60, 2), dtype="f8", chunks=(16, 2))
    with leasing.writer_lease(location), pytest.raises(StoreError, match="one writer at a time"):
        append_values(location, np.ones((1, 2)), axis=0)
    assert append_values(location, np.ones((1, 2)), axis=0) == 61
    assert get_object(FsspecStore.from_url(location), leasing.NAME) is None
