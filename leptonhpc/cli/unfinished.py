"""Files of a command: all whole or none there, and what a second run of it goes on from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonhpc.api.left import COMMAND_MARK, LOCK, folder_of, mark_of

if TYPE_CHECKING:
    import xarray

_DOCUMENT, _FILES = "document.json", "files"
_BOOKKEEPING = {COMMAND_MARK, LOCK, _FILES, ".leptonhpc"}


class Unfinished:
    """A folder ``PREFIX.unfinished``, in which a command works until its files are whole.

    Parameters
    ----------
    prefix : str
        What the files' names begin with.
    endings : sequence of str
        What comes after it, of those that are known beforehand: refused if they are there.
    overwrite : bool
        Begin anew, and replace files that are there.

    Raises
    ------
    OutputExistsError
        If a file is there, or the folder is something else.
    """

    def __init__(self, prefix: str, endings: Sequence[str], *, overwrite: bool) -> None:
        self.prefix = prefix
        self.folder = folder_of(prefix)
        self.files = self.folder / _FILES
        self.goes_on = False
        self._journal: Any = None
        self._anew = overwrite
        if self.folder.exists():
            self._require_own()
        # who allowed it as the command began allows it as it goes on
        self.overwrite = overwrite or bool(mark_of(self.folder).get("overwrite"))
        if not self.is_written:
            self._refuse([f"{Path(prefix).name}.{ending}" for ending in endings])

    @property
    def is_written(self) -> bool:
        """Whether an earlier run had written everything, and was stopped as it gave it names."""
        return not self._anew and (self.folder / _DOCUMENT).exists()

    def begin(self, inputs: Mapping[str, Any], question: Mapping[str, Any]) -> None:
        """Bind the folder to what is asked; take up what the same command left.

        Parameters
        ----------
        inputs : mapping
            What is read, as JSON can hold it.
        question : mapping
            What is asked of it.

        Raises
        ------
        JobMismatchError
            If another command left the folder.
        """
        import leptonhpc
        from leptonhpc.store import Journal
        from leptonhpc.store.standing import this_process

        if self._anew:
            self._empty()
            self._anew = False
        self.files.mkdir(parents=True, exist_ok=True)
        mark = {"overwrite": self.overwrite, "process": this_process()}
        _write(self.folder / COMMAND_MARK, json.dumps(mark))
        job = {
            "inputs": dict(inputs), "parameters": dict(question), "version": leptonhpc.__version__,
        }  # fmt: skip
        self._journal = Journal(self.folder, job)
        self.goes_on = self._journal.begin()

    def dataset(self, name: str, make: Callable[[Path], xarray.Dataset]) -> xarray.Dataset:
        """Make a dataset at a place, or give what an earlier run made there."""
        import xarray as xr

        place = self.folder / f"{name}.zarr"
        return xr.open_zarr(place) if place.exists() else make(place)

    def array(self, name: str, make: Callable[[Path], Any]) -> Any:
        """Make a Zarr array at a place; give what is there, or an earlier run made, in memory."""
        import numpy as np

        import leptonhpc as lh

        place = self.folder / f"{name}.zarr"
        if not place.exists():
            make(place)
        return np.asarray(lh.open(place))

    def numbers(self, name: str, make: Callable[[], Any]) -> Any:
        """Make a small array, or give what an earlier run kept under the name."""
        kept = self._journal.load_stage(name)
        if kept is None:
            kept = {"values": make()}
            self._journal.save_stage(name, kept)
        return kept["values"]

    def text(self, write: Callable[..., list[Path]], result: Any) -> list[Path]:
        """Write text files beside the intermediate results."""
        return write(result, self.files / Path(self.prefix).name, overwrite=True)

    def picture(self, axes: Any, ending: str) -> Path:
        """Draw a picture beside the intermediate results."""
        path = self.files / f"{Path(self.prefix).name}.{ending}"
        axes.figure.savefig(path)
        return path

    def seal(self, document: Mapping[str, Any]) -> None:
        """Note that all files are written, and what is to be said of them."""
        _write(self.folder / _DOCUMENT, json.dumps(document))

    def publish(self) -> dict[str, Any]:
        """Give the files their names, one after another, and remove the folder.

        Returns
        -------
        dict
            What was sealed.

        Raises
        ------
        OutputExistsError
            If somebody else made a file of that name meanwhile.
        """
        document: dict[str, Any] = json.loads((self.folder / _DOCUMENT).read_text())
        names = [Path(name).name for name in document["files"]]
        there = [name for name in names if (self.files / name).exists()]
        self._refuse(there)
        for name in there:  # those that are gone have their names already
            os.replace(self.files / name, Path(self.prefix).parent / name)
        self._remove()
        return document

    def give_up(self) -> None:
        """Remove the folder if nothing is in it that a second run could go on from."""
        if self.folder.exists() and {path.name for path in self.folder.iterdir()} <= _BOOKKEEPING:
            self._remove()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only process that works in the folder; a lock ends with its process."""
        import fcntl

        from leptonhpc.errors import OutputExistsError

        self.folder.mkdir(parents=True, exist_ok=True)
        place = self.folder / LOCK
        with place.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # one that ended meanwhile took the folder away with the file that is locked here
                if not os.path.samestat(os.fstat(file.fileno()), os.stat(place)):
                    raise FileNotFoundError(str(place))
            except OSError as error:
                message = f"{str(self.folder)!r} is worked in by another process; wait for it"
                raise OutputExistsError(f"{message}, or choose another output") from error
            yield

    def _require_own(self) -> None:
        """Refuse a folder that is not of a command."""
        from leptonhpc.errors import OutputExistsError

        names = {path.name for path in self.folder.iterdir()} - {LOCK}
        if names and COMMAND_MARK not in names:
            message = f"{str(self.folder)!r}, where the output would be made, is something else"
            raise OutputExistsError(f"{message}; move it, or choose another output")

    def _empty(self) -> None:
        """Remove all but the lock; what says whose it is goes last, if this is killed meanwhile."""
        last = [_DOCUMENT, COMMAND_MARK]
        for path in sorted(
            self.folder.iterdir(), key=lambda p: (p.name in last, p.name == COMMAND_MARK)
        ):
            if path.name == LOCK:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _remove(self) -> None:
        self._empty()
        shutil.rmtree(self.folder)

    def _refuse(self, names: Sequence[str]) -> None:
        from leptonhpc.cli.running import refuse_existing

        if not self.overwrite:
            for name in names:
                refuse_existing(Path(self.prefix).parent / name)


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)
