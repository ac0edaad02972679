"""Single objects of a store: each is written whole, and tried again where a store fails."""

from __future__ import annotations

import io
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO

from zarr.abc.store import Store
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore

from leptonhpc.store.locations import FOLDER, store_errors
from leptonhpc.store.retrying import retried

_CUT_SHORT = re.compile(r"\.[0-9a-f]{6,}\.partial$")
"""What an object is called in a folder until it is whole: one of a killed process stays so."""


def put_object(store: Store, key: str, data: bytes) -> None:
    """Write one object whole; on every store this is atomic."""
    with store_errors(store):
        retried(lambda: sync(store.set(key, cpu.Buffer.from_bytes(data))))


def put_written(store: Store, key: str, write: Callable[[IO[bytes]], None]) -> None:
    """Write one object whole, without a second copy in memory where the store is a folder.

    Parameters
    ----------
    store : zarr store
        Where.
    key : str
        Name of the object.
    write : callable
        Writes its bytes to a file; called again where the store fails.
    """
    if not isinstance(store, LocalStore):
        buffer = io.BytesIO()
        write(buffer)
        put_object(store, key, buffer.getvalue())
        return
    path = Path(store.root) / key
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")

    def put() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("wb") as file:
                write(file)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)

    with store_errors(store):
        retried(put)


def remove_object(store: Store, key: str) -> None:
    """Remove one object; nothing happens if it is not there."""
    with store_errors(store):
        retried(lambda: sync(store.delete(key)))


def get_object(store: Store, key: str) -> bytes | None:
    """Read one object, or None."""
    with store_errors(store):
        value = retried(lambda: sync(store.get(key, default_buffer_prototype())))
    return None if value is None else value.to_bytes()


def list_objects(store: Store, prefix: str) -> list[str]:
    """List the keys of all whole objects below a prefix."""

    async def collect() -> list[str]:
        return [key async for key in store.list_prefix(prefix) if not _CUT_SHORT.search(key)]

    with store_errors(store):
        return retried(lambda: sync(collect()))
    raise AssertionError  # store_errors lets no exception pass in silence


def remove_cut_short(folder: Path) -> None:
    """Remove what killed processes had not written whole.

    Parameters
    ----------
    folder : Path
        In which nobody writes now, but for the one who has it.
    """
    for path in folder.rglob("*.partial"):
        if _CUT_SHORT.search(path.name) and FOLDER not in path.parts:
            path.unlink(missing_ok=True)
