"""Pictures of what was found: Manhattan, quantiles, principal components. They need matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtri

from leptonhpc.errors import OptionError, ShapeError
from leptonhpc.genomics.association import VARIABLES
from leptonhpc.genomics.genotypes import as_strings

if TYPE_CHECKING:
    import xarray

GENOME_WIDE = 5e-8
"""The customary threshold of a million independent tests."""

_CONTIG_COLOURS = ("#1b4f72", "#85a9c5")
_LEAST = 1e-300
_BAND_POINTS = 200


def plot_manhattan(
    result: xarray.Dataset,
    *,
    trait: str | None = None,
    threshold: float = GENOME_WIDE,
    ax: Any = None,
) -> Any:
    """Draw -log10 p of every variant along the genome.

    Parameters
    ----------
    result : xarray.Dataset
        What `gwas` gave.
    trait : str, optional
        Which; default: the first.
    threshold : float
        Where a line is drawn; 0 for none.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The picture.

    Raises
    ------
    OptionError
        If there is no such trait, or matplotlib is missing.
    """
    name, p = _p_values(result, trait)
    ax = ax if ax is not None else _new_axes(11, 4)
    contig = np.asarray(result["variant_contig"])
    labels = as_strings(result["contig_id"])
    at, middles = _along_genome(contig, np.asarray(result["variant_position"], np.float64))
    for number in range(len(labels)):
        here = contig == number
        colour = _CONTIG_COLOURS[number % len(_CONTIG_COLOURS)]
        ax.scatter(at[here], -np.log10(p[here]), s=5, color=colour, linewidths=0, rasterized=True)
    if threshold > 0:
        ax.axhline(-np.log10(threshold), color="#b03a2e", linewidth=0.8, linestyle="--")
    ax.set_xticks(middles, labels)
    top = 1.05 * max(-np.log10(np.nanmin(p, initial=1.0)), -np.log10(threshold or 1), 1.0)
    ax.set(xlabel="contig", ylabel="$-\\log_{10}\\,p$", title=name, ylim=(0, top))
    ax.margins(x=0.01)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_qq(result: xarray.Dataset, *, trait: str | None = None, ax: Any = None) -> Any:
    """Draw the p values against those of no association, with a 95 % band.

    Parameters
    ----------
    result : xarray.Dataset
        What `gwas` gave.
    trait : str, optional
        Which; default: the first.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The picture; the genomic inflation factor is in its title.

    Raises
    ------
    OptionError
        If there is no such trait, or matplotlib is missing.
    """
    from scipy.special import betaincinv

    name, p = _p_values(result, trait)
    ax = ax if ax is not None else _new_axes(4.5, 4.5)
    p = np.sort(p[np.isfinite(p)])
    m = len(p)
    if not m:
        raise OptionError(f"trait {name!r} has no p values to draw")
    expected = -np.log10((np.arange(m) + 0.5) / m)
    # the i-th of m uniform numbers has a beta distribution
    rank = np.unique(np.geomspace(1, m, _BAND_POINTS).astype(int))
    low, high = (-np.log10(betaincinv(rank, m + 1 - rank, q)) for q in (0.025, 0.975))
    ax.fill_between(expected[rank - 1], low, high, color="#d5d8dc", linewidth=0)
    ax.plot([0, expected[0]], [0, expected[0]], color="#808b96", linewidth=0.8)
    ax.scatter(expected, -np.log10(p), s=6, color=_CONTIG_COLOURS[0], linewidths=0, rasterized=True)
    ax.set(
        xlabel="expected $-\\log_{10}\\,p$", ylabel="observed $-\\log_{10}\\,p$",
        title=f"{name}, $\\lambda$ = {inflation(p):.3f}", xlim=(0, None), ylim=(0, None),
    )  # fmt: skip
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_components(
    model: xarray.Dataset,
    *,
    groups: ArrayLike | None = None,
    components: tuple[int, int] = (1, 2),
    ax: Any = None,
) -> Any:
    """Draw samples by two principal components.

    Parameters
    ----------
    model : xarray.Dataset
        What `pca` or `project` gave.
    groups : array of shape (samples,), optional
        Names or numbers that samples are coloured by.
    components : (int, int)
        Which, from 1.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The picture.

    Raises
    ------
    OptionError
        If there is no such component, or matplotlib is missing.
    ShapeError
        If groups are of other samples.
    """
    scores = np.asarray(model["sample_pca_projection"])
    if not all(1 <= c <= scores.shape[1] for c in components):
        raise OptionError(f"components are from 1 to {scores.shape[1]}; found {components}")
    group = np.zeros(len(scores)) if groups is None else np.asarray(groups)
    if group.shape != (len(scores),):
        raise ShapeError(f"groups need {len(scores)} entries; found shape {group.shape}")
    ax = ax if ax is not None else _new_axes(5.5, 4.5)
    x, y = (scores[:, c - 1] for c in components)
    for name in np.unique(group):
        here = group == name
        label = str(name) if groups is not None else "_all"  # which a legend leaves out
        ax.scatter(x[here], y[here], s=12, alpha=0.8, linewidths=0, label=label)
    share = model.get("sample_pca_explained_variance_ratio")
    for c, label in zip(components, (ax.set_xlabel, ax.set_ylabel), strict=True):
        label(f"PC{c}" if share is None else f"PC{c} ({100 * float(share[c - 1]):.2f} %)")
    if groups is not None:
        ax.legend(frameon=False, markerscale=1.5)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def inflation(p_values: ArrayLike) -> float:
    """Give the genomic inflation factor: the median chi-squared over that of no association.

    Parameters
    ----------
    p_values : array
        NaN is left out.

    Returns
    -------
    float
        1 where nothing is associated, and nothing is confounded.

    Examples
    --------
    >>> round(inflation([0.25, 0.5, 0.75]), 12)
    1.0
    """
    return float(chdtri(1, np.nanmedian(np.asarray(p_values, np.float64))) / chdtri(1, 0.5))


def _p_values(result: xarray.Dataset, trait: str | None) -> tuple[str, NDArray[np.float64]]:
    names = as_strings(result["trait"]).tolist()
    name = names[0] if trait is None else trait
    if name not in names:
        raise OptionError(f"there is no trait {name!r}; there are {', '.join(names)}")
    values = result[f"variant_{VARIABLES[result.attrs['model']]}_p_value"]
    p = np.asarray(values[:, names.index(name)], np.float64)
    return name, np.maximum(p, _LEAST)


def _along_genome(
    contig: NDArray[Any], position: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[float]]:
    """Put contigs one after another; give their middles too."""
    at, middles, begin = np.empty(len(contig)), [], 0.0
    for number in range(int(contig.max()) + 1):
        here = contig == number
        inside = position[here]
        if not inside.size:
            middles.append(begin)
            continue
        at[here] = begin + inside - inside.min()
        length = np.ptp(inside) + 1
        middles.append(begin + length / 2)
        begin += length
    return at, middles


def _new_axes(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        message = "pictures need matplotlib: pip install 'leptonhpc[genomics]'"
        raise OptionError(message) from error
    # not of pyplot: nothing is kept open, and no display is needed
    return Figure(figsize=(width, height), layout="constrained", dpi=120).add_subplot()
