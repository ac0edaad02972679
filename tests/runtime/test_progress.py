"""Progress: a bar where somebody looks or asks, else not a byte."""

import io
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from rich.console import Console

import leptonhpc as lh
from leptonhpc.runtime.progress import Silent, TerminalProgress, choose_progress


def svd(stored: Path, **more: Any) -> None:
    lh.svd(stored, rank=5, method="gram", memory="1 GB", **more)


def test_progress_is_silent_where_nobody_looks(
    stored: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    svd(stored)
    svd(stored, progress=False)
    assert capfd.readouterr() == ("", "")
    assert isinstance(choose_progress(None, "svd"), Silent)


def test_progress_is_shown_when_asked_for(stored: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lh.matmul(lh.open(stored).H, lh.open(stored), memory="1 GB", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "matmul multiply" in err
    assert re.search(r"(\d+)/\1", err), err


def test_progress_of_a_cluster_counts_all_tasks(
    stored: Path, client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    svd(stored, progress=True)
    _, err = capfd.readouterr()
    assert re.search(r"svd gram\s.*\b([1-9]\d*)/\1\b", err), err


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = choose_progress(None, "svd")
    assert isinstance(bar, TerminalProgress)
    bar.begin("gram", 2)
    bar.advance(2)
    bar.close()
    assert isinstance(bar.console, Console)


def test_a_terminal_shows_what_each_device_does_and_what_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = {
        "name": "tls://node1:4711", "doing": "fold t12", "busy_lanes": 2, "tasks": 1234,
        "share": 0.52, "memory_nbytes": 210_000_000, "read_bytes_per_second": 4.1e8,
        "write_bytes_per_second": 0.0,
    }  # fmt: skip
    facts = {
        "stage": "pass-1", "seconds": 12.0, "left_seconds": 180.0, "planned_seconds": 90.0,
        "devices": [device, {**device, "name": "b", "doing": None, "memory_nbytes": None}],
        "device_count": 40,
    }  # fmt: skip
    bar = TerminalProgress("svd", lambda: facts)
    bar.begin("pass-1", 4)
    bar.advance(3)
    paper = Console(file=io.StringIO(), width=110)
    paper.print(bar._drawn())
    narrow = Console(file=io.StringIO(), width=72)
    narrow.print(bar._drawn())
    bar.close()
    shown = paper.file.getvalue()  # type: ignore[attr-defined]
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "3/4" in lines[0]
    assert lines[1] == "12 s, about 3 min 0 s left (planned 90 s)"
    assert lines[2] == "device does lanes tasks share memory reads writes"
    assert lines[3] == "node1:4711 fold t12 2 1,234 52% 210 MB 410 MB/s 0 B/s"
    assert lines[4] == "b waits 2 1,234 52% 410 MB/s 0 B/s"
    assert lines[5] == "and 38 more"
    row = narrow.file.getvalue().splitlines()[3].split()  # type: ignore[attr-defined]
    assert row[-8:] == ["1,234", "52%", "210", "MB", "410", "MB/s", "0", "B/s"]


def test_of_many_stages_the_last_ones_stay(capfd: pytest.CaptureFixture[str]) -> None:
    bar = TerminalProgress("svd")
    for number in range(30):
        bar.begin(f"pass-{number}", 1)
        bar.advance()
    bar.close()
    _, err = capfd.readouterr()
    assert re.findall(r"pass-\d+", err) == [f"pass-{n}" for n in range(22, 30)]


def test_a_notebook_has_a_bar_without_widgets(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []

    class Handle:
        def update(self, bar: Any) -> None:
            drawn.append(bar._repr_html_())

    def display(bar: Any, *, display_id: bool) -> Handle:
        assert display_id
        drawn.append(bar._repr_html_())
        return Handle()

    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    for name, contents in {
        "IPython": {"get_ipython": lambda: shell}, "IPython.display": {"display": display},
    }.items():  # fmt: skip
        module = types.ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    report = lh.svd(stored, rank=3, method="krylov", memory="1 GB").report
    for stage in report.stages:
        whole = f"<progress value='{stage.tasks}' max='{stage.tasks}'>"
        assert any(f"svd {stage.name} {whole}" in html for html in drawn), stage.name
    drawn.clear()
    lh.svd(stored, rank=3, memory="1 GB", progress=False)
    assert not drawn
