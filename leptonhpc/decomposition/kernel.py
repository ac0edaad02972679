"""Kernel principal components by Nystroem's method: of many samples, by a few landmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

import leptonhpc as lh
from leptonhpc.blocks import BlockedArray
from leptonhpc.decomposition.features import FeatureSource, Kernel, normalization
from leptonhpc.decomposition.finite import words_of
from leptonhpc.decomposition.products import project
from leptonhpc.decomposition.projection import Transformer, scores_of
from leptonhpc.decomposition.samples import Samples, check_samples, floating, seed_of
from leptonhpc.decomposition.signs import signs_of_columns
from leptonhpc.errors import NonFiniteError, OptionError
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.runtime import resources_of


class KernelPCA(Transformer):
    """Kernel principal components with landmarks, as ``sklearn.decomposition.KernelPCA``.

    Parameters
    ----------
    n_components : int or None
        Number of components, at most the rank of the landmarks' kernel matrix; None: all.
    n_landmarks : int
        Samples that stand for all. With as many as there are samples (or more) the method is exact.
    kernel : str or callable
        A positive semidefinite kernel: a name of ``sklearn.metrics.pairwise.pairwise_kernels``
        ("linear", "poly", "rbf", "laplacian", "cosine", ...), or a function of two samples.
    gamma : float or None
        Of kernels that have one; None: 1 / n_features.
    degree, coef0 : float
        Of kernels that have them.
    kernel_params : dict or None
        Of other kernels, and of a callable.
    random_state : int, RandomState or None
        Seed of the landmarks; None is 0.
    memory : int, float, str or None
        Budget of each worker, such as "2 GB".
    progress : bool
        Show a bar.

    Attributes
    ----------
    eigenvalues_ : ndarray of shape (n_components,)
        Of the centred kernel matrix.
    components_ : ndarray of shape (n_components, rank)
        Components in the space of the features.
    landmarks_ : ndarray of shape (n_landmarks, n_features)
        The landmarks.
    landmark_indices_ : ndarray of shape (n_landmarks,)
        Which samples they were.
    normalization_ : ndarray of shape (n_landmarks, rank)
        Makes features of kernels with the landmarks.
    mean_ : ndarray of shape (rank,)
        Mean of the features.
    gamma_ : float
        The gamma that was used.
    n_features_in_ : int
        Number of features of the samples.
    certificate_ : SvdCertificate
        Residual of each component of the features, measured. What the landmarks leave out of the
        kernel is not in it.
    report_ : Report
        What the factorisation took.

    Notes
    -----
    The kernel matrix is replaced by F F^T with features F = K(X, landmarks) K(landmarks)^-1/2,
    which are computed while samples are read and never stored: two passes over the samples.

    Examples
    --------
    >>> import numpy as np
    >>> from leptonhpc.decomposition import KernelPCA
    >>> x = np.random.default_rng(0).standard_normal((50, 3))
    >>> KernelPCA(n_components=2, n_landmarks=20, kernel="rbf").fit_transform(x).shape
    (50, 2)
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        n_landmarks: int = 100,
        kernel: Any = "linear",
        gamma: float | None = None,
        degree: float = 3,
        coef0: float = 1,
        kernel_params: dict[str, Any] | None = None,
        random_state: Any = None,
        memory: Any = None,
        progress: bool = False,
    ) -> None:
        self.n_components = n_components
        self.n_landmarks = n_landmarks
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.kernel_params = kernel_params
        self.random_state = random_state
        self.memory = memory
        self.progress = progress

    @property
    def _n_features_out(self) -> int:
        return len(self.eigenvalues_)

    def fit(self, X: Any, y: Any = None) -> KernelPCA:
        """Choose landmarks and find the components.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples, at least two.
        y : None
            Not used.

        Returns
        -------
        KernelPCA
            Itself.
        """
        self._fit(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Samples:
        """Find the components and project the same samples, without another pass.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples.
        y : None
            Not used.

        Returns
        -------
        ndarray or BlockedArray of shape (n_samples, n_components)
            The projections; lazy where they do not fit in memory.
        """
        result, signs, dtype = self._fit(X)
        rank = len(self.eigenvalues_)
        scores = scores_of(result, (signs * result.s)[:rank])
        return self._configured(scores.astype(dtype) if isinstance(scores, np.ndarray) else scores)

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
            In memory where it fits; else in `out`, or a temporary store that is removed with the
            array.
        """
        check_is_fitted(self)
        x = check_samples(self, X, reset=False)
        features = self._features(x)
        projected = project(
            features, self.mean_, self.components_.T, out=out, memory=self._budget(features),
            progress=self.progress,
        )  # fmt: skip
        if isinstance(projected, np.ndarray):
            return projected.astype(floating(x.dtype), copy=False)
        return self._configured(projected, out)

    def _fit(self, X: Any) -> tuple[Any, NDArray[Any], np.dtype[Any]]:
        x = check_samples(self, X, reset=True, least=2)
        self._check()
        self.gamma_ = 1 / x.shape[1] if self.gamma is None else self.gamma
        with words_of(self):
            self._choose_landmarks(x)
        self.normalization_ = normalization(self._kernel(), self.landmarks_)
        features = self._features(x)
        most = min(features.shape)
        rank = most if self.n_components is None else min(self.n_components, most)
        with words_of(self):
            result: Any = lh.svd(
                features, rank=rank, center=True, method="gram", memory=self._budget(features),
                progress=self.progress,
            )  # fmt: skip
        self.certificate_, self.report_ = result.certificate, result.report
        if self.n_components is None:  # centring alone takes one away
            rank = int(np.count_nonzero(result.s > self._least(result.s)))
        signs = signs_of_columns(result.u)
        self.components_ = (np.asarray(result.vh) * signs[:, np.newaxis])[:rank]
        self.mean_, self.eigenvalues_ = result.mean, result.s[:rank] ** 2
        return result, signs, floating(x.dtype)

    def _budget(self, features: BlockedArray) -> int | None:
        """Leave room for kernels on all threads, of which the drivers know nothing."""
        source: Any = features.source
        nbytes = parse_nbytes(self.memory)
        if nbytes is None:
            return None
        return nbytes - resources_of(nbytes).threads * int(source.overhead_nbytes())

    def _least(self, s: NDArray[np.floating]) -> float:
        """Give what rounding of the kernel leaves of a singular value that is zero."""
        return float(s[0]) * float(np.sqrt(len(self.landmarks_) * np.finfo(float).eps))

    def _check(self) -> None:
        for name in ("n_components", "n_landmarks"):
            value = getattr(self, name)
            if value is None and name == "n_components":
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise OptionError(f"{name} is a whole number from 1; found {value!r}")
        if self.kernel == "precomputed":
            message = "kernel is a name or a function: landmarks are samples, not rows of a kernel"
            raise OptionError(message)

    def _kernel(self) -> Kernel:
        if callable(self.kernel):
            return Kernel(self.kernel, tuple((self.kernel_params or {}).items()))
        named = {"gamma": self.gamma_, "degree": self.degree, "coef0": self.coef0}
        return Kernel(self.kernel, tuple({**named, **(self.kernel_params or {})}.items()))

    def _choose_landmarks(self, x: Samples) -> None:
        count, rows = min(self.n_landmarks, x.shape[0]), x.shape[0]
        generator = np.random.Generator(np.random.Philox(seed_of(self.random_state)))
        self.landmark_indices_ = np.sort(generator.choice(rows, count, replace=False))
        self.landmarks_ = _rows(x, self.landmark_indices_)
        if not np.isfinite(self.landmarks_).all():
            row, column = np.argwhere(~np.isfinite(self.landmarks_))[0]
            at = (int(self.landmark_indices_[row]), int(column))
            message = f"KernelPCA needs finite numbers; {lh.open(x).name} has another at {at}"
            raise NonFiniteError(message)

    def _features(self, x: Samples) -> BlockedArray:
        source = FeatureSource(
            lh.open(x).source, self._kernel(), self.landmarks_, self.normalization_
        )
        return BlockedArray(source)


def _rows(x: Samples, indices: NDArray[np.int64]) -> NDArray[Any]:
    """Read single rows, each chunk that holds some of them once."""
    if isinstance(x, np.ndarray):
        return x[indices]
    unit, columns = max(1, x.source.unit[0]), x.shape[1]
    parts = []
    for number in np.unique(indices // unit):
        wanted = indices[indices // unit == number]
        low, high = int(wanted[0]), int(wanted[-1]) + 1
        parts.append(x.read(((low, high), (0, columns)))[wanted - low])
    rows: NDArray[Any] = np.concatenate(parts).astype(floating(x.dtype), copy=False)
    return rows
