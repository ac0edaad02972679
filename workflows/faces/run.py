"""Eigenfaces: what faces have in common, and who is who by the nearest one.

python run.py [--data faces.zarr --labels labels.txt] [--components 40] [--memory "2 GB"]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import leptonhpc as lh
from leptonhpc import datasets
from leptonhpc.decomposition import PCA


def main() -> None:
    """Decompose all faces, draw the eigenfaces, then recognise the faces kept apart."""
    arguments = parse()
    arguments.folder.mkdir(exist_ok=True)
    faces, labels, shape = opened(arguments)
    print(f"{faces.shape[0]} faces of {shape[0]} x {shape[1]} pixels, {len(set(labels))} people")
    everything = PCA(n_components=arguments.components, memory=arguments.memory).fit(faces)
    for number, share in enumerate(everything.explained_variance_ratio_[:3], 1):
        print(f"eigenface {number} holds {100 * share:.2f} % of the variance")
    picture = arguments.folder / "eigenfaces.png"
    draw(everything, shape).savefig(picture)
    known = first_half(labels)
    right, tested = recognise(faces, labels, known, arguments.components, arguments.memory)
    share = f"{right} of {tested} faces, {right / tested:.1%}"
    print(f"the nearest of {known.sum()} known faces is the same person for {share}")
    print("wrote", picture.name)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a Zarr matrix of images by pixels; default: ORL faces")
    parser.add_argument(
        "--labels", type=Path, help="a text file: who is on each image, a line each"
    )
    parser.add_argument("--height", type=int, help="of the images in --data, in pixels")
    parser.add_argument("--components", type=int, default=40)
    parser.add_argument("--memory", help="of each worker, such as '2 GB'")
    parser.add_argument("--folder", type=Path, default=Path("faces-output"))
    return parser.parse_args()


def opened(arguments: argparse.Namespace) -> tuple[Any, np.ndarray, tuple[int, int]]:
    """Open the faces, say who they are, and how high and wide they are."""
    if arguments.data is not None:
        if arguments.labels is None or arguments.height is None:
            raise SystemExit("--data needs --labels and --height")
        faces = lh.open(arguments.data)
        labels = np.array(arguments.labels.read_text().splitlines())
        if len(labels) != faces.shape[0] or faces.shape[1] % arguments.height:
            raise SystemExit(
                f"{len(labels)} labels and a height of {arguments.height} pixels do not fit "
                f"{faces.shape[0]} images of {faces.shape[1]} pixels"
            )
        return faces, labels, (arguments.height, faces.shape[1] // arguments.height)
    path = arguments.folder / "faces.zarr"
    if not path.exists():
        datasets.fetch("faces", out=path)
    faces = lh.open(path)
    return faces, np.arange(faces.shape[0]) // 10, (112, 92)


def first_half(labels: np.ndarray) -> np.ndarray:
    """Say which faces are known: of each person the first half."""
    known = np.zeros(len(labels), bool)
    for person in np.unique(labels):
        theirs = np.flatnonzero(labels == person)
        known[theirs[: len(theirs) // 2]] = True
    return known


def recognise(
    faces: Any, labels: np.ndarray, known: np.ndarray, components: int, memory: str | None
) -> tuple[int, int]:
    """Count the unknown faces whose nearest known face is of the same person."""
    images = np.asarray(faces)
    pca = PCA(n_components=min(components, known.sum() - 1), memory=memory).fit(images[known])
    there, new = pca.transform(images[known]), pca.transform(images[~known])
    # |a - b|^2 without the part that is the same for all known faces
    distances = np.sum(there**2, axis=1) - 2 * new @ there.T
    nearest = labels[known][np.argmin(distances, axis=1)]
    return int(np.sum(nearest == labels[~known])), int(np.sum(~known))


def draw(pca: PCA, shape: tuple[int, int], rows: int = 2, columns: int = 6) -> Any:
    """Draw the mean face and the first eigenfaces."""
    import matplotlib

    matplotlib.use("agg", force=False)
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(
        rows, columns, figsize=(1.5 * columns, 2.0 * rows), layout="constrained"
    )
    titled = [("mean", pca.mean_), *((str(i), c) for i, c in enumerate(pca.components_, 1))]
    for axes, (title, face) in zip(grid.ravel(), titled, strict=False):
        axes.imshow(np.reshape(face, shape), cmap="gray")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    return figure


if __name__ == "__main__":
    main()
