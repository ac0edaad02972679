"""What finished parts gave, kept beside a journal: a part that is there is not done again."""

from __future__ import annotations

import os
import pickle
from typing import Any

import cloudpickle

from leptonhpc.errors import JobMismatchError, OutputExistsError, StoreError
from leptonhpc.parallel.digests import digest_of, digest_of_function, digest_of_part
from leptonhpc.parallel.parts import Part
from leptonhpc.parallel.work import Work
from leptonhpc.store import Journal, exists, join, remove
from leptonhpc.store.journal import read_note
from leptonhpc.store.locations import resolve
from leptonhpc.store.objects import get_object, put_object

_KIND = "parallel_process"


class Kept:
    """The values of one job's parts in a store, each written whole when its part is done.

    Parameters
    ----------
    out : str or path
        A folder or URL.
    work : Work
        What makes the values.
    overwrite : bool
        Begin again.
    version : str, optional
        What counts in place of the function.

    Raises
    ------
    OptionError
        If it refers to what cannot be told from another, and there is no version.
    OutputExistsError
        If something else is there.
    JobMismatchError
        If the values there are those of another function or seed.
    """

    def __init__(
        self, out: str | os.PathLike[str], work: Work, *, overwrite: bool, version: str | None
    ) -> None:
        from leptonhpc import __version__

        known = version is None
        function = digest_of_function(work.function) if known else digest_of(["version", version])
        if exists(out):
            if read_note(out, "job").get("kind") != _KIND:
                message = f"{os.fspath(out)!r} exists and holds no results of parallel_process"
                raise OutputExistsError(message + "; choose another output")
            if overwrite:
                remove(out)
        job = {"kind": _KIND, "function": function, "seed": work.seed, "version": __version__}
        Journal(out, job).begin()
        self._out = os.fspath(out)
        self._store, self._root = resolve(join(out, "parts"))
        self._identities: dict[int, str] = {}

    def load(self, part: Part) -> tuple[Any] | None:
        """Give the value of a part, if it is there.

        Parameters
        ----------
        part : Part
            The part.

        Returns
        -------
        tuple of one, or None
            The value.

        Raises
        ------
        JobMismatchError
            If the part of that number was another one.
        """
        data = get_object(self._store, self._key(part))
        if data is None:
            return None
        digest, value = pickle.loads(data)
        if digest != digest_of_part(part, self._identities):
            message = (
                f"{self._out!r} has the result of another part {part.number} than {part.name}: the "
                "data, or how they are cut, are not the same. Give the same to go on, "
                "overwrite=True to begin again, or another output"
            )
            raise JobMismatchError(message)
        return (pickle.loads(value),)

    def save(self, part: Part, value: Any) -> None:
        """Keep the value of a part.

        Parameters
        ----------
        part : Part
            The part.
        value : object
            What can be pickled.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        try:
            packed = cloudpickle.dumps(value)
        except Exception as error:  # what is not pickled says so in many ways
            message = f"the result of {part.name} cannot be kept in {self._out!r}: {error}"
            raise StoreError(message) from error
        entry = pickle.dumps((digest_of_part(part, self._identities), packed))
        put_object(self._store, self._key(part), entry)

    def _key(self, part: Part) -> str:
        return f"{self._root}/{part.number:08d}".lstrip("/")
