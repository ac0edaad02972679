"""Folders of results that are not kept; those of dead processes go when the next is made."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from pathlib import Path

from leptonhpc.store.standing import is_alive, this_process

_PREFIX, _OWNER = "leptonhpc-", "owner.json"


class TemporaryFolder:
    """A folder that goes when nothing refers to it any more, or the process ends."""

    def __init__(self) -> None:
        self.path = make_folder()
        self._finalizer = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def remove(self) -> None:
        """Remove it now."""
        self._finalizer()


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
        return ours and is_alive(json.loads((folder / _OWNER).read_text())) is False
    except (OSError, ValueError, KeyError):  # not ours, or only just made
        return False
