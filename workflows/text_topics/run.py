"""Topics of many texts: TF-IDF in Zarr, LSA, non-negative topics, and a classifier.

python run.py                                20 Newsgroups, fetched once
python run.py --documents 3000 --terms 2000  some of them, in a few seconds
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import zarr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

import leptonhpc as lh
from leptonhpc import datasets, errors
from leptonhpc.datasets.newsgroups import Documents, read_newsgroups

BAND = 1000
"""Documents that are made dense, and written, at once."""


def main() -> None:
    """Weigh words, find topics, classify, and draw what the topics are about."""
    chosen = arguments()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    documents = texts(chosen)
    train = ~documents.is_test
    weigher = TfidfVectorizer(sublinear_tf=True, stop_words="english", min_df=2)
    weights = weigher.fit_transform(t for t, use in zip(documents.texts, train, strict=True) if use)
    every = weigher.transform(documents.texts)
    words, place = store_frequent(chosen, weigher, every, weights)
    options = {"memory": chosen.memory, "overwrite": chosen.overwrite}
    lsa = lh.svd(place, rank=chosen.modes, out=chosen.folder / "lsa.zarr", **options)
    topics = lh.nmf(place, rank=chosen.topics, out=chosen.folder / "topics.zarr", **options)
    print(f"LSA: {lsa.certificate}\nNMF: {topics.certificate}")
    show_topics(topics, words, documents)
    scores = np.asarray(lsa.u, float) * lsa.s
    scores /= np.maximum(np.linalg.norm(scores, axis=1, keepdims=True), 1e-12)
    for name, x in (("all words", every), (f"{chosen.modes} modes of LSA", scores)):
        print(f"classifier on {name}: {accuracy(x, documents):.4f} of the test texts are right")
    draw(topics, words, documents).savefig(chosen.folder / "topics.png", dpi=110)
    print(f"{place.name}, lsa.zarr, topics.zarr and topics.png are in {chosen.folder}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, help="so many, spread over all; default: all")
    parser.add_argument("--terms", type=int, default=5000, help="frequent words in LSA and NMF")
    parser.add_argument("--modes", type=int, default=100, help="of LSA")
    parser.add_argument("--topics", type=int, default=20)
    parser.add_argument("--memory", help="budget of each worker, such as '2 GB'")
    parser.add_argument("--overwrite", action="store_true", help="replace what was found before")
    parser.add_argument("--folder", type=Path, default=Path("text-topics-output"))
    return parser.parse_args()


def texts(chosen: argparse.Namespace) -> Documents:
    """Give the texts, fetched once; only some of them, if so many are asked for."""
    path = chosen.folder / "newsgroups.zarr"
    if not path.exists():
        datasets.fetch("newsgroups", out=path)
    whole = read_newsgroups(path)
    count = len(whole.texts)
    kept = np.unique(np.linspace(0, count - 1, min(chosen.documents or count, count)).astype(int))
    some = [whole.texts[i] for i in kept]
    return Documents(some, whole.groups[kept], whole.is_test[kept], whole.names)


def store_frequent(
    chosen: argparse.Namespace, weigher: TfidfVectorizer, every: Any, weights: Any
) -> tuple[np.ndarray, Path]:
    """Write the columns of the words with the largest sums, a band of documents at a time."""
    sums = np.asarray(weights.sum(axis=0)).ravel()
    columns = np.sort(np.argsort(-sums)[: chosen.terms])
    shape = (every.shape[0], len(columns))
    place = chosen.folder / f"tfidf-{shape[0]}x{shape[1]}.zarr"
    if not place.exists():  # a job that was stopped goes on with the very same array
        partial = place.with_suffix(".partial")
        array = zarr.create_array(
            partial, shape=shape, dtype="f4", chunks=(min(BAND, shape[0]), shape[1]), overwrite=True
        )
        for low in range(0, shape[0], BAND):
            array[low : low + BAND] = every[low : low + BAND][:, columns].toarray()
        partial.rename(place)
    return weigher.get_feature_names_out()[columns], place


def accuracy(x: Any, documents: Documents) -> float:
    """Give the share of test texts whose group a linear machine finds."""
    train, test = np.flatnonzero(~documents.is_test), np.flatnonzero(documents.is_test)
    machine = LinearSVC(random_state=0).fit(x[train], documents.groups[train])
    return float(machine.score(x[test], documents.groups[test]))


def by_group(topics: Any, documents: Documents) -> np.ndarray:
    """Give the mean share of each topic in the texts of each group."""
    parts = np.asarray(topics.w, float) * np.asarray(topics.h, float).sum(axis=1)
    parts /= np.maximum(parts.sum(axis=1, keepdims=True), 1e-12)
    return np.stack([parts[documents.groups == i].mean(axis=0) for i in range(20)])


def show_topics(topics: Any, words: np.ndarray, documents: Documents) -> None:
    """Print the words of each topic, and where it is at home."""
    table = by_group(topics, documents)
    for number, row in enumerate(np.asarray(topics.h)):
        best = int(np.argmax(table[:, number]))
        top = " ".join(words[np.argsort(-row)[:8]])
        print(f"topic {number + 1:2d}  {documents.names[best]:<26}{top}")


def draw(topics: Any, words: np.ndarray, documents: Documents) -> Any:
    """Draw how much of each topic is in each group."""
    table, h = by_group(topics, documents), np.asarray(topics.h)
    order = np.argsort(np.argmax(table, axis=0), kind="stable")
    figure, axes = plt.subplots(figsize=(9, 6.5), layout="constrained")
    image = axes.imshow(table[:, order], cmap="magma_r", aspect="auto")
    axes.set_yticks(range(20), documents.names, fontsize=8)
    labels = [words[np.argmax(h[number])] for number in order]
    axes.set_xticks(range(len(order)), labels, rotation=60, ha="right", fontsize=8)
    axes.set(title="Share of each topic (its first word) in the posts of each newsgroup")
    figure.colorbar(image, ax=axes)
    return figure


if __name__ == "__main__":
    try:
        main()
    except errors.LeptonError as error:
        raise SystemExit(f"run.py: {error}") from error
