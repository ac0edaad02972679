"""Ctrl-C on a driver that runs on a cluster: all ends, and the same program goes on."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import zarr

import leptonhpc as lh
from leptonhpc.cluster.runs import live_runs

from .conftest import alive, processes_of, wait_until

PROGRAM = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's "&" has ignored
import leptonhpc as lh
from leptonhpc.cluster import local

def wait_for_leave():
    # once two blocks are done, reading goes on when there is a file "go-on"
    import asyncio
    from pathlib import Path
    from zarr.storage import LocalStore

    read, done, go_on = LocalStore.get, Path(r"{done}"), Path(r"{go_on}")

    async def held(self, key, *arguments, **options):
        while key.startswith("c/") and not go_on.exists() and len([*done.rglob("*-*")]) >= 2:
            await asyncio.sleep(0.02)
        return await read(self, key, *arguments, **options)

    LocalStore.get = held

with local(workers=2, memory="400 MB") as client:
    client.run(wait_for_leave)
    report = lh.matmul("a", "a", out="r", memory="220 MB").report
    print(json.dumps([sum(s.resumed_tasks for s in report.stages), report.off_owner]))
"""


def test_ctrl_c_ends_job_and_cluster_and_the_same_program_goes_on(
    tmp_path: Path, runs: Path
) -> None:
    # never written, so no bytes on disk: arithmetic on zeros, in many blocks
    zarr.create_array(tmp_path / "a", shape=(1500, 1500), chunks=(300, 300), dtype="f8")
    done, go_on = tmp_path / "r.partial" / ".leptonhpc" / "done", tmp_path / "go-on"
    program_code = PROGRAM.replace("{done}", str(done)).replace("{go_on}", str(go_on))
    before = set(live_runs())
    with subprocess.Popen(
        [sys.executable, "-c", program_code], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as program:  # fmt: skip
        try:
            wait_until(lambda: len(list(done.rglob("*-*"))) >= 2, "two blocks", seconds=600)
            (run,) = set(live_runs()) - before
            started = processes_of(run)
            assert len(started) >= 3  # the host, and workers
            program.send_signal(signal.SIGINT)
            out, err = program.communicate(timeout=600)
        finally:
            program.kill()
    assert program.returncode == -signal.SIGINT or program.returncode == 1
    assert "KeyboardInterrupt" in err
    assert out == ""
    assert alive(started) == []
    assert not run.folder.exists()
    assert lh.status(tmp_path / "r").state == "stopped"

    kept = len(list(done.rglob("*-*")))
    go_on.touch()
    again = subprocess.run(
        [sys.executable, "-c", program_code], cwd=tmp_path, capture_output=True, text=True,
        check=True, timeout=600,
    )  # fmt: skip
    resumed, off_owner = json.loads(again.stdout)
    assert resumed == kept >= 2
    assert off_owner == 0
    product = np.asarray(lh.load(tmp_path / "r").product)
    assert product.shape == (1500, 1500)
    assert not product.any()
