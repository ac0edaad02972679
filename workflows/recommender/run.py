"""Recommendations from ratings: stored, held out, fitted, measured, and given to everybody.

python run.py [--data ratings.csv] [--factors 32] [--memory "2 GB"]
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from leptonhpc import datasets, recommend, store

Triples = tuple[np.ndarray, np.ndarray, np.ndarray]


def main() -> None:
    """Run every step and leave the files."""
    arguments = parse()
    arguments.folder.mkdir(exist_ok=True)
    ratings, titles = opened(arguments)
    print(ratings)
    train, test = held_out(ratings, share=0.2, seed=arguments.seed)
    predicted_ratings(ratings, train, test, arguments)
    model = ranked_items(train, test, arguments)
    write_recommendations(model, ratings, titles, arguments.folder / "recommendations.csv")
    draw_losses(model, arguments.folder / "losses.png")
    print("wrote", *sorted(path.name for path in arguments.folder.iterdir()))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="text: user, item, rating; default: MovieLens")
    parser.add_argument("--delimiter", default=",", help="of the text")
    parser.add_argument("--factors", type=int, default=32, help="of the ranking")
    parser.add_argument("--memory", help="of each worker, such as '2 GB'")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("recommender-output"))
    return parser.parse_args()


def opened(arguments: argparse.Namespace) -> tuple[recommend.Ratings, Mapping[Any, str]]:
    """Store the user's ratings, or those of MovieLens, once; give them and the items' titles."""
    folder = arguments.folder
    place = folder / "ratings.zarr"
    if arguments.data is not None:
        if not place.exists():
            lines = recommend.read_triples(arguments.data, delimiter=arguments.delimiter)
            recommend.store_ratings(lines, place, duplicates="last", memory=arguments.memory)
        return recommend.open_ratings(place), {}
    source = folder / "movielens.zarr"
    if not source.exists():
        datasets.fetch("movielens", out=source)
    table = whole(source / "ratings")
    if not place.exists():
        recommend.store_ratings((table[:, 0], table[:, 1], table[:, 2]), place)
    names = (bytes(row).rstrip(b"\0").decode() for row in whole(source / "title"))
    return recommend.open_ratings(place), dict(enumerate(names, 1))


def whole(location: Path) -> np.ndarray:
    """Read a small array."""
    array = store.open_array(location)
    return array.read(tuple((0, n) for n in array.shape))


def held_out(ratings: recommend.Ratings, *, share: float, seed: int) -> tuple[Any, Any]:
    """Part the ratings by chance, as sparse matrices."""
    matrix = ratings.to_scipy().tocoo()
    chosen = np.random.default_rng(seed).random(matrix.nnz) < share

    def part(keep: np.ndarray) -> Any:
        from scipy.sparse import csr_array

        places = matrix.row[keep], matrix.col[keep]
        return csr_array((matrix.data[keep], places), shape=matrix.shape)

    return part(~chosen), part(chosen)


def predicted_ratings(
    ratings: recommend.Ratings, train: Any, test: Any, arguments: argparse.Namespace
) -> None:
    """Say how far predicted ratings are off, beside the mean and the biases alone."""
    users, items = test.nonzero()
    low, high = ratings.to_scipy().data.min(), ratings.to_scipy().data.max()
    options = {"weighted": False, "memory": arguments.memory, "random_state": arguments.seed}
    mean = np.full(len(users), train.data.mean())
    print(f"held-out RMSE of the mean    {recommend.rmse(mean, test.data):.4f}")
    biases = recommend.ALS(0, regularization=5.0, **options).fit(train)
    als = recommend.ALS(8, regularization=10.0, **options).fit(train)
    for name, model in (("biases", biases), ("ALS", als)):
        found = np.clip(model.predict(users, items), low, high)
        print(f"held-out RMSE of {name:<12}{recommend.rmse(found, test.data):.4f}")
    print(als.certificate_)


def ranked_items(train: Any, test: Any, arguments: argparse.Namespace) -> Any:
    """Take every rating as a sign of interest; say how many held-out items are recommended."""
    for part in (train, test):
        part.data[:] = 1
    model = recommend.ImplicitALS(
        arguments.factors, alpha=2.0, regularization=10.0, tol=1e-3, memory=arguments.memory,
        random_state=arguments.seed,
    )  # fmt: skip
    model.fit(train, out=arguments.folder / "model.zarr", overwrite=True)
    for name, value in recommend.evaluate(model, test, k=10).items():
        print(f"{name}@10 of held-out items {value:.4f}")
    print(model.report_)
    return model


def write_recommendations(
    model: Any, ratings: recommend.Ratings, titles: Mapping[Any, str], path: Path
) -> None:
    """Write ten items for every user; the model was fitted to a matrix, and knows numbers only."""
    users = np.arange(ratings.shape[0])
    found = model.recommend(users, 10)
    names = ratings.user_labels[users], ratings.item_labels[found.items]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "place", "item", "score", "title"])
        for user, items, scores in zip(*names, found.scores, strict=True):
            for place, (item, score) in enumerate(zip(items, scores, strict=True), 1):
                writer.writerow([user, place, item, f"{score:.4f}", titles.get(item, "")])


def draw_losses(model: Any, path: Path) -> None:
    """Draw how the loss fell."""
    import matplotlib.pyplot as plt

    losses = model.certificate_.losses
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(np.arange(1, len(losses) + 1) / 2, losses, marker="o", markersize=3)
    axes.set(xlabel="sweep", ylabel="loss", title="Implicit feedback: loss after each half sweep")
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    main()
