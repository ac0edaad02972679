"""The commands `datasets list` and `datasets fetch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leptonhpc.cli.options import Json

if TYPE_CHECKING:
    from leptonhpc.datasets import Dataset

app = typer.Typer(help="Real and simulated data to try things on.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As `leptonhpc datasets list` has it.")]
Out = Annotated[str, typer.Option(metavar="OUT", help="Where the Zarr array or group is made.")]
Cache = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Keeps what was downloaded. Default: the user's cache."),
]
Seed = Annotated[int, typer.Option(help="Of simulated data: same seed, same numbers.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is at OUT.")]
Chunks = Annotated[
    str | None,
    typer.Option(metavar="N,N[,N]", help="Chunk shape of the main array. Default: about 4 MiB."),
]
Genotypes = Annotated[int | None, typer.Option(help="Of simulated-genotypes.")]
Climate = Annotated[int | None, typer.Option(help="Of simulated-climate.")]


@app.command("list")
def list_datasets(json: Json = False) -> None:
    """List the data sets that can be fetched or simulated."""
    from dataclasses import asdict

    from leptonhpc.cli.show import print_json, print_text
    from leptonhpc.datasets import list_datasets

    found = list_datasets()
    if json:
        print_json([asdict(dataset) for dataset in found])
        return
    width = max(len(dataset.name) for dataset in found) + 2
    print_text("\n".join(f"  {d.name:<{width}}{_describe(d)}" for d in found))


@app.command()
def fetch(
    name: Name,
    out: Out,
    cache: Cache = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    chunks: Chunks = None,
    people: Genotypes = None,
    variants: Genotypes = None,
    populations: Genotypes = None,
    times: Climate = None,
    lats: Climate = None,
    lons: Climate = None,
    modes: Climate = None,
    json: Json = False,
) -> None:
    """Fetch or simulate a data set and write it as Zarr."""
    from leptonhpc.cli.stored import print_info
    from leptonhpc.datasets import fetch

    _require_known(name)
    location = fetch(
        name, out=out, cache=cache, seed=seed, overwrite=overwrite, chunks=_lengths(chunks),
        people=people, variants=variants, populations=populations, times=times, lats=lats,
        lons=lons, modes=modes,
    )  # fmt: skip
    print_info(location, as_json=json)


def _describe(dataset: Dataset) -> str:
    shape = " x ".join(map(str, dataset.shape))
    sizes = ", ".join(f"--{option.name}" for option in dataset.options)
    return f"{dataset.summary}; {shape} {dataset.dtype}" + (f" ({sizes})" if sizes else "")


def _require_known(name: str) -> None:
    """Make a name that does not exist an error of usage."""
    from leptonhpc.datasets.catalogue import find_dataset
    from leptonhpc.errors import DatasetError, OptionError

    try:
        find_dataset(name)
    except DatasetError as error:
        raise OptionError(str(error)) from error


def _lengths(text: str | None) -> tuple[int, ...] | None:
    from leptonhpc.errors import OptionError

    if text is None:
        return None
    try:
        return tuple(int(length) for length in text.split(","))
    except ValueError:
        message = f"--chunks needs lengths such as 1000,200; found {text!r}"
        raise OptionError(message) from None
