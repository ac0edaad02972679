"""The command `eof`: empirical orthogonal functions of a climate field, from file to file."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from leptonhpc.cli import options as o
from leptonhpc.cli.running import refuse_existing, running

if TYPE_CHECKING:
    import xarray as xr

Data = Annotated[
    list[str],
    typer.Argument(
        metavar="STORE", help="The field: a Zarr group, a netCDF or GRIB file, or many files."
    ),
]
Variable = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Which variable; several, each with its own --variable."),
]
Modes = Annotated[int, typer.Option(help="How many.")]
Dim = Annotated[str, typer.Option(metavar="NAME", help="The dimension of samples.")]
Weights = Annotated[
    Literal["coslat", "sqrt_coslat", "none"],
    typer.Option(help="Multiply by the root of the cosine of latitude (both names), or not."),
]
Anomalies = Annotated[
    Literal["season", "month", "dayofyear", "hour"] | None,
    typer.Option(help="Take departures from the mean of each month, season, ..."),
]
Detrend = Annotated[int, typer.Option(help="Remove a polynomial of this degree; 0: none.")]
Gaps = Annotated[
    Literal["refuse", "em"],
    typer.Option(help="What scattered missing values are: an error, or filled by leading modes."),
]
Ddof = Annotated[int, typer.Option(help="Variances are sums of squares over samples less this.")]
Out = Annotated[
    str | None,
    typer.Option(
        metavar="OUT",
        help="A .zarr group or .nc file to be made. After a stop the same command goes on.",
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(metavar="PNG", help="Draw maps and series into this file, a new one."),
]


def eof(
    data: Data,
    modes: Modes = 10,
    dim: Dim = "time",
    variable: Variable = None,
    weights: Weights = "coslat",
    anomalies: Anomalies = None,
    detrend: Detrend = 0,
    gaps: Gaps = "refuse",
    ddof: Ddof = 1,
    accuracy: o.Accuracy = 1e-6,
    most_passes: o.MostPasses = 30,
    seed: o.Seed = 0,
    out: Out = None,
    memory: o.Memory = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is at OUT.")] = False,
    progress: o.Progress = None,
    plot: Plot = None,
    scheduler: o.Scheduler = None,
    json: o.Json = False,
) -> None:
    """Find the empirical orthogonal functions of a climate field."""
    with running(scheduler, out=out, overwrite=overwrite):
        refuse_existing(plot)
        if plot is not None:
            _require_picture(plot)
        from leptonhpc import climate

        found = climate.eof(
            data[0] if len(data) == 1 else data, modes, dim=dim, variable=variable or None,
            weights=None if weights == "none" else weights, anomalies=anomalies, detrend=detrend,
            gaps=gaps, ddof=ddof, accuracy=accuracy, most_passes=most_passes, seed=seed, out=out,
            memory=memory, overwrite=overwrite, progress=progress,
        )  # fmt: skip
        if plot is not None:
            name = json_module.loads(found.attrs["fields"])[0]
            climate.plot_eof(found, field=name).savefig(plot)
        _print_modes(found, out=out, as_json=json)


def _require_picture(path: Path) -> None:
    """Refuse, before anything is computed, a file that no picture can be written to."""
    from matplotlib.figure import Figure

    from leptonhpc.errors import OptionError

    known = Figure().canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        message = f"a picture is one of .{', .'.join(known)}; found {path.name!r}"
        raise OptionError(f"{message}. Give --plot another ending")
    if not path.absolute().parent.is_dir():
        raise OptionError(f"there is no folder {str(path.parent)!r} for the picture")


def _print_modes(found: xr.Dataset, *, out: str | None, as_json: bool) -> None:
    from leptonhpc.cli.show import print_json, print_note, print_table, print_text

    certificate = json_module.loads(found.attrs["certificate"])
    if as_json:
        print_json(_document(found, certificate, out))
        return
    rows = [
        (str(i + 1), *(f"{number:.6g}" for number in numbers), f"{certificate['residuals'][i]:.1e}")
        for i, numbers in enumerate(zip(*_columns(found).values(), strict=True))
    ]
    print_text(found.attrs["title"])
    print_table(("mode", "variance %", "eigenvalue", "North error", "residual"), rows)
    total = 100 * float(found.variance_fraction.sum())
    how = f"by {certificate['method']} in {certificate['passes']:.3g} passes"
    print_text(f"\n{total:.4f} % of the variance in {len(rows)} modes, {how}")
    if out is not None:
        print_text(f"stored in {out}: {', '.join(map(str, found.data_vars))}")
    else:
        print_note("EOFs and scores were not kept: --out stores them")


def _columns(found: xr.Dataset) -> dict[str, Any]:
    return {
        "percent": 100 * found.variance_fraction.values,
        "eigenvalues": found.eigenvalues.values,
        "north_errors": found.north_errors.values,
    }


def _document(found: xr.Dataset, certificate: Any, out: str | None) -> dict[str, Any]:
    return {
        "driver": "eof",
        "out": out,
        "sizes": dict(found.sizes),
        "singular_values": found.singular_values.values,
        "eigenvalues": found.eigenvalues.values,
        "variance_fraction": found.variance_fraction.values,
        "north_errors": found.north_errors.values,
        "total_variance": float(found.total_variance),
        "certificate": certificate,
        "report": json_module.loads(found.attrs["report"]),
    }
