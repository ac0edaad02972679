"""The options of the commands: one type for each keyword of the functions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Method = Literal["auto", "gram", "krylov", "sketch", "mixed", "divide"]
Missing = Literal["raise", "mean"]
Order = Literal["fro", "1", "-1", "inf", "-inf", "2", "-2", "nuc"]
EighMethod = Literal["auto", "gathered", "divide", "krylov"]
Which = Literal["largest", "smallest"]
QrMethod = Literal["auto", "cholesky", "householder"]
Assume = Literal["gen", "sym", "pos"]
SolvePrecision = Literal["full", "mixed", "float64", "float32", "tf32"]
Precision = Literal["float64", "float32", "tf32"]
DtypePrecision = Literal["float64", "float32"]
Side = Literal["right", "left"]
Loss = Literal["frobenius", "kullback-leibler"]
NmfMethod = Literal["sweeps", "compressed"]
Init = Literal["auto", "nndsvd", "nndsvda", "random"]

Array = Annotated[str, typer.Argument(metavar="X", help="Zarr array: a path or URL.")]
Left = Annotated[str, typer.Argument(metavar="A", help="Left factor, a Zarr array.")]
Right = Annotated[str, typer.Argument(metavar="B", help="Right factor, a Zarr array.")]
Matrix = Annotated[str, typer.Argument(metavar="A", help="The matrix, a Zarr array.")]
Sides = Annotated[str, typer.Argument(metavar="B", help="Right-hand sides, a Zarr array.")]

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
        help="Frobenius norm, largest and smallest column sum, row sum and singular value, sum of "
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

Pairs = Annotated[int | None, typer.Option("--k", help="Number of pairs. Default: all.")]
WhichOption = Annotated[Which, typer.Option(help="Which K, by algebraic value.")]
EighTol = Annotated[
    float | None,
    typer.Option(
        help="Krylov: iterate until |A v - w v| <= TOL |A|. Default 1e-8, in single precision 1e-4."
    ),
]
EighMethodOption = Annotated[
    EighMethod, typer.Option(help="All of the matrix in one worker, or block Lanczos.")
]
QrMethodOption = Annotated[
    QrMethod,
    typer.Option(help="Cholesky factors of Gram matrices (tall matrices), or reflectors (all)."),
]
AssumeOption = Annotated[
    Assume, typer.Option(help="What A is: general, symmetric, or positive definite (Cholesky).")
]
SolvePrecisionOption = Annotated[
    SolvePrecision,
    typer.Option(help="Compute in the precision of A, factor in single and refine, or all in one."),
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option(
        help="What is computed with; tf32 needs a GPU. Default: the precision of the input."
    ),
]
DtypePrecisionOption = Annotated[
    DtypePrecision | None,
    typer.Option(help="What is computed with. Default: the precision of the input."),
]
Rcond = Annotated[
    float | None,
    typer.Option(help="Singular values up to RCOND times the largest count as zero."),
]
Shift = Annotated[float, typer.Option(help="What is added to the diagonal of A.")]
Damp = Annotated[float, typer.Option(help="Weight of |X|: the square root of a ridge parameter.")]
Guess = Annotated[
    str | None,
    typer.Option("--x0", metavar="X0", help="First guess, a Zarr array. Default: zero."),
]
ResidualTol = Annotated[
    float | None,
    typer.Option(help="When to stop, relative. Default 1e-8, in single precision 1e-5."),
]
SketchRank = Annotated[
    int | None, typer.Option(help="Of the preconditioner. Default: chosen as A is seen.")
]
Passes = Annotated[int, typer.Option(help="Stop after so many passes, with a warning.")]
Components = Annotated[
    int | None, typer.Option("--rank", help="Number of components; that of H0, if it is given.")
]
LossOption = Annotated[
    Loss, typer.Option(help="What is lowered: |X - WH|, or the divergence of WH from X.")
]
NmfMethodOption = Annotated[
    NmfMethod, typer.Option(help="Sweeps over X, or over its leading modes and X once.")
]
InitOption = Annotated[
    Init, typer.Option(help="How W and H begin: from singular vectors, or at random.")
]
FirstW = Annotated[
    str | None, typer.Option("--w0", metavar="W0", help="W to begin with, a Zarr array.")
]
FirstH = Annotated[
    str | None, typer.Option("--h0", metavar="H0", help="H to begin with, a Zarr array.")
]
UpdateH = Annotated[
    bool, typer.Option("--update-h/--no-update-h", help="Both factors, or W for the H0 given.")
]
NmfTol = Annotated[
    float,
    typer.Option(
        help="Stop where the error falls by less than TOL of itself a sweep, is TOL |X|, or the "
        "optimality conditions hold to TOL of it."
    ),
]
MostSweeps = Annotated[int, typer.Option(help="Stop after so many sweeps, with a warning.")]
SideOption = Annotated[Side, typer.Option(help="Where P stands: A = U P, or A = P U.")]
NormOfCond = Annotated[Order, typer.Option("--p", help="Which norm of A and of its inverse.")]
RankTol = Annotated[
    float | None,
    typer.Option(help="Singular values up to TOL times the largest count as zero."),
]

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
        help="Where to store the array: a path or URL. After a stop the same command goes on.",
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
        envvar="LEPTONHPC_SCHEDULER",
        help="Run on this Dask cluster: its scheduler's address or file; insecure+ADDRESS for one "
        "without TLS. Default: in this process.",
    ),
]
Machine = Annotated[
    Path | None,
    typer.Option(
        metavar="TOML",
        help="Plan for the machine in this file, and simulate it. Default: the cluster, or this "
        "process.",
    ),
]
Policy = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="How tasks are placed on the devices: homogeneous, weighted, locality, heft. Default: "
        "as is fastest in the simulation.",
    ),
]
Timeline = Annotated[
    Path | None,
    typer.Option(metavar="SVG", help="Draw the simulated timeline into this file, a new *.svg."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
