"""Folders of results that are not kept; those of dead processes go when the next is made."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from pathlib import Path

from leptonhpc.store.standing import is_alive, this_process, went_with_its_machine

_PREFIX, _OWNER = "leptonhpc-", "owner.json"


class TemporaryFolder:
    """A folder that goes when nothing refers to it any more, or the process ends."""

    def __init__(self) -> None:
        self.path = make_folder()
        self._finalizer = weakref.finalize(self, _remove, self.path, os.getpid())

    def remove(self) -> None:
        """Remove it now."""
        self._finalizer()


def _remove(folder: Path, owner: int) -> None:
    """Remove a folder, unless this is a child that was forked from the process that has it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def make_folder() -> Path:
    """Make a folder for this process, and remove what dead ones of this user and machine left.

    Returns
    -------
    Path
        The folder; whoever asked removes it.
    """
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{_PREFIX}*"):
        if _is_left_over(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    (folder / _OWNER).write_text(json.dumps(this_process()))
    return folder


def _is_left_over(folder: Path) -> bool:
    try:
        ours = folder.stat().st_uid == os.getuid()
        owner = json.loads((folder / _OWNER).read_text())
        return ours and (is_alive(owner) is False or went_with_its_machine(owner))
    except (OSError, ValueError, KeyError):  # not ours, or only just made
        return False
