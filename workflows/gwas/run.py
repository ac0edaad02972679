"""Genome-wide association: least squares with components, a mixed model, pictures of both.

python run.py [--data cohort.bed --phenotypes traits.txt [--covariates age.txt]] [--memory "2 GB"]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from leptonhpc import datasets, genomics

CONTIGS = 22


def main() -> None:
    """Run every step and leave the files."""
    arguments = parse()
    arguments.folder.mkdir(exist_ok=True)
    if arguments.data is not None:
        cohort, traits = genomics.open_genotypes(arguments.data), arguments.phenotypes
        causal = None
    else:
        cohort, traits, causal = simulated(arguments)
    cohort = genomics.filter_variants(cohort, min_maf=arguments.maf, memory=arguments.memory)
    print(cohort)
    covariates: Any = arguments.covariates
    if covariates is None:  # components stand for ancestry
        model = genomics.pca(cohort, components=4, memory=arguments.memory)
        covariates = model.sample_pca_projection.values
    linear = genomics.gwas(cohort, traits, covariates=covariates, memory=arguments.memory)
    report(linear, "linear", arguments.folder, causal)
    if not arguments.no_mixed:
        loco = len(np.unique(cohort.variants.contig)) > 1
        if not loco:
            print("all variants are on one contig: it is not left out of the relationship matrix")
        mixed = genomics.gwas(
            cohort, traits, covariates=arguments.covariates, model="mixed", loco=loco,
            memory=arguments.memory,
        )  # fmt: skip
        heritability = float(mixed.null_heritability.mean())
        print(f"relatives share {100 * heritability:.0f} % of the trait's variance (REML)")
        report(mixed, "mixed", arguments.folder, causal)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a .bed file, VCF-Zarr or a Zarr matrix; default: simulated")
    parser.add_argument("--phenotypes", help="a table: FID IID and a column for each trait")
    parser.add_argument(
        "--covariates", help="a table; default: four principal components, for least squares"
    )
    parser.add_argument("--maf", type=float, default=0.05, help="least frequency")
    parser.add_argument("--people", type=int, default=600, help="of the simulated cohort")
    parser.add_argument("--variants", type=int, default=8_000, help="of the simulated cohort")
    parser.add_argument("--no-mixed", action="store_true", help="least squares only")
    parser.add_argument("--memory", help="of each worker, such as '2 GB'")
    parser.add_argument("--folder", type=Path, default=Path("gwas-output"))
    arguments = parser.parse_args()
    if (arguments.data is None) != (arguments.phenotypes is None):
        parser.error("--data and --phenotypes go together")
    return arguments


def simulated(
    arguments: argparse.Namespace,
) -> tuple[genomics.Genotypes, dict[str, np.ndarray], list[str]]:
    """Simulate three populations, and a trait with three causal variants and a shift of the mean.

    Without covariates the shift would make every variant that differs between populations look
    associated.
    """
    people, variants = arguments.people, arguments.variants
    path = arguments.folder / f"simulated-{people}-{variants}.zarr"
    if not path.exists():
        datasets.fetch("simulated-genotypes", out=path, people=people, variants=variants)
    bare = genomics.open_genotypes(path)
    contig = np.sort(np.arange(variants) % CONTIGS) + 1
    place = np.arange(variants) - np.searchsorted(contig, contig)
    cohort = replace(
        bare,
        variants=replace(bare.variants, contig=contig.astype(str), position=1 + 10_000 * place),
    )
    statistics = genomics.genotype_statistics(cohort, memory=arguments.memory)
    common = np.flatnonzero(statistics.maf > 0.3)
    causal = common[[len(common) // 5, len(common) // 2, 4 * len(common) // 5]]
    rng = np.random.default_rng(0)
    copies = np.asarray(cohort.select(variants=causal).calls).astype(float)
    trait = copies @ [0.45, -0.4, 0.5] + 0.8 * (np.arange(people) % 3) + rng.normal(size=people)
    return cohort, {"height": trait}, [f"v{j + 1}" for j in causal]


def report(found: Any, name: str, folder: Path, causal: list[str] | None) -> None:
    """Write the table and both pictures, and print the strongest associations."""
    written = genomics.write_gwas(found, folder / name, overwrite=True)
    for trait in found.trait.values:
        for kind, draw in (("manhattan", genomics.plot_manhattan), ("qq", genomics.plot_qq)):
            path = folder / f"{name}.{trait}.{kind}.png"
            draw(found, trait=str(trait)).figure.savefig(path)
            written.append(path)
    stem = {"linear": "linreg", "mixed": "lmm"}[name]
    p = found[f"variant_{stem}_p_value"].values[:, 0]
    best = np.argsort(p)[:3]
    strongest = ", ".join(f"{found.variant_id.values[j]} (p = {p[j]:.1e})" for j in best)
    print(f"{name}: strongest are {strongest}")
    if causal is not None:
        print(f"  planted: {', '.join(causal)}")
    print("  wrote", *(path.name for path in written))


if __name__ == "__main__":
    main()
