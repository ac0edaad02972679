"""Torch models as scikit-learn's estimators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

import leptonhpc as lh
from leptonhpc.decomposition.samples import check_samples, floating, is_blocked, seed_of
from leptonhpc.decomposition.targets import check_supervised
from leptonhpc.errors import OptionError
from leptonhpc.train.fitting import fit
from leptonhpc.train.inputs import require_torch
from leptonhpc.train.layout import Layout
from leptonhpc.train.recipe import Compression, OptimiserName, Strategy

if TYPE_CHECKING:
    import torch

ModelOf = Callable[[int, int], "torch.nn.Module"]
"""Makes a model for so many features and outputs."""


def layers(hidden: tuple[int, ...], features: int, outputs: int) -> torch.nn.Module:
    """Make a network of dense layers with ReLU between them.

    Parameters
    ----------
    hidden : tuple of int
        Width of each layer between; none: a linear model.
    features, outputs : int
        Width of the first and the last.

    Returns
    -------
    torch.nn.Module
        In single precision.
    """
    import torch

    widths = (features, *hidden, outputs)
    parts: list[torch.nn.Module] = []
    for before, after in zip(widths, widths[1:], strict=False):
        parts += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    return torch.nn.Sequential(*parts[:-1])


class _TorchEstimator(BaseEstimator):  # type: ignore[misc]
    """What classifiers and regressors have in common."""

    n_features_in_: int
    model: ModelOf | None
    hidden: tuple[int, ...]
    strategy: Strategy
    layout: Layout | None
    optimiser: OptimiserName
    learning_rate: float
    momentum: float
    epochs: int
    batch_size: int
    compression: Compression
    local_steps: int
    random_state: Any
    memory: Any
    max_restarts: int
    progress: bool

    def _train(self, x: Any, y: Any, outputs: int, loss: Any) -> None:
        require_torch()
        make: Any = _Making(self.model, tuple(self.hidden), self.n_features_in_, outputs)
        self.result_ = fit(
            make, (x, y), strategy=self.strategy, layout=self.layout, loss=loss,
            optimiser=self.optimiser,
            learning_rate=self.learning_rate, momentum=self.momentum, epochs=self.epochs,
            batch_size=self.batch_size, seed=seed_of(self.random_state),
            compression=self.compression, local_steps=self.local_steps, memory=self.memory,
            max_restarts=self.max_restarts, progress=self.progress,
        )  # fmt: skip
        self.n_iter_ = len(self.result_.history)

    def _samples(self, X: Any) -> Any:
        check_is_fitted(self)
        return check_samples(self, X, reset=False)


class _Making:
    """Makes the model of an estimator, on every worker."""

    def __init__(
        self, model: ModelOf | None, hidden: tuple[int, ...], features: int, outputs: int
    ) -> None:
        self._model, self._hidden = model, hidden
        self._features, self._outputs = features, outputs

    def __call__(self) -> torch.nn.Module:
        """Make it."""
        if self._model is not None:
            return self._model(self._features, self._outputs)
        return layers(self._hidden, self._features, self._outputs)


class TorchClassifier(ClassifierMixin, _TorchEstimator):  # type: ignore[misc]
    """A torch model that tells classes apart, trained by `leptonhpc.train.fit`.

    Parameters
    ----------
    model : callable, optional
        ``model(features, classes)`` makes the network; default: dense layers with ReLU.
    hidden : tuple of int
        Widths of the default's layers.
    strategy : {"data", "model", "hybrid", "async"}
        How workers share the work; see `leptonhpc.train.fit` for this and all below.
    layout : Layout, optional
        Of "model" and "hybrid": how one model is divided.
    optimiser : {"sgd", "momentum", "adam"}
        How parameters change.
    learning_rate, momentum : float
        Of the optimiser.
    epochs : int
        How often each sample is learnt from.
    batch_size : int
        Samples of a step, over all workers together.
    compression : {"none", "fp16", "powersgd", "topk"}
        Of gradients that are sent.
    local_steps : int
        Steps that each worker makes by itself before parameters are averaged.
    random_state : int, RandomState or None
        Seed of parameters and of the order of samples; None is 0.
    memory : int, float, str or None
        Budget of each worker, such as "2 GB".
    max_restarts : int
        How often training goes on after workers were lost.
    progress : bool
        Show a bar.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    result_ : TrainResult
        The model, the history and the report.
    n_features_in_ : int
        Number of features.
    n_iter_ : int
        Epochs.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from leptonhpc.train import TorchClassifier
    >>> x, y = load_iris(return_X_y=True)
    >>> TorchClassifier(learning_rate=0.01, epochs=40).fit(x, y).score(x, y) > 0.95
    True
    """

    def __init__(
        self,
        model: ModelOf | None = None,
        *,
        hidden: tuple[int, ...] = (128,),
        strategy: Strategy = "data",
        layout: Layout | None = None,
        optimiser: OptimiserName = "adam",
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        epochs: int = 10,
        batch_size: int = 64,
        compression: Compression = "none",
        local_steps: int = 1,
        random_state: Any = None,
        memory: Any = None,
        max_restarts: int = 3,
        progress: bool = False,
    ) -> None:
        self.model = model
        self.hidden = hidden
        self.strategy = strategy
        self.layout = layout
        self.optimiser = optimiser
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.epochs = epochs
        self.batch_size = batch_size
        self.compression = compression
        self.local_steps = local_steps
        self.random_state = random_state
        self.memory = memory
        self.max_restarts = max_restarts
        self.progress = progress

    def fit(self, X: Any, y: Any) -> TorchClassifier:
        """Train.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples.
        y : array-like of shape (n_samples,)
            The labels, of any kind that sorts; read into memory.

        Returns
        -------
        TorchClassifier
            Itself.
        """
        if y is None:
            check_supervised(self, X, y)  # says so
        labels = column_or_1d(np.asarray(lh.open(y)) if is_blocked(y) else y, warn=True)
        assert_all_finite(labels, input_name="y", estimator_name=type(self).__name__)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        x, _ = check_supervised(self, X, codes)
        if len(self.classes_) < 2:
            message = f"{type(self).__name__} needs two classes; y has one class"
            raise OptionError(message)
        self._train(x, codes, len(self.classes_), "cross_entropy")
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples; read in pieces.

        Returns
        -------
        ndarray of shape (n_samples,)
            Of `classes_`.
        """
        x = self._samples(X)
        found: NDArray[Any] = self.classes_[self.result_.predict(x)]
        return found

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Rows sum to one.
        """
        x = self._samples(X)
        found: NDArray[Any] = self.result_.predict(x, probabilities=True)
        return found


class TorchRegressor(MultiOutputMixin, RegressorMixin, _TorchEstimator):  # type: ignore[misc]
    """A torch model of numbers, trained by `leptonhpc.train.fit` on squared errors.

    Parameters
    ----------
    model : callable, optional
        ``model(features, outputs)`` makes the network; default: dense layers with ReLU.
    hidden : tuple of int
        Widths of the default's layers.
    strategy : {"data", "model", "hybrid", "async"}
        How workers share the work; see `leptonhpc.train.fit` for this and all below.
    layout : Layout, optional
        Of "model" and "hybrid": how one model is divided.
    optimiser : {"sgd", "momentum", "adam"}
        How parameters change.
    learning_rate, momentum : float
        Of the optimiser.
    epochs : int
        How often each sample is learnt from.
    batch_size : int
        Samples of a step, over all workers together.
    compression : {"none", "fp16", "powersgd", "topk"}
        Of gradients that are sent.
    local_steps : int
        Steps that each worker makes by itself before parameters are averaged.
    random_state : int, RandomState or None
        Seed of parameters and of the order of samples; None is 0.
    memory : int, float, str or None
        Budget of each worker, such as "2 GB".
    max_restarts : int
        How often training goes on after workers were lost.
    progress : bool
        Show a bar.

    Attributes
    ----------
    result_ : TrainResult
        The model, the history and the report.
    n_features_in_ : int
        Number of features.
    n_iter_ : int
        Epochs.

    Examples
    --------
    >>> import numpy as np
    >>> from leptonhpc.train import TorchRegressor
    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> y = x[:, 0] ** 2
    >>> TorchRegressor(learning_rate=0.01, epochs=100).fit(x, y).score(x, y) > 0.95
    True
    """

    def __init__(
        self,
        model: ModelOf | None = None,
        *,
        hidden: tuple[int, ...] = (128,),
        strategy: Strategy = "data",
        layout: Layout | None = None,
        optimiser: OptimiserName = "adam",
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        epochs: int = 10,
        batch_size: int = 64,
        compression: Compression = "none",
        local_steps: int = 1,
        random_state: Any = None,
        memory: Any = None,
        max_restarts: int = 3,
        progress: bool = False,
    ) -> None:
        self.model = model
        self.hidden = hidden
        self.strategy = strategy
        self.layout = layout
        self.optimiser = optimiser
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.epochs = epochs
        self.batch_size = batch_size
        self.compression = compression
        self.local_steps = local_steps
        self.random_state = random_state
        self.memory = memory
        self.max_restarts = max_restarts
        self.progress = progress

    def fit(self, X: Any, y: Any) -> TorchRegressor:
        """Train.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), or what `open` takes
            The targets; read into memory.

        Returns
        -------
        TorchRegressor
            Itself.
        """
        x, targets = check_supervised(self, X, y)
        self._one_target = targets.ndim == 1
        self._train(x, targets, 1 if self._one_target else targets.shape[1], "mse")
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples; read in pieces.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_targets)
            As the targets were.
        """
        x = self._samples(X)
        found: NDArray[Any] = self.result_.predict(x).astype(floating(x.dtype), copy=False)
        return found[:, 0] if self._one_target else found
