"""The commands `gpca`, `grm` and `gwas`: from genotypes to text files as PLINK names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from leptonhpc.cli import options as o
from leptonhpc.cli.running import running

if TYPE_CHECKING:
    from leptonhpc.cli.unfinished import Unfinished
    from leptonhpc.genomics import Genotypes

Source = Annotated[
    str,
    typer.Argument(metavar="GENOTYPES", help="A PLINK .bed file, VCF-Zarr, or a Zarr matrix."),
]
Traits = Annotated[
    Path, typer.Argument(metavar="PHENOTYPES", help="A table: FID IID and a column for each trait.")
]
Out = Annotated[
    str,
    typer.Option(
        metavar="PREFIX",
        help="What the files' names begin with. After a stop the same command goes on.",
    ),
]
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
Precision = Annotated[Literal["single", "double"], typer.Option(help="Of products.")]
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
Firth = Annotated[
    Literal["fallback", "never", "always"],
    typer.Option(help="Logistic: Firth's penalty where there is no estimate without it, or not."),
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
    precision: Precision = "single",
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
    endings = ["eigenvec", "eigenval", *["pca.png"] * (plot and components > 1)]
    selection = _Selection(maf, min_call_rate, prune, window)
    with (
        running(scheduler, out=out, overwrite=overwrite),
        _log(out, endings, overwrite, json) as log,
    ):
        from leptonhpc import genomics

        options: Any = {
            "components": components, "method": method, "precision": precision,
            "accuracy": accuracy, "most_passes": most_passes, "seed": seed,
        }  # fmt: skip
        cohort = genomics.open_genotypes(genotypes)
        if log.begins("gpca", cohort, {**options, **vars(selection), "plot": plot}):
            cohort = _chosen(cohort, log, selection, memory)
            found = log.work.dataset(
                "pca",
                lambda place: genomics.pca(
                    cohort, out=place, memory=memory, progress=progress, **options
                ),
            )
            log.files += log.work.text(genomics.write_pca, found)
            shares = [float(v) for v in found.sample_pca_explained_variance_ratio]
            log.say("explained variance", ", ".join(f"{100 * s:.3f} %" for s in shares))
            log.say("converged", "yes" if found.attrs["converged"] else "no")
            if plot and components > 1:
                log.files.append(log.work.picture(genomics.plot_components(found), "pca.png"))


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
    endings = ["rel", "rel.id", *["king", "king.id"] * king]
    selection = _Selection(maf, min_call_rate, prune, window)
    with (
        running(scheduler, out=out, overwrite=overwrite),
        _log(out, endings, overwrite, json) as log,
    ):
        from leptonhpc import genomics

        cohort = genomics.open_genotypes(genotypes)
        if log.begins("grm", cohort, {"king": king, **vars(selection)}):
            cohort = _chosen(cohort, log, selection, memory)
            for function in [genomics.grm, *[genomics.kinship] * king]:
                _write_pairs(log, cohort, function, memory, progress)


def gwas(
    genotypes: Source,
    phenotypes: Traits,
    out: Out,
    covariates: Covariates = None,
    model: Model = "linear",
    missing: Missing = "drop",
    firth: Firth = "fallback",
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
    selection = _Selection(maf, min_call_rate, None, 2)
    with running(scheduler, out=out, overwrite=overwrite):
        from leptonhpc import genomics

        traits = genomics.read_table(phenotypes)
        known = None if covariates is None else genomics.read_table(covariates)
        endings = _gwas_endings(traits.columns, model, plot)
        with _log(out, endings, overwrite, json) as log:
            options: Any = {
                "model": model, "missing": missing, "firth": firth, "unmatched": unmatched,
                "loco": loco,
            }  # fmt: skip
            tables = [_digest(path) for path in (phenotypes, covariates)]
            asked = {**options, **vars(selection), "plot": plot, "tables": tables}
            cohort = genomics.open_genotypes(genotypes)
            if log.begins("gwas", cohort, asked):
                cohort = _chosen(cohort, log, selection, memory)
                found = log.work.dataset(
                    "gwas",
                    lambda place: genomics.gwas(
                        cohort, traits, covariates=known, out=place, memory=memory,
                        progress=progress, **options,
                    ),
                )  # fmt: skip
                _write_associations(log, found, plot)


def _write_pairs(log: _Log, cohort: Genotypes, function: Any, memory: Any, progress: Any) -> None:
    """Make one matrix of pairs and write it, unless an earlier run did."""
    from leptonhpc import genomics
    from leptonhpc.genomics.pairs import pairs_dataset

    matrix = log.work.array(
        function.__name__,
        lambda place: function(cohort, out=place, memory=memory, progress=progress),
    )
    related = function is genomics.grm
    variable = "stat_genomic_relationship" if related else "stat_king_kinship"
    log.files += log.work.text(genomics.write_pairs, pairs_dataset(cohort, variable, matrix))


def _write_associations(log: _Log, found: Any, plot: bool) -> None:
    from leptonhpc import genomics

    log.files += log.work.text(genomics.write_gwas, found)
    for trait, samples in zip(found.trait.values, found.trait_n_samples.values, strict=True):
        log.say(f"samples with {trait}", str(int(samples)))
        if plot:
            for name, draw in (("manhattan", genomics.plot_manhattan), ("qq", genomics.plot_qq)):
                picture = draw(found, trait=str(trait))
                log.files.append(log.work.picture(picture, f"{trait}.{name}.png"))


class _Log:
    """What was done, said on standard output and kept beside the results."""

    def __init__(self, work: Unfinished) -> None:
        import sys

        from leptonhpc import __version__

        self.work = work
        self.lines = {"leptonhpc": __version__, "command": " ".join(sys.argv[1:])}
        self.files: list[Path] = []

    def say(self, label: str, text: str) -> None:
        """Note one fact."""
        self.lines[label] = text

    def begins(self, command: str, cohort: Genotypes, question: Mapping[str, Any]) -> bool:
        """Bind the work to the command; say whether there is something to compute."""
        from leptonhpc.genomics.kept import digest_of

        samples, variants = cohort.samples, cohort.variants
        names = [samples.sample_id, variants.variant_id, variants.contig]
        inputs = {"calls": cohort.calls.source.identity(), "names": digest_of(*names)}
        self.work.begin(inputs, {"command": command, **question})
        if self.work.goes_on:
            self.say("goes on", "from what an earlier run had done")
        shape = f"{cohort.shape[0]} samples, {cohort.shape[1]} variants"
        self.say("genotypes", f"{shape} of {cohort.name}")
        return not self.work.is_written

    def seal(self, seconds: float) -> None:
        """Write the log beside the results."""
        self.say("seconds", f"{seconds:.2f}")
        width = max(map(len, self.lines)) + 2
        folder, prefix = Path(self.work.prefix).parent, Path(self.work.prefix).name
        final = [str(folder / file.name) for file in self.files]
        text = "\n".join(f"{label:<{width}}{line}" for label, line in self.lines.items())
        text += "".join(f"\n{'wrote':<{width}}{file}" for file in final)
        (self.work.files / f"{prefix}.log").write_text(text + "\n")
        files = [*final, str(folder / f"{prefix}.log")]
        self.work.seal({"text": text, "lines": self.lines, "files": files})


@contextmanager
def _log(prefix: str, endings: Sequence[str], overwrite: bool, as_json: bool) -> Iterator[_Log]:
    """Time the command, then give its files their names and print its log."""
    import time

    from leptonhpc.cli.show import print_json, print_text
    from leptonhpc.cli.unfinished import Unfinished

    began = time.perf_counter()
    work = Unfinished(prefix, ["log", *endings], overwrite=overwrite)
    with work.held():
        try:
            log = _Log(work)
            yield log
            if not work.is_written:
                log.seal(time.perf_counter() - began)
            document = work.publish()
        except BaseException:
            work.give_up()
            raise
    if as_json:
        print_json({**document["lines"], "files": document["files"]})
    else:
        print_text(document["text"])


@dataclass(frozen=True)
class _Selection:
    """Which variants are taken."""

    maf: float
    min_call_rate: float
    prune: float | None
    window: int


def _gwas_endings(traits: Sequence[str], model: str, plot: bool) -> list[str]:
    """Give the endings of files; names of traits that cannot be part of one are refused."""
    from leptonhpc.genomics.text_files import gwas_endings

    pictures = [f"{trait}.{kind}.png" for trait in traits for kind in ("manhattan", "qq")]
    return [*gwas_endings(traits, model), *pictures * plot]


def _digest(path: Path | None) -> str | None:
    from hashlib import sha256

    return None if path is None else sha256(path.read_bytes()).hexdigest()[:16]


def _chosen(cohort: Genotypes, log: _Log, asked: _Selection, memory: Any) -> Genotypes:
    """Leave out what the filters say, or said to an earlier run."""
    from leptonhpc import genomics

    if asked.maf or asked.min_call_rate:
        limits: Any = {"min_maf": asked.maf, "min_call_rate": asked.min_call_rate}
        cohort = _kept(
            "filtered", cohort, log,
            lambda: genomics.filter_variants(cohort, memory=memory, **limits),
        )  # fmt: skip
        log.say("after the filters", f"{cohort.shape[1]} variants")
    if asked.prune is not None:
        limits = {"threshold": asked.prune, "window": asked.window}
        filtered = cohort
        cohort = _kept(
            "pruned", cohort, log, lambda: genomics.ld_prune(filtered, memory=memory, **limits)
        )
        log.say("after pruning", f"{cohort.shape[1]} variants")
    return cohort


def _kept(name: str, cohort: Genotypes, log: _Log, choose: Callable[[], Genotypes]) -> Genotypes:
    import numpy as np

    def indices() -> Any:
        source: Any = choose().calls.source
        unchanged = source is cohort.calls.source
        return np.arange(cohort.shape[1]) if unchanged else source.columns

    columns = log.work.numbers(name, indices)
    return cohort if len(columns) == cohort.shape[1] else cohort.select(variants=columns)
