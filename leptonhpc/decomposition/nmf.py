"""Non-negative factorisation of samples that need not fit in memory, whole or in a stream."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array, check_is_fitted, check_non_negative

import leptonhpc as lh
from leptonhpc.decomposition.finite import words_of
from leptonhpc.decomposition.nmf_online import Stream
from leptonhpc.decomposition.products import multiplied, restore
from leptonhpc.decomposition.projection import Transformer
from leptonhpc.decomposition.samples import Samples, check_samples, is_blocked, seed_of
from leptonhpc.errors import OptionError, ShapeError

_TRANSFORM_TOL = {"frobenius": 1e-9, "kullback-leibler": 1e-4}


class NMF(Stream, Transformer):
    """Samples as non-negative sums of few components, as ``sklearn.decomposition.NMF``.

    Parameters
    ----------
    n_components : int or None
        Number of components; None is the number of features.
    method : {"sweeps", "compressed"}
        Of `leptonhpc.nmf`: sweeps over the samples, or over their leading singular modes.
    init : {"auto", "nndsvd", "nndsvda", "random"}
        How the iteration begins.
    beta_loss : {"frobenius", "kullback-leibler"}
        What is lowered.
    tol : float
        When the iteration stops: see `leptonhpc.nmf`.
    max_iter : int
        Largest number of sweeps.
    random_state : int, RandomState or None
        Seed of random starts; None is 0.
    forget_factor : float
        Of `partial_fit`: what earlier batches count, each time another comes. 1: all alike.
    batch_size : int or None
        Of `partial_fit` and `extend` for stored arrays: samples of a batch; None: five times the
        features, or what memory allows.
    memory : int, float, str or None
        Budget of each worker, such as "2 GB".
    progress : bool
        Show a bar.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        H: nothing is negative.
    n_components_ : int
        Number of components.
    reconstruction_err_ : float
        |X - WH|_F, or the root of twice the divergence, of the samples that were fitted.
    n_iter_ : int
        Sweeps.
    n_features_in_ : int
        Number of features.
    n_samples_seen_ : int
        After `partial_fit` or `extend`: samples so far.
    certificate_ : NmfCertificate
        Error and optimality, measured; of a stream: of the weights of the last batch.
    report_ : Report
        What it took.

    Notes
    -----
    Sparse matrices are not taken, and there is no regularisation. Weights of new samples are solved
    for, to a residual of 1e-9 (with the divergence: of 1e-4) relative to the samples.

    Examples
    --------
    >>> import numpy as np
    >>> from leptonhpc.decomposition import NMF
    >>> x = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    >>> nmf = NMF(n_components=2).fit(x)
    >>> np.round(nmf.inverse_transform(nmf.transform(x)), 3)
    array([[1., 1., 0.],
           [2., 2., 0.],
           [0., 0., 3.]])
    """

    components_: NDArray[np.floating]

    def __init__(
        self,
        n_components: int | None = None,
        *,
        method: Literal["sweeps", "compressed"] = "sweeps",
        init: Literal["auto", "nndsvd", "nndsvda", "random"] = "auto",
        beta_loss: Literal["frobenius", "kullback-leibler"] = "frobenius",
        tol: float = 1e-4,
        max_iter: int = 200,
        random_state: Any = None,
        forget_factor: float = 1.0,
        batch_size: int | None = None,
        memory: Any = None,
        progress: bool = False,
    ) -> None:
        self.n_components = n_components
        self.method = method
        self.init = init
        self.beta_loss = beta_loss
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.forget_factor = forget_factor
        self.batch_size = batch_size
        self.memory = memory
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> NMF:
        """Find the components.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples; nothing may be negative.
        y : None
            Not used.

        Returns
        -------
        NMF
            Itself.
        """
        self.fit_transform(X)
        return self

    def fit_transform(self, X: Any, y: Any = None, *, W: Any = None, H: Any = None) -> Samples:
        """Find the components and give the weights of the same samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples; nothing may be negative.
        y : None
            Not used.
        W, H : arrays of shapes (n_samples, n_components) and (n_components, n_features), optional
            To begin with, in place of `init`.

        Returns
        -------
        ndarray or BlockedArray of shape (n_samples, n_components)
            W; a temporary store that is removed with it, where it does not fit in memory.
        """
        self._forget()
        x = self._checked(X, reset=True)
        result = self._factored(x, w0=W, h0=H)
        self._take_result(result)
        return self._configured(result.w)

    def transform(self, X: Any, *, out: Any = None) -> Samples:
        """Find the weights of samples, for the components as they are.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples; nothing may be negative.
        out : str or path, optional
            A Zarr array to be made.

        Returns
        -------
        ndarray or BlockedArray of shape (n_samples, n_components)
            In memory where it fits; else in `out`, or a temporary store that is removed with the
            array.
        """
        check_is_fitted(self)
        x = self._checked(X, reset=False)
        weights = self._solved(x).w
        if out is not None:
            unit = np.eye(len(self.components_), dtype=weights.dtype)
            weights = multiplied(
                lh.open(weights), unit, out=out, memory=self.memory, progress=self.progress
            )
        return self._configured(weights, out)

    def inverse_transform(self, X: Any, *, out: Any = None) -> Samples:
        """Give the samples that have these weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components), or what `leptonhpc.open` takes
            Weights.
        out : str or path, optional
            A Zarr array to be made.

        Returns
        -------
        ndarray or BlockedArray of shape (n_samples, n_features)
            As for `transform`.
        """
        check_is_fitted(self)
        x = lh.open(X) if is_blocked(X) else check_array(X, dtype=[np.float64, np.float32])
        count, features = self.components_.shape
        if x.ndim != 2 or x.shape[1] != count:
            raise ShapeError(f"NMF has {count} components; X has shape {x.shape}")
        nothing = np.zeros(features, self.components_.dtype)
        return restore(
            x, self.components_, nothing, out=out, memory=self.memory, progress=self.progress
        )

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def __sklearn_tags__(self) -> Any:
        """Say what scikit-learn may expect."""
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags

    def _checked(self, X: Any, *, reset: bool) -> Samples:
        x = check_samples(self, X, reset=reset)
        if isinstance(x, np.ndarray):
            check_non_negative(x, "NMF (input X)")
        return x

    def _factored(self, x: Samples, *, w0: Any = None, h0: Any = None) -> lh.NmfResult:
        wanted = x.shape[1] if self.n_components is None else self.n_components
        if isinstance(wanted, bool) or not isinstance(wanted, int | np.integer) or wanted < 1:
            message = f"n_components of NMF is a whole number from 1, or None; found {wanted!r}"
            raise OptionError(message)
        if (w0 is None) != (h0 is None):
            raise OptionError("fit_transform of NMF takes W and H together, or neither")
        given = {"w0": w0, "h0": h0} if h0 is not None else {"init": self.init}
        with words_of(self):
            return lh.nmf(
                x, rank=int(wanted), loss=self.beta_loss, method=self.method, tol=self.tol,
                most_sweeps=self.max_iter, seed=seed_of(self.random_state), memory=self.memory,
                progress=self.progress, **given,
            )  # fmt: skip

    def _solved(self, x: Samples) -> lh.NmfResult:
        with words_of(self):
            return lh.nmf(
                x, h0=self.components_, update_h=False, loss=self.beta_loss,
                tol=_TRANSFORM_TOL.get(self.beta_loss, 1e-4), memory=self.memory,
                progress=self.progress,
            )  # fmt: skip

    def _take_result(self, result: lh.NmfResult) -> None:
        certificate = result.certificate
        self.certificate_, self.report_ = certificate, result.report
        self.components_ = np.asarray(result.h)
        self.n_components_, self.n_iter_ = len(self.components_), certificate.sweeps
        error = certificate.error
        self.reconstruction_err_ = (
            error if certificate.loss == "frobenius" else math.sqrt(2 * error)
        )
