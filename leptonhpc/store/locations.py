"""Where arrays live: local paths, URLs and Zarr store objects, and moving a finished output there.

A location is a string, a path, or a store of `zarr.storage` (memory, obstore, fsspec). Outputs
are made under `partial_location` and renamed when the job is done, so that nothing half-written
ever has the final name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore

from leptonhpc.errors import LeptonError, OptionError, OutputExistsError, StoreError
from leptonhpc.store.icechunk_repository import (
    exists_in_icechunk,
    is_icechunk,
    open_icechunk,
    repository_of,
)
from leptonhpc.store.retrying import retried

Location = str | os.PathLike[str] | Store

PARTIAL_SUFFIX = ".partial"
FOLDER = ".leptonhpc"
"""Of the journal, in an unfinished output; its being there says whose that is."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


def resolve(location: Location, *, read_only: bool = False) -> tuple[Store, str]:
    """Give the Zarr store of a location and the path inside it.

    Parameters
    ----------
    location : str, path or zarr store
        A local path, a URL that fsspec knows (``s3://``, ``http://``, ``memory://``), or a store.
    read_only : bool
        Open the store for reading only.

    Returns
    -------
    tuple of (Store, str)
        The store and the path of the node in it (empty: its root).

    Raises
    ------
    StoreError
        If the URL's protocol is unknown or its package is not installed.
    """
    if isinstance(location, Store):
        return location, ""
    text = os.fspath(location)
    if is_icechunk(text):
        if not read_only:
            message = f"{text!r} is written as a whole, as the output of a driver; give it as out="
            raise StoreError(message)
        return open_icechunk(text)
    if is_local(text):
        return LocalStore(local_path(text), read_only=read_only), ""
    try:
        return FsspecStore.from_url(text, read_only=read_only), ""
    except (ImportError, ValueError) as error:
        message = (
            f"cannot open {text!r}: {error}. For URLs install leptonhpc[remote], "
            "or pass a store of zarr.storage"
        )
        raise StoreError(message) from error


def is_local(location: Location) -> bool:
    """Say whether the location is a folder of this machine's file system."""
    if isinstance(location, Store):
        return isinstance(location, LocalStore)
    text = os.fspath(location)
    return "://" not in text or text.startswith("file://")


def local_path(location: Location) -> Path:
    """Give the folder of a local location, absolute."""
    if isinstance(location, LocalStore):
        return Path(location.root).absolute()
    assert not isinstance(location, Store)
    return Path(os.fspath(location).removeprefix("file://")).absolute()


def describe(location: Location) -> str:
    """Give the location's name for messages and reports."""
    return os.fspath(location) if isinstance(location, str | os.PathLike) else str(location)


def same_place(first: Location, second: Location) -> bool:
    """Say whether one location is the other, or lies inside it."""
    if is_local(first) and is_local(second):
        a, b = local_path(first).resolve(), local_path(second).resolve()
        return a == b or a in b.parents or b in a.parents
    if isinstance(first, Store) or isinstance(second, Store):
        return first is second or describe(first) == describe(second)
    a_text, b_text = (os.fspath(x).rstrip("/") + "/" for x in (first, second))
    return a_text.startswith(b_text) or b_text.startswith(a_text)


def join(location: Location, name: str) -> Location:
    """Give the location of a node inside a group.

    Parameters
    ----------
    location : str, path or zarr store
        The group.
    name : str
        The node's name in it.

    Returns
    -------
    str, path or zarr store
        The node's location.
    """
    if isinstance(location, MemoryStore):
        message = "a MemoryStore has no places inside it; use a path or a URL such as memory://name"
        raise StoreError(message)
    if isinstance(location, LocalStore):
        return local_path(location) / name
    if isinstance(location, ObjectStore | FsspecStore):
        message = f"outputs need a path or a URL, not a store object: {location}"
        raise StoreError(message)
    assert not isinstance(location, Store)
    return f"{os.fspath(location).rstrip('/')}/{name}"


def partial_location(final: Location) -> Location:
    """Give the name under which an output is made, beside its final name.

    Parameters
    ----------
    final : str or path
        Where the output shall be when it is finished.

    Returns
    -------
    str or path
        ``<final>.partial``; of a group in an Icechunk repository, a folder beside that.
    """
    if is_icechunk(final):
        folder, group = repository_of(str(final))
        return f"{folder}.{group.replace('/', '-')}{PARTIAL_SUFFIX}"
    if not isinstance(final, str | os.PathLike):
        message = f"outputs need a path or a URL, not a {type(final).__name__}: {final}"
        raise StoreError(message)
    return os.fspath(final).rstrip("/") + PARTIAL_SUFFIX


def exists(location: Location) -> bool:
    """Say whether anything is stored at a location.

    Parameters
    ----------
    location : str, path or zarr store
        The place.

    Returns
    -------
    bool
        True if a file, a folder or at least one object is there.
    """
    if is_icechunk(location):
        return exists_in_icechunk(str(location))
    with store_errors(location):
        if is_local(location):
            return local_path(location).exists()
        store, path = resolve(location, read_only=not isinstance(location, Store))
        return not retried(lambda: sync(store.is_empty(path)))
    raise AssertionError  # store_errors lets no exception pass in silence


def remove(location: Location) -> None:
    """Remove everything at a location; nothing happens if nothing is there.

    Parameters
    ----------
    location : str, path or zarr store
        The place.
    """
    with store_errors(location):
        if is_local(location):
            _remove_folder(local_path(location))
            return
        store, path = resolve(location)
        retried(lambda: sync(store.delete_dir(path)))


def _remove_folder(folder: Path) -> None:
    """Remove a folder; what says whose it is goes last, for one who is killed meanwhile."""
    if not folder.is_dir() or folder.is_symlink():
        return
    for path in sorted(folder.iterdir(), key=lambda p: (p.name == FOLDER, p.name in METADATA)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def require_name(location: Location) -> None:
    """Refuse an output without a name: it is made beside its place, and renamed.

    Parameters
    ----------
    location : str, path or zarr store
        Where an output shall be.

    Raises
    ------
    OptionError
        If it is empty, a whole file system, ends in ``.`` or ``..``, or is a link to nothing.
    """
    if not isinstance(location, str | os.PathLike):
        return
    text = os.fspath(location)
    if text.rpartition("://")[2].rstrip("/").rpartition("/")[2] in ("", ".", ".."):
        message = f"an output needs a name of its own, such as 'result.zarr'; found {text!r}"
        raise OptionError(message)
    if is_local(text) and local_path(text).is_symlink() and not local_path(text).exists():
        raise OptionError(f"{text!r} is a link to what is not there; choose another output")


def require_free(location: Location, *, overwrite: bool) -> None:
    """Refuse a place that is taken; with `overwrite`, one that holds anything but Zarr.

    Parameters
    ----------
    location : str or path
        Where an output shall be.
    overwrite : bool
        A Zarr array or group there may be replaced.

    Raises
    ------
    OutputExistsError
        If the place may not be used.
    OptionError
        If it has no name.
    """
    require_name(location)
    if not exists(location):
        return
    store, path = resolve(location, read_only=not isinstance(location, Store))
    prefix = f"{path}/" if path else ""
    if is_local(location) and not local_path(location).is_dir():
        found = False
    else:
        with store_errors(location):
            found = any(sync(store.exists(prefix + name)) for name in METADATA)
    if not found:
        message = (
            f"{describe(location)!r} is not Zarr, so it is not overwritten; choose another output"
        )
        raise OutputExistsError(message)
    if not overwrite:
        message = f"{describe(location)!r} exists; pass overwrite=True or choose another output"
        raise OutputExistsError(message)


def create_group(
    location: Location, *, attributes: Mapping[str, Any] | None = None, overwrite: bool = False
) -> None:
    """Make an empty Zarr group.

    Parameters
    ----------
    location : str, path or zarr store
        Where.
    attributes : mapping, optional
        JSON-serialisable attributes.
    overwrite : bool
        Remove what is there.
    """
    require_free(location, overwrite=overwrite)
    remove(location)
    store, path = resolve(location)
    with store_errors(location):
        retried(lambda: zarr.create_group(store, path=path, attributes=dict(attributes or {})))


def read_attributes(location: Location) -> dict[str, Any]:
    """Read the attributes of a Zarr array or group.

    Parameters
    ----------
    location : str, path or zarr store
        The node.

    Returns
    -------
    dict
        Its attributes.
    """
    store, path = resolve(location, read_only=not isinstance(location, Store))
    with store_errors(location):
        return retried(lambda: dict(zarr.open(store, path=path, mode="r").attrs))


def update_attributes(location: Location, attributes: Mapping[str, Any]) -> None:
    """Add attributes to a Zarr array or group, all at once.

    Parameters
    ----------
    location : str, path or zarr store
        The node.
    attributes : mapping
        What to add or replace.
    """
    store, path = resolve(location)
    with store_errors(location):
        # in one write: a job that is killed between two would leave half of them
        node = retried(lambda: zarr.open(store, path=path, mode="r+"))
        retried(lambda: node.update_attributes({**node.attrs, **attributes}))


def require_space(location: Location, nbytes: int) -> None:
    """Refuse an output that the file system has no room for.

    Parameters
    ----------
    location : str, path or zarr store
        Where the output goes; only local places can be asked.
    nbytes : int
        What will be written, uncompressed.

    Raises
    ------
    StoreError
        If less is free.
    """
    if not is_local(location):
        return
    folder = local_path(location)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        message = (
            f"the output {describe(location)!r} needs {nbytes / 1e6:,.1f} MB and its disk has "
            f"{free / 1e6:,.1f} MB free. Choose another place for it"
        )
        raise StoreError(message)


class store_errors:  # noqa: N801  (a context manager reads as a verb)
    """Turn a store's exceptions into `StoreError` with the location's name."""

    def __init__(self, location: Location) -> None:
        self.location = location

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Re-raise what a store raises as StoreError."""
        if isinstance(error, Exception) and not isinstance(error, LeptonError):
            message = f"{describe(self.location)!r} could not be used: {error}"
            raise StoreError(full_disk(self.location, error) or message) from error


def full_disk(location: Location, error: BaseException) -> str | None:
    """Say what to do if an error came of a full disk; else None.

    Parameters
    ----------
    location : str, path or zarr store
        What was written.
    error : exception
        What a store raised.

    Returns
    -------
    str or None
        The message.
    """
    cause: BaseException | None = error
    while cause is not None:
        told = any(f"(os error {number})" in str(cause) for number in _FULL)  # by stores in Rust
        if told or (isinstance(cause, OSError) and cause.errno in _FULL):
            return (
                f"the disk of {describe(location)!r} is full, or its quota is used up. Free some "
                "space there and make the same call again: it goes on from what is done"
            )
        cause = cause.__cause__ or cause.__context__
    return None
