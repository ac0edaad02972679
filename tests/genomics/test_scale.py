"""Larger than memory, and on a cluster: the same answers, within the budget."""

import json
import os
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster

from leptonhpc import datasets, genomics
from leptonhpc.blocks import BlockedArray, StoredSource
from leptonhpc.datasets.simulated_genotypes import draw_genotypes
from leptonhpc.errors import MemoryBudgetError, WorkerError
from leptonhpc.genomics.association import VARIABLES
from leptonhpc.genomics.extras import TABLES_NBYTES
from leptonhpc.planning.costs import LIBRARIES_NBYTES

MEMORY_NBYTES = 430_000_000
HELD_NBYTES = 30_000_000  # results of earlier calls, which the program holds itself
PEOPLE, VARIANTS = 500, 40_000  # 160 MB in double precision
PROGRAM = """
import json, sys, warnings
from dataclasses import replace
import numpy as np
warnings.simplefilter("ignore")
from leptonhpc import genomics
from leptonhpc.runtime.memory import peak_nbytes, reset_peak, return_free_memory

def measured(name, function, *arguments, **options):
    return_free_memory()
    reset_peak()
    result = function(*arguments, memory=memory, **options)
    peaks[name] = peak_nbytes()
    return result

def few_contigs(cohort):
    names = replace(cohort.variants, contig=np.repeat(["1", "2"], [4000, cohort.shape[1] - 4000]))
    return replace(cohort, variants=names)

peaks, memory = {}, int(sys.argv[2])
cohort = genomics.open_genotypes(sys.argv[1])
y = np.random.default_rng(0).normal(size=(cohort.shape[0], 2))
statistics = measured("statistics", genomics.genotype_statistics, cohort)
kept = measured("filter", genomics.filter_variants, cohort, statistics=statistics, min_maf=0.05)
known = {"statistics": genomics.genotype_statistics(kept)}
linear = measured("linear", genomics.gwas, kept, y)
measured("store", genomics.store_genotypes, kept, sys.argv[3], encoding="two-bit")
measured("hwe", genomics.hwe, kept)
measured("ld", genomics.ld, kept, window=10)
measured("prune", genomics.ld_prune, kept, window=10, **known)
exact = measured("exact", genomics.pca, kept, components=5, method="exact", **known)
options = {"components": 3, "method": "truncated", "accuracy": 0.1, **known}
measured("truncated", genomics.pca, kept, **options)
measured("project", genomics.project, exact, kept)
related = measured("grm", genomics.grm, kept, **known)
quarter = kept.select(variants=np.arange(0, kept.shape[1], 4))  # three products, as grm's one
measured("kinship", genomics.kinship, quarter)
measured("pc_relate", genomics.pc_relate, quarter, exact)
measured("mixed", genomics.gwas, kept, y[:, 0], model="mixed", relationship=related)
parts = few_contigs(quarter)
measured("loco", genomics.gwas, parts, y[:, 0], model="mixed", loco=True)
vcf = genomics.open_genotypes(sys.argv[4])
counted = measured("vcf statistics", genomics.genotype_statistics, vcf)
vcf = genomics.filter_variants(vcf, statistics=counted, min_maf=0.05)
same = measured("vcf exact", genomics.pca, vcf, components=5, method="exact")
np.testing.assert_allclose(same.sample_pca_eigenvalue, exact.sample_pca_eigenvalue, rtol=1e-6)
few = cohort.select(variants=np.arange(2000))
measured("logistic", genomics.gwas, few, y[:, 0] > 0, model="logistic")
print(json.dumps({"peaks": peaks, "beta": float(linear.variant_linreg_beta[-1, 0])}))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, memory_limit=0,
        dashboard_address="127.0.0.1:0", host="127.0.0.1", worker_dashboard_address="127.0.0.1:0",
    ) as running:  # fmt: skip
        yield running
        warnings.simplefilter("ignore")


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as connected:
        yield connected


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a stored cohort that is larger than the budget when it is standardised."""
    stored = tmp_path_factory.mktemp("scale") / "g.zarr"
    datasets.fetch("simulated-genotypes", out=stored, people=PEOPLE, variants=VARIANTS)
    return stored


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_measured_peaks_stay_under_the_budget(path: Path, tmp_path: Path) -> None:
    room = MEMORY_NBYTES - LIBRARIES_NBYTES - TABLES_NBYTES
    assert room < 8 * PEOPLE * VARIANTS
    places = [tmp_path / "two.zarr", _as_vcf(path, tmp_path / "vcf.zarr")]
    command = [sys.executable, "-c", PROGRAM, path, str(MEMORY_NBYTES), *places]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["peaks"]) == 18
    most = MEMORY_NBYTES + HELD_NBYTES
    assert {name: peak for name, peak in found["peaks"].items() if peak > most} == {}
    last = genomics.open_genotypes(tmp_path / "two.zarr")
    g = np.asarray(last.calls[:, -1:]).ravel().astype(float)
    y = np.random.default_rng(0).normal(size=(PEOPLE, 2))[:, 0]
    expected = np.cov(g, y)[0, 1] / g.var(ddof=1)
    np.testing.assert_allclose(found["beta"], expected, rtol=1e-8)


@pytest.mark.parametrize("model", ["linear", "logistic", "mixed"])
def test_blocks_of_an_association_take_no_more_than_is_left_for_them(model: Any) -> None:
    people, variants = 120, 2000
    calls = np.random.default_rng(0).integers(-1, 3, (people, variants)).astype(np.int8)
    y, age = np.random.default_rng(1).normal(size=(2, people))
    given = {"relationship": np.eye(people)} if model == "mixed" else {}
    y = y > 0 if model == "logistic" else y
    room = 8 * people * variants * 3 // 4

    def tested(**options: Any) -> Any:
        return genomics.gwas(calls, y, covariates=age, model=model, **given, **options)

    whole = tested()  # modules that it imports are there after the first
    tracemalloc.start()
    found = tested(memory=LIBRARIES_NBYTES + TABLES_NBYTES + room)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= room + (1 << 18) < 8 * people * variants  # names, and objects of Python
    name = f"variant_{VARIABLES[model]}_p_value"
    np.testing.assert_allclose(found[name], whole[name], rtol=1e-8)


def test_pairs_that_no_memory_holds_are_refused_before_they_are_computed() -> None:
    cohort = genomics.open_genotypes(np.zeros((20_000, 2), np.int8))
    with pytest.raises(MemoryBudgetError, match=r"20000 samples take 3200 MB.*out="):
        genomics.kinship(cohort, memory="2 GB")


def test_a_cluster_gives_the_same(gappy: Any, tmp_path: Path, cluster: LocalCluster) -> None:
    bed = genomics.read_bed(gappy.bed)
    vcf = genomics.open_genotypes(_as_vcf(gappy.bed, tmp_path / "v"))
    cohort = genomics.store_genotypes(bed, tmp_path / "g", chunks=(20, 30))
    many = genomics.open_genotypes(draw_genotypes(((0, 90), (0, 300)), populations=3, seed=1))
    many = genomics.store_genotypes(many, tmp_path / "m", chunks=(40, 70))
    with Client(cluster):
        there = _answers(cohort, bed, vcf, many, tmp_path / "there")
    here = _answers(cohort, bed, vcf, many, tmp_path / "here")
    assert len(here) == len(there) == 18
    for name in here:
        np.testing.assert_allclose(there[name], here[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_what_workers_cannot_read_is_refused(client: Client) -> None:
    from zarr.storage import MemoryStore

    from leptonhpc import store

    array = store.create_array(MemoryStore(), shape=(4, 5), dtype="int8", chunks=(4, 5))
    array.write_units((0, 0), np.ones((4, 5), np.int8))
    with pytest.raises(WorkerError, match="in this process only"):
        genomics.genotype_statistics(genomics.open_genotypes(_opened(array)))


def _as_vcf(path: Path, out: Path) -> Path:
    """Store a cohort again as allele numbers."""
    cohort = genomics.open_genotypes(path)
    (people, variants), step = cohort.shape, 2000
    array = zarr.create_group(out).create_array(
        "call_genotype", shape=(variants, people, 2), dtype="int8",
        chunks=(min(step, variants), min(people, 200), 2),
        dimension_names=("variants", "samples", "ploidy"),
    )  # fmt: skip
    for low in range(0, variants, step):
        calls = np.asarray(cohort.calls[:, low : low + step]).T
        alleles = np.stack([calls > 0, calls > 1], axis=2).astype(np.int8)
        alleles[calls < 0] = -1
        array[low : low + step] = alleles
    return out


def _opened(array: Any) -> Any:
    return BlockedArray(StoredSource(array))


def _answers(
    cohort: genomics.Genotypes, bed: genomics.Genotypes, vcf: genomics.Genotypes,
    many: genomics.Genotypes, out: Path,
) -> dict[str, np.ndarray]:  # fmt: skip
    y = np.arange(61) % 7.0
    pairs = genomics.ld(cohort, window=10, threshold=0.1)
    few = genomics.filter_variants(genomics.ld_prune(cohort, window=10), min_maf=0.1)
    scores = np.random.default_rng(4).standard_normal((61, 2))
    options: dict[str, Any] = {"components": 2, "precision": "double"}
    model = genomics.pca(few, method="exact", **options)
    many = genomics.filter_variants(many, min_maf=0.05)
    truncated = genomics.pca(many, method="truncated", accuracy=1e-10, most_passes=100, **options)
    found = {
        "bed": genomics.genotype_statistics(bed).call_rate,
        "vcf": genomics.genotype_statistics(vcf).frequency,
        "vcf linear": genomics.gwas(vcf, y).variant_linreg_p_value,
        "stored": genomics.store_genotypes(bed, out, encoding="two-bit").calls,
        "frequency": genomics.genotype_statistics(cohort).frequency,
        "linear": genomics.gwas(cohort, y).variant_linreg_p_value,
        "logistic": genomics.gwas(cohort, y > 3, model="logistic").variant_logreg_beta,
        "mixed": genomics.gwas(cohort, y, model="mixed").variant_lmm_beta,
        "loco": genomics.gwas(cohort, y, model="mixed", loco=True).variant_lmm_p_value,
        "r2": pairs.ld_r2,
        "hwe": genomics.hwe(cohort).variant_hwe_p_value,
        "grm": genomics.grm(cohort).stat_genomic_relationship,
        "kinship": genomics.kinship(cohort).stat_king_kinship,
        "pc_relate": genomics.pc_relate(cohort, scores).pc_relate_phi,
        "kept": few.calls,
        "pca": np.abs(model.sample_pca_projection),
        "truncated": truncated.sample_pca_eigenvalue,
        "project": np.abs(genomics.project(model, few).sample_pca_projection),
    }
    return {name: np.asarray(values) for name, values in found.items()}
