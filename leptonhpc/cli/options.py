"""The options of the commands: one type for each keyword of the functions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Method = Literal["auto", "gram", "krylov", "sketch"]
Missing = Literal["raise", "mean"]
Order = Literal["fro", "1", "inf", "2", "nuc"]

Array = Annotated[str, typer.Argument(metavar="X", help="Zarr array: a path or URL.")]
Left = Annotated[str, typer.Argument(metavar="A", help="Left factor, a Zarr array.")]
Right = Annotated[str, typer.Argument(metavar="B", help="Right factor, a Zarr array.")]

Rank = Annotated[int | None, typer.Option(help="Number of modes. Default: all.")]
Tol = Annotated[
    float | None,
    typer.Option(help="As many modes as bring the Frobenius error below TOL |A|."),
]
Variance = Annotated[
    float | None, typer.Option(help="As many modes as capture this share of |A|^2.")
]
ComputeUv = Annotated[
    bool,
    typer.Option("--compute-uv/--no-compute-uv", help="Vectors and values, or values only."),
]
Ord = Annotated[
    Order,
    typer.Option(
        help="Frobenius norm, largest column sum, largest row sum, largest singular value, sum of "
        "singular values."
    ),
]

Center = Annotated[bool, typer.Option("--center", help="Subtract each column's mean.")]
Scale = Annotated[
    str | None,
    typer.Option(
        metavar="std|FILE.npy",
        help="Divide each column by its standard deviation, or by these numbers.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.npy",
        help="Multiply each column by its weight, after centring and scaling.",
        exists=True,
        dir_okay=False,
    ),
]
MissingOption = Annotated[
    Missing, typer.Option(help="What NaN is: an error, or the column's mean.")
]

MethodOption = Annotated[
    Method,
    typer.Option(help="Gram matrix, fused block Krylov iteration, or one-pass sketch."),
]
Accuracy = Annotated[float, typer.Option(help="Krylov: iterate until |A'u - sv| <= ACCURACY s.")]
MostPasses = Annotated[int, typer.Option(help="Krylov: stop after so many passes, with a warning.")]
Seed = Annotated[int, typer.Option(help="Of everything that is drawn at random.")]

Out = Annotated[
    str | None,
    typer.Option(
        metavar="OUT",
        help="Where to store the result: a path or URL. After a stop the same command goes on.",
    ),
]
RequiredOut = Annotated[
    str,
    typer.Option(
        metavar="OUT",
        help="Where to store the product: a path or URL. After a stop the same command goes on.",
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="BYTES",
        help="Budget of each worker with everything in it, such as 2GB. Default: the workers' "
        "limits, or half of the free memory.",
    ),
]
Resume = Annotated[
    bool | None,
    typer.Option(
        "--resume/--no-resume",
        help="There must be an unfinished output to go on with; there must be none. Default: go on "
        "if it belongs to this job.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what is at OUT, finished or not.")
]
Progress = Annotated[
    bool | None,
    typer.Option(
        "--progress/--no-progress",
        help="Show a bar on standard error. Default: in a terminal.",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS|FILE",
        help="Run on this Dask cluster: its scheduler's address or file. Default: in this process.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
