"""Results in Icechunk repositories: one commit for each, so readers see all of it or nothing.

A result is made in a folder of its own beside the repository, where a job that is killed can go on,
and copied into one session when it is whole. A session holds nothing that outlives its process, and
commits on the way would show readers what is not finished.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.core.sync import sync

from leptonhpc.errors import StoreError
from leptonhpc.store.alone import alone_in

SCHEME = "icechunk://"
_BRANCH = "main"
_GROUP = "leptonhpc group"
"""Names in a commit's metadata what it brought."""


def is_icechunk(location: object) -> bool:
    """Say whether a location is in an Icechunk repository."""
    return isinstance(location, str) and location.startswith(SCHEME)


def repository_of(location: str) -> tuple[Path, str]:
    """Give the folder of the repository of ``icechunk://FOLDER#GROUP``, and the group in it.

    Parameters
    ----------
    location : str
        The location.

    Returns
    -------
    tuple of (Path, str)
        Folder and group.

    Raises
    ------
    StoreError
        If it is not of that form.
    """
    folder, _, group = location.removeprefix(SCHEME).partition("#")
    group = group.strip("/")
    if not folder or not group or "://" in folder:
        message = (
            f"a place in an Icechunk repository is {SCHEME}FOLDER#GROUP, with a local folder; "
            f"found {location!r}"
        )
        raise StoreError(message)
    return Path(folder).absolute(), group


def open_icechunk(location: str) -> tuple[Store, str]:
    """Give the store of the latest commit, for reading, and the path in it.

    Parameters
    ----------
    location : str
        ``icechunk://FOLDER#GROUP``.

    Returns
    -------
    tuple of (Store, str)
        The store and the group.

    Raises
    ------
    StoreError
        If there is no repository.
    """
    folder, group = repository_of(location)
    repository = _opened(folder)
    if repository is None:
        raise StoreError(f"there is no Icechunk repository {str(folder)!r}")
    return repository.readonly_session(_BRANCH).store, group


def exists_in_icechunk(location: str) -> bool:
    """Say whether anything is at a location in a repository, which need not be there."""
    folder, group = repository_of(location)
    repository = _opened(folder)
    if repository is None:
        return False
    return not sync(repository.readonly_session(_BRANCH).store.is_empty(group))


def commit_icechunk(source: Store, keys: dict[str, str], location: str) -> str:
    """Copy objects into a repository, in the place of what is there, and commit.

    Parameters
    ----------
    source : zarr store
        Where the objects are.
    keys : dict of str to str
        Their keys in the source, by those below the group.
    location : str
        ``icechunk://FOLDER#GROUP``; a repository is made if there is none.

    Returns
    -------
    str
        Id of the snapshot. What others commit meanwhile to other groups stays.
    """
    import icechunk

    folder, group = repository_of(location)
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):  # a local one knows no two that begin it, or commit, at one moment
        repository = icechunk.Repository.open_or_create(_storage(folder))
        return _committed(repository.writable_session(_BRANCH), source, keys, group)


def _committed(session: Any, source: Store, keys: dict[str, str], group: str) -> str:
    import icechunk
    from zarr.core.buffer import default_buffer_prototype

    store = session.store
    parents = group.split("/")[:-1]
    for depth in range(len(parents) + 1):
        zarr.open_group(store, path="/".join(parents[:depth]), mode="a")
    sync(store.delete_dir(group))
    for name, key in keys.items():
        value = sync(source.get(key, default_buffer_prototype()))
        assert value is not None
        sync(store.set(f"{group}/{name}", value))
    snapshot: str = session.commit(
        f"leptonhpc: {group}", metadata={_GROUP: group}, rebase_with=icechunk.ConflictDetector()
    )
    return snapshot


def snapshot_of(location: object) -> str | None:
    """Give the id of the commit that brought a result; None where it is not in a repository."""
    if not is_icechunk(location):
        return None
    folder, group = repository_of(str(location))
    repository = _opened(folder)
    commits = repository.ancestry(branch=_BRANCH) if repository is not None else ()
    found = (each.id for each in commits if each.metadata.get(_GROUP) == group)
    return next(found, None)


def _storage(folder: Path) -> Any:
    import icechunk

    icechunk.set_logs_filter("error")  # it warns of each local repository, on standard output
    return icechunk.local_filesystem_storage(str(folder))


def _opened(folder: Path) -> Any | None:
    """Open a repository, if it is there."""
    try:
        import icechunk
    except ImportError as error:
        message = "icechunk:// needs the package icechunk: pip install 'leptonhpc[icechunk]'"
        raise StoreError(message) from error
    if not folder.is_dir():
        return None
    storage = _storage(folder)
    return icechunk.Repository.open(storage) if icechunk.Repository.exists(storage) else None
