"""The commands `gpca`, `grm` and `gwas`: from genotypes to text files as PLINK names them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from leptonhpc.cli import options as o
from leptonhpc.cli.running import running

if TYPE_CHECKING:
    from leptonhpc.genomics import Genotypes

Source = Annotated[
    str,
    typer.Argument(metavar="GENOTYPES", help="A PLINK .bed file, VCF-Zarr, or a Zarr matrix."),
]
Traits = Annotated[
    Path, typer.Argument(metavar="PHENOTYPES", help="A table: FID IID and a column for each trait.")
]
Out = Annotated[str, typer.Option(metavar="PREFIX", help="What the files' names begin with.")]
MinMaf = Annotated[
    float, typer.Option("--maf", help="Least frequency of the rarer allele of a variant.")
]
MinCallRate = Annotated[
    float, typer.Option("--min-call-rate", help="Least share of called samples of a variant.")
]
Prune = Annotated[
    float | None,
    typer.Option("--prune", metavar="R2", help="Of correlated variants near one another keep one."),
]
Window = Annotated[int, typer.Option("--window", help="Variants that --prune compares.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")]
Components = Annotated[int, typer.Option(help="How many.")]
Method = Annotated[
    Literal["auto", "exact", "truncated"],
    typer.Option(help="By the relationship matrix, or by block Krylov iteration."),
]
Precision = Annotated[Literal["double", "single"], typer.Option(help="Of computing.")]
King = Annotated[bool, typer.Option("--king", help="KING's robust kinship too.")]
Covariates = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A table as PHENOTYPES; an intercept is added.")
]
Model = Annotated[
    Literal["linear", "logistic", "mixed"],
    typer.Option(help="Least squares, logistic, or with a random effect of relationship."),
]
Missing = Annotated[
    Literal["drop", "mean"],
    typer.Option(help="A sample without a call is left out, or has the variant's mean."),
]
Unmatched = Annotated[
    Literal["raise", "drop"],
    typer.Option(help="What samples are that only one file has: an error, or left out."),
]
Loco = Annotated[bool, typer.Option("--loco", help="Mixed: leave a variant's own contig out.")]
Plot = Annotated[bool, typer.Option("--plot", help="Draw pictures too (needs matplotlib).")]


def gpca(
    genotypes: Source,
    out: Out,
    components: Components = 10,
    method: Method = "auto",
    precision: Precision = "double",
    maf: MinMaf = 0.0,
    min_call_rate: MinCallRate = 0.0,
    prune: Prune = None,
    window: Window = 50,
    accuracy: o.Accuracy = 1e-3,
    most_passes: o.MostPasses = 30,
    seed: o.Seed = 0,
    memory: o.Memory = None,
    overwrite: Overwrite = False,
    plot: Plot = False,
    progress: o.Progress = None,
    scheduler: o.Scheduler = None,
    json: o.Json = False,
) -> None:
    """Find the principal components of a cohort: PREFIX.eigenvec, PREFIX.eigenval."""
    with running(scheduler), _log(out, overwrite, json) as log:
        from leptonhpc import genomics

        cohort = _chosen(genotypes, log, maf, min_call_rate, prune, window, memory)
        found = genomics.pca(
            cohort, components=components, method=method, precision=precision, accuracy=accuracy,
            most_passes=most_passes, seed=seed, memory=memory, progress=progress,
        )  # fmt: skip
        log.files += genomics.write_pca(found, out, overwrite=overwrite)
        shares = [float(v) for v in found.sample_pca_explained_variance_ratio]
        log.say("explained variance", ", ".join(f"{100 * s:.3f} %" for s in shares))
        log.say("converged", "yes" if found.attrs["converged"] else "no")
        if plot and components > 1:
            log.save(genomics.plot_components(found), "pca.png")


def grm(
    genotypes: Source,
    out: Out,
    king: King = False,
    maf: MinMaf = 0.0,
    min_call_rate: MinCallRate = 0.0,
    prune: Prune = None,
    window: Window = 50,
    memory: o.Memory = None,
    overwrite: Overwrite = False,
    progress: o.Progress = None,
    scheduler: o.Scheduler = None,
    json: o.Json = False,
) -> None:
    """Compute the genomic relationship matrix: PREFIX.rel, PREFIX.rel.id."""
    with running(scheduler), _log(out, overwrite, json) as log:
        from leptonhpc import genomics

        cohort = _chosen(genotypes, log, maf, min_call_rate, prune, window, memory)
        found = genomics.grm(cohort, memory=memory, progress=progress)
        log.files += genomics.write_pairs(found, out, overwrite=overwrite)
        if king:
            pairs = genomics.kinship(cohort, memory=memory, progress=progress)
            log.files += genomics.write_pairs(pairs, out, overwrite=overwrite)


def gwas(
    genotypes: Source,
    phenotypes: Traits,
    out: Out,
    covariates: Covariates = None,
    model: Model = "linear",
    missing: Missing = "drop",
    unmatched: Unmatched = "raise",
    loco: Loco = False,
    maf: MinMaf = 0.0,
    min_call_rate: MinCallRate = 0.0,
    memory: o.Memory = None,
    overwrite: Overwrite = False,
    plot: Plot = False,
    progress: o.Progress = None,
    scheduler: o.Scheduler = None,
    json: o.Json = False,
) -> None:
    """Test every variant for association: PREFIX.TRAIT.glm.linear, .glm.logistic or .mlm."""
    with running(scheduler), _log(out, overwrite, json) as log:
        from leptonhpc import genomics

        traits = genomics.read_table(phenotypes)
        _refuse_taken(out, traits.columns, model, overwrite=overwrite, plot=plot)
        cohort = _chosen(genotypes, log, maf, min_call_rate, None, 2, memory)
        found = genomics.gwas(
            cohort, traits, covariates=covariates, model=model, missing=missing,
            unmatched=unmatched, loco=loco, memory=memory, progress=progress,
        )  # fmt: skip
        log.files += genomics.write_gwas(found, out, overwrite=overwrite)
        for trait, samples in zip(found.trait.values, found.trait_n_samples.values, strict=True):
            log.say(f"samples with {trait}", str(int(samples)))
            if plot:
                picture = genomics.plot_manhattan(found, trait=str(trait))
                log.save(picture, f"{trait}.manhattan.png")
                log.save(genomics.plot_qq(found, trait=str(trait)), f"{trait}.qq.png")


class _Log:
    """What was done, said on standard output and kept beside the results."""

    def __init__(self, prefix: str, overwrite: bool) -> None:
        self.prefix = prefix
        self.overwrite = overwrite
        self.lines: dict[str, str] = {}
        self.files: list[Path] = []

    def say(self, label: str, text: str) -> None:
        """Note one fact."""
        self.lines[label] = text

    def save(self, axes: Any, ending: str) -> None:
        """Keep a picture."""
        path = Path(f"{self.prefix}.{ending}")
        _refuse(path, self.overwrite)
        axes.figure.savefig(path)
        self.files.append(path)


@contextmanager
def _log(prefix: str, overwrite: bool, as_json: bool) -> Iterator[_Log]:
    """Time the command, then print and keep its log."""
    import sys
    import time

    from leptonhpc import __version__
    from leptonhpc.cli.show import print_json, print_text

    path, began = Path(f"{prefix}.log"), time.perf_counter()
    _refuse(path, overwrite)
    log = _Log(prefix, overwrite)
    log.say("leptonhpc", __version__)
    log.say("command", " ".join(sys.argv[1:]))
    yield log
    log.say("seconds", f"{time.perf_counter() - began:.2f}")
    width = max(map(len, log.lines)) + 2
    text = "\n".join(f"{label:<{width}}{line}" for label, line in log.lines.items())
    text += "".join(f"\n{'wrote':<{width}}{file}" for file in log.files)
    path.write_text(text + "\n")
    if as_json:
        print_json({**log.lines, "files": [str(file) for file in (*log.files, path)]})
    else:
        print_text(text)


def _refuse(path: Path, overwrite: bool) -> None:
    from leptonhpc.cli.running import refuse_existing

    if not overwrite:
        refuse_existing(path)


def _refuse_taken(
    prefix: str, traits: Sequence[str], model: str, *, overwrite: bool, plot: bool
) -> None:
    """Refuse names of traits and files before anything is computed."""
    from leptonhpc.genomics.text_files import gwas_endings

    endings = gwas_endings(traits, model)
    if plot:
        endings += [f"{trait}.{kind}.png" for trait in traits for kind in ("manhattan", "qq")]
    for ending in endings:
        _refuse(Path(f"{prefix}.{ending}"), overwrite)


def _chosen(
    source: str, log: _Log, maf: float, min_call_rate: float, prune: float | None, window: int,
    memory: Any,
) -> Genotypes:  # fmt: skip
    """Open the cohort and leave out what the filters say."""
    from leptonhpc import genomics

    cohort = genomics.open_genotypes(source)
    log.say("genotypes", f"{cohort.shape[0]} samples, {cohort.shape[1]} variants of {cohort.name}")
    if maf or min_call_rate:
        cohort = genomics.filter_variants(
            cohort, min_maf=maf, min_call_rate=min_call_rate, memory=memory
        )
        log.say("after the filters", f"{cohort.shape[1]} variants")
    if prune is not None:
        cohort = genomics.ld_prune(cohort, threshold=prune, window=window, memory=memory)
        log.say("after pruning", f"{cohort.shape[1]} variants")
    return cohort
