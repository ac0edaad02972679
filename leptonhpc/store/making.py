"""An output is made beside its final name, by one living process of all machines, then renamed."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator
from typing import Any

from leptonhpc.errors import LeptonError, OutputExistsError
from leptonhpc.store.journal import FOLDER
from leptonhpc.store.leasing import Lease, require_nobody
from leptonhpc.store.locations import (
    Location,
    create_group,
    describe,
    exists,
    is_local,
    join,
    local_path,
    partial_location,
    read_attributes,
    remove,
    require_free,
)
from leptonhpc.store.publishing import publish
from leptonhpc.store.standing import this_process

MARK = "leptonhpc_unfinished"
"""Attribute of the group in which an output is made: who makes it."""
_METADATA_IN_WRITING = re.compile(r"zarr\.[0-9a-f]{32}\.partial|zarr\.json\..*")
"""What versions of Zarr call it until it is whole."""


@contextlib.contextmanager
def being_made(out: Location, *, overwrite: bool, leave: bool = True) -> Iterator[Location]:
    """Give a place to make an output at; what is there at the end gets the final name.

    Parameters
    ----------
    out : str or path
        The final name.
    overwrite : bool
        Replace what has that name.
    leave : bool
        Leave what was made if an error ends it; the next attempt replaces that.

    Yields
    ------
    str or path
        Where it is made; nothing is there yet.

    Raises
    ------
    OutputExistsError
        If the final name is taken, or ``OUT.partial`` is something else, or of a living process.
    StoreError
        If somebody else removed or replaced what was made.
    """
    require_free(out, overwrite=overwrite)
    require_no_maker(out)
    partial, name = partial_location(out), uuid.uuid4().hex
    remove(partial)
    lease = output_lease(out)
    try:
        create_group(partial, attributes={MARK: {**this_process(), "name": name}})
        require_nobody(lease.take(), partial)
        yield join(partial, name)
        lease.require()
        publish(join(partial, name), out, overwrite=overwrite)
        lease.stop()
        remove(partial)
    except BaseException:
        if not leave and _maker(partial).get("name") == name:
            lease.stop()
            remove(partial)
        raise
    finally:
        lease.release()


def output_lease(out: Location) -> Lease:
    """Give the right to make an output, not taken yet.

    Parameters
    ----------
    out : str or path
        The final name.

    Returns
    -------
    Lease
        Of the place where it is made; its object is beside the journal.
    """
    return Lease(partial_location(out), f"{FOLDER}/owner.json")


def require_no_maker(out: Location) -> None:
    """Refuse an output whose place is something else, or that a living process makes.

    Of a process of another machine this may take as long as `leasing.PATIENCE_SECONDS`.

    Parameters
    ----------
    out : str or path
        The final name.

    Raises
    ------
    OutputExistsError
        If it is so; the message names the process.
    """
    partial = partial_location(out)
    if not exists(partial):
        return
    lease = output_lease(out)
    if not _maker(partial) and not lease.owner() and not is_only_begun(partial):
        message = (
            f"{describe(partial)!r}, where the output would be made, is something else; move it, "
            "or choose another output"
        )
        raise OutputExistsError(message)
    require_nobody(lease.living_owner(), partial)


def is_only_begun(partial: Location) -> bool:
    """Say whether a process was killed before it had written anything, or as it had removed it.

    Parameters
    ----------
    partial : str or path
        Where an output is made.

    Returns
    -------
    bool
        Whether nothing is there but a folder, who has it, and metadata that are not whole.
    """
    if not is_local(partial) or not local_path(partial).is_dir():
        return False
    names = (path.name for path in local_path(partial).iterdir())
    return all(name == FOLDER or _METADATA_IN_WRITING.fullmatch(name) for name in names)


def _maker(partial: Location) -> dict[str, Any]:
    """Give who makes what is there; empty if it is none of ours."""
    try:
        found = read_attributes(partial).get(MARK)
    except LeptonError:
        return {}
    return found if isinstance(found, dict) else {}
