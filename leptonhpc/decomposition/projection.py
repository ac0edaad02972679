"""What estimators share that project samples on components."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_array, check_is_fitted

import leptonhpc as lh
from leptonhpc.blocks import BlockedArray
from leptonhpc.decomposition.products import project, restore
from leptonhpc.decomposition.samples import Samples, check_samples, floating, is_blocked
from leptonhpc.decomposition.sources import AffineSource
from leptonhpc.errors import OptionError, ShapeError


class Transformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A transformer of real matrices that keeps single precision."""

    def __sklearn_tags__(self) -> Any:
        """Say what scikit-learn may expect."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _configured(self, values: Samples, out: Any = None) -> Samples:
        """Read what `set_output` is to make a data frame of."""
        if not isinstance(values, BlockedArray):
            return values
        if _get_output_config("transform", self)["dense"] == "default":
            return values
        if out is not None:
            message = (
                "out= makes a Zarr array and set_output a data frame in memory; use one of them"
            )
            raise OptionError(message)
        return np.asarray(values)


class Projection(Transformer):
    """Samples to components and back: (X - mean) V^H, whitened or not."""

    components_: NDArray[np.floating]
    whiten = False

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def transform(self, X: Any, *, out: Any = None) -> Samples:
        """Project samples on the components.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples.
        out : str or path, optional
            A Zarr array to be made.

        Returns
        -------
        ndarray or BlockedArray of shape (n_samples, n_components)
            In memory where it fits (and always for arrays in memory); else in `out`, or a temporary
            store that is removed with the array.
        """
        check_is_fitted(self)
        x = check_samples(self, X, reset=False)
        projected = project(
            x, self._center(), (self.components_ / self._scale()[:, np.newaxis]).T, out=out,
            memory=self.memory, progress=self.progress,
        )  # fmt: skip
        return self._configured(projected, out)

    def inverse_transform(self, X: Any, *, out: Any = None) -> Samples:
        """Give samples that have these components.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components), or what `leptonhpc.open` takes
            Projected samples.
        out : str or path, optional
            A Zarr array to be made.

        Returns
        -------
        ndarray or BlockedArray of shape (n_samples, n_features)
            As for `transform`.
        """
        check_is_fitted(self)
        x = lh.open(X) if is_blocked(X) else check_array(X, dtype=[np.float64, np.float32])
        if x.ndim != 2 or x.shape[1] != len(self.components_):
            message = (
                f"{type(self).__name__} has {len(self.components_)} components; X has shape "
                f"{x.shape}"
            )
            raise ShapeError(message)
        center = self._center()
        offset = np.zeros(self.components_.shape[1], self.components_.dtype)
        return restore(
            x, self.components_ * self._scale()[:, np.newaxis],
            offset if center is None else center, out=out, memory=self.memory,
            progress=self.progress,
        )  # fmt: skip

    def _center(self) -> NDArray[np.floating] | None:
        return getattr(self, "mean_", None)

    def _scale(self) -> NDArray[np.floating]:
        """Give what each projection is divided by."""
        if not self.whiten:
            return np.ones(len(self.components_), self.components_.dtype)
        scale = np.sqrt(self.explained_variance_)
        # as scikit-learn: a component without variance stays what rounding made of it
        least: NDArray[np.floating] = np.maximum(scale, np.finfo(scale.dtype).eps)
        return least


def scores_of(result: Any, factors: NDArray[Any]) -> Samples:
    """Give the left singular vectors, each times a number, without another pass over the samples.

    Parameters
    ----------
    result : SvdResult
        With u.
    factors : array of shape (k,)
        For the first k vectors.

    Returns
    -------
    ndarray or BlockedArray of shape (m, k)
        Lazy where u is large; its temporary store lives as long.
    """
    u, count = result.u, len(factors)
    if isinstance(u, np.ndarray):
        scores: NDArray[Any] = u[:, :count] * factors.astype(u.dtype)
        return scores
    kept = u[:, :count]
    source = AffineSource(kept.source, floating(u.dtype), columns=factors)
    return BlockedArray(source, kept.grid)
