"""Implicit feedback: all fit the same matrix, by as many sweeps, on as many threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from measure import Timer
from peers import Contestant


def ratings(folder: Path, *, users: int, items: int, count: int) -> Path:
    """Give the folder of a matrix of clicks and of some that are held out, made on the first call.

    Clicks follow tastes of rank 8 and the items' popularity, which falls as in real shops.
    """
    from scipy.sparse import csr_array, save_npz

    place = folder / f"clicks-{users}-{items}-{count}"
    if (place / "test.npz").exists():
        return place
    rng = np.random.default_rng(0)
    tastes, kinds = rng.normal(size=(users, 8)), rng.normal(size=(8, items))
    popularity = -np.log(np.arange(1, items + 1)) + rng.normal(scale=0.3, size=items)
    activity = rng.lognormal(sigma=1.0, size=users)
    each = np.maximum(2, count * activity / activity.sum()).astype(int)
    rows, columns = [], []
    for user in range(users):
        # the largest of scores with Gumbel noise are a draw without replacement
        scores = popularity + tastes[user] @ kinds + rng.gumbel(size=items)
        chosen = np.argpartition(-scores, min(each[user], items - 1))[: each[user]]
        rows.append(np.full(len(chosen), user))
        columns.append(chosen)
    row, column = np.concatenate(rows), np.concatenate(columns)
    held = rng.random(len(row)) < 0.2
    place.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", ~held), ("test", held)):
        ones = np.ones(part.sum(), np.float32)
        matrix = csr_array((ones, (row[part], column[part])), shape=(users, items))
        save_npz(place / f"{name}.npz", matrix)
    return place


def als_leptonhpc(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Fit in memory; compiled before the clock starts, as the peer is."""
    from leptonhpc.recommend import ImplicitALS

    train, test = _matrices(options)
    settings = {"alpha": options["alpha"], "regularization": options["regularization"], "tol": 0}
    ImplicitALS(options["factors"], max_iter=1, **settings).fit(train[:100])
    with timer:
        model = ImplicitALS(
            options["factors"], max_iter=options["sweeps"], memory=options["memory"], **settings
        ).fit(train)
    return _quality(train, test, model.user_factors_, model.item_factors_, options)


def als_implicit(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Fit in memory, its default solver, without its own measuring of the loss."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    train, test = _matrices(options)
    model = AlternatingLeastSquares(
        factors=options["factors"], regularization=options["regularization"],
        alpha=options["alpha"], iterations=options["sweeps"], num_threads=options["cores"],
        random_state=0,
    )  # fmt: skip
    with threadpool_limits(1, "blas"), timer:  # as its own pages advise
        model.fit(csr_matrix(train), show_progress=False)
    return _quality(train, test, model.user_factors, model.item_factors, options)


def _matrices(options: dict[str, Any]) -> tuple[Any, Any]:
    from scipy.sparse import load_npz

    folder = Path(options["clicks"])
    return load_npz(folder / "train.npz"), load_npz(folder / "test.npz")


def _quality(
    train: Any, test: Any, users: Any, items: Any, options: dict[str, Any]
) -> dict[str, Any]:
    """Measure loss and NDCG of any factors in the same way."""
    from leptonhpc.recommend import ndcg_at_k, open_ratings
    from leptonhpc.recommend.ranking import best, seen_by

    x, y = np.asarray(users, np.float64), np.asarray(items, np.float64)
    row = np.repeat(np.arange(train.shape[0]), np.diff(train.indptr))
    found = np.einsum("ij,ij->i", x[row], y[train.indices])
    loss = np.sum((x.T @ x) * (y.T @ y)) - np.sum(found**2)
    loss += np.sum(options["alpha"] * train.data * (1 - found) ** 2)
    loss += options["regularization"] * (np.sum(x**2) + np.sum(y**2))
    some = np.flatnonzero(np.diff(test.indptr))[:5000]
    ranked, _ = best(x[some], y, None, 10, seen_by(open_ratings(train), some))
    relevant = [test.indices[slice(*test.indptr[user : user + 2])] for user in some]
    return {"loss": float(loss), "ndcg": ndcg_at_k(ranked, relevant, 10)}


CONTESTANTS = {
    ("als", "leptonhpc"): Contestant(als_leptonhpc, needs=("numba", "sklearn")),
    ("als", "implicit"): Contestant(als_implicit, needs=("implicit",)),
}
