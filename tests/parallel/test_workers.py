"""The same on a cluster and in processes: the same numbers; what dies is done again elsewhere."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client

import leptonhpc as lh
from leptonhpc.cluster.clients import identities
from leptonhpc.errors import OptionError, WorkerError
from leptonhpc.parallel import aggregate_results as aggregate
from leptonhpc.parallel import distribute_data as distribute
from leptonhpc.parallel import lanes
from leptonhpc.parallel import parallel_process as process

from .faults import die_once, kill, within

# distributed looks for a port with a socket that it leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def estimate(rows: Any, *, rng: np.random.Generator) -> Any:
    return rows.sum(axis=0) + rng.standard_normal(rows.shape[1])


def test_a_cluster_gives_the_bits_that_threads_give(stored: Path, client: Client) -> None:
    parts = distribute(stored, parts=7)
    results = process(estimate, parts, seed=3)
    found = aggregate(results)
    assert set(results.report.where) <= set(identities(client))
    assert results.report.parts == 7
    with client.as_current():
        client.close()
    alone = process(estimate, distribute(stored, parts=7), seed=3, lanes=2)
    assert np.array_equal(found, aggregate(alone))
    assert all(where.startswith("leptonhpc-part") for where in alone.report.where)


def test_both_workers_get_parts_and_values_keep_their_order(client: Client, tmp_path: Path) -> None:
    def meet(i: int) -> int:
        if i < 2:  # each on a worker of its own: a worker has one lane
            (tmp_path / str(i)).touch()
            while not (tmp_path / str(1 - i)).exists():
                time.sleep(0.01)
        return i

    with within(600):
        results = process(meet, range(12))
        assert list(results) == list(range(12))
    assert len(results.report.where) == 2


def test_many_short_parts_do_not_wait_for_the_network(client: Client) -> None:
    assert sum(process(abs, range(200))) == 19900


def test_exceptions_come_back_as_themselves(client: Client) -> None:
    class OddError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    def fail(i: int) -> int:
        if i == 3:
            raise KeyError("no such thing")
        return i

    def fail_oddly(i: int) -> int:
        raise OddError(1, 2)

    with within(600), pytest.raises(KeyError, match="no such thing") as caught:
        list(process(fail, range(8)))
    assert caught.value.__notes__[-1].startswith("in part 3 (item 3), on tcp://")
    assert "in fail" in caught.value.__notes__[-2]
    with within(600), pytest.raises(WorkerError, match="raised OddError: 1 and 2"):
        list(process(fail_oddly, range(8)))
    assert list(process(abs, [-1])) == [1]


def test_what_cannot_be_sent_is_said_before_it_is(client: Client) -> None:
    import threading

    lock = threading.Lock()
    with pytest.raises(OptionError, match="function cannot be sent"):
        list(process(lambda i: lock, [1]))
    with pytest.raises(OptionError, match="item 0 cannot be sent"):
        list(process(abs, [lock]))
    with within(600), pytest.raises(WorkerError, match="gave, a lock, cannot be sent back"):
        list(process(lambda i: __import__("threading").Lock(), [1]))
    with pytest.raises(WorkerError, match=r"has 104 MB, too much.*save the data as Zarr"):
        list(process(np.sum, [np.zeros(13_000_000)]))
    large = np.zeros(2_000_000)  # 16 MB: Dask would warn
    assert list(process(np.sum, [large])) == [0]


def test_linear_algebra_inside_a_part_runs_where_the_part_is(client: Client) -> None:
    def norm(i: int) -> float:
        import leptonhpc

        return float(leptonhpc.norm(i * np.eye(3), memory="300 MB").value)

    with within(600):  # more parts than lanes: if they waited for the cluster they would hang
        found = list(process(norm, range(1, 5)))
    assert np.allclose(found, np.sqrt(3) * np.arange(1, 5), rtol=8 * np.finfo(float).eps)


def test_weighted_parts_go_to_the_worker_that_they_were_cut_for(
    client: Client, stored: Path
) -> None:
    parts = distribute(stored, how="weighted")
    workers = sorted(identities(client))
    assert sorted(part.device or "" for part in parts) == workers

    def where(rows: Any) -> str:
        from distributed import get_worker

        time.sleep(0.3)
        return str(get_worker().address)

    assert list(process(where, parts)) == [part.device for part in parts]


def test_the_data_must_be_where_workers_see_them(client: Client, tmp_path: Path) -> None:
    import shutil

    lh.streams.append(tmp_path / "x.zarr", np.ones((4, 2)))
    parts = distribute(tmp_path / "x.zarr", parts=2)
    shutil.rmtree(tmp_path / "x.zarr")
    with within(600), pytest.raises(WorkerError, match="does not see"):
        list(process(np.sum, parts))


def test_processes_give_the_same_and_a_dead_one_is_replaced(tmp_path: Path) -> None:
    with within(600):
        results = process(lambda i: die_once(str(tmp_path), i), range(6), processes=True, lanes=2)
        assert list(results) == list(range(6))
    assert results.report.lost == 1
    assert set(results.report.where) == {"process 0", "process 1"}


def test_a_part_that_ends_every_process_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "MOST_DEATHS", 2)
    with within(600), pytest.raises(WorkerError, match="item 0 ended its process 2 times"):
        list(process(kill, range(1, 2), processes=True, lanes=1))
