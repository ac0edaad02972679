"""Flops and bytes of a plan are those of the mathematics, whatever the grid."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import MemoryBudgetError
from leptonhpc.linalg.rechunk import Rechunked
from leptonhpc.linalg.scratch import stored_input
from leptonhpc.testing import put

GRIDS = [(7, 5), (64, 80), (300, 3), (1, 80), (299, 79), (128, 128), (300, 80)]
TALL, WIDE = (300, 80), (80, 300)


@pytest.mark.parametrize("method", ["gram", "krylov", "sketch"])
@pytest.mark.parametrize("shape", [TALL, WIDE])
@pytest.mark.parametrize("memory", ["170 MB", "1 GB"])
def test_flops_passes_and_writes_of_svd_do_not_depend_on_the_grid(
    method: str, shape: tuple[int, int], memory: str, tmp_path: object
) -> None:
    found = set()
    for number, (p, q) in enumerate(GRIDS):
        chunks = (p, q) if shape == TALL else (q, p)
        place = put(np.ones(shape), tmp_path / f"{number}.zarr", chunks=chunks)
        e = lh.plan("svd", place, rank=3, method=method, memory=memory).explanation
        found.add((round(e.flops), e.passes, e.most_passes, e.write_nbytes, e.scratch_nbytes))
    assert len(found) == 1


@pytest.mark.parametrize("method", ["gram", "krylov", "sketch"])
def test_bytes_read_by_svd_depend_on_memory_only(method: str, tmp_path: object) -> None:
    found = set()
    for number, chunks in enumerate(GRIDS):
        place = put(np.ones(TALL), tmp_path / f"{number}.zarr", chunks=chunks)
        e = lh.plan("svd", place, rank=3, method=method, memory="1 GB").explanation
        found.add(e.read_nbytes)
    assert len(found) == 1


def test_flops_of_the_gram_method_are_those_of_its_formula() -> None:
    e = lh.plan("svd", np.ones(TALL), rank=3, method="gram").explanation
    assert e.flops == 300 * 80**2 + 4 * 300 * 80 * 3
    e = lh.plan("svd", np.ones(TALL, complex), rank=3, method="gram").explanation
    assert e.flops == 4 * (300 * 80**2 + 4 * 300 * 80 * 3)


@pytest.mark.parametrize("memory", ["162 MB", "1 GB"])
def test_flops_of_a_product_are_two_mnk_on_every_grid(memory: str, tmp_path: object) -> None:
    m, k, n = 300, 80, 210
    reads = []
    for number, (p, q) in enumerate(itertools.product([(29, 15), (300, 40), (64, 80)], repeat=2)):
        a = put(np.ones((m, k)), tmp_path / f"a{number}.zarr", chunks=p)
        b = put(np.ones((k, n)), tmp_path / f"b{number}.zarr", chunks=q)
        e = lh.plan("matmul", a, b, memory=memory).explanation
        assert e.flops == 2 * m * k * n
        assert e.write_nbytes == 8 * m * n
        reads.append(e.read_nbytes)
    # blocks begin at whole chunks, so that half perimeters may differ by a factor of two
    assert max(reads) <= 2 * min(reads)
    assert min(reads) >= 8 * (m * k + k * n)


def test_a_gram_product_costs_half() -> None:
    x = lh.open(np.ones((300, 80)))
    e = lh.plan("matmul", x.H, x, memory="1 GB").explanation
    assert e.flops == 300 * 80**2


@pytest.mark.parametrize("order", ["fro", 1, np.inf])
@pytest.mark.parametrize("shape", [TALL, WIDE])
def test_a_norm_reads_each_byte_once(order: object, shape: tuple[int, int]) -> None:
    e = lh.plan("norm", np.ones(shape), ord=order).explanation
    assert e.read_nbytes == 8 * 300 * 80
    assert e.passes == 1


@pytest.mark.parametrize("method", ["gram", "krylov"])
@pytest.mark.parametrize("shape", [TALL, WIDE])
@pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")
@pytest.mark.parametrize("options", [{}, {"center": True}, {"scale": "std"}, {"missing": "mean"}])
def test_reported_flops_and_reads_are_the_planned_ones(
    method: str, shape: tuple[int, int], options: dict[str, object], tmp_path: object
) -> None:
    a = np.random.default_rng(0).standard_normal(shape) * np.geomspace(1, 1e-9, shape[1])
    place = put(a, tmp_path / "a.zarr")
    p = lh.plan("svd", place, rank=3, method=method, most_passes=4, memory="1 GB", **options)
    r = p.run()
    assert r.certificate.passes <= p.explanation.most_passes
    if method == "gram" and not options:
        assert r.report.flops == p.explanation.flops
        assert r.report.read_nbytes == p.explanation.read_nbytes


def test_svd_names_the_budget_that_suffices_where_neither_method_can_run() -> None:
    a = np.random.default_rng(0).standard_normal((3000, 40)).astype("f4")
    with pytest.raises(MemoryBudgetError, match="needs at least memory='") as refusal:
        lh.svd(a, rank=5, memory="1 MB")
    smallest = re.search(r"memory='(.*?)'", str(refusal.value))
    assert smallest is not None
    assert lh.svd(a, rank=5, memory=smallest[1]).certificate.converged


@pytest.mark.parametrize("driver", ["svd", "eigh"])
def test_steps_of_a_division_are_as_many_as_they_say_and_lie_in_their_blocks(driver: str) -> None:
    x = np.eye(2300)
    e = lh.plan(driver, x, method="divide", memory="250 MB").explanation
    for task in (task for stage in e.planned for task in stage.tasks):
        steps = list(task.steps)
        assert len(task.steps) == len(steps)
        operands = {read.operand for step in steps for read in step.reads}
        assert set(task.steps.operands) == operands
        if task.kernel in ("join", "shifted", "perturbed", "pair_residuals"):
            parts = [step.at for step in steps]
            assert [part[0] for part in parts] == [task.at[0]] * len(parts)
            columns = [end for part in parts for end in part[1]]
            assert columns == sorted(columns)
            assert (columns[0], columns[-1]) == task.at[1]
            for step in steps:
                for read in step.reads:
                    assert [b - a for a, b in read.region] == [b - a for a, b in step.at]


def test_scratch_arrays_count_the_units_of_a_region_as_stored_ones_do(tmp_path: Path) -> None:
    place = put(np.ones((30, 20)), tmp_path / "a", chunks=(7, 6))
    source = lh.open(place).source
    stored = stored_input("a", source)
    copied = Rechunked(source, (7, 6))
    for region in (((0, 30), (0, 20)), ((6, 8), (5, 12)), ((3, 3), (0, 20)), ((29, 30), (18, 20))):
        expected = source.units_in(region)
        assert stored.units_in(region) == copied.units_in(region) == expected
        assert stored.H.units_in(region[::-1]) == expected
