"""`parallel_process`: a function on every part, a bounded number at once."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leptonhpc.errors import OptionError, WorkerError
from leptonhpc.parallel.distribute import distribute_data, is_array_or_table
from leptonhpc.parallel.kept import Kept
from leptonhpc.parallel.lanes import ClusterLanes, Lanes, ProcessLanes, ThreadLanes, paths_of
from leptonhpc.parallel.parts import Part, Parts
from leptonhpc.parallel.work import Outcome, Work
from leptonhpc.runtime import connected_client
from leptonhpc.runtime.cores import usable_cores
from leptonhpc.runtime.progress import choose_progress

_OF_LANE = 4
"""Parts that are begun and not handed out, for each lane."""


@dataclass
class ProcessReport:
    """What a call took, up to now."""

    parts: int = 0
    """Done by this call."""
    kept: int = 0
    """Found done, in `out`."""
    lost: int = 0
    """Parts that were lost with a worker or process, and done again."""
    seconds: float = 0.0
    """From the first part to the last."""
    where: dict[str, int] = field(default_factory=dict)
    """How many parts each worker, process or thread did."""


class Results(Iterator[Any]):
    """Values of parts as they are worked on: in the order of the parts, or as they come.

    Nothing runs before the first is asked for. `close`, or the end of a ``with`` block, stops it.

    Parameters
    ----------
    parts : iterable of Part
        What to do.
    open_lanes : callable
        Gives what works on them; it gets the first part.
    kept : Kept or None
        Where values are kept.
    in_flight : int or None
        Most parts that are begun and not handed out.
    progress : bool or None
        Show a bar.
    """

    def __init__(
        self,
        parts: Iterable[Part],
        open_lanes: Callable[[Part], Lanes],
        *,
        kept: Kept | None,
        in_flight: int | None,
        progress: bool | None,
    ) -> None:
        self._parts, self._open_lanes, self._kept = parts, open_lanes, kept
        self._in_flight, self._progress = in_flight, progress
        self._waiting: dict[int, Any] = {}
        """Values that came before those of earlier parts."""
        self._running = self._run()
        self._ordered = self._in_order()
        self.report = ProcessReport()

    def __iter__(self) -> Results:
        return self

    def __next__(self) -> Any:
        return next(self._ordered)

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def as_completed(self) -> Iterator[tuple[int, Any]]:
        """Give the number and value of each part when it is done, whatever the order.

        Yields
        ------
        tuple of (int, object)
            Each part once.

        Raises
        ------
        OptionError
            If values were already taken in order.
        """
        if self.report.parts or self.report.kept or self._waiting:
            raise OptionError("as_completed is for results of which none was taken yet")
        yield from self._running

    def close(self) -> None:
        """Stop: what runs is waited for or let go, what is not begun never begins."""
        self._ordered.close()
        self._running.close()

    def _in_order(self) -> Generator[Any, None, None]:
        following = 0
        for number, value in self._running:
            self._waiting[number] = value
            while following in self._waiting:
                yield self._waiting.pop(following)
                following += 1

    def _run(self) -> Generator[tuple[int, Any], None, None]:
        """Keep as many parts begun as may be; give what is done."""
        parts, flying = iter(self._parts), dict[int, Part]()
        sizes = getattr(self._parts, "sizes", None)
        progress = choose_progress(self._progress if sizes else False, "parallel_process")
        progress.begin("parts", len(sizes or ()))
        lanes: Lanes | None = None
        began = time.perf_counter()
        try:
            while True:
                while len(flying) + len(self._waiting) < self._most(lanes):
                    part = next(parts, None)
                    if part is None:
                        break
                    found = self._kept.load(part) if self._kept is not None else None
                    if found is not None:
                        self.report.kept += 1
                        progress.advance()
                        yield part.number, found[0]
                        continue
                    lanes = lanes or self._open_lanes(part)
                    flying[part.number] = part
                    lanes.send(part)
                if lanes is None or not flying:
                    return
                # what succeeded is kept before an error ends it
                for outcome in sorted(lanes.receive(), key=lambda each: each.error is not None):
                    value = self._value(flying.pop(outcome.number), outcome)
                    self.report.lost = lanes.deaths
                    self.report.seconds = time.perf_counter() - began
                    progress.advance()
                    yield outcome.number, value
        finally:
            progress.close()
            if lanes is not None:
                lanes.close()

    def _most(self, lanes: Lanes | None) -> int:
        if self._in_flight is not None:
            return self._in_flight
        return _OF_LANE * lanes.lanes if lanes is not None else 1

    def _value(self, part: Part, outcome: Outcome) -> Any:
        if outcome.error is not None:
            error = outcome.error
            if isinstance(error, StopIteration):  # would end the caller's loop
                error = WorkerError(
                    "the function raised StopIteration, which would end the loop over the results; "
                    "give next() a default"
                )
                error.__cause__ = outcome.error
            error.add_note(f"in part {part.number} ({part.name}), on {outcome.where}")
            raise error
        if self._kept is not None:
            self._kept.save(part, outcome.value)
        self.report.parts += 1
        self.report.where[outcome.where] = self.report.where.get(outcome.where, 0) + 1
        return outcome.value


def parallel_process(
    function: Callable[..., Any],
    parts: Any,
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    version: str | None = None,
    seed: int | None = None,
    in_flight: int | None = None,
    lanes: int | None = None,
    processes: bool = False,
    progress: bool | None = None,
) -> Results:
    """Run a function on every part: on the connected cluster, or on threads of this process.

    Parameters
    ----------
    function : callable
        Gets the values of a part: rows as NumPy array, a DataFrame, a list of items; with `seed`
        also ``rng=``, a `numpy.random.Generator` of its own.
    parts : Parts or iterable
        Of `distribute_data`; or any iterable, each of whose items is a part; or an array or table,
        which is cut as `distribute_data` does it by default.
    out : str or path, optional
        Folder or URL that keeps the value of each part (pickled) as soon as it is done. The same
        call again does only the parts that are not there.
    overwrite : bool
        Begin again with what is in `out`.
    version : str, optional
        With `out`: what counts in place of the function's code and what that refers to, where these
        cannot be told from others, or change without meaning. Change it when results change.
    seed : int, optional
        The random numbers of a part depend on this and its number, on nothing else.
    in_flight : int, optional
        Most parts that are begun and whose values are not taken yet: what bounds the memory.
        Default: four for each lane.
    lanes : int, optional
        Threads or processes; default: as many as cores. A cluster's lanes are its threads.
    processes : bool
        Without a cluster: processes, for functions of pure Python, which threads do one at a time.
    progress : bool, optional
        Show a bar; default: where somebody looks.

    Returns
    -------
    Results
        An iterator over the values in the order of the parts; `Results.as_completed` gives them as
        they come, `Results.report` tells what was done where.

    Raises
    ------
    OptionError
        If a keyword has no possible value, the function cannot be sent, or with `out` refers to
        what cannot be told from another (a generator, a socket) and no `version` is given.
    JobMismatchError
        If `out` holds the values of another function, seed or data.
    WorkerError
        If a part ends every worker that takes it, or the cluster has none left.

    Notes
    -----
    An exception of the function comes back as itself (but StopIteration, which would end your loop,
    as a WorkerError), with a note that names the part; the parts
    that were done stay in `out`. A worker that dies is not waited for: its parts are done
    elsewhere, so a function may run twice for a part, but gives one value. What `leptonhpc` does
    inside a function runs in that worker's process. In a script, `processes` (like every use of
    processes in Python) needs ``if __name__ == "__main__":``.

    Examples
    --------
    >>> import leptonhpc as lh
    >>> def inside(points, *, rng):
    ...     x, y = rng.random((2, points))
    ...     return int((x * x + y * y < 1).sum())
    >>> hits = lh.parallel.parallel_process(inside, [10_000] * 8, seed=1)
    >>> round(4 * lh.parallel.aggregate_results(hits) / 80_000, 2)
    3.14
    """
    _require_options(function, seed, in_flight, lanes)
    if version is not None and (out is None or not isinstance(version, str)):
        raise OptionError(f"version is a text, for results that out= keeps; found {version!r}")
    work = Work(function, seed)
    kept = Kept(out, work, overwrite=overwrite, version=version) if out is not None else None
    if is_array_or_table(parts):
        parts = distribute_data(parts)
    if not isinstance(parts, Parts):
        parts = _parts_of_items(parts)
    open_lanes = functools.partial(_open_lanes, work, lanes, processes)
    return Results(parts, open_lanes, kept=kept, in_flight=in_flight, progress=progress)


def _open_lanes(work: Work, lanes: int | None, processes: bool, first: Part) -> Lanes:
    client = connected_client()
    if client is not None and not processes:
        return ClusterLanes(client, work, paths_of(first))
    count = lanes if lanes is not None else usable_cores()
    return ProcessLanes(work, count) if processes else ThreadLanes(work, count)


def _parts_of_items(items: Any) -> Parts:
    """Make each item a part."""
    if not isinstance(items, Iterable):
        raise OptionError(f"parts are an iterable, or what distribute_data gives; found {items!r}")
    made = (
        item if isinstance(item, Part) and item.number == number
        else Part(number, item, f"item {number}")
        for number, item in enumerate(items)
    )  # fmt: skip
    return Parts(made, (1,) * len(items) if isinstance(items, Sized) else None)


def _require_options(
    function: Any, seed: int | None, in_flight: int | None, lanes: int | None
) -> None:
    if not callable(function):
        raise OptionError(f"function is what is called with each part; found {function!r}")
    for name, value, least in (("seed", seed, 0), ("in_flight", in_flight, 1), ("lanes", lanes, 1)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if value is not None and not (whole and least <= value < 2**63):
            raise OptionError(f"{name} is a whole number from {least}; found {value!r}")
