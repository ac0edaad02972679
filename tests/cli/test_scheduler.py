"""--scheduler runs a command on a cluster that somebody started, and leaves it running."""

import json
from collections.abc import Iterator
from typing import Any

import dask
import pytest
from distributed import LocalCluster

import leptonhpc as lh
from leptonhpc.runtime import connected_client


@pytest.fixture
def cluster() -> Iterator[Any]:
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as found:  # fmt: skip
        yield found


def test_scheduler_is_an_address_or_a_file(run_json: Any, folder: Any, cluster: Any) -> None:
    (folder / "scheduler.json").write_text(json.dumps(cluster.scheduler.identity()))
    for place in (f"insecure+{cluster.scheduler_address}", "insecure+scheduler.json"):
        document = run_json("svd", "a.zarr", "--rank", "2", "--scheduler", place)
        assert (document["report"]["workers"], document["report"]["threads"]) == (1, 1)
        bound = document["certificate"]["rounding"]
        assert max(abs(document["s"] - lh.svd("a.zarr", rank=2).s)) <= bound
        assert connected_client() is None
    assert len(cluster.scheduler.workers) == 1


def test_explain_counts_the_cluster(run_json: Any, cluster: Any) -> None:
    address = f"insecure+{cluster.scheduler_address}"
    document = run_json("explain", "norm", "a.zarr", "--scheduler", address)
    assert (document["workers"], document["threads"]) == (1, 1)


def test_a_scheduler_without_encryption_is_refused_unless_asked_for(run: Any, cluster: Any) -> None:
    address = cluster.scheduler_address
    done = run("svd", "a.zarr", "--scheduler", address)
    assert done.exit_code == 2
    assert f"give insecure+{address}" in done.stderr
    assert connected_client() is None


def test_a_scheduler_that_is_not_there_ends_with_1(run: Any) -> None:
    with dask.config.set({"distributed.comm.timeouts.connect": "1 s"}):
        done = run("svd", "a.zarr", "--scheduler", "insecure+tcp://127.0.0.1:1")
    assert done.exit_code == 1
    assert "cannot connect to the scheduler at tcp://127.0.0.1:1" in done.stderr
    assert done.stderr.count("\n") == 1
