"""The journal of a job: what is done, so that the same command goes on after a crash.

It lives in a hidden folder of the unfinished output. One small object marks one finished block;
each stage leaves its small arrays as one object. All are bound to the job's digest (identity of
the inputs, parameters, version), and each is written atomically.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from leptonhpc.errors import JobMismatchError, LeptonError
from leptonhpc.store.locations import FOLDER as FOLDER
from leptonhpc.store.locations import Location, describe, exists, join, resolve
from leptonhpc.store.objects import (
    get_object,
    list_objects,
    put_object,
    put_written,
    remove_object,
)

_TASKS = "tasks of this part"


class Journal:
    """Marks and stage results of one job, beside its unfinished output.

    Parameters
    ----------
    output : str or path
        The unfinished output.
    job : mapping
        JSON-serialisable description of the job: input identity, parameters, version.
    """

    def __init__(self, output: Location, job: Mapping[str, Any]) -> None:
        self.output = output
        self.job = dict(job)
        self.digest = digest(job)
        self._store, self._root = resolve(join(output, FOLDER))
        self.check: Callable[[], None] = _no_check
        """Refuses to go on where somebody else has the output by now."""

    def begin(self) -> bool:
        """Start the journal, or take up the one that is there.

        Returns
        -------
        bool
            True if this job was begun before.

        Raises
        ------
        JobMismatchError
            If what is there belongs to another job, of which the message names the difference, or
            to one that nobody can tell.
        """
        found = get_object(self._store, self._key("job.json"))
        if found is None:
            put_object(self._store, self._key("job.json"), _json(self.job))
            return False
        other = self._parsed(found)
        if other != json.loads(_json(self.job)):
            message = (
                f"{describe(self.output)!r} belongs to another job: "
                f"{'; '.join(differences(other, json.loads(_json(self.job))))}. Give the same "
                "inputs and parameters to go on with it, overwrite=True to begin again, or "
                "another output"
            )
            raise JobMismatchError(message)
        return True

    def _parsed(self, found: bytes) -> dict[str, Any]:
        with contextlib.suppress(ValueError):
            other = json.loads(found)
            if isinstance(other, dict):
                return other
        message = (
            f"the journal in {describe(self.output)!r} does not say any more which job it is of, "
            "as after a loss of power. overwrite=True begins again, and leptonhpc clean removes it"
        )
        raise JobMismatchError(message)

    def mark(self, task: str, result: Mapping[str, Any]) -> None:
        """Note that a task's block is written, with the numbers that the task gave.

        Parameters
        ----------
        task : str
            The task's name.
        result : mapping of str to number or array
            Its accumulator.
        """
        plain = {key: _encoded(value) for key, value in result.items()}
        data = _json({"digest": self.digest, "result": plain})
        put_object(self._store, self._key(f"done/{task}"), data)

    def done(self, stage: str) -> dict[str, dict[str, Any]]:
        """Give the tasks of a stage whose blocks are written, with their numbers.

        Parameters
        ----------
        stage : str
            What their names begin with, before a slash.

        Returns
        -------
        dict of str to dict
            Accumulators by the tasks' names.
        """
        prefix = self._key("done/")
        marks = {}
        for name in list_objects(self._store, prefix + stage):
            if not name.startswith(f"{prefix}{stage}/"):  # of a stage with a longer name
                continue
            try:
                entry = json.loads(get_object(self._store, name) or b"{}")
            except ValueError:  # left behind by a kill
                continue
            if isinstance(entry, dict) and entry.get("digest") == self.digest:
                result = {key: _decoded(value) for key, value in entry["result"].items()}
                marks[name.removeprefix(prefix)] = result
        return marks

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the place and the job; the other side opens it."""
        return Journal, (self.output, self.job)

    def save_stage(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Keep the small arrays that a stage gave.

        Parameters
        ----------
        name : str
            The stage.
        arrays : mapping of str to array
            Small host arrays or scalars.
        """
        self._save(f"stages/{name}.npz", arrays)
        remove_object(self._store, self._key(f"parts/{name}.npz"))

    def load_stage(self, name: str) -> dict[str, Any] | None:
        """Give back what `save_stage` kept, or None.

        Parameters
        ----------
        name : str
            The stage.

        Returns
        -------
        dict or None
            The arrays by name.
        """
        return self._load(f"stages/{name}.npz")

    def save_part(self, name: str, arrays: Mapping[str, Any], tasks: Sequence[str]) -> None:
        """Keep what a stage has summed up to now, in one object with what it is the sum of.

        Parameters
        ----------
        name : str
            The stage, which goes on; `save_stage` replaces this.
        arrays : mapping of str to array
            The sum.
        tasks : sequence of str
            Keys of the tasks that are in it.
        """
        self._save(f"parts/{name}.npz", {**arrays, _TASKS: np.asarray(tasks)})

    def load_part(self, name: str) -> tuple[dict[str, Any], list[str]] | None:
        """Give back what `save_part` kept, or None.

        Parameters
        ----------
        name : str
            The stage.

        Returns
        -------
        tuple of (dict, list of str) or None
            The sum, and the keys of the tasks that are in it.
        """
        found = self._load(f"parts/{name}.npz")
        if found is None:
            return None
        tasks = found.pop(_TASKS).tolist()
        return found, tasks

    def note(self, name: str, facts: Mapping[str, Any]) -> None:
        """Leave facts for whoever asks how far the job is.

        Parameters
        ----------
        name : str
            Which facts: `plan` (of the whole job) or `now` (of the stage that runs).
        facts : mapping
            JSON-serialisable.
        """
        put_object(self._store, self._key(f"{name}.json"), _json(facts))

    def note_end(self, facts: Mapping[str, Any]) -> None:
        """Note as facts of `now` that the job ended; on a full disk, or the like, remove the last.

        Parameters
        ----------
        facts : mapping
            JSON-serialisable.
        """
        try:
            self.note("now", {**facts, "ended": True})
        except (LeptonError, OSError):
            with contextlib.suppress(LeptonError, OSError):
                remove_object(self._store, self._key("now.json"))

    def _save(self, name: str, arrays: Mapping[str, Any]) -> None:
        plain = {key: np.asarray(value) for key, value in arrays.items()}
        save: Any = np.savez
        put_written(self._store, self._key(name), lambda file: save(file, **plain))

    def _load(self, name: str) -> dict[str, Any] | None:
        data = get_object(self._store, self._key(name))
        if data is None:
            return None
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except (ValueError, EOFError, zipfile.BadZipFile):  # cut short as a machine lost its power
            return None

    def _key(self, name: str) -> str:
        return f"{self._root}/{name}".lstrip("/")


def read_note(output: Location, name: str) -> dict[str, Any]:
    """Read facts from the journal of an unfinished output.

    Parameters
    ----------
    output : str or path
        The unfinished output.
    name : str
        Which facts: `job`, `plan` or `now`.

    Returns
    -------
    dict
        The facts; empty if there are none.
    """
    if not exists(join(output, FOLDER)):
        return {}
    store, root = resolve(join(output, FOLDER), read_only=True)
    try:
        found = json.loads(get_object(store, f"{root}/{name}.json".lstrip("/")) or b"{}")
    except ValueError:  # cut short by a kill, on a file system without atomic renames
        return {}
    return found if isinstance(found, dict) else {}


def finished_stages(output: Location) -> list[str]:
    """Give the names of the stages that the journal of an unfinished output has whole."""
    store, root = resolve(join(output, FOLDER), read_only=True)
    prefix = f"{root}/stages/".lstrip("/")
    keys = (key for key in list_objects(store, prefix) if key.endswith(".npz"))
    return sorted(key.removeprefix(prefix).removesuffix(".npz") for key in keys)


def digest(job: Mapping[str, Any]) -> str:
    """Give the SHA-256 of a job's description."""
    return hashlib.sha256(_json(job)).hexdigest()


def _no_check() -> None:
    """Let all pass: who has no lease cannot lose it."""


def _encoded(value: Any) -> Any:
    """Write a small array as JSON can hold it, bit for bit."""
    if not isinstance(value, np.ndarray):
        return value
    data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
    return {"dtype": value.dtype.str, "shape": value.shape, "data": data}


def _decoded(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    flat = np.frombuffer(base64.b64decode(value["data"]), value["dtype"])
    return flat.reshape(value["shape"]).copy()


def _json(job: Mapping[str, Any]) -> bytes:
    return json.dumps(job, sort_keys=True, default=str).encode()


def differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[str]:
    """Say what differs between two jobs, one line for each value; of inputs last."""
    found = []
    for key in sorted({*old, *new}, key=lambda name: (not path and name == "inputs", name)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{path}{key}.")
        elif a != b:
            found.append(f"{path}{key} was {a!r}, is {b!r}")
    return found
