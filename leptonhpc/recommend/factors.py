"""What fitted factors are for: ratings predicted, items recommended, neighbours, new users."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from leptonhpc.errors import OptionError, ShapeError, StoreError
from leptonhpc.recommend.blocks import RatingsBlock
from leptonhpc.recommend.half_sweeps import BlockTask, Problem, gram, solve_block
from leptonhpc.recommend.labels import places_of
from leptonhpc.recommend.ranking import Ranked, best, seen_by, unit_rows
from leptonhpc.recommend.ratings import Ratings, open_ratings


class Factors(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Factors of users and items, after a fit."""

    user_factors_: NDArray[np.floating]
    item_factors_: NDArray[np.floating]
    user_biases_: NDArray[np.floating]
    item_biases_: NDArray[np.floating]
    mean_: float
    user_labels_: NDArray[Any] | None
    item_labels_: NDArray[Any] | None
    ratings_: Ratings | None

    def predict(self, users: Any, items: Any) -> NDArray[np.floating]:
        """Predict ratings, or preferences where feedback is implicit.

        Parameters
        ----------
        users, items : label or array of labels
            Pairs, of shapes that broadcast; numbers from 0 where there are no labels.

        Returns
        -------
        array of their shape
            Predictions, of the dtype of the factors.

        Raises
        ------
        OptionError
            If a user or item is not one of the model.
        """
        u, i = np.broadcast_arrays(self._users(users), self._items(items))
        found = np.einsum("...d,...d->...", self.user_factors_[u], self.item_factors_[i])
        predicted: NDArray[np.floating] = (
            found + self.user_biases_[u] + self.item_biases_[i]
        ).astype(self.user_factors_.dtype)
        return predicted + self.user_factors_.dtype.type(self.mean_)

    def recommend(self, users: Any, n: int = 10, *, exclude_seen: bool = True) -> Ranked:
        """Find the items of the largest prediction for each user.

        Parameters
        ----------
        users : label or array of labels
            One, or several.
        n : int
            How many, at most all items.
        exclude_seen : bool
            Leave out what the user rated.

        Returns
        -------
        Ranked
            Items and predictions, of shape (n,) or (users, n).

        Raises
        ------
        OptionError
            If a user is not one of the model, or `n` is out of range.
        StoreError
            If the ratings are gone, which say what was seen.
        """
        numbers = self._users(users)
        flat = np.ravel(numbers)
        order = np.argsort(flat, kind="stable")
        excluded = seen_by(self._ratings(), flat[order]) if exclude_seen else None
        queries = self.user_factors_[flat[order]]
        items, scores = best(
            queries, self.item_factors_, self.item_biases_, self._count(n, "item"), excluded
        )
        back = np.argsort(order, kind="stable")
        scores = scores[back] + (self.user_biases_[flat, None] + self._mean())
        return self._named(items[back], scores, np.shape(numbers), self.item_labels_)

    def similar_items(self, items: Any, n: int = 10) -> Ranked:
        """Find the items whose factors point the same way.

        Parameters
        ----------
        items : label or array of labels
            One, or several.
        n : int
            How many; an item is the first of its own.

        Returns
        -------
        Ranked
            Items and cosines.
        """
        return self._similar(
            self._items(items), self.item_factors_, self.item_labels_, self._count(n, "item")
        )

    def similar_users(self, users: Any, n: int = 10) -> Ranked:
        """Find the users whose factors point the same way.

        Parameters
        ----------
        users : label or array of labels
            One, or several.
        n : int
            How many; a user is the first of its own.

        Returns
        -------
        Ranked
            Users and cosines.
        """
        return self._similar(
            self._users(users), self.user_factors_, self.user_labels_, self._count(n, "user")
        )

    def transform(self, X: Any) -> NDArray[np.floating]:
        """Give the factors of new users, by one exact solution with the items fixed.

        Parameters
        ----------
        X : scipy.sparse matrix or array of shape (users, n_items)
            Their ratings, by numbers of items; zeros of a dense one are no ratings.

        Returns
        -------
        array of shape (users, n_factors)
            Factors, as of the users of the fit.

        Raises
        ------
        ShapeError
            If it has another number of items.
        """
        return np.ascontiguousarray(self._folded(X)[:, self._bias_columns() :])

    def recommend_new(self, items: Any, values: Any, n: int = 10) -> Ranked:
        """Find items for somebody new who rated some.

        Parameters
        ----------
        items : array of labels
            What was rated.
        values : array of their shape
            How.
        n : int
            How many; none that was rated.

        Returns
        -------
        Ranked
            Items and predictions, of shape (n,).

        Raises
        ------
        ShapeError
            If there is not one value for each item.
        OptionError
            If the model has no such item; or a rating is there twice (counts add up), or a count is
            negative.
        """
        from scipy.sparse import csr_array

        numbers, given = np.atleast_1d(self._items(items)), np.atleast_1d(np.asarray(values))
        if numbers.shape != given.shape:
            message = f"items and values are one each; found {numbers.shape} and {given.shape}"
            raise ShapeError(message)
        if not self._exact().implicit and len(np.unique(numbers)) < len(numbers):
            raise OptionError("items are rated once each; found some that are there twice")
        shape = (1, len(self.item_factors_))
        row = csr_array((given.astype(np.float32), numbers, [0, len(numbers)]), shape=shape)
        folded, skip = self._folded(row), self._bias_columns()
        found, scores = best(
            np.ascontiguousarray(folded[:, skip:]), self.item_factors_, self.item_biases_,
            self._count(n, "item"), lambda begin, end: (np.zeros_like(numbers), numbers),
        )  # fmt: skip
        bias = folded[:, :1] if skip else np.zeros((1, 1), folded.dtype)
        return self._named(found, scores + (bias + self._mean()), (), self.item_labels_)

    def __sklearn_tags__(self) -> Any:
        """Say what scikit-learn may expect."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # -- what both kinds of feedback say of themselves

    def _problem(self, mean: float) -> Problem:
        """Say what is minimised of ratings of this mean."""
        raise NotImplementedError

    def _require(self, ratings: Ratings) -> None:
        """Refuse ratings that the problem is not made for."""

    def _bias_columns(self) -> int:
        """Say how many columns biases take."""
        return 0

    # -- helpers in calling order

    def _exact(self) -> Problem:
        """Give the problem of one new row."""
        return replace(self._problem(self.mean_), solver="cholesky")

    def _mean(self) -> Any:
        return self.user_factors_.dtype.type(self.mean_)

    def _users(self, users: Any) -> Any:
        check_is_fitted(self)
        count = len(self.user_factors_)
        return places_of(self.user_labels_, users, count=count, what="user")

    def _items(self, items: Any) -> Any:
        check_is_fitted(self)
        count = len(self.item_factors_)
        return places_of(self.item_labels_, items, count=count, what="item")

    def _ratings(self) -> Ratings:
        if self.ratings_ is None:
            message = (
                "the ratings that the model was fitted to are not at hand, and say what was seen; "
                "set ratings_ to open_ratings(...) of them, or pass exclude_seen=False"
            )
            raise StoreError(message)
        return self.ratings_

    def _count(self, n: int, what: str) -> int:
        most = len(self.item_factors_ if what == "item" else self.user_factors_)
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= most:
            raise OptionError(f"n is from 1 to the number of {what}s, {most}; found {n!r}")
        return int(n)

    def _similar(
        self, numbers: Any, factors: NDArray[Any], labels: NDArray[Any] | None, n: int
    ) -> Ranked:
        unit = unit_rows(factors)
        found, cosines = best(unit[np.ravel(numbers)], unit, None, n)
        np.clip(cosines, -1, 1, out=cosines)  # rounding may pass one
        return self._named(found, cosines, np.shape(numbers), labels)

    def _named(
        self, numbers: NDArray[Any], scores: NDArray[Any], shape: tuple[int, ...],
        labels: NDArray[Any] | None,
    ) -> Ranked:  # fmt: skip
        names = numbers if labels is None else labels[numbers]
        form = (*shape, numbers.shape[1])
        return Ranked(names.reshape(form), scores.reshape(form))

    def _folded(self, rows: Any) -> NDArray[np.floating]:
        """Solve for new users, biases with them."""
        check_is_fitted(self)
        ratings = open_ratings(rows)
        self._require(ratings)
        items, width = self.item_factors_.shape
        if ratings.shape[1] != items:
            message = f"the model has {items} items; found ratings of {ratings.shape[1]}"
            raise ShapeError(message)
        fixed = self.item_factors_
        if self._bias_columns():
            fixed = np.column_stack([self.item_biases_, fixed])
        base = gram(fixed) if self._exact().implicit else np.zeros((0, 0), fixed.dtype)
        found = np.zeros((ratings.shape[0], fixed.shape[1]), fixed.dtype)
        for number in range(len(ratings.by_user.edges) - 1):
            block: RatingsBlock = ratings.by_user.read(number)
            rows_of = slice(block.first, block.first + block.rows)
            task = BlockTask(block, number, fixed, base, found[rows_of], self._exact(), "", 0)
            found[rows_of] = solve_block(task)[0]
        return found
