"""A store that fails for a moment is tried again; what will not pass is raised at once."""

import errno
import logging
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.storage import FsspecStore, LocalStore, WrapperStore

import leptonhpc as lh
from leptonhpc.errors import StoreError
from leptonhpc.runtime import checkpoints
from leptonhpc.store import retrying
from leptonhpc.store.retrying import may_pass, retried


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "WAITS_SECONDS", (0.0, 0.0, 0.0, 0.0))


class Failing(WrapperStore):
    """Fails so often before each object is given or taken."""

    def __init__(self, store: Any, times: int = 0, error: Exception | None = None) -> None:
        super().__init__(store)
        self.times, self.error = times, error
        self.tries: dict[tuple[str, str], int] = {}

    def _with_store(self, store: Any) -> "Failing":
        other = Failing(store, self.times, self.error)
        other.tries = self.tries
        return other

    def _fail(self, what: str, key: str) -> None:
        number = self.tries[what, key] = self.tries.get((what, key), 0) + 1
        if key.startswith("c/") and number <= self.times and self.error is not None:
            raise self.error

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        self._fail("get", key)
        return await self._store.get(key, *args, **options)

    async def set(self, key: str, *args: Any, **options: Any) -> None:
        self._fail("set", key)
        await self._store.set(key, *args, **options)


class AnswerError(Exception):
    """As aiohttp tells of a server's answer."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server answered {status}")
        self.status = status


class BotoError(Exception):
    """As botocore tells of it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"SlowDown {status}")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


PASSING = [
    OSError(errno.EIO, "i/o"),
    OSError(errno.ESTALE, "stale"),
    ConnectionResetError(errno.ECONNRESET, "reset"),
    ConnectionResetError("Connection lost"),  # of asyncio, without a number
    TimeoutError(),
    AnswerError(503),
    BotoError(429),
]
LASTING = [
    OSError(errno.ENOSPC, "full"),
    PermissionError(errno.EACCES, "no"),
    FileNotFoundError(errno.ENOENT, "no"),
    AnswerError(403),
    BotoError(404),
    ValueError("x"),
]


def failing(path: Path, times: int, error: Exception) -> tuple[Failing, Any]:
    store = Failing(LocalStore(path), times, error)
    return store, lh.open(zarr.open_array(store, mode="r"))


@pytest.fixture
def x(tmp_path: Path, rng: np.random.Generator) -> Path:
    array = zarr.create_array(tmp_path / "x", shape=(400, 20), dtype="f8", chunks=(100, 20))
    array[...] = rng.standard_normal((400, 20))
    return tmp_path / "x"


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_a_job_survives_a_store_that_fails_for_a_moment(
    error: Exception, x: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, array = failing(x, 3, error)
    with caplog.at_level(logging.WARNING, logger="leptonhpc.store"):
        r = lh.svd(array, rank=3)
    expected = np.linalg.svd(np.asarray(lh.open(x)), compute_uv=False)[:3]
    np.testing.assert_allclose(r.s, expected, rtol=1e-8)
    assert max(store.tries.values()) == 4
    assert "trying again" in caplog.text


OPERATIONS = ("get", "set", "exists", "delete", "delete_dir", "list_prefix")


@pytest.mark.parametrize("kind", [LocalStore, FsspecStore], ids=["folder", "memory"])
def test_a_job_survives_a_store_of_which_any_call_may_fail(
    kind: Any, x: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those for input, output, journal and lease, and of the renames of what is written."""
    monkeypatch.setattr(retrying, "WAITS_SECONDS", 100 * (0.0,))
    monkeypatch.setattr(checkpoints, "EVERY_SECONDS", 0.0)
    failures: list[str] = []
    chance = random.Random(0)

    def fail(name: str) -> None:
        if chance.random() < 0.25:
            failures.append(name)
            raise OSError(errno.EIO, "Input/output error")

    def failing(name: str, act: Any) -> Any:
        async def call(*args: Any, **options: Any) -> Any:
            fail(name)
            return await act(*args, **options)

        async def items(*args: Any, **options: Any) -> Any:
            fail(name)
            async for each in act(*args, **options):
                yield each

        return items if name == "list_prefix" else call

    for name in OPERATIONS:
        if name in vars(kind):
            monkeypatch.setattr(kind, name, failing(name, getattr(kind, name)))
    rename = os.replace
    monkeypatch.setattr(os, "replace", lambda *args: (fail("rename"), rename(*args))[1])
    out = tmp_path / "r" if kind is LocalStore else f"memory://{tmp_path.name}/r"
    r = lh.svd(x, rank=3, method="gram", out=out)
    monkeypatch.undo()
    assert "get" in failures
    assert len(failures) > 5
    assert np.array_equal(lh.load(out).s, r.s)
    true = np.linalg.svd(np.asarray(lh.open(x)), compute_uv=False)[:3]
    np.testing.assert_allclose(r.s, true, rtol=1e-8)


def test_a_store_that_fails_for_good_is_an_error_that_names_it(x: Path) -> None:
    store, array = failing(x, 99, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(StoreError, match="Input/output error"):
        lh.svd(array, rank=3)
    assert max(store.tries.values()) == 5


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_will_not_pass_is_raised_at_once(error: Exception) -> None:
    tries = []

    def act() -> None:
        tries.append(1)
        raise error

    with pytest.raises(type(error)):
        retried(act)
    assert len(tries) == 1


def test_the_cause_of_an_error_counts() -> None:
    error = StoreError("could not be read")
    assert not may_pass(error)
    error.__cause__ = OSError(errno.ESTALE, "stale file handle")
    assert may_pass(error)


def test_writes_are_tried_again(tmp_path: Path, rng: np.random.Generator) -> None:
    from leptonhpc.store import create_array

    store = Failing(LocalStore(tmp_path / "y"), 2, OSError(errno.EIO, "i/o"))
    array = create_array(store, shape=(4, 6), dtype="f8", chunks=(2, 6))
    values = rng.standard_normal((4, 6))
    array.write_units((0, 0), values[:2])
    array.write_units((1, 0), values[2:])
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "y", mode="r")[...], values)
    assert store.tries["set", "c/0/0"] == 3
