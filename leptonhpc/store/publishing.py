"""Giving a finished output its final name."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable

from zarr.abc.store import Store

from leptonhpc.store.completeness import mark_whole
from leptonhpc.store.icechunk_repository import commit_icechunk, is_icechunk
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
from leptonhpc.store.objects import get_object, list_objects, put_object, remove_cut_short
from leptonhpc.store.retrying import retried

_REPLACED = re.compile(r"\.replaced-[0-9a-f]{32}")
"""What the name of an output that was replaced ends in, until it is removed."""


def publish(
    partial: Location,
    final: Location,
    *,
    overwrite: bool = False,
    without: str | None = None,
    leaving: Callable[[], None] = lambda: None,
) -> str | None:
    """Give a finished output its final name; arrays that store every chunk say so from then on.

    Parameters
    ----------
    partial, final : str or path
        What is finished, and what it shall be called.
    overwrite : bool
        Replace what has the final name.
    without : str, optional
        A folder in it that only an unfinished output has: it stays until the rest has its name.
    leaving : callable
        Called when the old name is about to go: who writes there must stop.

    Returns
    -------
    str or None
        Id of the snapshot, where the final name is in an Icechunk repository.

    Raises
    ------
    OutputExistsError
        If the final name is taken and `overwrite` is false.

    Notes
    -----
    On a local file system this is one atomic rename. On an object store every object is copied
    and removed, metadata last. In an Icechunk repository it is one commit of all objects.
    """
    if not is_half_published(partial, final):
        require_free(final, overwrite=overwrite)
    if is_local(partial):
        with store_errors(partial):
            remove_cut_short(local_path(partial))
    mark_whole(partial)
    if not is_local(final):
        snapshot = None
        if is_icechunk(final):
            with store_errors(final):
                snapshot = commit_icechunk(*_objects_of(partial, without), str(final))
        else:
            remove(final)
            _copy_objects(partial, final, without)
        leaving()
        remove(partial)
        return snapshot
    leaving()
    target = local_path(final)
    with store_errors(final):
        if target.exists():  # the old one goes only when the new one is in its place
            aside = target.with_name(f"{target.name}.replaced-{uuid.uuid4().hex}")
            retried(lambda: os.replace(target, aside))
        retried(lambda: os.replace(local_path(partial), target))
    remove_replaced(final)
    if without is not None:
        shutil.rmtree(target / without, ignore_errors=True)
    return None


def remove_replaced(final: Location) -> None:
    """Remove outputs that another one has replaced, where a kill came between.

    Parameters
    ----------
    final : str or path
        The name that they had.
    """
    if not is_local(final):
        return
    target = local_path(final)
    for path in target.parent.iterdir():
        if path.name.startswith(target.name) and _REPLACED.fullmatch(path.name[len(target.name) :]):
            if path.is_symlink():  # what it leads to is not ours
                path.unlink(missing_ok=True)
            else:
                shutil.rmtree(path, ignore_errors=True)


def is_half_published(partial: Location, final: Location) -> bool:
    """Say whether what has a final name is a part of the unfinished output, and no more.

    Parameters
    ----------
    partial, final : str or path
        As for `publish`.

    Returns
    -------
    bool
        True if somebody was killed who copied objects; never where giving a name is one step.
    """
    if is_local(final) or is_icechunk(final):
        return False
    store, root = resolve(final, read_only=True)
    there = {key.removeprefix(root).lstrip("/") for key in list_objects(store, root)}
    if not there or there & set(METADATA):  # the metadata of the whole comes last
        return False
    return there <= _objects_of(partial, None)[1].keys()


def _copy_objects(partial: Location, final: Location, without: str | None) -> None:
    source, keys = _objects_of(partial, without)
    target, root = resolve(final)
    for name in sorted(keys, key=lambda n: (n.endswith(METADATA), -n.count("/"))):
        data = get_object(source, keys[name])
        assert data is not None
        put_object(target, f"{root}/{name}".lstrip("/"), data)


def _objects_of(partial: Location, without: str | None) -> tuple[Store, dict[str, str]]:
    """Give the keys of what gets the final name, by those below the group."""
    store, root = resolve(partial, read_only=True)
    prefix = f"{root}/" if root else ""
    keys = {key.removeprefix(prefix): key for key in list_objects(store, root)}
    aside = None if without is None else f"{without}/"
    return store, {n: k for n, k in keys.items() if aside is None or not n.startswith(aside)}
