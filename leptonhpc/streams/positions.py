"""How far a stream was taken, and what was made of it: one object, replaced atomically."""

from __future__ import annotations

import os
import pickle
import uuid
import weakref
from dataclasses import dataclass
from typing import Any

import cloudpickle

from leptonhpc.errors import OutputExistsError, StoreError, StreamError
from leptonhpc.store import exists
from leptonhpc.store.leasing import Lease
from leptonhpc.store.locations import resolve
from leptonhpc.store.objects import get_object, list_objects, put_object
from leptonhpc.store.standing import is_alive

_KEY, _OWNER = "stream-position", "stream-owner"


@dataclass(frozen=True)
class Position:
    """Up to where a stream was taken, and the consumer's state then."""

    length: int = 0
    """Rows that are in the state."""
    tail: str = ""
    """Digest of the last of them."""
    source: tuple[Any, ...] = ()
    """What the stream was: dtype, the other dimensions, axis."""
    state: Any = None


class PositionKeeper:
    """Keeps the position of one consumer, which is alone in that.

    A lease beside it shows that its keeper lives. Whose the position is, is in the object itself
    too, a random word for each keeper: one that finds another's writes nothing.

    Parameters
    ----------
    location : str or path
        A folder or URL of its own.
    takeover : bool
        Take it from whoever has it, at once.

    Raises
    ------
    OutputExistsError
        If something else is there.
    StreamError
        If somebody who may be alive keeps a position there.
    """

    def __init__(self, location: str | os.PathLike[str], *, takeover: bool = False) -> None:
        self._name = os.fspath(location)
        self._store, root = resolve(location)
        self._key = f"{root}/{_KEY}".lstrip("/")
        self._token = uuid.uuid4().hex
        if exists(location) and (keys := list_objects(self._store, root)):
            names = {key.rpartition("/")[2] for key in keys}
            if _KEY not in names and not names <= {_OWNER}:
                message = f"{self._name!r} exists and holds no position of a stream; choose another"
                raise OutputExistsError(message)
        lease = Lease(location, _OWNER)
        if takeover:
            lease.seize()
        elif owner := lease.take():
            raise StreamError(self._taken(owner))
        # what nothing refers to any more needs no closing
        self._end = weakref.finalize(self, _end, lease, os.getpid())
        try:
            self.position = self._stored()
            self._save(self._token, self.position)
        except BaseException:
            self._end()
            raise

    def commit(self, position: Position) -> None:
        """Replace what is kept, all at once.

        Parameters
        ----------
        position : Position
            With the state that belongs to it.

        Raises
        ------
        StoreError
            If the state cannot be pickled, or the store fails.
        StreamError
            If this was closed, or another one took the position over.
        """
        if not self._is_ours():
            message = (
                f"the state {self._name!r} is no longer this watcher's: it was closed, or another "
                "one took the state over. Nothing was committed; watch anew, from the last commit"
            )
            raise StreamError(message)
        self._save(self._token, position)
        self.position = position

    def close(self) -> None:
        """Let another go on, if this still has it."""
        if self._is_ours():
            self._save("", self.position)
        self._end()

    def _stored(self) -> Position:
        data = get_object(self._store, self._key)
        if data is None:
            return Position()
        position: Position = pickle.loads(data)[1]
        return position

    def _taken(self, owner: dict[str, Any]) -> str:
        out = "End it, or choose another state"
        if is_alive(owner) is None:
            out = "It gives signs of life. End it, choose another state, or give takeover=True"
        elif owner["pid"] == os.getpid():
            out = "That is this process: close the other watcher, or give takeover=True"
        process = f"process {owner['pid']} of {owner['host']}"
        return f"{process} watches with the state {self._name!r}. {out}"

    def _is_ours(self) -> bool:
        """Look for the word in what is stored; the state need not be unpickled for that."""
        return self._token.encode() in (get_object(self._store, self._key) or b"")

    def _save(self, token: str, position: Position) -> None:
        try:
            data = cloudpickle.dumps(({"token": token}, position))
        except Exception as error:  # what is not pickled says so in many ways
            message = f"the state cannot be kept in {self._name!r}: {error}"
            raise StoreError(message) from error
        put_object(self._store, self._key, data)


def _end(lease: Lease, owner: int) -> None:
    """Let a lease go, unless this is a child that was forked from the process that has it."""
    if os.getpid() == owner:
        lease.release()
