"""Risk of a portfolio: covariance cleaned of noise, factors, value at risk by Monte Carlo.

python run.py [--data prices.zarr] [--paths 4000000] [--workers 4]
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import leptonhpc as lh
from leptonhpc import datasets, store

BINS, RANGE = 40_000, 40.0  # of the histogram of losses: up to 40 standard deviations


@dataclass(frozen=True)
class Cleaned:
    """A correlation matrix, and what of it is more than noise."""

    eigenvalues: np.ndarray
    """Of the sample correlation, decreasing."""
    edge: float
    """Largest eigenvalue that noise gives (Marchenko and Pastur)."""
    factors: np.ndarray
    """(k, companies): eigenvectors above the edge."""
    correlation: np.ndarray


def main() -> None:
    """Run every step and leave the files."""
    arguments = parse()
    arguments.folder.mkdir(exist_ok=True)
    returns, names = log_returns(arguments)
    deviations = returns.std(axis=0)
    cleaned = clean_correlation(returns)
    covariance = cleaned.correlation * np.outer(deviations, deviations)
    weights = np.full(len(names), 1 / len(names))  # the same in each company
    sigma = float(np.sqrt(weights @ covariance @ weights))
    print(f"{len(cleaned.factors)} factors above the noise edge {cleaned.edge:.3f}; the first")
    print(f"holds {100 * cleaned.eigenvalues[0] / len(names):.1f} % of the correlation")
    shares = factor_shares(cleaned, deviations * weights)
    print("shares of the risk:", *(f"{100 * share:.1f} %" for share in shares), "(the rest last)")
    cluster = lh.cluster.local(arguments.workers) if arguments.workers else nullcontext()
    with cluster:
        losses = {
            name: simulate(covariance, weights, freedom, arguments)
            for name, freedom in (("normal", None), ("student", arguments.freedom))
        }
    risks = {name: compare(name, histogram, sigma, arguments) for name, histogram in losses.items()}
    own = -returns @ weights
    risks["history"] = {"value_at_risk": float(np.quantile(own, arguments.level))}
    print(f"history: {100 * risks['history']['value_at_risk']:.3f} %")
    draw(cleaned, len(returns), losses, own, sigma, risks, arguments.folder)
    (arguments.folder / "risk.json").write_text(json.dumps(risks, indent=2))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="Zarr array of prices (days, companies); default: fetched")
    parser.add_argument("--paths", type=int, default=4_000_000, help="draws of one day")
    parser.add_argument("--parts", type=int, default=40, help="in which they are drawn")
    parser.add_argument("--level", type=float, default=0.99, help="of the value at risk")
    parser.add_argument("--freedom", type=float, default=4.0, help="of Student's t")
    parser.add_argument("--workers", type=int, help="processes; default: threads of this one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("market-risk-output"))
    return parser.parse_args()


def log_returns(arguments: argparse.Namespace) -> tuple[np.ndarray, list[str]]:
    """Read prices; give the logarithms of their daily ratios, and the companies."""
    path = arguments.data
    if path is None:
        group = arguments.folder / "prices.zarr"
        if not group.exists():
            datasets.fetch("sp500-prices", out=group)
        path = f"{group}/price"
    attributes = store.read_attributes(path)
    prices = np.asarray(lh.open(path), dtype=np.float64)
    names = attributes.get("tickers") or [f"company {i}" for i in range(prices.shape[1])]
    return np.diff(np.log(prices), axis=0), list(names)


def clean_correlation(returns: np.ndarray) -> Cleaned:
    """Replace the eigenvalues that noise explains by their mean: Laloux et al., PRL 83, 1999."""
    days, companies = returns.shape
    scaled = (returns - returns.mean(axis=0)) / returns.std(axis=0)
    result = lh.svd(scaled, rank=companies, progress=False)
    eigenvalues, vectors = result.s**2 / days, np.asarray(result.vh)
    edge = (1 + np.sqrt(companies / days)) ** 2
    above = eigenvalues > edge
    kept = np.where(above, eigenvalues, eigenvalues[~above].mean())
    correlation = vectors.T * kept @ vectors
    scale = np.sqrt(np.diag(correlation))  # a correlation has ones on its diagonal
    return Cleaned(eigenvalues, edge, vectors[above], correlation / np.outer(scale, scale))


def factor_shares(cleaned: Cleaned, exposures: np.ndarray) -> np.ndarray:
    """Give the share of each factor in the variance of a portfolio, and that of all else."""
    k = len(cleaned.factors)
    parts = cleaned.eigenvalues[:k] * (cleaned.factors @ exposures) ** 2
    whole = exposures @ cleaned.correlation @ exposures
    return np.append(parts, whole - parts.sum()) / whole


def simulate(
    covariance: np.ndarray, weights: np.ndarray, freedom: float | None, arguments: Any
) -> np.ndarray:
    """Draw days on whatever there is; give the histogram of losses, (BINS,)."""
    root = np.linalg.cholesky(covariance)
    sigma = np.sqrt(weights @ covariance @ weights)
    draw_part = partial(losses_of_part, exposures=root.T @ weights / sigma, freedom=freedom)
    sizes = [len(part) for part in np.array_split(range(arguments.paths), arguments.parts)]
    results = lh.parallel.parallel_process(draw_part, sizes, seed=arguments.seed)
    return lh.parallel.aggregate_results(results, "sum")


def losses_of_part(
    paths: int, *, exposures: np.ndarray, freedom: float | None, rng: np.random.Generator
) -> np.ndarray:
    """Draw days of all companies; count the portfolio's losses, in its standard deviations."""
    counts = np.zeros(BINS, np.int64)
    for start in range(0, paths, 10_000):
        factors = rng.standard_normal((min(10_000, paths - start), len(exposures)))
        losses = -factors @ exposures
        if freedom is not None:  # one shock for all companies: fat tails together, variance one
            losses *= np.sqrt((freedom - 2) / rng.chisquare(freedom, len(losses)))
        places = np.clip((losses / RANGE + 0.5) * BINS, 0, BINS - 1).astype(np.int64)
        counts += np.bincount(places, minlength=BINS)
    return counts


def compare(name: str, counts: np.ndarray, sigma: float, arguments: Any) -> dict[str, float]:
    """Read the value at risk off the histogram, and hold it against the closed form."""
    level, n = arguments.level, int(counts.sum())
    edges = (np.arange(BINS + 1) / BINS - 0.5) * RANGE
    below = np.concatenate([[0], np.cumsum(counts)]) / n
    found = float(np.interp(level, below, edges))
    law = stats.norm()
    if name == "student":
        freedom = arguments.freedom
        law = stats.t(freedom, scale=np.sqrt((freedom - 2) / freedom))
    exact = float(law.ppf(level))
    error = float(np.sqrt(level * (1 - level) / n) / law.pdf(exact))  # of a quantile of n draws
    print(
        f"{name}: value at risk {100 * sigma * found:.4f} % a day at {level:.1%}, closed form "
        f"{100 * sigma * exact:.4f} %, {abs(found - exact) / error:.1f} standard errors apart"
    )
    return {
        "value_at_risk": sigma * found, "closed_form": sigma * exact,
        "standard_error": sigma * error, "paths": n,
    }  # fmt: skip


def draw(
    cleaned: Cleaned, days: int, losses: dict[str, np.ndarray], own: np.ndarray, sigma: float,
    risks: dict[str, Any], folder: Path,
) -> None:  # fmt: skip
    """Leave the pictures: eigenvalues beside those of noise, and losses with their risk."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    spectrum(left, cleaned, days)
    centres = 100 * sigma * ((np.arange(BINS) + 0.5) / BINS - 0.5) * RANGE
    bands = centres.reshape(-1, 50).mean(axis=1)
    for (name, counts), colour in zip(losses.items(), ("tab:blue", "tab:orange"), strict=True):
        density = counts.reshape(-1, 50).sum(axis=1) / counts.sum() / (bands[1] - bands[0])
        right.semilogy(bands, density, color=colour, label=f"Monte Carlo, {name}")
        right.axvline(100 * risks[name]["value_at_risk"], color=colour, linestyle="--")
    right.hist(100 * own, bins=120, density=True, color="0.8", label="history")
    right.axvline(100 * risks["history"]["value_at_risk"], color="0.5", linestyle="--")
    right.set(xlim=(-10, 12), ylim=(1e-5, 1), xlabel="loss of a day, %", ylabel="density")
    right.set_title("losses, and value at risk (dashed)")
    right.legend()
    figure.savefig(folder / "risk.png", dpi=120)


def spectrum(axes: Any, cleaned: Cleaned, days: int) -> None:
    """Draw eigenvalues and the density of those of noise."""
    ratio = len(cleaned.eigenvalues) / days
    low, high = (1 - np.sqrt(ratio)) ** 2, cleaned.edge
    x = np.linspace(low, high, 400)[1:-1]
    density = np.sqrt((high - x) * (x - low)) / (2 * np.pi * ratio * x)
    axes.fill_between(x, density / density.max(), color="0.8", label="noise (Marchenko-Pastur)")
    axes.vlines(cleaned.eigenvalues, 0, 1, color="tab:blue", label="of the sample")
    axes.axvline(high, color="tab:red", linestyle="--", label="edge")
    axes.set(xscale="log", xlabel="eigenvalue of the correlation", yticks=[], ylim=(0, 1.2))
    axes.set_xticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    axes.minorticks_off()
    axes.set_title(f"{len(cleaned.factors)} factors are more than noise")
    axes.legend(loc="upper center", ncols=3)


if __name__ == "__main__":
    main()
