"""What the scheduler shows of jobs: metrics for Prometheus, and a page on the dashboard."""

import io
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster
from matplotlib.image import imread
from prometheus_client.parser import text_string_to_metric_families

import leptonhpc as lh
from leptonhpc.cluster.clients import identities
from leptonhpc.errors import NonFiniteError
from leptonhpc.runtime.board import Board
from leptonhpc.runtime.metrics import BoardCollector
from leptonhpc.runtime.plan_page import _tables, _words

from .browser import picture_of


@pytest.fixture
def done(client: Client, stored: Path, nobody_is_late: None) -> Any:
    """Give the report of a job that ran on the cluster."""
    return lh.svd(stored, rank=5, method="krylov", memory="1 GB", accuracy=1e-2).report


def scrape(port: int) -> dict[str, list[Any]]:
    """Give the samples of a server by name, as Prometheus reads them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=120) as answer:
        text = answer.read().decode()
    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def of_latest(samples: list[Any]) -> list[Any]:
    latest = samples[-1].labels["job"]
    return [sample for sample in samples if sample.labels["job"] == latest]


def test_the_scheduler_tells_prometheus_of_jobs_and_devices(
    done: Any, cluster: LocalCluster
) -> None:
    found = scrape(cluster.scheduler.http_server.port)
    running, failed = found["leptonhpc_job_running"][-1], found["leptonhpc_job_failed"][-1]
    assert (running.value, failed.value, running.labels["driver"]) == (0, 0, "svd")
    assert found["leptonhpc_job_planned_seconds"][-1].value == done.predicted_seconds
    assert 0 < found["leptonhpc_job_elapsed_seconds"][-1].value <= done.seconds
    tasks = of_latest(found["leptonhpc_device_tasks_total"])
    assert {s.labels["device"]: s.value for s in tasks} == {
        d.name: d.tasks for d in done.by_device()
    }
    read = of_latest(found["leptonhpc_device_read_bytes_total"])
    assert sum(s.value for s in read) == done.read_nbytes
    written = of_latest(found["leptonhpc_device_written_bytes_total"])
    assert sum(s.value for s in written) == done.write_nbytes
    shares = of_latest(found["leptonhpc_device_flops_ratio"])
    assert sum(s.value for s in shares) == pytest.approx(1.0, rel=4 * np.finfo(float).eps)
    for sample in of_latest(found["leptonhpc_device_memory_bytes"]):
        # the kernel counts pages of each core by and by: two looks differ by some
        assert 50e6 < sample.value <= done.peak_nbytes + 1e6


def test_workers_tell_prometheus_of_their_tasks(done: Any, client: Client) -> None:
    totals = {}
    for address, worker in identities(client).items():
        found = scrape(worker["services"]["dashboard"])
        totals[address] = found["leptonhpc_worker_tasks_total"][0].value
        assert found["leptonhpc_worker_task_seconds_total"][0].value > 0
        assert found["leptonhpc_worker_memory_bytes"][0].value > 50e6
    # of all jobs that this process did
    assert all(totals[device.name] >= device.tasks for device in done.by_device())


def test_a_job_that_fails_is_shown_as_failed(
    client: Client, cluster: LocalCluster, tmp_path: Path
) -> None:
    import zarr

    array = zarr.create_array(tmp_path / "x", shape=(100, 10), dtype="f8", chunks=(10, 10))
    array[...] = np.nan
    with pytest.raises(NonFiniteError):
        lh.svd(tmp_path / "x", rank=2, memory="1 GB")
    assert scrape(cluster.scheduler.http_server.port)["leptonhpc_job_failed"][-1].value == 1


def test_the_board_keeps_the_latest_jobs_and_shows_one_that_runs() -> None:
    board = Board()
    assert board.latest() is None
    for number in range(30):
        board.post({"run": f"r{number}"}, "running" if number == 25 else "done")
    latest = board.latest()
    assert latest is not None
    assert (len(board.jobs), latest.facts["run"]) == (20, "r25")
    board.post({"run": "r25"}, "done")
    assert board.latest() is board.jobs["r25"]
    board.jobs["r20"].at_seconds = time.monotonic() - 3600
    assert {job.facts["run"] for job in board.recent()} == set(board.jobs) - {"r20"}


def test_a_job_that_is_not_told_of_any_more_is_lost() -> None:
    board = Board()
    facts = {"run": "dead", "driver": "svd", "seconds": 1.0, "left_seconds": 5.0}
    board.post({**facts, "planned_seconds": 6.0, "stage": None, "devices": []}, "running")
    board.jobs["dead"].at_seconds -= 31
    board.post({"run": "new"}, "done")
    latest = board.latest()
    assert latest is not None
    assert (latest.facts["run"], board.jobs["dead"].state) == ("new", "lost")
    del board.jobs["new"]
    assert "Nothing is heard of it" in _words(board)
    samples = {m.name: m.samples for m in BoardCollector(board).collect()}
    names = ("leptonhpc_job_running", "leptonhpc_job_failed", "leptonhpc_job_left_seconds")
    assert [samples[name][0].value for name in names] == [0, 1, 0]
    board.jobs["dead"].at_seconds -= 300
    assert board.recent() == []


def test_the_page_of_the_plan_is_drawn_by_a_browser(
    done: Any, cluster: LocalCluster, tmp_path: Path
) -> None:
    address = f"http://127.0.0.1:{cluster.scheduler.http_server.port}/leptonhpc"
    board = cluster.scheduler.plugins[Board.name]
    assert '<span style="color: #4c78a8">&#9632;</span> pass' in _tables(board)
    drawn = "window.Bokeh && Bokeh.documents.length > 0 && Bokeh.documents[0].is_idle"
    page = picture_of(address, drawn=drawn, profile=tmp_path / "profile")
    (tmp_path / "page.png").write_bytes(page)
    picture = imread(io.BytesIO(page))[..., :3]
    # the first colour of the timeline, #4c78a8, fills the bars of the passes
    blue = np.abs(picture - np.array([0x4C, 0x78, 0xA8]) / 255).max(axis=2) < 0.02
    assert blue.sum() > 500
