"""Objects that one process of all makes, or replaces as it saw them: where their store can tell.

S3 has conditions on what is put (``If-None-Match``, ``If-Match``); s3fs and obstore ask for both.
Other file systems of fsspec are asked to make an object by ``mode="create"``, of which some make a
condition and some nothing. Where none is known the last of two that write at the same moment has
the object, so whoever wrote one reads it again.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Mapping
from typing import Any, Literal

from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import FsspecStore, ObjectStore

from leptonhpc.store.locations import store_errors
from leptonhpc.store.objects import get_object, put_object
from leptonhpc.store.retrying import answers, retried

logger = logging.getLogger(__name__)

Mode = Literal["create"] | Mapping[str, str]
"""Unless it is there; or as it had this tag."""
_REFUSED = frozenset({409, 412})
"""Answers by which the condition does not hold, or somebody else writes just now."""
_UNKNOWN = frozenset({400, 405, 501})
"""Answers by which a server does not know conditions."""
_REFUSALS = {"AlreadyExistsError", "PreconditionError", "NotFoundError"}
"""Of obstore, which need not be installed."""
_alone = threading.Lock()
"""Where no server looks, at least the threads of this process come one after the other."""


def create_object(store: Store, key: str, data: bytes) -> bool:
    """Write one object unless it is there.

    Parameters
    ----------
    store : zarr store
        Any but a folder of a file system.
    key : str
        Name of the object.
    data : bytes
        What it holds.

    Returns
    -------
    bool
        False if it was there; also if an earlier try of this call wrote it and the answer was
        lost: what it holds tells.
    """
    if _is_conditional(store):
        with store_errors(store):
            return retried(lambda: sync(_put(store, key, data, "create")))
    with _alone:
        if get_object(store, key) is not None:
            return False
        if not (isinstance(store, FsspecStore) and _has_mode(store.fs)):
            put_object(store, key, data)
            return True
        with store_errors(store):
            return retried(lambda: sync(_put(store, key, data, "create")))


def replace_object(store: Store, key: str, seen: bytes, data: bytes) -> bool:
    """Write one object if it still is what was seen.

    Parameters
    ----------
    store : zarr store
        Any but a folder of a file system.
    key : str
        Name of the object.
    seen : bytes
        What it held.
    data : bytes
        What it shall hold.

    Returns
    -------
    bool
        False if it holds something else by now, or is gone; also as `create_object`.
    """
    with store_errors(store):
        mode = retried(lambda: sync(_tag(store, key)))
    with _alone:
        if get_object(store, key) != seen:  # the tag is older: what it is of is this, or gone
            return False
        if mode is None:
            put_object(store, key, data)
            return True
    with store_errors(store):
        return retried(lambda: sync(_put(store, key, data, mode)))


async def _put(store: Store, key: str, data: bytes, mode: Mode) -> bool:
    """Put an object on a condition; without one if the server knows none."""
    try:
        await _put_if(store, key, data, mode)
    except (FileExistsError, FileNotFoundError):
        return False
    except Exception as error:
        found = answers(error)
        if found & _REFUSED or type(error).__name__ in _REFUSALS:
            return False
        if not found & _UNKNOWN and type(error).__name__ != "NotSupportedError":
            raise
        logger.warning("%s knows no conditions: two that write at one moment may meet", store)
        await _put_anyhow(store, key, data)
    return True


async def _put_if(store: Any, key: str, data: bytes, mode: Mode) -> None:
    if isinstance(store, ObjectStore):
        import obstore

        await obstore.put_async(store.store, key, data, mode=mode)  # type: ignore[arg-type]
    elif mode == "create":
        await store.fs._pipe_file(_path(store, key), data, mode="create")
    else:
        assert isinstance(mode, Mapping)
        await store.fs._pipe_file(_path(store, key), data, IfMatch=mode["e_tag"])


async def _put_anyhow(store: Any, key: str, data: bytes) -> None:
    if isinstance(store, ObjectStore):
        import obstore

        await obstore.put_async(store.store, key, data)
    else:
        await store.fs._pipe_file(_path(store, key), data)


async def _tag(store: Any, key: str) -> Mapping[str, str] | None:
    """Give what names the content of an object now; None where no condition can have it."""
    try:
        if isinstance(store, ObjectStore):
            import obstore

            tag = (await obstore.head_async(store.store, key)).get("e_tag")
        elif _is_conditional(store):
            tag = (await store.fs._info(_path(store, key), refresh=True)).get("ETag")
        else:
            return None
    except Exception as error:
        if isinstance(error, FileNotFoundError) or type(error).__name__ in _REFUSALS:
            return None  # it is gone, as will be seen
        raise
    return {"e_tag": tag} if tag else None


def _is_conditional(store: Store) -> bool:
    """Say whether its client puts on conditions: those of others may be left out unsaid."""
    if not isinstance(store, FsspecStore):
        return isinstance(store, ObjectStore)
    protocol = store.fs.protocol
    return "s3" in ((protocol,) if isinstance(protocol, str) else protocol)


def _has_mode(files: Any) -> bool:
    return "mode" in inspect.signature(files._pipe_file).parameters


def _path(store: FsspecStore, key: str) -> str:
    return f"{store.path.rstrip('/')}/{key}" if store.path else key
