"""One rank of a gang: a seat in a torch process group, on a Dask worker."""

from __future__ import annotations

import contextlib
import dis
import gc
import ipaddress
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any

import psutil

from leptonhpc.errors import LeptonError, OptionError, WorkerError

_LOOK_SECONDS = 0.01
_asked: set[str] = set()
"""Gangs whose rank 0, in this process, was asked to end so that a larger one can begin."""


class Regroup(Exception):  # noqa: N818  (no error: a way to leave)
    """Raised by all ranks together, when what they did is stored: others join, and all go on."""


class Abandoned(LeptonError, RuntimeError):  # noqa: N818
    """Nobody waits for this rank any more: its client left, or another rank failed."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a rank is in its gang, and how it talks with who started it."""

    rank: int = 0
    world: int = 1
    attempt: int = 0
    """How many times the gang was begun before."""
    threads: int = 0
    """Cores of this rank; 0: as many as the process may use."""
    tell: Callable[[Mapping[str, Any]], None] = lambda what: None
    """Gives something small, as JSON has it, to `hear` of who started the gang."""
    is_regroup_asked: Callable[[], bool] = lambda: False
    """On rank 0: whether more workers came."""
    is_wanted: Callable[[], bool] = lambda: True
    """Whether somebody still waits for what this rank does."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the supervisor tells a rank."""

    job: str
    rank: int
    world: int
    attempt: int
    address: str
    """Of the worker."""
    start_seconds: float
    timeout: float
    """Seconds that a collective may take."""

    @property
    def topic(self) -> str:
        """Where the gang's ranks tell things."""
        return topic_of(self.job)


def topic_of(job: str) -> str:
    """Name the topic of a gang's events."""
    return f"leptonhpc-gang-{job}"


def ask_to_regroup(job: str) -> None:
    """Ask, in the process of rank 0, for an end at the next step."""
    _asked.add(job)


def require_private(addresses: Iterable[str], *, insecure: bool) -> None:
    """Refuse to send over a network what Dask would have encrypted, unless that was asked for.

    Parameters
    ----------
    addresses : iterable of str
        Of workers.
    insecure : bool
        Whether it was asked for.

    Raises
    ------
    OptionError
        If a worker of a cluster with TLS listens on another interface than loopback.
    """
    tls = [address for address in addresses if address.startswith("tls://")]
    open_to_others = [address for address in tls if not _is_loopback(_host(address))]
    if open_to_others and not insecure:
        message = (
            "torch's collectives are neither encrypted nor authenticated, and worker "
            f"{open_to_others[0]} of this cluster with TLS is on a network. Pass insecure=True if "
            "everybody on that network may read and change gradients and parameters; or use "
            "strategy='async', which is encrypted"
        )
        raise OptionError(message)


def run_rank(
    place: Place,
    rendezvous: tuple[str, int] | None,
    main: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> tuple[str, Any]:
    """Take a seat, and do what the gang does.

    Parameters
    ----------
    place : Place
        Which seat.
    rendezvous : tuple of (host, port) or None
        Where the ranks meet; None: here, for rank 0.
    main : callable
        Called with a `Seat` and the arguments.
    arguments : tuple
        More of its arguments.

    Returns
    -------
    tuple of (str, object)
        "done" and what `main` gave; "regroup"; or "peers" and what was said, if other ranks went.

    Raises
    ------
    WorkerError
        If torch is missing here.
    Exception
        What `main` raised of itself; for SystemExit a WorkerError.
    """
    dist = _distributed_torch(place.address)
    _asked.discard(place.job)
    seat, host = _seat(place), _host(place.address)
    _choose_interface(host)
    try:
        with contextlib.ExitStack() as stack:
            if rendezvous is None:
                server = stack.enter_context(_meeting_place(host, place))
                rendezvous = host, server.port
                seat.tell({"rendezvous": list(rendezvous), "attempt": place.attempt})
            store = _joined(rendezvous, place, seat)
            stack.enter_context(_process_group(store, place))
            return "done", main(seat, *arguments)
    except Regroup:
        return "regroup", None
    except SystemExit as error:  # which would end the worker
        message = f"what rank {place.rank} ran called sys.exit({error.code!r})"
        raise WorkerError(message) from error
    except RuntimeError as error:
        of_torch = isinstance(error, dist.DistError) or _is_of_peers(str(error))
        if isinstance(error, LeptonError) or not of_torch or _is_raised_by_user(error):
            raise
        return "peers", str(error)


def _distributed_torch(address: str) -> Any:
    try:
        import torch._dynamo  # the first optimiser imports it, for seconds: before ranks wait
        import torch.distributed
    except ImportError as error:
        message = (
            f"training needs torch on each worker; worker {address} has none ({error}). Install "
            "leptonhpc[train] there"
        )
        raise WorkerError(message) from error
    return torch.distributed


def _seat(place: Place) -> Seat:
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def tell(what: Mapping[str, Any]) -> None:
        worker.log_event(place.topic, dict(what))

    def is_wanted() -> bool:
        # a task that was cancelled, or whose client is gone, runs on without Dask knowing it
        task = worker.state.tasks.get(key)
        return task is not None and task.state in ("executing", "long-running")

    return Seat(
        place.rank, place.world, place.attempt, worker.state.nthreads, tell,
        lambda: place.job in _asked, is_wanted,
    )  # fmt: skip


def _host(address: str) -> str:
    return address.rpartition("://")[2].rpartition(":")[0].strip("[]")


def _choose_interface(host: str) -> None:
    """Let torch talk where the worker talks, and nowhere else."""
    wanted = _ip_address(host)
    if wanted is None:
        raise OptionError(f"a rank needs its worker's IP address; found {host!r}")
    for name, addresses in psutil.net_if_addrs().items():
        # all of 127.0.0.0/8 is on the loopback interface, which lists one of them
        if any(
            _ip_address(a.address) == wanted or (wanted.is_loopback and _is_loopback(a.address))
            for a in addresses
        ):
            os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = name
            return
    message = (
        f"no interface of this machine has the address of its worker, {host}: torch would choose "
        "one by itself. Start the worker with the address that it listens on"
    )
    raise OptionError(message)


def _ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:  # a name, or an address of hardware
        return None


def _is_loopback(host: str) -> bool:
    address = _ip_address(host)
    return address is not None and address.is_loopback


@contextlib.contextmanager
def _meeting_place(host: str, place: Place) -> Iterator[Any]:
    """Serve the store where ranks meet, on the worker's own interface alone."""
    dist: Any = import_module("torch.distributed")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, 0), family=family)
    port = listening.getsockname()[1]
    yield dist.TCPStore(
        host, port, is_master=True, wait_for_workers=False,
        timeout=timedelta(seconds=place.start_seconds), master_listen_fd=listening.detach(),
    )  # fmt: skip


def _joined(rendezvous: tuple[str, int], place: Place, seat: Seat) -> Any:
    """Wait until each rank has its slot and has imported what it needs."""
    dist: Any = import_module("torch.distributed")
    store = dist.TCPStore(
        *rendezvous, is_master=False, timeout=timedelta(seconds=place.start_seconds)
    )
    store.add("ready", 1)
    deadline = time.monotonic() + place.start_seconds
    while (ready := store.add("ready", 0)) < place.world:
        if not seat.is_wanted():
            raise Abandoned("the gang was given up before all its ranks had started")
        if time.monotonic() > deadline:
            message = f"{place.world} ranks were to start in {place.start_seconds:g} seconds; "
            raise dist.DistStoreError(message + f"{ready} did")
        time.sleep(_LOOK_SECONDS)
    return store


@contextlib.contextmanager
def _process_group(store: Any, place: Place) -> Iterator[None]:
    """Make the default group; when it ends, its sockets close and all others know at once."""
    import torch

    dist: Any = import_module("torch.distributed")
    store.set(f"device/{place.rank}", "cuda" if torch.cuda.is_available() else "cpu")
    found = {store.get(f"device/{rank}") for rank in range(place.world)}
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if found == {b"cuda"} else "gloo",
        store=dist.PrefixStore("group", store), rank=place.rank, world_size=place.world,
        timeout=timedelta(seconds=place.timeout),
    )  # fmt: skip
    group, failed = dist.group.WORLD, False
    try:
        yield
    except BaseException as error:
        failed = True
        _clear_frames(error)
        if group is not None:
            with contextlib.suppress(RuntimeError):  # what cannot be aborted ends below
                group.abort()
        raise
    finally:
        dist.destroy_process_group()
        if failed:
            del group
            gc.collect()


def _clear_frames(error: BaseException | None) -> None:
    """Let go what functions that failed had: a model keeps its groups, and these their sockets.

    As long as those are open other ranks wait, and their workers with them.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _is_raised_by_user(error: BaseException) -> bool:
    """Whether a ``raise`` outside torch and this package made it, whatever its text says."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    frame = trace.tb_frame
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    is_raised = dis.opname[frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"
    return is_raised and package not in ("torch", "leptonhpc")


def _is_of_peers(said: str) -> bool:
    """Whether torch says that other ranks went."""
    return any(word in said for word in ("gloo/", "NCCL", "closed by peer", "Timed out waiting"))
