"""Materials in a hyperspectral image: principal components, and end-members that add up to it.

python run.py                                          the Indian Pines scene, fetched once
python run.py --data scene.zarr --lines 2000           yours: a Zarr array, one pixel a row
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

import leptonhpc as lh
from leptonhpc import datasets, errors


def main() -> None:
    """Factor the spectra, store the factors, and draw maps of them."""
    chosen = arguments()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    place, lines, classes = scene(chosen)
    options = {"memory": chosen.memory, "overwrite": chosen.overwrite}
    components = lh.svd(place, rank=3, center=True, out=chosen.folder / "pca.zarr", **options)
    members = lh.nmf(
        place, rank=chosen.members, init="nndsvda", tol=chosen.tol, out=chosen.folder / "nmf.zarr",
        **options,
    )  # fmt: skip
    show(components, members, classes)
    draw_components(components, lines).savefig(chosen.folder / "components.png", dpi=110)
    draw_members(members, lines).savefig(chosen.folder / "members.png", dpi=110)
    print(f"pca.zarr, nmf.zarr, components.png and members.png are in {chosen.folder}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="a Zarr array of pixels by bands, nothing negative")
    parser.add_argument("--lines", type=int, help="of that image")
    parser.add_argument("--members", type=int, default=6, help="end-members that are looked for")
    parser.add_argument("--tol", type=float, default=1e-4)
    parser.add_argument("--memory", help="budget of each worker, such as '2 GB'")
    parser.add_argument("--overwrite", action="store_true", help="replace what was found before")
    parser.add_argument("--folder", type=Path, default=Path("hyperspectral-output"))
    chosen = parser.parse_args()
    if (chosen.data is None) != (chosen.lines is None):
        parser.error("--data and --lines belong together")
    return chosen


def scene(chosen: argparse.Namespace) -> tuple[Any, int, dict[str, np.ndarray]]:
    """Give the spectra, the lines of the image, and the pixels of each known class, if any."""
    if chosen.data is not None:
        return chosen.data, chosen.lines, {}
    path = chosen.folder / "indian-pines.zarr"
    if not path.exists():
        datasets.fetch("indian-pines", out=path)
    labels = lh.open(path / "class")
    names = lh.info(path / "class")["attributes"]["meanings"]
    numbers = np.asarray(labels)
    classes = {name: np.flatnonzero(numbers == i) for i, name in enumerate(names) if i}
    return path / "spectra", 145, classes


def shares(members: Any) -> np.ndarray:
    """Give what each end-member holds of each pixel; they add up to one."""
    w, h = np.asarray(members.w, float), np.asarray(members.h, float)
    parts = w * h.sum(axis=1)
    return parts / np.maximum(parts.sum(axis=1, keepdims=True), np.finfo(float).tiny)


def show(components: Any, members: Any, classes: dict[str, np.ndarray]) -> None:
    """Print what components and end-members hold, and where end-members are found."""
    for number, share in enumerate(components.certificate.captured_each, 1):
        print(f"component {number}: {100 * share:6.2f} % of the variance")
    print(members.certificate)
    parts = shares(members)
    for number in range(parts.shape[1]):
        # how much more of it there is in a class than in the image
        gains = {
            name: parts[rows, number].mean() / max(parts[:, number].mean(), 1e-30)
            for name, rows in classes.items()
        }
        best = sorted(gains, key=lambda name: -gains[name])[:3]
        found = ", ".join(f"{name} ({gains[name]:.1f} x)" for name in best)
        print(f"end-member {number + 1}: {100 * parts[:, number].mean():5.1f} %  {found}")


def draw_components(components: Any, lines: int) -> Any:
    """Draw the scores of three components as red, green and blue, and the components."""
    scores = np.asarray(components.u, float) * components.s
    low, high = np.percentile(scores, [2, 98], axis=0)
    colours = np.clip((scores - low) / (high - low), 0, 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    left.imshow(colours.reshape(lines, -1, 3))
    left.set(title="Components 1, 2, 3 as red, green, blue", xticks=[], yticks=[])
    for number, row in enumerate(np.asarray(components.vh), 1):
        right.plot(row, label=f"component {number}")
    right.set(title="Components", xlabel="band")
    right.legend()
    return figure


def draw_members(members: Any, lines: int) -> Any:
    """Draw each end-member's spectrum over the map of its share."""
    parts, h = shares(members), np.asarray(members.h, float)
    count = len(h)
    figure, axes = plt.subplots(
        2, count, figsize=(2.4 * count, 4.6), layout="constrained", height_ratios=[2, 3],
        squeeze=False,
    )  # fmt: skip
    for number in range(count):
        spectrum, image = axes[:, number]
        spectrum.plot(h[number] / h[number].max())
        spectrum.set(title=f"end-member {number + 1}", yticks=[], xlabel="band")
        image.imshow(parts[:, number].reshape(lines, -1), cmap="viridis", vmin=0)
        image.set(xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    try:
        main()
    except errors.LeptonError as error:
        raise SystemExit(f"run.py: {error}") from error
