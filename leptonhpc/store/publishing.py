"""Giving a finished output its final name."""

from __future__ import annotations

import os
import shutil

from zarr.core.sync import sync

from leptonhpc.store.locations import (
    METADATA,
    Location,
    is_local,
    local_path,
    remove,
    require_free,
    resolve,
    store_errors,
)
from leptonhpc.store.objects import get_object, list_objects, put_object


def publish(partial: Location, final: Location, *, overwrite: bool = False) -> None:
    """Give a finished output its final name.

    Parameters
    ----------
    partial, final : str or path
        What is finished, and what it shall be called.
    overwrite : bool
        Replace what has the final name.

    Raises
    ------
    OutputExistsError
        If the final name is taken and `overwrite` is false.

    Notes
    -----
    On a local file system this is one atomic rename. On an object store every object is copied
    and removed, metadata last.
    """
    require_free(final, overwrite=overwrite)
    if not is_local(final):
        remove(final)
        _move_objects(partial, final)
        return
    target = local_path(final)
    if target.exists():  # the old one goes only when the new one is in its place
        old = target.with_name(f"{target.name}.old-{os.getpid()}")
        os.replace(target, old)
        os.replace(local_path(partial), target)
        shutil.rmtree(old, ignore_errors=True)
        return
    with store_errors(final):
        os.replace(local_path(partial), target)


def _move_objects(partial: Location, final: Location) -> None:
    source, source_path = resolve(partial)
    target, target_path = resolve(final)
    keys = list_objects(source, source_path)
    for key in sorted(keys, key=lambda k: (k.endswith(METADATA), -k.count("/"))):
        data = get_object(source, key)
        assert data is not None
        put_object(target, target_path + key.removeprefix(source_path), data)
    sync(source.delete_dir(source_path))
