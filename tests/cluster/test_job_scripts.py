"""What stands in a job's script: what the group says, and nothing that anybody slipped in."""

from pathlib import Path
from typing import Any

import dask
import pytest

from leptonhpc.cluster import Group
from leptonhpc.cluster.runs import RUNS, Run
from leptonhpc.cluster.slurm_environment import group_of_here, require_slurm
from leptonhpc.errors import OptionError

pytest.importorskip("dask_jobqueue")

from leptonhpc.cluster.jobs import WorkerJob

NODE_MB = 100_000


def _directives(group: Group, folder: Path) -> list[str]:
    run = Run(folder / "slurm-0123456789")
    job: Any = WorkerJob("tls://10.0.0.1:1", "a-0", run=run, group=group, prologue=("true",))
    shebang, *lines = job.job_script().strip().splitlines()
    assert shebang == "#!/usr/bin/env bash"
    assert lines[-2] == "true"
    assert lines[-1].startswith("exec ")
    assert all(line.startswith("#SBATCH ") for line in lines[:-2] if line)
    return [line.split(maxsplit=1)[1] for line in lines[:-2] if line]


@pytest.mark.parametrize("name", ["partition", "walltime"])
@pytest.mark.parametrize("word", ["main\ntouch x", "main\n", "a b", "a;b", "$(x)", "", "a\r", 5])
def test_a_word_that_would_be_more_than_a_word_is_refused(name: str, word: Any) -> None:
    with pytest.raises(OptionError, match=f"{name} is of letters"):
        Group("a", **{name: word})


@pytest.mark.parametrize("options", ["--gres=gpu:1", ["-p\nx"], ["-p\rx"], ["x"], [1], ["-\x00"]])
def test_options_are_a_list_of_single_lines(options: Any) -> None:
    with pytest.raises(OptionError, match="options are a list"):
        Group("a", options=options)


def test_what_a_group_does_not_say_is_left_to_slurm(tmp_path: Path) -> None:
    theirs = {
        "queue": "theirs", "walltime": "00:01:00", "account": "theirs", "job-cpu": 7,
        "job-directives-skip": ["--mem"], "job-extra-directives": ["--theirs"], "shebang": "#!x",
    }  # fmt: skip
    with dask.config.set({f"jobqueue.slurm.{name}": value for name, value in theirs.items()}):
        bare = _directives(Group("a", memory="724 MB", threads=3), tmp_path)
        full = _directives(
            Group("a", partition="gpu-a100,main", walltime="1-00:00:00", options=["--gres=gpu:1"]),
            tmp_path,
        )
    logs = f"{tmp_path}/slurm-0123456789/logs/slurm-0123456789-%J"
    assert bare == [
        *("-J slurm-0123456789", f"-e {logs}.err", f"-o {logs}.out"),
        *("-n 1", "--cpus-per-task=3", "--mem=977M"),  # 724 MB and 300 MB are 976.6 MiB
    ]
    assert {"-p gpu-a100,main", "-t 1-00:00:00", "--gres=gpu:1"} <= set(full)


@pytest.mark.parametrize("name", ["my runs", "100%", "a\nb", "a;b", "a$b", "a'b"])
def test_a_folder_of_runs_that_would_break_a_script_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(RUNS, str(tmp_path / "plain_runs-1.x"))
    require_slurm()
    monkeypatch.setenv(RUNS, str(tmp_path / name))
    with pytest.raises(OptionError, match="without blanks"):
        require_slurm()


@pytest.mark.parametrize(
    ("nodes", "tasks", "workers", "of_fullest"),
    [(2, None, None, 1), (2, None, 3, 2), (2, 4, None, 2), (3, 7, None, 3), (1, 5, None, 5)],
)
def test_workers_on_the_fullest_node_have_no_more_than_its_memory(
    monkeypatch: pytest.MonkeyPatch,
    nodes: int,
    tasks: int | None,
    workers: int | None,
    of_fullest: int,
) -> None:
    _allocate(monkeypatch, SLURM_JOB_NUM_NODES=nodes, SLURM_NTASKS=tasks)
    group = group_of_here(workers, None, None)
    assert group.workers == (workers or tasks or 1)
    whole = NODE_MB * 2**20
    # 0.85 of a node is its workers', to a byte of each
    assert 0.85 * whole - of_fullest <= group.nbytes * of_fullest <= 0.85 * whole


def test_an_allocation_of_all_of_a_nodes_memory_does_not_say_how_much_that_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _allocate(monkeypatch, SLURM_MEM_PER_NODE=0)
    with pytest.raises(OptionError, match="does not say its memory"):
        group_of_here(None, None, None)


def _allocate(monkeypatch: pytest.MonkeyPatch, **values: int | None) -> None:
    names = ("SLURM_NTASKS", "SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_CPU", "SLURM_NNODES")
    known = {**dict.fromkeys(names), "SLURM_MEM_PER_NODE": NODE_MB, **values}
    for name, value in known.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, str(value))
