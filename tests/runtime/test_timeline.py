"""The record of who did what when: bounded, and true to what was told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonhpc.runtime.timeline import (
    MOST_SPANS,
    Span,
    Timeline,
    spans_from_dict,
    spans_to_dict,
)


def test_tasks_that_follow_each_other_are_one_span_and_those_apart_are_two() -> None:
    timeline = Timeline()
    for end in (1.0, 2.0, 5.0):
        timeline.add("a", 0, "pass", ended_seconds=end, seconds=1.0)
    timeline.add("a", 0, "write", ended_seconds=6.0, seconds=1.0)
    timeline.add("b", 0, "pass", ended_seconds=2.0, seconds=0.5)
    assert list(timeline) == [
        Span("a", 0, "pass", 0.0, 2.0, 2.0, 2),
        Span("a", 0, "pass", 4.0, 1.0, 1.0, 1),
        Span("a", 0, "write", 5.0, 1.0, 1.0, 1),
        Span("b", 0, "pass", 1.5, 0.5, 0.5, 1),
    ]


def test_late_news_do_not_make_a_lane_do_two_things_at_once() -> None:
    timeline = Timeline()
    timeline.add("a", 0, "pass", ended_seconds=1.0, seconds=1.0)
    timeline.add("a", 0, "write", ended_seconds=1.5, seconds=1.0)  # heard of too early or too late
    first, second = timeline
    assert second.began_seconds == first.ended_seconds == 1.0
    assert second.busy_seconds == second.seconds == 0.5


@given(
    seconds=st.lists(st.floats(1e-4, 10.0), min_size=1, max_size=60),
    pauses=st.lists(st.floats(0.0, 10.0), min_size=60, max_size=60),
    stages=st.integers(1, 4),
)
def test_spans_of_a_lane_never_overlap_and_no_task_is_lost(
    seconds: list[float], pauses: list[float], stages: int
) -> None:
    timeline, now = Timeline(), 0.0
    for number, (took, pause) in enumerate(zip(seconds, pauses, strict=False)):
        now += pause + took
        timeline.add("a", 0, f"s{number % stages}", ended_seconds=now, seconds=took)
    spans = list(timeline)
    assert sum(span.tasks for span in spans) == len(seconds)
    for one, following in zip(spans, spans[1:], strict=False):
        assert following.began_seconds >= one.ended_seconds - 1e-9 * now - 1e-9
    # each span is rounded to a tenth of a millisecond, its beginning and its end
    busy = sum(span.busy_seconds for span in spans)
    assert busy == pytest.approx(sum(seconds), abs=2e-4 * len(spans))


@pytest.mark.parametrize(("lanes", "stages"), [(1, 1), (40, 3), (200, 7), (1000, 2)])
def test_a_million_tasks_would_leave_no_more_spans_than_a_thousand(lanes: int, stages: int) -> None:
    timeline, rng = Timeline(), np.random.default_rng(1)
    ends = np.zeros(lanes)
    for number in range(6000):
        lane = number % lanes
        took = float(rng.uniform(0.1, 1.0))
        ends[lane] += took + float(rng.uniform(0.0, 0.2))
        stage = f"s{number * stages // 6000}"
        timeline.add(f"d{lane}", 0, stage, ended_seconds=float(ends[lane]), seconds=took)
    spans = list(timeline)
    assert len(spans) == len(timeline) <= 2 * MOST_SPANS
    shown = min(lanes, 256)
    assert len({span.device for span in spans}) == shown
    assert sum(span.tasks for span in spans) == sum(
        len(range(lane, 6000, lanes)) for lane in range(shown)
    )


def test_stages_that_alternate_for_ever_are_bounded_too() -> None:
    timeline = Timeline()
    for number in range(5000):
        stage = f"s{number}"
        timeline.add("a", 0, stage, ended_seconds=number + 1.0, seconds=0.5)
    assert len(timeline) <= 2 * MOST_SPANS
    assert sum(span.tasks for span in timeline) == 5000


def test_spans_survive_json_to_a_tenth_of_a_millisecond() -> None:
    spans = (
        Span("a", 0, "pass-1", 0.25, 1.5, 1.25, 3),
        Span("b", 2, "write", 2.0, 0.125, 0.125, 1),
    )
    assert spans_from_dict(spans_to_dict(spans)) == spans
