"""Plans: shown before anything is read, and equal to what then happens."""

import json
import re
import sys
import warnings
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore, WrapperStore

import leptonhpc as lh
from leptonhpc.blocks import BlockedArray, BlockGrid
from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.errors import (
    CorruptChunkError,
    LeptonError,
    MemoryBudgetError,
    NotConvergedWarning,
    OptionError,
)
from leptonhpc.planning import Resources
from leptonhpc.planning.costs import LIBRARIES_NBYTES, format_seconds


class Imagined:
    """A source of any size that is never read."""

    shareable = True
    name = "imagined"

    def __init__(self, shape: tuple[int, int], unit: tuple[int, int], dtype: str) -> None:
        self.shape, self.unit, self.dtype = shape, unit, np.dtype(dtype)

    def read(self, region: Any, out: Any = None) -> Any:
        raise AssertionError

    def units_in(self, region: Any) -> int:
        return 1

    def identity(self) -> dict[str, Any]:
        return {"imagined": [self.shape, self.unit]}


def imagined(shape: tuple[int, int], unit: tuple[int, int], dtype: str = "f8") -> BlockedArray:
    whole = tuple(max(1, min(u, n)) for u, n in zip(unit, shape, strict=True))
    return BlockedArray(Imagined(shape, whole, dtype), BlockGrid.regular(shape, whole))


def smallest_named(error: MemoryBudgetError) -> int:
    found = re.search(r"memory='(\d+) MB'", str(error))
    assert found, str(error)
    return int(found.group(1))


def require_smallest_budget(driver: Any, *arrays: BlockedArray, **options: Any) -> None:
    """Refused with a number; that number suffices; a megabyte less does not."""
    with pytest.raises(MemoryBudgetError) as caught:
        lh.plan(driver, *arrays, memory="1 MB", **options)
    smallest = smallest_named(caught.value)
    plan = lh.plan(driver, *arrays, memory=f"{smallest} MB", **options)
    assert plan.explanation.peak_nbytes <= smallest * 10**6
    with pytest.raises(MemoryBudgetError):
        lh.plan(driver, *arrays, memory=f"{smallest - 1} MB", **options)


sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))
units = st.tuples(st.integers(1, 4000), st.integers(1, 4000))
dtypes = st.sampled_from(["f4", "f8", "c16", "i2"])


@given(shape=sizes, unit=units, dtype=dtypes, method=st.sampled_from(["gram", "sketch", "auto"]))
@settings(max_examples=60)
def test_the_smallest_budget_named_by_svd_is_accepted(
    shape: tuple[int, int], unit: tuple[int, int], dtype: str, method: str
) -> None:
    require_smallest_budget("svd", imagined(shape, unit, dtype), rank=1, method=method)


@given(unit=units, dtype=dtypes, rows=st.integers(200, 10**6))
@settings(max_examples=40)
def test_the_smallest_budget_named_by_krylov_is_accepted(
    unit: tuple[int, int], dtype: str, rows: int
) -> None:
    require_smallest_budget("svd", imagined((rows, 200), unit, dtype), rank=4, method="krylov")


@given(shape=sizes, unit=units, other=units, n=st.integers(1, 3000), dtype=dtypes)
@settings(max_examples=40)
def test_the_smallest_budget_named_by_matmul_is_accepted(
    shape: tuple[int, int], unit: tuple[int, int], other: tuple[int, int], n: int, dtype: str
) -> None:
    a, b = imagined(shape, unit, dtype), imagined((shape[1], n), other, dtype)
    require_smallest_budget("matmul", a, b)


@given(shape=sizes, unit=units, dtype=dtypes, order=st.sampled_from(["fro", 1, np.inf]))
@settings(max_examples=40)
def test_the_smallest_budget_named_by_norm_is_accepted(
    shape: tuple[int, int], unit: tuple[int, int], dtype: str, order: Any
) -> None:
    require_smallest_budget("norm", imagined(shape, unit, dtype), ord=order)


SQUARE = ("cholesky", "inv", "slogdet", "eigh", "solve", "cg")
OTHERS = (*SQUARE, "lu", "qr", "lstsq", "matrix_rank", "cond", "pinv", "polar", "lsmr", "nmf")


@pytest.mark.parametrize("driver", OTHERS)
@given(shape=sizes, unit=units, sides=st.integers(1, 50), dtype=dtypes)
@settings(max_examples=5)
def test_the_smallest_budget_named_by_any_driver_is_accepted(
    driver: Any, shape: tuple[int, int], unit: tuple[int, int], sides: int, dtype: str
) -> None:
    shape = (min(shape),) * 2 if driver in SQUARE else shape
    dtype = "f8" if driver == "nmf" else dtype  # which takes no complex numbers
    arrays = [imagined(shape, unit, dtype)]
    if driver in {"solve", "cg", "lsmr", "lstsq"}:
        arrays.append(imagined((shape[0], sides), unit, dtype))
    side = "right" if shape[0] >= shape[1] else "left"
    options: dict[str, Any] = {"nmf": {"rank": 1}, "polar": {"side": side}}.get(driver, {})
    require_smallest_budget(driver, *arrays, **options)


@given(shape=sizes, unit=units, dtype=dtypes, budget=st.integers(160, 4000))
@settings(max_examples=60)
def test_no_plan_exceeds_its_budget(
    shape: tuple[int, int], unit: tuple[int, int], dtype: str, budget: int
) -> None:
    x = imagined(shape, unit, dtype)
    for driver, arrays in (("svd", (x,)), ("matmul", (x, x.T)), ("norm", (x,))):
        try:
            explanation = lh.plan(driver, *arrays, memory=f"{budget} MB").explanation
        except MemoryBudgetError:
            continue
        assert LIBRARIES_NBYTES <= explanation.peak_nbytes <= budget * 10**6, driver


@given(shape=sizes, unit=units, rank=st.integers(1, 40))
@settings(max_examples=30)
def test_bands_cover_every_row_once(
    shape: tuple[int, int], unit: tuple[int, int], rank: int
) -> None:
    plan = lh.plan(
        "svd", imagined(shape, unit), rank=min(rank, *shape), memory="2 GB", method="gram"
    )
    for stage in plan.job.algorithm.stages:
        rows = np.zeros(max(shape), int)
        for task in stage.tasks:
            for step in task.steps:
                rows[slice(*step.at[0])] += 1
        assert np.all(rows == 1), stage.name


@given(shape=sizes, n=st.integers(1, 2000), unit=units, budget=st.integers(400, 2000))
@settings(max_examples=30)
def test_blocks_of_a_product_cover_it_once(
    shape: tuple[int, int], n: int, unit: tuple[int, int], budget: int
) -> None:
    a, b = imagined(shape, unit), imagined((shape[1], n), unit[::-1])
    try:
        stage = lh.plan("matmul", a, b, memory=f"{budget} MB").job.stage
    except MemoryBudgetError:
        return
    count = np.zeros((shape[0], n), np.int8)
    for task in stage.tasks:
        count[slice(*task.at[0]), slice(*task.at[1])] += 1
    assert np.all(count == 1)


class Sealed(WrapperStore):
    """A store of which only metadata may be read."""

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        assert key.endswith(("zarr.json", ".zarray", ".zattrs", ".zgroup")), key
        return await self._store.get(key, *args, **options)


@pytest.fixture
def stored(tmp_path: Path, rng: np.random.Generator) -> Path:
    array = zarr.create_array(
        tmp_path / "x", shape=(900, 60), dtype="f8", chunks=(50, 60), compressors=None
    )
    array[...] = rng.standard_normal((900, 60))
    return tmp_path / "x"


def test_planning_reads_no_data(stored: Path) -> None:
    x = lh.open(zarr.open_array(Sealed(LocalStore(stored, read_only=True)), mode="r"))
    for method in ("gram", "sketch", "auto"):
        str(lh.plan("svd", x, rank=3, method=method, memory="1 GB"))
    lh.plan("matmul", x.H, x, memory="1 GB")
    lh.plan("norm", x, memory="1 GB")
    with pytest.raises(CorruptChunkError, match="c/"):
        x.read(((0, 1), (0, 1)))


def test_planning_opens_no_chunk_file(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    hook = opened.append
    sys.addaudithook(lambda name, args: hook(str(args[0])) if name == "open" else None)
    plan = lh.plan("svd", stored, rank=3, center=True, memory="1 GB")
    repr(plan), plan.to_json(), plan._repr_html_()
    assert not [name for name in opened if f"{stored}/c" in name]
    plan.run()
    assert [name for name in opened if f"{stored}/c" in name]


CASES: dict[str, tuple[Any, tuple[int, ...], dict[str, Any]]] = {
    "gram": ("svd", (0,), {"method": "gram", "rank": 3}),
    "gram values": ("svd", (0,), {"method": "gram", "rank": 3, "compute_uv": False}),
    "gram centred": ("svd", (0,), {"method": "gram", "rank": 3, "center": True}),
    "gram scaled": ("svd", (0,), {"method": "gram", "rank": 3, "center": True, "scale": "std"}),
    "gram imputed": ("svd", (0,), {"method": "gram", "rank": 3, "missing": "mean"}),
    "sketch": ("svd", (0,), {"method": "sketch", "rank": 3}),
    "norm": ("norm", (0,), {}),
    "largest column": ("norm", (0,), {"ord": 1}),
    "product": ("matmul", (1, 0), {}),
    "gram product": ("matmul", (2, 0), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_bytes_flops_and_passes_of_the_plan_are_those_of_the_report(
    name: str, stored: Path
) -> None:
    driver, which, options = CASES[name]
    x = lh.open(stored)
    operands = (x, lh.open(np.asarray(x).T.copy()), x.H)
    plan = lh.plan(driver, *(operands[i] for i in which), memory="1 GB", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)  # of the sketch
        report, told = plan.run().report, plan.explanation
    assert report.read_nbytes == told.read_nbytes
    assert report.write_nbytes == told.write_nbytes + told.scratch_nbytes
    assert report.flops == pytest.approx(told.flops, rel=1e-12)
    assert report.predicted_seconds == told.seconds
    assert report.predicted_peak_nbytes == told.peak_nbytes
    assert len(report.stages) == len(told.stages)


def test_a_krylov_plan_is_what_happens_when_its_passes_are_those_expected(stored: Path) -> None:
    x = np.asarray(lh.open(stored))
    x = np.hstack([x, x[::-1]])
    plan = lh.plan("svd", x, rank=2, method="krylov", memory="1 GB", most_passes=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        report, told = plan.run().report, plan.explanation
    assert report.read_nbytes == told.read_nbytes
    assert report.flops == pytest.approx(told.flops, rel=1e-12)
    assert report.write_nbytes == told.write_nbytes + told.scratch_nbytes


def test_explanations_say_the_same_in_text_html_and_json(stored: Path) -> None:
    plan = lh.plan("svd", stored, rank=3, memory="1 GB")
    told = json.loads(plan.to_json())
    text, html = plan.explain(), plan._repr_html_()
    assert repr(plan) == text
    for word in (
        told["method"],
        told["why"],
        str(stored),
        "1 GB",
        *(s["name"] for s in told["stages"]),
    ):
        assert word in text
    assert told["why"].replace("'", "&#x27;") in html
    assert html.count("<tr>") == html.count("</tr>")
    assert told["passes"] <= told["most_passes"]
    assert told["peak_nbytes"] <= told["memory_nbytes"] == 10**9
    assert {"read_nbytes", "write_nbytes", "flops", "tasks", "seconds"} <= set(told)


def test_every_cost_is_in_the_text_in_the_html_and_in_the_json() -> None:
    x = imagined((9000, 400), (90, 400))
    plan = lh.plan("svd", x, rank=3, memory="1 GB", method="krylov")
    told, html = json.loads(plan.to_json()), plan._repr_html_()
    rows = dict(re.findall(r"^  (\w+) {2,}(\S.*)$", plan.explain(), re.M))
    shown = {
        "method": told["method"],
        "why": told["why"],
        "passes": f"{told['passes']:.3g} expected, at most {told['most_passes']:.3g}",
        "reads": format_nbytes(told["read_nbytes"]),
        "writes": f"{format_nbytes(told['write_nbytes'])}, scratch "
        f"{format_nbytes(told['scratch_nbytes'])}",
        "memory": f"{format_nbytes(told['peak_nbytes'])} of 1 GB on each",
        "tasks": f"{told['tasks']:,}",
        "flops": f"{told['flops']:.3g}",
        "time": f"about {format_seconds(told['seconds'])}",
    }
    for label, words in shown.items():
        assert rows[label].startswith(words), label
        assert f"<tr><th>{label}</th><td>{escape(rows[label])}</td></tr>" in html, label


def test_names_are_escaped_in_html(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "<b>&", shape=(8, 4), dtype="f8", fill_value=1)
    html = lh.plan("svd", tmp_path / "<b>&", rank=1, memory="1 GB")._repr_html_()
    assert "<b>&<" not in html.replace("<b>svd</b>", "")
    assert "&lt;b&gt;&amp;" in html


def test_alternatives_and_why_are_shown() -> None:
    plan = lh.plan("svd", imagined((10**6, 4000), (1000, 4000), "f4"), rank=8, memory="8 GB")
    assert "not" in plan.explain()
    assert plan.explanation.alternatives


@pytest.mark.parametrize("shape", [(500, 100), (1980, 220), (20_000, 400), (10**6, 2048)])
def test_what_is_said_to_be_slower_is(shape: tuple[int, int]) -> None:
    plan = lh.plan("svd", imagined(shape, (500, 100), "f4"), rank=4, memory="4 GB").explanation
    assert [a.seconds for a in plan.alternatives if (a.seconds or 0) >= plan.seconds]


def test_more_memory_never_reads_more() -> None:
    a, b = imagined((20000, 8000), (1000, 1000)), imagined((8000, 20000), (1000, 1000))
    read = [
        lh.plan("matmul", a, b, memory=f"{m} MB").explanation.read_nbytes
        for m in (300, 400, 600, 1000, 2000, 4000)
    ]
    assert read == sorted(read, reverse=True)


@pytest.mark.parametrize(
    ("driver", "options"),
    [("schur", {}), ("svd", {"rnak": 3}), ("svd", {"out": "x"}), ("norm", {"ord": 3}),
     ("svd", {"rank": 0}), ("svd", {"rank": 99}), ("svd", {"method": "magic"})],
)  # fmt: skip
def test_questions_that_make_no_sense_are_refused_when_planned(
    driver: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(LeptonError):
        lh.plan(driver, np.ones((8, 4)), **options)


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [(1, {"k": 3}, "'k'; it takes x, and by name rank, tol,"),
     (1, {"rank": 2, "out": "r"}, "'out'; .* Give out= to the plan's run"),
     (2, {}, "too many positional arguments; it takes x,"), (0, {}, "missing .* 'x'")],
)  # fmt: skip
def test_arrays_and_keywords_that_a_driver_does_not_take_are_named_beside_those_it_takes(
    count: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        lh.plan("svd", *[np.ones((8, 4))] * count, **options)


def test_what_is_no_driver_and_no_machine_is_named() -> None:
    x: Any = np.ones((8, 4))
    with pytest.raises(OptionError, match="first argument is one of svd, .*; found a ndarray"):
        lh.plan(x, rank=2)
    with pytest.raises(OptionError, match="path or a Machine; found 3"):
        lh.plan("svd", x, rank=2, machine=3)  # type: ignore[arg-type]


def test_cores_are_workers_times_threads() -> None:
    r = Resources(10**9, workers=3, threads=4)
    assert r.cores == 12
    assert r.arrays_nbytes == 10**9 - LIBRARIES_NBYTES


@pytest.mark.parametrize(("rows", "share"), [(300, 0.5), (4_000_000, 0.01)])
def test_what_a_job_takes_beside_its_work_counts_where_it_is_small(rows: int, share: float) -> None:
    e = lh.plan("svd", imagined((rows, 500), (256, 500)), rank=2, memory="2 GB").explanation
    work = sum(s.seconds * s.repeats for s in e.planned) + e.extra_seconds
    beside = e.seconds - work
    assert beside >= 1e-3 * sum(s.repeats for s in e.planned)
    assert (beside > share * e.seconds) == (rows == 300)
    shown = sum(row["seconds"] * s.repeats for row, s in zip(e.stages, e.planned, strict=True))
    assert work - e.extra_seconds < shown < e.seconds


@pytest.mark.parametrize("shape", [(3000, 3000), (4000, 1500), (1200, 6000)])
@pytest.mark.parametrize(("driver", "each"), [("lu", 1), ("qr", 2), ("cholesky", 1 / 2)])
def test_panels_count_each_flop_of_a_factorisation_once(
    driver: str, each: float, shape: tuple[int, int]
) -> None:
    if driver == "cholesky":
        shape = (shape[0], shape[0])
    least, most = sorted(shape)
    plan = lh.plan(driver, imagined(shape, (256, 256)), memory="250 MB")
    (stage,) = (stage for stage in plan.explanation.planned if stage.name == "factor")
    assert len({task.part_of for task in stage.tasks}) > 1
    assert all(task.flops >= 0 for task in stage.tasks)
    expected = each * least**2 * (most - least / 3)
    assert sum(task.flops for task in stage.tasks) == pytest.approx(expected, rel=1e-12)
