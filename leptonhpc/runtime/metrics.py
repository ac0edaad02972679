"""Metrics for Prometheus, at ``/metrics`` of Dask's scheduler and of its workers.

A job's series carry the id of its run; those of jobs that ended are dropped after five minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from leptonhpc.runtime.execute import Totals, totals
from leptonhpc.runtime.memory import resident_nbytes

if TYPE_CHECKING:
    from leptonhpc.runtime.board import Board, Posted

JOB_GAUGES = {
    "leptonhpc_job_running": "1 while the job runs, 0 when it has ended.",
    "leptonhpc_job_failed": "1 if the job ended by an error, or with its client.",
    "leptonhpc_job_elapsed_seconds": "Since the job began.",
    "leptonhpc_job_left_seconds": "Predicted to be left, by the plan and the speed up to now.",
    "leptonhpc_job_planned_seconds": "Predicted for the whole job before it ran.",
}
STAGE_GAUGES = {
    "leptonhpc_stage_tasks": "Tasks of the stage that runs.",
    "leptonhpc_stage_tasks_done": "Of these, those that are done.",
}
DEVICE_GAUGES = {
    "leptonhpc_device_busy_lanes": "Lanes of the device that have a task of the job.",
    "leptonhpc_device_memory_bytes": "Resident memory of the device's process after its last task.",
    "leptonhpc_device_flops_ratio": "The device's share of the job's flops up to now.",
}
DEVICE_COUNTERS = {
    "leptonhpc_device_tasks": "Tasks of the job that the device did.",
    "leptonhpc_device_busy_seconds": "In tasks, of all its lanes.",
    "leptonhpc_device_read_bytes": "Bytes that its tasks read, decoded.",
    "leptonhpc_device_written_bytes": "Bytes that its tasks wrote, before they are encoded.",
}
WORKER_COUNTERS = {
    "leptonhpc_worker_tasks": "Tasks that this worker did, of all jobs.",
    "leptonhpc_worker_task_seconds": "In tasks, of all its lanes.",
    "leptonhpc_worker_read_wait_seconds": "Of these, waiting for what was read.",
    "leptonhpc_worker_write_seconds": "Of these, writing.",
    "leptonhpc_worker_read_bytes": "Bytes that its tasks read, decoded.",
}


class BoardCollector:
    """Gives the jobs of a board as metrics.

    Parameters
    ----------
    board : Board
        The scheduler's.
    """

    def __init__(self, board: Board) -> None:
        self.board = board

    def collect(self) -> Iterator[Metric]:
        """Give all series, as prometheus_client asks for them.

        Yields
        ------
        Metric
            One family.
        """
        labels = ["job", "driver"]
        jobs = {k: GaugeMetricFamily(k, v, labels=labels) for k, v in JOB_GAUGES.items()}
        labels = ["job", "driver", "stage"]
        stages = {k: GaugeMetricFamily(k, v, labels=labels) for k, v in STAGE_GAUGES.items()}
        labels = ["job", "device"]
        devices: dict[str, Any] = {
            **{k: GaugeMetricFamily(k, v, labels=labels) for k, v in DEVICE_GAUGES.items()},
            **{k: CounterMetricFamily(k, v, labels=labels) for k, v in DEVICE_COUNTERS.items()},
        }
        for job in self.board.recent():
            _add(jobs, _of_job(job), [job.facts["run"], job.facts["driver"]])
            stage = job.facts["stage"]
            if stage is not None:
                values = (job.facts["tasks"], job.facts["done"])
                where = [job.facts["run"], job.facts["driver"], stage]
                _add(stages, dict(zip(STAGE_GAUGES, values, strict=True)), where)
            for device in job.facts["devices"]:
                _add(devices, _of_device(device), [job.facts["run"], device["name"]])
        yield from (*jobs.values(), *stages.values(), *devices.values())


class WorkerCollector:
    """Gives what the tasks of this process did as metrics."""

    def collect(self) -> Iterator[Metric]:
        """Give all series, as prometheus_client asks for them.

        Yields
        ------
        Metric
            One family.
        """
        for (name, words), value in zip(WORKER_COUNTERS.items(), _values(totals()), strict=True):
            yield CounterMetricFamily(name, words, value=value)
        words = "Resident memory of this process."
        yield GaugeMetricFamily("leptonhpc_worker_memory_bytes", words, value=resident_nbytes())


_boards: list[BoardCollector] = []
_workers: list[WorkerCollector] = []


def show_board(board: Board) -> None:
    """Have a board in the metrics of this process, in place of the one before.

    Parameters
    ----------
    board : Board
        The scheduler's.
    """
    if _boards:
        _boards[0].board = board
        return
    _boards.append(BoardCollector(board))
    REGISTRY.register(_boards[0])


def show_worker() -> None:
    """Have what tasks do in the metrics of this process."""
    if not _workers:
        _workers.append(WorkerCollector())
        REGISTRY.register(_workers[0])


def _add(families: dict[str, Any], values: dict[str, float | None], labels: list[str]) -> None:
    for name, value in values.items():
        if value is not None:
            families[name].add_metric(labels, value)


def _of_job(job: Posted) -> dict[str, float | None]:
    facts, running = job.facts, job.state == "running"
    values = (
        float(running), float(job.state in ("failed", "lost")), facts["seconds"],
        facts["left_seconds"] if running else 0.0, facts["planned_seconds"],
    )  # fmt: skip
    return dict(zip(JOB_GAUGES, values, strict=True))


def _of_device(device: dict[str, Any]) -> dict[str, float | None]:
    gauges = (device["busy_lanes"], device["memory_nbytes"], device["share"])
    counters = (
        device["tasks"], device["busy_seconds"], device["read_nbytes"], device["write_nbytes"],
    )  # fmt: skip
    return {
        **dict(zip(DEVICE_GAUGES, gauges, strict=True)),
        **dict(zip(DEVICE_COUNTERS, counters, strict=True)),
    }


def _values(done: Totals) -> tuple[float, ...]:
    return (
        done.tasks, done.seconds, done.read_seconds, done.write_seconds, float(done.read_nbytes),
    )  # fmt: skip
