"""The page of a report: whole in one file, with what the run itself recorded."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

import leptonhpc as lh
from leptonhpc.cluster.clients import identities
from leptonhpc.errors import NotAnArrayError, StoreError
from leptonhpc.runtime.report import Report


class Page(HTMLParser):
    """Reads a page strictly: what is opened is closed, in its order."""

    ALONE = frozenset({"meta", "rect", "line"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.ALONE:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        # a bar has its words inside
        assert self.open.pop() == tag if tag not in self.ALONE else True

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def result(stored: Path, tmp_path: Path) -> Any:
    return lh.svd(
        stored, rank=5, method="krylov", memory="1 GB", accuracy=1e-2, out=tmp_path / "r.zarr"
    )


def test_spans_of_threads_hold_every_task_inside_the_run(result: Any) -> None:
    report = result.report
    assert sum(span.tasks for span in report.spans) == sum(s.tasks for s in report.stages)
    assert {span.stage for span in report.spans} == {s.name for s in report.stages}
    for span in report.spans:
        assert 0 <= span.began_seconds <= span.ended_seconds <= report.seconds + 1e-4  # rounded
        assert span.busy_seconds <= span.seconds


@pytest.mark.usefixtures("nobody_is_late")
def test_spans_of_a_cluster_are_of_its_workers(stored: Path, client: Client) -> None:
    report = lh.svd(stored, rank=5, method="gram", memory="1 GB").report
    assert {span.device for span in report.spans} == set(identities(client))
    assert sum(span.tasks for span in report.spans) == sum(s.tasks for s in report.stages)
    assert sum(d.tasks for d in report.by_device()) == sum(s.tasks for s in report.stages)


def test_a_stored_report_of_a_cluster_is_the_same_when_it_is_read(
    stored: Path, client: Client, tmp_path: Path
) -> None:
    made = lh.svd(stored, rank=5, method="gram", memory="1 GB", out=tmp_path / "r").report
    loaded = lh.load(tmp_path / "r").report
    assert str(loaded) == str(made)
    assert loaded.off_owner == 0
    assert json.dumps(loaded.to_dict()) == json.dumps(made.to_dict())
    assert lh.report(tmp_path / "r") == loaded


def test_the_page_needs_nothing_but_itself(result: Any, tmp_path: Path) -> None:
    found = lh.report(tmp_path / "r.zarr", html=tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    page = Page(text)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    named = {
        value for _, given in page.tags for name, value in given.items() if name in ("src", "href")
    }
    assert named == set()
    assert re.findall(r"https?://[^\"' ]+", text) == ["http://www.w3.org/2000/svg"]
    assert "@import" not in text
    bars = [given for tag, given in page.tags if tag == "rect" and "fill-opacity" in given]
    assert len(bars) == len(found.spans)


def test_the_page_shows_predicted_beside_actual_certificate_and_stages(
    result: Any, tmp_path: Path
) -> None:
    result.report.to_html(tmp_path / "r.html", certificate=result.certificate)
    words = Page((tmp_path / "r.html").read_text()).words
    assert str(result.certificate) in words
    for stage in result.report.stages:
        assert stage.name in words
    for row in ("passes over the input", "bytes read", "peak memory of a worker", "Not measured"):
        assert row in words
    assert f"{result.report.passes:.3g}" in words
    assert f"{result.report.predicted_passes:.3g}" in words
    assert result.report.passes < result.report.predicted_passes
    assert "each chunk at most 1 times a pass; what fits stays in memory" in words


def test_a_broken_promise_and_joules_are_shown(result: Any, tmp_path: Path) -> None:
    data = result.report.to_dict()
    data |= {"peak_nbytes": 2 * data["memory_nbytes"], "joules": {"a package-0": 1500.0}}
    Report.from_dict(data).to_html(tmp_path / "r.html")
    page = Page((tmp_path / "r.html").read_text())
    assert any(given.get("class", "") == "over" for _, given in page.tags)
    assert "OVER the allowed" in page.words
    assert "1.5 kJ" in page.words
    assert "1.5 kJ of 1 sensors" in str(Report.from_dict(data))


def test_names_from_outside_are_text_and_not_html(result: Any, tmp_path: Path) -> None:
    data = result.report.to_dict()
    data["driver"] = "<script>alert(1)</script>"
    data["spans"] = {"devices": ["<b>"], "stages": ["<i>-1"], "rows": [[0, 0, 0, 0.0, 1.0, 1.0, 1]]}
    Report.from_dict(data).to_html(tmp_path / "r.html")
    page = Page((tmp_path / "r.html").read_text())
    assert not {"script", "b", "i"} & {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.words


def test_reports_of_earlier_versions_are_read(result: Any) -> None:
    data = result.report.to_dict()
    for name in ("spans", "joules", "predicted_passes", "predicted_read_nbytes"):
        del data[name]
    assert Report.from_dict(data).spans == ()


def test_the_report_of_nothing_is_an_error(tmp_path: Path, stored: Path) -> None:
    with pytest.raises(StoreError, match="nothing is stored"):
        lh.report(tmp_path / "none")
    with pytest.raises(NotAnArrayError, match="not a result"):
        lh.report(stored)
