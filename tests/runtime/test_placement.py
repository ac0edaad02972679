"""Tasks run where they were placed, by the workers' own account, whatever the driver."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster

import leptonhpc as lh
from leptonhpc.runtime import dispatch
from leptonhpc.runtime.record import Record
from leptonhpc.testing import put

PLANNING = "DASK_ARRAY__QUERY_PLANNING"
DRIVERS: dict[str, dict[str, Any]] = {
    "svd": {"rank": 3, "method": "gram"},
    "matmul": {},
    "norm": {},
    "cholesky": {},
    "lu": {},
    "solve": {},
    "inv": {},
    "slogdet": {},
    "eigh": {"k": 3},
    "matrix_rank": {},
    "cond": {},
    "pinv": {},
    "polar": {},
    "cg": {"tol": 1e-2},
    "lsmr": {"tol": 1e-2},
    "qr": {},
    "lstsq": {},
    "nmf": {"rank": 3, "most_sweeps": 4, "tol": 0.5},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a positive definite matrix, a tall one, and sides for both."""
    place = tmp_path_factory.mktemp("placed")
    rng = np.random.default_rng(0)
    a = rng.standard_normal((400, 400))
    put((a + a.T) / 60 + 3 * np.eye(400), place / "a", chunks=(64, 64))
    put(rng.standard_normal((3000, 60)), place / "tall", chunks=(128, 60))
    put(rng.standard_normal((400, 2)), place / "b", chunks=(64, 2))
    put(rng.standard_normal((3000, 2)), place / "tallb", chunks=(128, 2))
    put(rng.random((3000, 60)), place / "counts", chunks=(128, 60))
    return place


def arrays_of(driver: str, folder: Path) -> list[Path]:
    if driver in ("lstsq", "lsmr"):
        return [folder / "tall", folder / "tallb"]
    if driver in ("solve", "cg"):
        return [folder / "a", folder / "b"]
    if driver == "matmul":
        return [folder / "a", folder / "a"]
    if driver == "nmf":
        return [folder / "counts"]
    tall = driver in ("svd", "norm", "qr", "matrix_rank", "cond", "pinv", "polar")
    return [folder / ("tall" if tall else "a")]


def test_every_driver_is_tried() -> None:
    from leptonhpc.api import planned

    assert set(DRIVERS) == set(planned._DRIVERS)


@pytest.mark.usefixtures("nobody_is_late")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_drivers_tasks_ran_where_they_were_placed(
    driver: str, folder: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_placed(driver, folder, client, monkeypatch)


def require_placed(
    driver: str, folder: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run a driver; compare what was sent with what the workers' logs say they executed."""
    import dask.array as da

    da.zeros(2)  # Dask looks at its configuration now, if it did not before
    assert bool(da.ARRAY_EXPR_ENABLED) is (os.environ.get(PLANNING) == "True")
    owners: dict[str, str] = {}
    sent = Record.sent

    def sending(self: Any, key: str, address: str, lane: int) -> None:
        owners[f"{self._stage.name}/{key}".replace(" ", "-")] = address
        sent(self, key, address, lane)

    monkeypatch.setattr(Record, "sent", sending)
    before = {key for log in client.run(executed).values() for key in log}
    result = getattr(lh, driver)(*arrays_of(driver, folder), memory="250 MB", **DRIVERS[driver])
    report = result.report
    assert report.off_owner == 0
    ran: dict[str, str] = {}
    for address, log in client.run(executed).items():
        for key in log:
            name = None if key in before else stage_and_task(key, owners)
            if name is not None:
                ran[name] = address
    assert ran == owners
    placements = [stage.placement for stage in report.stages if stage.placement is not None]
    assert sum(d.tasks for p in placements for d in p.devices) == len(owners)
    assert all(p.simulated_seconds > 0 for p in placements)
    assert report.simulated_seconds == pytest.approx(sum(p.simulated_seconds for p in placements))
    assert "0 tasks ran off their owner" in str(report)


def test_work_that_nobody_else_can_have_is_not_dealt_again(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "is_uneven", lambda *_: True)
    monkeypatch.setattr(dispatch, "LOOK_SECONDS", 0.001)
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, memory_limit=0,
            dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0",
        ) as alone,
        Client(alone),
    ):  # fmt: skip
        report = lh.norm(stored, memory="250 MB").report
    assert [stage.placement.dealt_again for stage in report.stages] == [0]


def executed(dask_worker: Any) -> list[str]:
    """Give the keys that a worker executed, from its log of transitions."""
    return [entry[0] for entry in dask_worker.state.log if entry[2:3] == ("executing",)]


def stage_and_task(key: str, owners: dict[str, str]) -> str | None:
    """Find which task a key is of: kernel-job-stage-number-task-generation."""
    sent, _, _generation = key.replace(" ", "-").rpartition("-")
    for name in owners:
        stage, _, task = name.partition("/")
        if re.search(rf"-{re.escape(stage)}-\d+-{re.escape(task)}$", sent):
            return name
    return None


def test_tasks_ran_where_they_were_placed_with_query_planning_too(
    folder: Path, client: Client
) -> None:
    """Dask looks at that once a process: every driver again, for a client of its own."""
    assert not os.environ.get(PLANNING)
    assert not any(client.run(has_arrays_of_dask).values())  # to whom it makes no difference
    done = subprocess.run(
        [sys.executable, __file__, str(folder)],
        env={**os.environ, PLANNING: "True", "DASK_SCHEDULER_ADDRESS": client.scheduler.address},
        text=True, capture_output=True, timeout=3000, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == list(DRIVERS)


def has_arrays_of_dask() -> bool:
    return "dask.array" in sys.modules


def try_all(folder: Path) -> None:
    """Try every driver on the cluster that Dask's configuration names, and print which."""
    fixtures = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
    with Client() as client:
        for driver in DRIVERS:
            with pytest.MonkeyPatch.context() as monkeypatch:
                fixtures["let_nobody_be_late"](monkeypatch)
                require_placed(driver, folder, client, monkeypatch)
            print(driver)


if __name__ == "__main__":
    try_all(Path(sys.argv[1]))
