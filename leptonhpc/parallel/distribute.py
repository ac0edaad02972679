"""`distribute_data`: arrays, tables and iterables cut into parts."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from leptonhpc.api import open as open_array
from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import MemoryBudgetError, OptionError, ShapeError
from leptonhpc.parallel.cutting import Indices, cut_ranges, deal_round_robin, split_by_part
from leptonhpc.parallel.hashing import parts_of_keys
from leptonhpc.parallel.parts import Part, Parts, Rows
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.runtime import cluster_machine, resources_of

How = Literal["range", "round_robin", "hash", "weighted"]
Key = str | int | Callable[[Any], Any] | Sequence[Any] | None

_PARTS_OF_LANE = 4
"""So that lanes of unlike speed end at about the same time."""
_COPIES = 4
"""Of a part that is read: the next one, and two that the function makes."""


def distribute_data(
    data: Any,
    *,
    how: How = "range",
    parts: int | None = None,
    size: int | None = None,
    key: Key = None,
    weights: Sequence[float] | None = None,
    memory: int | float | str | None = None,
) -> Parts:
    """Cut data into parts; nothing is read yet of an array that is stored.

    Parameters
    ----------
    data : array, table or iterable
        What `leptonhpc.open` takes (a path, or an array of NumPy, Zarr, Dask or xarray): rows are
        cut along the first dimension. A pandas DataFrame: its rows. A list, tuple or range (of
        dictionaries, say): its items. Any other iterable: a stream, taken `size` items at a time.
    how : {"range", "round_robin", "hash", "weighted"}
        Contiguous parts of equal size; or one after the other to each part in turn (of a stored
        array, the rows of a chunk stay together); or all that have the same `key` together; or
        contiguous parts in proportion to `weights`.
    parts : int, optional
        How many; default: four for each lane of the cluster or core of this machine, more where
        memory is short, and whole chunks; with "weighted" one for each weight.
    size : int, optional
        Instead of `parts`: rows or items of a part, contiguous.
    key : str, int, callable or sequence, optional
        For "hash": the column of a table or the entry of each item; or a function of an item; or
        one label for each row or item. A stored array needs labels.
    weights : sequence of float, optional
        For "weighted"; default: the measured speeds of the workers (`leptonhpc.probe`), and each
        part then prefers its worker.
    memory : int, float, str or None
        Budget of each worker, such as "2 GB": four times a part of each of its lanes fits.

    Returns
    -------
    Parts
        In their order, numbered from 0. There may be empty ones.

    Raises
    ------
    OptionError
        If the keywords do not fit together or the data.
    ShapeError
        If there is not one label for each row.
    MemoryBudgetError
        If not even one row fits.

    Notes
    -----
    Hashes are BLAKE2 of the keys' values: the same key goes to the same of n parts in every process
    and on every machine. Where rows of a part are strewn over a stored array, each of its chunks
    is read once for each part that has a row in it.

    Examples
    --------
    >>> import leptonhpc as lh
    >>> people = [{"name": n, "age": a} for n, a in [("Ada", 36), ("Emmy", 53), ("Ada", 7)]]
    >>> for part in lh.parallel.distribute_data(people, how="hash", key="name", parts=2):
    ...     print(part.name, [person["age"] for person in part.data])
    part 0 of 2 by hash [36, 7]
    part 1 of 2 by hash [53]
    """
    _require_options(how, parts, size, key, weights)
    if is_stream(data):
        return _of_stream(data, how, size)
    cut = _Cut(data, memory)
    if how == "hash":
        number = _least(cut, parts)
        owner = parts_of_keys(_keys(cut, key), number)
        return cut.parts(split_by_part(owner, number), [f"part {{0}} of {number} by hash"] * number)
    if how == "round_robin":
        number = _least(cut, parts)
        names = [f"part {{0}} of {number}, dealt in turn"] * number
        return cut.parts(deal_round_robin(cut.count, number, unit=cut.unit), names)
    if how == "weighted":
        chosen, devices = (weights, None) if weights is not None else _speeds()
        if parts is not None and parts != len(chosen):
            message = f"parts={parts} and {len(chosen)} weights do not fit: leave out parts="
            raise OptionError(message)
        return cut.parts(cut_ranges(cut.count, chosen, unit=cut.unit), devices=devices)
    if size is not None:
        starts = range(0, cut.count, size)
        return cut.parts([range(a, min(a + size, cut.count)) for a in starts])
    return cut.parts(cut_ranges(cut.count, [1.0] * _least(cut, parts), unit=cut.unit))


def is_stream(data: Any) -> bool:
    """Say whether data can only be gone through, and their end is not known.

    Parameters
    ----------
    data : object
        Anything.

    Returns
    -------
    bool
        True for generators, files, sets, and other iterables without places.
    """
    return (
        isinstance(data, Iterable)
        and not isinstance(data, Sequence | str | os.PathLike | Mapping | BlockedArray)
        and not hasattr(data, "shape")
    )


def is_array_or_table(data: Any) -> bool:
    """Say whether data are rows that should not be taken one by one.

    Parameters
    ----------
    data : object
        Anything.

    Returns
    -------
    bool
        True for what `distribute_data` cuts by rows.
    """
    return isinstance(data, str | os.PathLike | BlockedArray) or hasattr(data, "shape")


class _Cut:
    """Data with places: how many rows or items, and how to take some of them."""

    def __init__(self, data: Any, memory: int | float | str | None) -> None:
        if advice := _advice(data):
            kind = f"{type(data).__module__.partition('.')[0]} {type(data).__name__}"
            raise OptionError(f"tables are DataFrames of pandas; found {kind}: {advice}")
        if isinstance(data, Mapping):
            raise OptionError("a mapping has no order to be cut by: give list(data.items())")
        self.data, self.unit, self.row_nbytes, self.name = data, 1, 0, ""
        self.noun = "items"
        if hasattr(data, "iloc"):
            self.noun, self.count = "rows", len(data)
        elif is_array_or_table(data):
            array = open_array(data)
            if not array.ndim:
                raise ShapeError(f"{array.name} has no dimension to be cut along")
            self.data, self.noun, self.count = array, "rows", array.shape[0]
            self.unit = max(1, array.source.unit[0])
            self.row_nbytes = array.nbytes // max(1, self.count)
            self.name = f" of {array.name!r}"
        elif isinstance(data, Sequence):
            self.count = len(data)
        else:
            raise OptionError(f"data are an array, a table or an iterable; found {data!r}")
        self.memory = memory

    def take(self, indices: Indices) -> Any:
        if isinstance(self.data, BlockedArray):
            return Rows(self.data, indices)
        if isinstance(indices, range):
            rows = slice(indices.start, indices.stop)
            return self.data.iloc[rows] if hasattr(self.data, "iloc") else self.data[rows]
        if hasattr(self.data, "iloc"):
            return self.data.iloc[indices]
        return [self.data[i] for i in indices.tolist()]

    def parts(
        self,
        indices: Sequence[Indices],
        names: Sequence[str] | None = None,
        devices: Sequence[str] | None = None,
    ) -> Parts:
        made = []
        for number, rows in enumerate(indices):
            name = names[number].format(number) if names else self._name_of(rows)
            device = devices[number] if devices else None
            made.append(Part(number, self.take(rows), name + self.name, len(rows), device))
        return Parts(made, tuple(map(len, indices)))

    def _name_of(self, rows: Indices) -> str:
        if not len(rows):
            return f"no {self.noun}"
        return f"{self.noun} {rows[0]} to {rows[-1]}"


def _advice(data: Any) -> str:
    """Say what to give in place of a table of another library."""
    if hasattr(data, "data_vars"):
        return "give one of its variables"
    if hasattr(data, "npartitions") and hasattr(data, "iloc"):
        return "give what its compute() gives, or a list of files that the function reads"
    another = hasattr(data, "to_pandas") and not hasattr(data, "dims")
    return "give what its to_pandas() gives" if another else ""


def _least(cut: _Cut, parts: int | None) -> int:
    """Choose how many parts: for each lane a few, and each small enough."""
    if parts is not None:
        return parts
    resources = resources_of(parse_nbytes(cut.memory))
    units = max(1, -(-cut.count // cut.unit))
    wanted = _PARTS_OF_LANE * resources.cores
    wanted = units if units <= 2 * wanted else wanted  # one or two chunks each would be uneven
    room = resources.arrays_nbytes // (_COPIES * resources.threads)
    if not cut.row_nbytes:
        return wanted
    if cut.row_nbytes > room:
        least = _COPIES * resources.threads * cut.row_nbytes
        least += resources.memory_nbytes - resources.arrays_nbytes
        message = (
            f"a row{cut.name} has {cut.row_nbytes} bytes, of which {_COPIES * resources.threads} "
            f"must fit into a worker: that needs at least memory='{-(-least // 10**6)} MB'"
        )
        raise MemoryBudgetError(message)
    rows = max(room // cut.row_nbytes // cut.unit * cut.unit, 1)  # whole chunks, if one fits
    return max(wanted, -(-cut.count // rows))


def _speeds() -> tuple[list[float], list[str] | None]:
    """Give the speed of each worker, and its address; of this machine, each core is as fast."""
    machine = cluster_machine()
    if machine is None:
        return [1.0] * resources_of(None).cores, None
    devices = machine.devices
    return [d.cores * d.rates.gemm_flops for d in devices], [d.name for d in devices]


def _keys(cut: _Cut, key: Key) -> Iterable[Any]:
    data = cut.data
    if isinstance(key, str | int):
        if isinstance(data, BlockedArray):
            message = f"rows{cut.name} are hashed by labels, one for each; found key={key!r}"
            raise OptionError(message)
        try:
            return list(data[key] if hasattr(data, "iloc") else (item[key] for item in data))
        except (KeyError, IndexError, TypeError) as error:
            raise OptionError(f"not every row or item has {key!r}: {error!r}") from error
    if callable(key):
        if isinstance(data, BlockedArray):
            message = f"rows{cut.name} are hashed by labels, one for each, not by a function"
            raise OptionError(message)
        rows = data.to_dict("records") if hasattr(data, "iloc") else data
        return [key(row) for row in rows]
    labels = np.asarray(key) if isinstance(key, np.ndarray) else list(key or ())
    if len(labels) != cut.count:
        message = f"key has {len(labels)} labels for {cut.count} {cut.noun}{cut.name}"
        raise ShapeError(message)
    return labels


def _of_stream(data: Iterable[Any], how: str, size: int | None) -> Parts:
    if how != "range" or size is None:
        message = (
            f"an iterable whose end is not known ({type(data).__name__}) is taken in order, with "
            f"size= items at a time; found how={how!r}, size={size}. Or cut list(data)"
        )
        raise OptionError(message)
    return Parts(_batches(data, size), None)


def _batches(data: Iterable[Any], size: int) -> Iterator[Part]:
    left = iter(data)
    for number in itertools.count():
        items = list(itertools.islice(left, size))
        if not items:
            return
        first = number * size
        yield Part(number, items, f"items {first} to {first + len(items) - 1}", len(items))


def _require_options(
    how: str,
    parts: int | None,
    size: int | None,
    key: Key,
    weights: Sequence[float] | None,
) -> None:
    if how not in get_args(How):
        raise OptionError(f"how is one of {', '.join(get_args(How))}; found {how!r}")
    for name, value in (("parts", parts), ("size", size)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if value is not None and not (whole and value >= 1):
            raise OptionError(f"{name} is a whole number from 1; found {value!r}")
    if size is not None and (how != "range" or parts is not None):
        raise OptionError("size= is for how='range', instead of parts=")
    if (key is None) == (how == "hash"):
        raise OptionError("key= is for how='hash', which needs it")
    if weights is not None and how != "weighted":
        raise OptionError(f"weights= is for how='weighted'; found how={how!r}")
