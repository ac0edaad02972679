"""What stands for the contents of an array, so that a change is noticed without reading it all.

A result is given again, and a stopped job goes on, only while its inputs are what they were. Stores
tell sizes, times of change and tags of their objects. Where one tells nothing that changes with
the values, each process takes its contents for new.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore, WrapperStore

from leptonhpc.store.retrying import retried

_TAGS = ("ETag", "e_tag", "Content-MD5", "Digest", "LastModified", "Last-Modified",
         "last_modified", "mtime", "created", "md5Hash", "generation")  # fmt: skip
"""What file systems and object stores call that which changes with an object."""
_AT_ONCE = 64
_unknown = uuid.uuid4().hex


def contents_of(
    store: Store, path: str, chunks: Iterable[str], *, without: str | None = None
) -> str:
    """Give a digest that changes when an array does.

    Parameters
    ----------
    store : zarr store
        That holds it.
    path : str
        Where in the store.
    chunks : iterable of str
        Keys of its chunks below `path`, asked for one by one where a store cannot list them.
    without : str, optional
        Key of a chunk that is left out.

    Returns
    -------
    str
        The digest.
    """
    while isinstance(store, WrapperStore):
        store = store._store  # noqa: SLF001  (it has no other name)
    if isinstance(store, LocalStore):
        return _digest(_local(Path(store.root) / path), without)
    if isinstance(store, MemoryStore):
        return _digest(_in_memory(store, path), without)
    if isinstance(store, FsspecStore):
        return _digest(retried(lambda: _of_fsspec(store, path, chunks)), without)
    if isinstance(store, ObjectStore):
        return _digest(retried(lambda: _of_obstore(store, path)), without)
    snapshot = getattr(getattr(store, "session", None), "snapshot_id", None)
    return snapshot or _unknown


Entry = tuple[str, str]
"""Key of an object, and what changes with its contents."""


def _local(folder: Path) -> Iterator[Entry]:
    for root, _, files in os.walk(folder):
        for file in files:
            place = os.path.join(root, file)
            status = os.stat(place)
            yield os.path.relpath(place, folder), f"{status.st_size} {status.st_mtime_ns}"


def _in_memory(store: MemoryStore, path: str) -> Iterator[Entry]:
    """Hash the values themselves: a dictionary knows no time of change."""
    prefix = f"{path}/" if path else ""
    for key, value in store._store_dict.items():  # noqa: SLF001
        if key.startswith(prefix):
            yield key, hashlib.blake2b(value.to_bytes()).hexdigest()


def _of_fsspec(store: FsspecStore, path: str, chunks: Iterable[str]) -> list[Entry]:
    root = "/".join(part for part in (store.path.rstrip("/"), path) if part)
    if "http" in store.fs.protocol or "https" in store.fs.protocol:
        facts = sync(_asked_for(store.fs, root, chunks))
    else:
        store.fs.invalidate_cache(root)
        facts = sync(store.fs._find(root, detail=True))  # noqa: SLF001  (fsspec's asynchronous name)
    return [_entry(name, fact) for name, fact in facts.items()]


async def _asked_for(fs: Any, root: str, chunks: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Ask a web server for the head of each chunk; those that are not there hold fill values."""
    free = asyncio.Semaphore(_AT_ONCE)

    async def ask(key: str) -> tuple[str, dict[str, Any]]:
        async with free:
            try:
                return key, await fs._info(f"{root}/{key}")  # noqa: SLF001
            except FileNotFoundError:
                return key, {"size": None, "created": "never"}

    return dict(await asyncio.gather(*(ask(key) for key in chunks)))


def _of_obstore(store: ObjectStore[Any], path: str) -> list[Entry]:
    import obstore

    listed = (fact for batch in obstore.list(store.store, path or None) for fact in batch)
    return [_entry(fact["path"], dict(fact)) for fact in listed]


def _entry(name: str, fact: dict[str, Any]) -> Entry:
    tags = [f"{tag}={fact[tag]}" for tag in _TAGS if fact.get(tag) is not None]
    return name, f"{fact.get('size')} {' '.join(tags) or _unknown}"


def _digest(entries: Iterable[Entry], without: str | None) -> str:
    """Add up the hashes of all entries: their order does not count."""
    total = 0
    for name, fact in entries:
        if without is not None and f"/{name}".endswith(f"/{without}"):
            continue
        words = f"{name} {fact}".encode()
        total += int.from_bytes(hashlib.blake2b(words, digest_size=16).digest())
    return f"{total % 2**128:032x}"
