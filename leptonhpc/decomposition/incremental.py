"""Principal components of samples that come batch after batch, or of an array that grows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import leptonhpc as lh
from leptonhpc.blocks import BlockedArray
from leptonhpc.decomposition.batches import COPIES, batch_rows, cut
from leptonhpc.decomposition.finite import words_of
from leptonhpc.decomposition.gaussian import GaussianModel, variance_left
from leptonhpc.decomposition.moments import Moments
from leptonhpc.decomposition.projection import Projection
from leptonhpc.decomposition.samples import Samples, check_samples, floating
from leptonhpc.decomposition.signs import signs_of_rows
from leptonhpc.errors import OptionError, ShapeError
from leptonhpc.planning.amounts import parse_nbytes


class IncrementalPCA(GaussianModel, Projection):
    """Incremental principal components, as ``sklearn.decomposition.IncrementalPCA``.

    Parameters
    ----------
    n_components : int or None
        Number of components; None: min(n_samples, n_features) of the first batch.
    whiten : bool
        Give projections of unit variance.
    batch_size : int or None
        Samples that are taken at once; None: five times the features, and of a stored array whole
        rows of chunks, so that each chunk is read once, or fewer where memory is short.
    memory : int, float, str or None
        Budget of each worker, such as "2 GB".
    progress : bool
        Show a bar.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Principal axes; the largest entry of each is positive.
    explained_variance_ : ndarray of shape (n_components,)
        Variances along them.
    explained_variance_ratio_ : ndarray of shape (n_components,)
        Their shares of the whole variance.
    singular_values_ : ndarray of shape (n_components,)
        Of what is known of the centred samples.
    mean_ : ndarray of shape (n_features,)
        Mean of each feature.
    var_ : ndarray of shape (n_features,)
        Variance of each feature, divisor n.
    noise_variance_ : float
        Mean of the variances that the last batch left out.
    n_components_ : int
        Number of components.
    n_samples_seen_ : int
        Samples taken so far.
    batch_size_ : int
        Samples of a batch, where an array was cut into batches.
    n_features_in_ : int
        Number of features.
    certificate_ : SvdCertificate
        Of the last batch's factorisation. It says nothing of what earlier batches left out.
    report_ : Report
        What that took.

    Notes
    -----
    Each batch is factored together with the components so far and the change of the mean [1]_. If
    all components are kept the result is that of `PCA`; otherwise it depends on the batches.

    References
    ----------
    .. [1] D. Ross, J. Lim, R.-S. Lin, M.-H. Yang, Incremental learning for robust visual tracking,
       Int. J. Computer Vision 77, 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from leptonhpc.decomposition import IncrementalPCA
    >>> pca = IncrementalPCA(n_components=1)
    >>> x = np.arange(12.0).reshape(6, 2)
    >>> int(pca.partial_fit(x[:3]).partial_fit(x[3:]).n_samples_seen_)
    6
    """

    components_: NDArray[np.floating]
    singular_values_: NDArray[np.floating]
    _moments: Moments

    def __init__(
        self,
        n_components: int | None = None,
        *,
        whiten: bool = False,
        batch_size: int | None = None,
        memory: Any = None,
        progress: bool = False,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.batch_size = batch_size
        self.memory = memory
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> IncrementalPCA:
        """Forget what was seen and take samples in batches.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples.
        y : None
            Not used.

        Returns
        -------
        IncrementalPCA
            Itself.
        """
        self._forget()
        x = check_samples(self, X, reset=True, least=2)
        self._take_all(x, 0)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> IncrementalPCA:
        """Take more samples: an array in memory as one batch, others in batches.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples.
        y : None
            Not used.

        Returns
        -------
        IncrementalPCA
            Itself.
        """
        first = not hasattr(self, "components_")
        x = check_samples(self, X, reset=first, least=2 if first else 1)
        if isinstance(x, BlockedArray):
            self._take_all(x, 0)
        else:
            self._take(x, self.memory)
        return self

    def extend(self, X: Any) -> IncrementalPCA:
        """Take the samples that a growing array has gained since the last call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The whole array; rows from ``n_samples_seen_`` on are taken, and no others are read
            (but those that share their chunks).

        Returns
        -------
        IncrementalPCA
            Itself, as it was if there are no new rows.

        Raises
        ------
        ShapeError
            If the array has fewer samples than were seen.
        """
        first = not hasattr(self, "components_")
        x = check_samples(self, X, reset=first, least=2 if first else 1)
        seen = 0 if first else self.n_samples_seen_
        if x.shape[0] < seen:
            message = (
                f"extend takes the rows from {seen} on, those not yet seen, of a growing array; X "
                f"has {x.shape[0]} rows. For other samples use partial_fit"
            )
            raise ShapeError(message)
        self._take_all(x, seen)
        return self

    def _forget(self) -> None:
        for name in ("components_", "n_samples_seen_", "n_components_", "_moments"):
            self.__dict__.pop(name, None)

    def _take_all(self, x: Samples, start: int) -> None:
        """Take an array from a row on; a last batch too short for all components is joined."""
        rows = batch_rows(x, self.batch_size, self.memory)
        self.batch_size_ = rows
        memory = parse_nbytes(self.memory)
        if memory is not None and isinstance(x, BlockedArray):
            memory -= COPIES * rows * x.shape[1] * 8
        for batch in cut(x, start, rows, max(2, self.n_components or 0), self):
            self._take(batch, memory)

    def _take(self, batch: NDArray[Any], memory: Any) -> None:
        """Factor [diag(s) V^H; batch - its mean; change of the mean]."""
        first = not hasattr(self, "components_")
        count = self._count(batch.shape, first=first)
        dtype = floating(batch.dtype)
        new = Moments.of(batch)
        stack = batch - new.mean.astype(dtype)
        moments = new
        if not first:
            old = self._moments
            moments = old + new
            known = self.singular_values_[:, np.newaxis] * self.components_
            weight = np.sqrt(old.count * new.count / moments.count)
            change = weight * (old.mean - new.mean)
            stack = np.vstack([known, stack, change[np.newaxis]]).astype(dtype, copy=False)
        with words_of(self):
            result = lh.svd(stack, rank=count, method="gram", memory=memory, progress=self.progress)
        self._moments = moments
        self._set(result, stack.shape, dtype)

    def _set(self, result: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        moments, count = self._moments, len(result.s)
        vh = np.asarray(result.vh)
        self.certificate_, self.report_ = result.certificate, result.report
        self.components_ = (vh * signs_of_rows(vh)[:, np.newaxis]).astype(dtype)
        self.singular_values_ = result.s
        self.n_components_, self.n_samples_seen_ = count, moments.count
        self.mean_, self.var_ = moments.mean.astype(dtype), moments.variance.astype(dtype)
        self.explained_variance_ = result.s**2 / (moments.count - 1)
        total = float(np.sum(moments.variance)) * moments.count
        self.explained_variance_ratio_ = result.s**2 / (total or 1.0)
        left = variance_left(
            result.certificate.norm**2 / (moments.count - 1), self.explained_variance_
        )
        short = min(shape)
        self.noise_variance_ = left / (short - count) if count < short else 0.0

    def _count(self, shape: tuple[int, ...], *, first: bool) -> int:
        wanted = self.n_components
        samples, features = shape
        if wanted is None:
            return min(shape) if first else len(self.components_)
        if isinstance(wanted, bool) or not isinstance(wanted, int | np.integer) or wanted < 1:
            message = f"n_components is a whole number from 1, or None; found {wanted!r}"
            raise OptionError(message)
        if wanted > features or (first and wanted > samples):
            message = (
                f"n_components is at most the number of features and of samples of the first "
                f"batch, {shape[::-1]}; found {wanted}"
            )
            raise OptionError(message)
        if not first and wanted != len(self.components_):
            message = (
                f"n_components was {len(self.components_)} for the samples so far and is now "
                f"{wanted}; use fit to begin anew"
            )
            raise OptionError(message)
        return int(wanted)
