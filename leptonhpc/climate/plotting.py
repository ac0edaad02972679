"""Pictures of modes: maps on top, series below; and of their variances."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from leptonhpc.climate.axes import (
    draw_coastlines,
    globe,
    goes_down,
    in_order,
    label_of,
    up_and_across,
)
from leptonhpc.climate.parts import field_names, one_field, part, require_modes, sample_dim
from leptonhpc.climate.significance import north_separated
from leptonhpc.errors import OptionError, ShapeError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

_SMALL = {"size": 8}


def plot_eof(
    modes: xr.Dataset,
    n_modes: int | None = None,
    *,
    field: str | None = None,
    title: str | None = None,
    cmap: str = "RdBu_r",
    projection: Any = None,
) -> Figure:
    """Draw modes: what one standard deviation of each adds to the field, and its series.

    Parameters
    ----------
    modes : Dataset
        A result of `eof`, `rotate` or `hilbert_eof` (of which the real parts are drawn), with one
        or two dimensions of space; of more, select first.
    n_modes : int, optional
        So many from the first; default all, at most 4.
    field : str, optional
        Which, if there are several.
    title : str, optional
        Above all.
    cmap : str
        A diverging colour map of matplotlib; zero is in its middle.
    projection : cartopy.crs.CRS, optional
        Draw maps of latitude and longitude in it, also of grids that are curved, with coastlines
        (cartopy fetches them once; where it cannot, there are none, and a warning).

    Returns
    -------
    Figure
        Of matplotlib; ``figure.savefig("modes.png")`` keeps it.

    Raises
    ------
    OptionError, ShapeError
        If there are no such modes, too many dimensions, or no latitudes for a projection.
    ImportError
        If matplotlib, or cartopy where it is asked for, is not installed.
    """
    from matplotlib.figure import Figure

    name = one_field(modes, field)
    there = modes.sizes["mode"]
    count = min(4, there) if n_modes is None else n_modes
    if not 1 <= count <= there:
        raise OptionError(f"n_modes is from 1 to {there}; found {n_modes}")
    patterns = _patterns(modes, name, count)
    figure = Figure(figsize=(0.8 + 3.7 * count, 4.6), dpi=110, layout="constrained")
    parts = "real parts of EOFs" if modes.pcs.dtype.kind == "c" else "EOFs"
    figure.suptitle(title or f"{parts[0].upper()}{parts[1:]} of {name}")
    rows = figure.add_gridspec(2, count, height_ratios=(3, 2))
    maps = []
    for number in range(count):
        mode = patterns.isel(mode=number)
        share = 100 * float(modes.variance_fraction[number])
        axes = figure.add_subplot(
            rows[0, number], projection=projection if mode.ndim == 2 else None
        )
        _draw_map(figure, axes, mode, cmap, projection)
        maps.append(axes)
        axes.set_title(f"mode {int(mode['mode'])}: {share:.1f} %", fontsize=10)
        below = figure.add_subplot(rows[1, number])
        _draw_series(below, modes, number, first=number == 0)
    if projection is not None and patterns.ndim == 3:
        draw_coastlines(maps, globe(mode, *up_and_across(mode))[0])
    return figure


def plot_scree(
    modes: xr.Dataset, n_modes: int | None = None, *, title: str | None = None
) -> Figure:  # fmt: skip
    """Draw the eigenvalues of modes with their sampling errors, by North's rule.

    Parameters
    ----------
    modes : Dataset
        A result of `eof` or `hilbert_eof`, not rotated.
    n_modes : int, optional
        So many from the first; default all.
    title : str, optional
        Above all.

    Returns
    -------
    Figure
        Of matplotlib. Bars are one ``north_errors`` up and down; modes that `north_separated` says
        are apart from their neighbours are filled. To the right are shares of the total variance.

    Raises
    ------
    OptionError
        If there are no such modes, or they are rotated: they have no such errors.
    ImportError
        If matplotlib is not installed.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    require_modes(modes)
    there = modes.sizes["mode"]
    count = there if n_modes is None else n_modes
    if not 1 <= count <= there:
        raise OptionError(f"n_modes is from 1 to {there}; found {n_modes}")
    apart = north_separated(modes).values[:count]  # the neighbour that is not drawn counts too
    drawn = modes.isel(mode=slice(count))
    numbers, values = drawn["mode"].values, drawn.eigenvalues.values
    figure = Figure(figsize=(5.6, 3.8), dpi=110, layout="constrained")
    figure.suptitle(title or f"Eigenvalues of {', '.join(field_names(modes))}")
    axes = figure.add_subplot()
    axes.plot(numbers, values, color="0.8", linewidth=1, zorder=1)
    for chosen, face, label in (
        (apart, "#1b4f72", "apart from its neighbours"),
        (~apart, "white", "not apart from one, by North's rule"),
    ):
        if chosen.any():
            axes.errorbar(
                numbers[chosen], values[chosen], yerr=drawn.north_errors.values[chosen], fmt="o",
                color="#1b4f72", markerfacecolor=face, markersize=4, capsize=3, label=label,
            )  # fmt: skip
    axes.set(xlabel="mode", ylabel="eigenvalue", xlim=(0.5, count + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, frameon=False)
    percent = 100 / float(modes.total_variance)
    functions: Any = (lambda x: x * percent, lambda y: y / percent)
    share = axes.secondary_yaxis("right", functions=functions)
    share.set_ylabel("share of the variance (%)")
    return figure


def _patterns(modes: xr.Dataset, name: str, count: int) -> xr.DataArray:
    """Give EOFs in the units of the field, for one standard deviation of the scores."""
    weights = part(modes, "weights", name)
    eofs = part(modes, "eofs", name).isel(mode=slice(count))
    if eofs.ndim not in (2, 3):
        dims = ", ".join(str(dim) for dim in eofs.dims if dim != "mode")
        message = (
            f"maps have one or two dimensions; the EOFs of {name} have {dims}. Select one of a "
            "dimension with modes.isel"
        )
        raise ShapeError(message)
    deviation = np.sqrt(modes.eigenvalues.isel(mode=slice(count)))
    patterns = (eofs / weights.where(weights > 0) * deviation).real.transpose("mode", ...)
    units = part(modes, "mean", name).attrs.get("units", "")
    found: xr.DataArray = patterns.assign_attrs(units=units).load()
    return found


def _draw_map(figure: Figure, axes: Any, mode: xr.DataArray, cmap: str, projection: Any) -> None:
    units = mode.attrs["units"]
    label = f"{units} per standard deviation" if units else "per standard deviation"
    if mode.ndim == 1:
        places, values = in_order(mode, str(mode.dims[0]))
        axes.plot(places, values.values, color="0.2", linewidth=1)
        axes.axhline(0, color="0.7", linewidth=0.6, zorder=0)
        axes.set(xlabel=label_of(mode, str(mode.dims[0])), ylabel=label)
        return
    axes.set_facecolor("0.85")  # land
    y, x = up_and_across(mode)
    limit = float(abs(mode).max()) or 1.0
    options: dict[str, Any] = {"cmap": cmap, "vmin": -limit, "vmax": limit, "shading": "nearest"}
    if projection is not None:
        crs: Any = import_module("cartopy.crs")
        options["transform"] = crs.PlateCarree()
        across, up = globe(mode, y, x)
        lines = {"linewidth": 0.3, "color": "0.6", "xlabel_style": _SMALL, "ylabel_style": _SMALL}
        axes.gridlines(draw_labels=["left", "bottom"], **lines)
        values = mode.transpose(y, x)
    else:
        axes.set(xlabel=label_of(mode, x), ylabel=label_of(mode, y))
        up, values = in_order(mode.transpose(y, x), y)
        across, values = in_order(values, x)
        if goes_down(mode, y):
            axes.invert_yaxis()
    drawn = axes.pcolormesh(across, up, values.values, **options)
    bar = figure.colorbar(drawn, ax=axes, orientation="horizontal", shrink=0.9, pad=0.04)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _draw_series(axes: Any, modes: xr.Dataset, number: int, *, first: bool) -> None:
    dim = sample_dim(modes)
    series = (modes.pcs / np.sqrt(modes.eigenvalues)).isel(mode=number).real
    when, series = in_order(series, dim)
    axes.plot(when, series.values, color="0.2", linewidth=0.9)
    axes.axhline(0, color="0.7", linewidth=0.6, zorder=0)
    axes.margins(x=0.01)
    axes.tick_params(labelsize=8)
    axes.set_xlabel(dim)
    if when.dtype.kind == "M":
        dates: Any = import_module("matplotlib.dates")
        locator = dates.AutoDateLocator(minticks=3, maxticks=6)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    if first:
        axes.set_ylabel("score (standardised)")
