"""A server that is lost at any moment is made again, or said to be lost in one error."""

from collections.abc import Iterator
from typing import Any

import pytest
from distributed import Client, LocalCluster

from leptonhpc.cluster import gangs_free
from leptonhpc.cluster.gangs import GangLimits
from leptonhpc.cluster.gangs_free import run_freely
from leptonhpc.cluster.gangs_ranks import Seat
from leptonhpc.errors import WorkerError

# distributed looks for a port with a socket that it leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

RUNNING_UNTIL_THE_MODULE_ENDS = True


class Adder:
    """A server that adds what it is given."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, number: int) -> int:
        self.total += number
        return self.total

    def leave(self, name: str) -> None:
        pass

    def progress(self) -> int:
        return self.total

    def outcome(self) -> int:
        return self.total


def add_one(seat: Seat, call: gangs_free.Call, name: str) -> int:
    return int(call("add", 1))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0",
            protocol="tcp", host="127.0.0.1", worker_dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as connected,
    ):  # fmt: skip
        yield connected


def _lose(self: Any) -> None:
    self.client.cancel([self.actor])


def test_what_is_lost_once_it_was_made_is_made_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_started, lost = gangs_free._Free._is_started, []

    def lose_once(self: Any) -> bool:
        started = is_started(self)
        if started and not lost:
            lost.append(_lose(self))
        return started

    monkeypatch.setattr(gangs_free._Free, "_is_started", lose_once)
    found = run_freely(client, Adder, add_one)
    assert (found.value, found.restarts) == (1, 1)


@pytest.mark.parametrize("moment", ["_is_started", "_begin_missing", "_watch"])
def test_a_server_that_is_always_lost_is_one_error(
    moment: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = getattr(gangs_free._Free, moment)

    def lose(self: Any) -> Any:
        done = act(self)
        if done is not False:
            _lose(self)
        return done

    monkeypatch.setattr(gangs_free._Free, moment, lose)
    limits = GangLimits(max_restarts=1, timeout=5.0)
    with pytest.raises(WorkerError, match="the server was lost 2 times; max_restarts=1"):
        run_freely(client, Adder, add_one, limits=limits, hear=lambda told: None)


def _refuse() -> Adder:
    raise FileNotFoundError("no checkpoint")


def test_what_the_making_of_a_server_raised_is_raised_as_it_was(client: Client) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        run_freely(client, _refuse, add_one)
