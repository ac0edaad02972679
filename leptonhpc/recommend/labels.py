"""Names of users and items: numbered as they come, sorted in the end, kept in Zarr."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.errors import DTypeError, OptionError
from leptonhpc.recommend.stored_sides import read_whole, write_whole
from leptonhpc.store.locations import Location


class LabelTable:
    """Numbers the labels of one side in the order in which they come.

    Parameters
    ----------
    what : str
        "user" or "item", for messages.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._numbers: dict[Any, int] = {}
        self._kind = ""

    def numbers(self, labels: NDArray[Any], first: int) -> NDArray[np.int64]:
        """Give the numbers of labels; new ones get the next.

        Parameters
        ----------
        labels : array of shape (n,), integers or text
            Of the ratings.
        first : int
            Number of the first of these ratings, for the message.

        Returns
        -------
        array of shape (n,), int64
            Their numbers.

        Raises
        ------
        DTypeError
            If they are neither integers nor text, or not of the kind of those before.
        """
        kind = {"i": "integer", "u": "integer", "U": "text", "T": "text"}.get(labels.dtype.kind, "")
        if labels.dtype == np.uint64 and np.any(labels > np.iinfo(np.int64).max):
            kind = ""  # they are kept as int64
        if not kind or kind != (self._kind or kind):
            wanted = f"{self._kind} as before" if self._kind else "integers or text"
            message = (
                f"{self._what} labels are {wanted}; found {labels.dtype} from rating {first} on. "
                "Convert them to one of both"
            )
            raise DTypeError(message)
        self._kind = kind
        distinct, places = np.unique(labels, return_inverse=True)
        numbers = self._numbers
        found = [numbers.setdefault(label, len(numbers)) for label in distinct.tolist()]
        return np.array(found, np.int64)[places]

    def __len__(self) -> int:
        return len(self._numbers)

    def sorted(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Give all labels, ascending, and the place of each number among them.

        Returns
        -------
        tuple of arrays
            (n,) labels, int64 or text; (n,) int64: the place of the label of that number.
        """
        text = self._kind == "text"
        labels = np.array(list(self._numbers), np.str_ if text else np.int64)
        order = np.argsort(labels, kind="stable")
        places = np.empty(len(order), np.int64)
        places[order] = np.arange(len(order))
        return labels[order], places


def write_labels(location: Location, labels: NDArray[Any]) -> None:
    """Write labels: integers as they are, text as UTF-8 of a fixed width.

    Parameters
    ----------
    location : str or path
        Where; nothing may be there.
    labels : array of shape (n,), int64 or text
        What.
    """
    if labels.dtype.kind in "iu":
        write_whole(location, labels.astype(np.int64))
        return
    encoded = np.char.encode(labels.astype(np.str_), "utf-8")
    width = max(1, encoded.dtype.itemsize)
    data = np.frombuffer(encoded.astype(f"S{width}").tobytes(), np.uint8)
    write_whole(location, data.reshape(len(labels), width))


def read_labels(location: Location) -> NDArray[Any] | None:
    """Read labels, or give None where there are none.

    Parameters
    ----------
    location : str or path
        Where.

    Returns
    -------
    array of shape (n,) or None
        int64 or text.
    """
    if not store.exists(location):
        return None
    data = read_whole(location)
    if data.ndim == 1:
        return data
    data = np.ascontiguousarray(data).view(f"S{data.shape[1]}")[:, 0]
    decoded: NDArray[Any] = np.char.decode(data, "utf-8")
    return decoded


def places_of(labels: NDArray[Any] | None, wanted: Any, *, count: int, what: str) -> Any:
    """Find users or items by what the caller calls them.

    Parameters
    ----------
    labels : array of shape (n,) or None
        Ascending; None: they are called by their numbers.
    wanted : label or array of labels
        What to find.
    count : int
        How many there are.
    what : str
        "user" or "item", for the message.

    Returns
    -------
    int64 or array of int64
        Their numbers, of the shape of `wanted`.

    Raises
    ------
    OptionError
        If there is none of such a name; the message has the first.
    """
    asked = np.asarray(wanted)
    if not asked.size:
        return np.zeros(asked.shape, np.int64)
    if labels is None:
        if asked.dtype.kind not in "iu":
            raise OptionError(f"{what}s are called by numbers from 0; found {asked.dtype}")
        numbers, known = asked.astype(np.int64), (asked >= 0) & (asked < count)
    else:
        if (asked.dtype.kind in "iu") != (labels.dtype.kind in "iu"):
            message = f"{what} labels are {labels.dtype}, such as {labels[:1]}; found {asked.dtype}"
            raise OptionError(message)
        numbers = np.minimum(np.searchsorted(labels, asked), count - 1)
        known = labels[numbers] == asked
    if not np.all(known):
        stranger = np.atleast_1d(asked)[~np.atleast_1d(known)][0].item()
        known_by = "partial_fit learns new ones" + (
            "; recommend_new serves them without" if what == "user" else ""
        )
        message = f"there is no {what} {stranger!r} among the {count} there are; {known_by}"
        raise OptionError(message)
    return numbers
