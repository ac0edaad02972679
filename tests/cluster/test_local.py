"""`local` gives workers that compute, and leaves nothing behind however it ends."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import leptonhpc as lh
from leptonhpc import cluster as launchers
from leptonhpc.cluster.clients import identities
from leptonhpc.cluster.devices import groups_of_devices
from leptonhpc.cluster.runs import Run, live_runs, new_run, remove_dead_runs
from leptonhpc.errors import OptionError, WorkerError

from .conftest import alive, killable, listening, processes_of, wait_until

STRICT = "leptonhpc.testing.strict_device"
STARTS = {
    "local": 'local(workers=1, memory="300 MB")',
    "mixed": f'mixed([3], "300 MB", workers=1, device="{STRICT}")',
    "cuda": f'cuda([3], "300 MB", device="{STRICT}")',
}
SCRIPT = """
import time
from pathlib import Path
from leptonhpc.cluster import {launcher}
with {start} as client:
    print(Path(client.security.tls_ca_file).parent.name, flush=True)
    time.sleep(600)
"""


def test_a_driver_runs_on_the_workers_and_agrees_with_numpy(
    cluster: tuple[Any, Run], rng: np.random.Generator
) -> None:
    r = _assert_svd_is_numpys(rng.standard_normal((600, 40)))
    assert {d.name for d in r.report.stages[0].placement.devices} == set(identities(cluster[0]))


def _assert_svd_is_numpys(x: np.ndarray) -> lh.SvdResult:
    r = lh.svd(x, rank=5)
    s = np.linalg.svd(x, compute_uv=False)[:5]
    # the Gram matrix squares the condition: sqrt(n) eps |A|^2 / s_k, with 10 for the sums' order
    bound = 10 * np.sqrt(x.shape[1]) * np.finfo(float).eps * s[0] ** 2 / s[-1]
    assert np.abs(r.s - s).max() <= bound
    return r


def test_a_gpus_worker_sees_it_alone_and_each_has_its_memory(cluster: tuple[Any, Run]) -> None:
    def look(dask_worker: Any) -> tuple[Any, ...]:
        names = ("LEPTONHPC_DEVICE", "CUDA_VISIBLE_DEVICES")
        limit = dask_worker.memory_manager.memory_limit
        return dask_worker.name, limit, *(os.environ.get(name) for name in names)

    assert sorted(cluster[0].run(look).values()) == [
        ("cpu-0", 400_000_000, "host", os.environ.get("CUDA_VISIBLE_DEVICES")),
        ("gpu3-0", 400_000_000, "leptonhpc.testing.strict_device", "3"),
    ]


def test_workers_never_spill_and_cannot_be_told_to_by_the_users_configuration(
    cluster: tuple[Any, Run],
) -> None:
    def look(dask_worker: Any) -> tuple[Any, Any]:
        manager = dask_worker.memory_manager
        return manager.memory_target_fraction, manager.memory_spill_fraction

    assert set(cluster[0].run(look).values()) == {(False, False)}


def test_workers_keep_no_profiles_which_grow_beside_what_a_plan_counts(
    cluster: tuple[Any, Run],
) -> None:
    def look(dask_worker: Any) -> list[int]:
        kept = (dask_worker.profile_history, dask_worker.profile_keys_history)
        return [*map(len, kept), len(dask_worker.io_loop.profile)]

    assert list(cluster[0].run(look).values()) == 2 * [[0, 0, 0]]


@pytest.mark.parametrize(
    ("start", "name", "device"),
    [
        (lambda: launchers.local(workers=1, memory="300 MB"), "worker-0", None),
        (lambda: launchers.cuda([3], "300 MB", device=STRICT), "gpu3-0", STRICT),
    ],
    ids=["local", "cuda"],
)
def test_nothing_is_left_after_an_exception(
    start: Callable[[], Any], name: str, device: str | None, runs: Path
) -> None:
    before = set(os.listdir(runs))

    def look(dask_worker: Any) -> tuple[str, str | None]:
        return dask_worker.name, os.environ.get("LEPTONHPC_DEVICE")

    def fail() -> None:
        with start() as client:
            assert list(client.run(look).values()) == [
                (name, device or os.environ.get("LEPTONHPC_DEVICE"))
            ]
            (run,) = [r for r in live_runs() if r.name not in before]
            processes.extend(processes_of(run))
            assert len(listening(processes)) == 3  # scheduler, nanny, worker
            raise ZeroDivisionError

    processes: list[psutil.Process] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(processes) >= 2  # the host and its worker
    assert set(os.listdir(runs)) == before
    wait_until(lambda: not alive(processes), "the host's last child to see that it is gone")
    assert listening(processes) == set()


def test_nothing_is_left_after_sigkill_of_client_host_or_both(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(os.listdir(runs))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    launchers = {"client": "mixed", "host": "cuda", "client and host": "local"}
    with ExitStack() as stack:
        killed = {
            victims: stack.enter_context(
                killable(SCRIPT.format(launcher=launcher, start=STARTS[launcher]))
            )
            for victims, launcher in launchers.items()
        }
        for victims, victim in killed.items():
            victim.wait_until_up()
            # scheduler, nanny, worker; of "mixed" a nanny and a worker more
            assert len(listening(victim.processes)) == (5 if victims == "client" else 3)
            victim.kill(victims)
        for victims, victim in killed.items():
            wait_until(lambda v=victim: not alive(v.processes), f"the end, without {victims}")
            assert listening(victim.processes) == set()
    # where the host was killed too nobody was left to remove the keys: the next start does
    wait_until(lambda: not killed["client"].run.folder.exists(), "the host to remove its folder")
    remove_dead_runs()
    assert set(os.listdir(runs)) == before
    assert os.listdir(tmp_path) == []


def test_keys_are_private_and_nothing_secret_is_on_a_command_line(
    cluster: tuple[Any, Run],
) -> None:
    run = cluster[1]
    assert stat.S_IMODE(run.folder.stat().st_mode) == 0o700
    private = [p for p in run.folder.iterdir() if p.is_file()]
    assert {stat.S_IMODE(p.stat().st_mode) & 0o077 for p in private} == {0}
    keys = [p.read_text().split("\n")[1] for p in private if p.name.endswith("-key.pem")]
    token = json.loads(run.launch_file.read_text())["token"]
    assert len(keys) == 4  # of the authority, the scheduler, workers, the client
    assert len(token) >= 32
    processes = processes_of(run)
    assert len(processes) >= 3
    for process in processes:
        words = " ".join([*process.cmdline(), *process.environ().values()])
        assert not [secret for secret in (*keys, token) if secret in words]


def test_no_process_looks_for_modules_where_others_can_write(cluster: tuple[Any, Run]) -> None:
    # Dask puts a folder of its own first, by default one in /tmp that anybody can have made
    def folders(dask_worker: Any = None, dask_scheduler: Any = None) -> list[Path]:
        import sys

        return [Path(folder).resolve() for folder in sys.path if Path(folder).is_dir()]

    client, run = cluster
    found = [client.run_on_scheduler(folders), *client.run(folders).values()]
    assert len(found) == 3
    for each in found:
        assert each[0].is_relative_to(run.folder.resolve())
        assert [folder for folder in each if folder.stat().st_mode & stat.S_IWOTH] == []


def test_workers_of_a_launcher_have_no_disk_to_spill_to(cluster: tuple[Any, Run]) -> None:
    def may_spill(dask_worker: Any) -> bool:
        return hasattr(dask_worker.data, "slow")

    assert set(cluster[0].run(may_spill).values()) == {False}


def test_a_live_run_is_not_taken_for_a_dead_one(cluster: tuple[Any, Run]) -> None:
    assert remove_dead_runs() == []
    assert cluster[1].folder.is_dir()


def test_runs_that_begin_at_the_same_time_do_not_remove_each_other(runs: Path) -> None:
    def begin(_: int) -> bool:
        run, lock = new_run("local")
        try:
            return (run.folder / "lock").exists() and run in live_runs()
        finally:
            os.close(lock)
            run.remove()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(begin, range(200)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interface": "no-such-interface"}, "no-such-interface"),
        ({"audit": "/no-such-folder/audit"}, "audit log cannot be written.*/no-such-folder"),
    ],
)
def test_a_cluster_that_cannot_start_says_why_and_leaves_nothing(
    options: dict[str, str], message: str, runs: Path
) -> None:
    before = set(os.listdir(runs))
    bad = launchers.Profile("local", (launchers.Group("a"),), **options)
    with pytest.raises(WorkerError, match=message), launchers.from_profile(bad):
        pytest.fail("it started")
    assert set(os.listdir(runs)) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers is a number from 1"),
        ({"memory": "1 MB"}, "100 MB"),
        ({"memory": "much"}, "number of bytes"),
        ({"groups": []}, "one group or more"),
        ({"workers": 1, "groups": [launchers.Group("a")]}, "found both"),
        ({"groups": [launchers.Group("a"), launchers.Group("a")]}, "different names"),
        ({"groups": [launchers.Group("a", device="cudda")]}, "host, .*cuda-tf32.*found 'cudda'"),
        ({"groups": [launchers.Group("a", device="cuda:1")]}, "no module can have this name"),
        ({"groups": [launchers.Group("a", device="zarr")]}, "'zarr': that module has none"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(
    options: dict[str, Any], message: str, runs: Path
) -> None:
    before = set(os.listdir(runs))
    with pytest.raises(OptionError, match=message), launchers.local(**options):
        pytest.fail("it started")
    assert set(os.listdir(runs)) == before


@pytest.mark.parametrize("launcher", [launchers.mixed, launchers.cuda])
def test_no_launcher_of_gpus_starts_without_one(
    launcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OptionError, match="one GPU or more"), launcher():
        pytest.fail("it started")


def test_cuda_starts_a_worker_for_each_gpu_and_no_other() -> None:
    groups = groups_of_devices([0, 3], "400 MB", workers=0, device="cuda")
    assert [(g.name, g.workers, g.device) for g in groups] == [
        ("gpu0", 1, "cuda"), ("gpu3", 1, "cuda"),
    ]  # fmt: skip
    assert [g.environment["CUDA_VISIBLE_DEVICES"] for g in groups] == ["0", "3"]


def test_importing_the_package_loads_neither_dask_nor_cryptography() -> None:
    heavy = {"dask", "distributed", "cryptography"}
    code = f"import sys, leptonhpc.cluster; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
