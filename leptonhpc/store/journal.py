"""The journal of a job: what is done, so that the same command goes on after a crash.

It lives in a hidden folder of the unfinished output. One small object marks one finished block;
each stage leaves its small arrays as one object. All are bound to the job's digest (identity of
the inputs, parameters, version), and each is written atomically.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from leptonhpc.errors import JobMismatchError
from leptonhpc.store.locations import (
    Location,
    describe,
    get_object,
    join,
    list_objects,
    put_object,
    resolve,
)

FOLDER = ".leptonhpc"


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

    def begin(self) -> bool:
        """Start the journal, or take up the one that is there.

        Returns
        -------
        bool
            True if this job was begun before.

        Raises
        ------
        JobMismatchError
            If what is there belongs to another job; the message names the difference.
        """
        found = get_object(self._store, self._key("job.json"))
        if found is None:
            put_object(self._store, self._key("job.json"), _json(self.job))
            return False
        other = json.loads(found)
        if other != json.loads(_json(self.job)):
            message = (
                f"{describe(self.output)!r} belongs to another job: "
                f"{'; '.join(_differences(other, json.loads(_json(self.job))))}. Give the same "
                "inputs and parameters to go on with it, overwrite=True to begin again, or "
                "another output"
            )
            raise JobMismatchError(message)
        return True

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
            # a store's own, of a mark that a kill cut short; or of a stage with a longer name
            if name.endswith(".partial") or not name.startswith(f"{prefix}{stage}/"):
                continue
            try:
                entry = json.loads(get_object(self._store, name) or b"{}")
            except ValueError:  # left behind by a kill
                continue
            if entry.get("digest") == self.digest:
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
        buffer = io.BytesIO()
        save: Any = np.savez
        save(buffer, **{key: np.asarray(value) for key, value in arrays.items()})
        put_object(self._store, self._key(f"stages/{name}.npz"), buffer.getvalue())

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
        data = get_object(self._store, self._key(f"stages/{name}.npz"))
        if data is None:
            return None
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {key: file[key] for key in file.files}

    def _key(self, name: str) -> str:
        return f"{self._root}/{name}".lstrip("/")


def digest(job: Mapping[str, Any]) -> str:
    """Give the SHA-256 of a job's description."""
    return hashlib.sha256(_json(job)).hexdigest()


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


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[str]:
    found = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{path}{key}.")
        elif a != b:
            found.append(f"{path}{key} was {a!r}, is {b!r}")
    return found
