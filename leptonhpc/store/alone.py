"""One process at a time in a folder, where its file system has locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from leptonhpc.store.retrying import retried


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[int]:
    """Keep out others who come here too.

    Parameters
    ----------
    folder : Path
        It is there.

    Yields
    ------
    int
        The open folder.
    """
    file = retried(lambda: os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
    try:
        with contextlib.suppress(OSError):  # NFS locks no folders: there two may meet
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)
