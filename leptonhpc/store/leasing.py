"""One owner at a time: an object says which process writes at a place, and changes while it lives.

Of a process of this machine the system tells whether it lives. Of another machine's nobody here
can ask: so the owner writes its object anew every few seconds, and who wants the place looks
whether it changes. No two clocks are compared: of a folder the age is seen by the store's own.
Where a store knows conditions (`conditional`), and in folders that can be locked, one of many gets
a place; elsewhere the last of two that take it at the same moment has it, and the other sees that.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zarr.storage import LocalStore

from leptonhpc.errors import LeptonError, OutputExistsError, StoreError
from leptonhpc.store.alone import alone_in
from leptonhpc.store.conditional import create_object, replace_object
from leptonhpc.store.locations import (
    Location,
    describe,
    is_local,
    local_path,
    resolve,
    store_errors,
)
from leptonhpc.store.objects import get_object, put_object, remove_object
from leptonhpc.store.retrying import retried
from leptonhpc.store.standing import is_alive, this_process

logger = logging.getLogger(__name__)

NAME = ".leptonhpc-writer"
"""Of the file of a stream's writer, in the folder of the array."""
BEAT_SECONDS = 5.0
"""How often an owner changes its object."""
PATIENCE_SECONDS = 90.0
"""What did not change for so long is of a dead process: file systems of a network show a change up
to a minute late."""
_LOOK_SECONDS = 1.0
_WRITTEN_SECONDS = 1.0
"""A file that is empty for longer is of a process that was killed right after it made it."""
_OWNER = {"host", "pid", "process_began"}
_held: set[str] = set()
"""What tells the leases of this process from those that it left."""


class Lease:
    """The right to write at a place; held from `take` to `release`.

    Parameters
    ----------
    place : str, path or zarr store
        The folder or prefix that is owned; it need not be there until `take`.
    name : str
        Of the object in it.
    """

    def __init__(self, place: Location, name: str) -> None:
        self._place, self._token = place, uuid.uuid4().hex
        self._store, root = resolve(place)
        self._key = f"{root}/{name}".lstrip("/")
        self._beats, self._beat_at, self._mark = 0, 0.0, b""
        self._ended, self._thread = threading.Event(), threading.Thread()

    @property
    def name(self) -> str:
        """Name of the place."""
        return describe(self._place)

    def owner(self) -> dict[str, Any]:
        """Give who has it: as `this_process` gave it there; empty if nobody."""
        return _parsed(self._read())

    def living_owner(self) -> dict[str, Any]:
        """Give who has it and lives; this may wait for a sign of life of another machine.

        Returns
        -------
        dict
            As `owner` gives it; empty if nobody has it, or a process that is dead.
        """
        seen = self._read()
        return {} if seen is None or self._is_dead(seen) else _parsed(seen)

    def take(self) -> dict[str, Any]:
        """Become the owner, unless another one lives; what a dead one left is replaced.

        Returns
        -------
        dict
            Empty; or who has it instead.
        """
        _held.add(self._token)  # before others of this process can see it
        while not self._create():
            seen = self._read()
            if seen is None:
                continue  # its owner has just ended
            if _parsed(seen).get("token") == self._token:
                break  # the answer to what made it was lost
            if not self._is_dead(seen):
                _held.discard(self._token)
                return _parsed(seen)
            if self._replace(seen, self._record()):
                break
        self._hold()
        return {}

    def seize(self) -> None:
        """Become the owner whoever has it: that one is refused from now on."""
        _held.add(self._token)
        self._mark = self._record()
        put_object(self._store, self._key, self._mark)
        self._hold()

    def _hold(self) -> None:
        self._beat_at = time.time()
        self._ended.clear()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="leptonhpc-lease")
        self._thread.start()

    def require(self) -> None:
        """Refuse to go on if somebody else removed or replaced what was made here.

        Raises
        ------
        StoreError
            If this is not the owner any more: its process stood still for long, or somebody
            removed the mark.
        """
        if self.owner().get("token") != self._token:
            message = (
                f"{describe(self._place)!r}, where the output was made, was removed or replaced "
                "meanwhile; nothing got the final name. Let one process at a time make an output"
            )
            raise StoreError(message)

    def check(self) -> None:
        """As `require`, at no cost unless this process stood still for long."""
        if time.time() - self._beat_at > PATIENCE_SECONDS / 2:  # runs on while a machine sleeps
            self.require()

    def release(self) -> None:
        """Let others have it; what is not this owner's stays."""
        self.stop()
        with contextlib.suppress(LeptonError, OSError):
            if self.owner().get("token") == self._token:
                remove_object(self._store, self._key)

    def stop(self) -> None:
        """Give no more signs of life: what is owned is about to go."""
        self._ended.set()
        # what nothing refers to any more may be collected in any thread
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()
        _held.discard(self._token)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with contextlib.suppress(LeptonError, OSError):  # a store that is away may come back
                if not self._show():
                    return  # `require` will find it
                self._beat_at = time.time()

    def _show(self) -> bool:
        """Change the object, unless it is another's."""
        self._beats += 1
        if self._replace(self._mark, self._record()):
            return True
        found = self._read() or b""
        if _parsed(found).get("token") != self._token:
            return False
        self._mark = found  # what seemed to fail was written
        return self._replace(found, self._record())

    def _record(self) -> bytes:
        return json.dumps({**this_process(), "token": self._token, "beats": self._beats}).encode()

    # -- whether the owner lives

    def _is_dead(self, seen: bytes) -> bool:
        owner = _parsed(seen)
        alive = is_alive(owner) if owner else False
        if alive is None:
            return self._is_silent(seen, owner)
        return not alive or (owner["pid"] == os.getpid() and owner.get("token") not in _held)

    def _is_silent(self, seen: bytes, owner: dict[str, Any]) -> bool:
        """Look until the object changes, or did not for too long."""
        age = self._age_seconds()
        if age is not None and age > PATIENCE_SECONDS:
            return True
        logger.warning(
            "looking for up to %.0f s whether process %s of %s still works at %s",
            PATIENCE_SECONDS, owner["pid"], owner["host"], describe(self._place),
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            time.sleep(min(_LOOK_SECONDS, PATIENCE_SECONDS))
            now = self._read()
            if now != seen:
                return now is None
        return True

    def _age_seconds(self) -> float | None:
        """Give the time since the last change by the clock of the file system; else None."""
        if self._path is None:
            return None
        probe = self._path.with_name(f"{self._path.name}-{uuid.uuid4().hex}")
        try:
            probe.touch()
            return probe.stat().st_mtime - self._path.stat().st_mtime
        except OSError:
            return None
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)

    # -- the object

    @property
    def _path(self) -> Path | None:
        return Path(self._store.root) / self._key if isinstance(self._store, LocalStore) else None

    def _create(self) -> bool:
        """Make the object unless it is there."""
        path, self._mark = self._path, self._record()
        if path is None:
            # a server that knows no conditions lets two make it: then the last one has it
            made = create_object(self._store, self._key, self._mark)
            return made and self.owner().get("token") == self._token
        with store_errors(self._place):
            path.parent.mkdir(parents=True, exist_ok=True)
        with store_errors(self._place), alone_in(path.parent):
            try:
                file = retried(lambda: os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            except FileExistsError:
                return False
            try:
                os.write(file, self._mark)
            finally:
                os.close(file)
        return True

    def _replace(self, judged: bytes, mark: bytes) -> bool:
        """Replace what was looked at, and not what another one made there since."""
        path = self._path
        if path is None:
            done = replace_object(self._store, self._key, judged, mark)
        else:
            done = False
            gone = contextlib.suppress(FileNotFoundError)
            with store_errors(self._place), gone, alone_in(path.parent) as folder:
                if path.read_bytes() == judged:
                    retried(lambda: _put_in(folder, path.name, mark))
                    done = True
        self._mark = mark if done else self._mark
        return done

    def _read(self) -> bytes | None:
        """Read who has it: None if nobody, empty if it was killed before it said so."""
        if self._path is None:
            return get_object(self._store, self._key)
        deadline = time.monotonic() + _WRITTEN_SECONDS
        while True:
            try:
                found = retried(self._path.read_bytes)
            except (FileNotFoundError, NotADirectoryError):
                return None
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.01)


def _put_in(folder: int, name: str, data: bytes) -> None:
    """Write a file of an open folder whole; one that was removed since is not made anew."""
    unfinished = f"{name}.{uuid.uuid4().hex}.partial"
    try:
        file = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666, dir_fd=folder)
        try:
            os.write(file, data)
        finally:
            os.close(file)
        os.replace(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(unfinished, dir_fd=folder)


def require_nobody(owner: dict[str, Any], place: Location) -> None:
    """Refuse an output that somebody makes.

    Parameters
    ----------
    owner : dict
        As `Lease.take` or `Lease.living_owner` gave it.
    place : str or path
        Where the output is made.

    Raises
    ------
    OutputExistsError
        If there is an owner; the message names the process.
    """
    if owner:
        here = is_alive(owner) is not None
        message = (
            f"{describe(place)!r} is being made by process {owner['pid']} "
            f"{'on this machine' if here else 'of ' + owner['host']}; wait for it, end it, or "
            "choose another output"
        )
        raise OutputExistsError(message)


@contextlib.contextmanager
def writer_lease(location: Location) -> Iterator[None]:
    """Be the only one who appends to an array; what a dead process left is taken.

    Parameters
    ----------
    location : str, path or zarr store
        The array, which is there.

    Yields
    ------
    None
        While it is held.

    Raises
    ------
    StoreError
        If a living process has it, or the folder cannot be written.
    """
    lease = Lease(local_path(location) if is_local(location) else location, NAME)
    with store_errors(location):
        owner = lease.take()
    if owner:
        message = (
            f"process {owner['pid']} of {owner['host']} appends to {lease.name!r}: "
            "a stream has one writer at a time. Nothing was written; append again when it has ended"
        )
        raise StoreError(message)
    try:
        yield
    finally:
        lease.release()


def _parsed(found: bytes | None) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        owner = json.loads(found or b"{}")
        return owner if isinstance(owner, dict) and owner.keys() >= _OWNER else {}
    return {}
