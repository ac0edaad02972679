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
    assert isinstance(bar._bar.console, Console)


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
