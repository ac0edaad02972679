"""Where fitted factors go: made beside the final name, and there whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

import leptonhpc
from leptonhpc import store
from leptonhpc.errors import (
    JobMismatchError,
    LeptonError,
    NotAnArrayError,
    OutputExistsError,
    StoreError,
)
from leptonhpc.recommend.checkpoints import remove_slots
from leptonhpc.recommend.labels import read_labels, write_labels
from leptonhpc.recommend.ratings import Ratings
from leptonhpc.recommend.stored_sides import read_whole, write_whole
from leptonhpc.store.journal import FOLDER, digest, read_note
from leptonhpc.store.leasing import require_nobody
from leptonhpc.store.locations import Location, describe
from leptonhpc.store.making import output_lease

FORMAT = "leptonhpc-factors-1"
Path = str | os.PathLike[str]


@dataclass(frozen=True)
class StoredFactors:
    """What an output holds."""

    users: NDArray[Any]
    items: NDArray[Any]
    user_labels: NDArray[Any] | None
    item_labels: NDArray[Any] | None
    attributes: Mapping[str, Any]


class Output:
    """The place of fitted factors.

    Parameters
    ----------
    out : str or path
        Where they shall be.
    description : mapping
        What they depend on: ratings, parameters, version.
    overwrite : bool
        Replace what is there.
    """

    def __init__(self, out: Path, description: Mapping[str, Any], *, overwrite: bool) -> None:
        self.out, self._overwrite = out, overwrite
        self.partial = store.partial_location(out)
        self._lease = output_lease(out)
        text = json.dumps({**description, "version": leptonhpc.__version__}, default=str)
        self._description: dict[str, Any] = json.loads(text)

    def finished(self) -> StoredFactors | None:
        """Give the factors that an earlier call of the same kind left, or None."""
        if self._overwrite:
            return None
        if not store.exists(self.out):
            if not self._is_result(self.partial):
                return None
            self._require_own()
            self._publish()  # killed between the last steps
        return read_factors(self.out) if self._is_result(self.out) else None

    def _is_result(self, place: Location) -> bool:
        if not store.exists(place):
            return False
        try:
            attributes = store.read_attributes(place)
        except StoreError:
            return False
        return bool(attributes.get("job") == digest(self._description))

    def begin(self, facts: Mapping[str, Any]) -> store.Journal:
        """Begin the output, or go on with it.

        Parameters
        ----------
        facts : mapping
            What whoever asks for the standing of the job is told of its plan.

        Returns
        -------
        Journal
            The journal, begun.

        Raises
        ------
        OutputExistsError
            If the place is taken, or another process makes the same output.
        JobMismatchError
            If the unfinished output is of other ratings or parameters.
        """
        store.require_free(self.out, overwrite=self._overwrite)
        if store.exists(self.partial):
            self._require_own()
            if self._overwrite:
                store.remove(self.partial)
            else:
                self._require_unfinished()
        if not store.exists(self.partial):
            store.create_group(self.partial, attributes={"unfinished": FORMAT})
        require_nobody(self._lease.take(), self.partial)
        try:
            journal = store.Journal(self.partial, self._description)
            journal.begin()
            journal.note("plan", facts)
        except BaseException:
            self.close()
            raise
        return journal

    def close(self) -> None:
        """Let others go on with what was begun."""
        self._lease.release()

    def finish(
        self, ratings: Ratings, users: NDArray[Any], items: NDArray[Any], facts: Mapping[str, Any]
    ) -> None:
        """Write the factors, drop slots and journal, and give the output its name.

        Parameters
        ----------
        ratings : Ratings
            Whose labels are kept.
        users, items : array of shape (rows, d)
            The factors, with biases.
        facts : mapping
            Attributes.
        """
        self._lease.require()
        arrays = {"user_factors": users, "item_factors": items}
        labels = {"user_labels": ratings.user_labels, "item_labels": ratings.item_labels}
        for name in (*arrays, *labels):
            store.remove(store.join(self.partial, name))  # what a run that was killed left
        for name, values in arrays.items():
            write_whole(store.join(self.partial, name), values)
        for name, found in labels.items():
            if found is not None:
                write_labels(store.join(self.partial, name), found)
        job = digest(self._description)
        store.update_attributes(self.partial, {**facts, "format": FORMAT, "job": job})
        self._publish()

    def _publish(self) -> None:
        """Drop what only an unfinished output has, the journal last, and rename."""
        self._lease.stop()
        remove_slots(self.partial)
        store.remove(store.join(self.partial, FOLDER))
        store.publish(self.partial, self.out, overwrite=self._overwrite)

    def _require_unfinished(self) -> None:
        """Refuse a whole result of another job, of which only the last step was not done."""
        attributes = store.read_attributes(self.partial)
        if "job" in attributes and not read_note(self.partial, "job"):
            message = (
                f"{describe(self.partial)!r} is a fit of other ratings or parameters that only "
                "lacks its name; make that call again to have it, pass overwrite=True to begin "
                "again, or choose another output"
            )
            raise JobMismatchError(message)

    def _require_own(self) -> None:
        try:
            ours = store.read_attributes(self.partial).get("unfinished") == FORMAT
        except LeptonError:
            ours = False
        if not ours:
            message = (
                f"{describe(self.partial)!r}, where the output would be made, is something else; "
                "move it, or choose another output"
            )
            raise OutputExistsError(message)
        require_nobody(self._lease.living_owner(), self.partial)


def read_factors(location: Path) -> StoredFactors:
    """Read what `Output.finish` wrote.

    Parameters
    ----------
    location : str or path
        Where it is.

    Returns
    -------
    StoredFactors
        The factors, in memory.

    Raises
    ------
    StoreError
        If nothing is there.
    NotAnArrayError
        If it is something else.
    """
    if not store.exists(location):
        partial = store.partial_location(location)
        hint = f"; {describe(partial)!r} is not finished" if store.exists(partial) else ""
        raise StoreError(f"nothing is stored at {describe(location)!r}{hint}")
    attributes = store.read_attributes(location)
    if attributes.get("format") != FORMAT:
        raise NotAnArrayError(f"{describe(location)!r} holds no factors of leptonhpc.recommend")
    arrays = [read_whole(store.join(location, name)) for name in ("user_factors", "item_factors")]
    labels = [read_labels(store.join(location, name)) for name in ("user_labels", "item_labels")]
    return StoredFactors(arrays[0], arrays[1], labels[0], labels[1], attributes)
