"""Torch models as scikit-learn's estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

import leptonhpc as lh
from leptonhpc.decomposition.samples import floating, is_blocked
from leptonhpc.decomposition.targets import check_supervised
from leptonhpc.errors import OptionError, ShapeError
from leptonhpc.train.layout import Layout
from leptonhpc.train.networks import ModelOf, TorchEstimator
from leptonhpc.train.recipe import Compression, OptimiserName, Strategy


class TorchClassifier(ClassifierMixin, TorchEstimator):  # type: ignore[misc]
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
    insecure : bool
        Let workers of a cluster with TLS send gradients over a network as they are.
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
        insecure: bool = False,
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
        self.insecure = insecure
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
        labels = self._labels(X, y)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        x, _ = check_supervised(self, X, codes)
        if len(self.classes_) < 2:
            message = f"{type(self).__name__} needs two classes; y has one class"
            raise OptionError(message)
        self._train(x, codes, len(self.classes_), "cross_entropy")
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> TorchClassifier:
        """Go on: learn once from more samples, as a stream brings them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples.
        y : array-like of shape (n_samples,)
            Their labels; read into memory.
        classes : array-like of shape (n_classes,), optional
            All labels that will ever come; needed by the first call.

        Returns
        -------
        TorchClassifier
            Itself.

        Raises
        ------
        OptionError
            If classes are not known, are others than before, or a label is none of them.
        """
        labels = self._labels(X, y)
        self._check_more(X)
        if self._so_far() is None or classes is not None:
            known = self.classes_ if self._so_far() is not None else None
            if classes is None:
                raise OptionError("the first partial_fit needs classes=: all labels that will come")
            found = np.unique(np.asarray(classes))
            if len(found) < 2 or (known is not None and not np.array_equal(found, known)):
                message = f"classes are two or more, and stay; found {found}, before {known}"
                raise OptionError(message)
            self.classes_ = found
        codes = np.searchsorted(self.classes_, labels).clip(max=len(self.classes_) - 1)
        if (strange := self.classes_[codes] != labels).any():
            row = int(np.argmax(strange))
            message = f"labels are of classes_, {self.classes_}; y has {labels[row]!r} at row {row}"
            raise OptionError(message)
        x, _ = check_supervised(self, X, codes)
        self._train(x, codes, len(self.classes_), "cross_entropy", more=True)
        return self

    def _labels(self, X: Any, y: Any) -> NDArray[Any]:
        if y is None:
            check_supervised(self, X, y)  # says so
        labels: NDArray[Any] = column_or_1d(
            np.asarray(lh.open(y)) if is_blocked(y) else y, warn=True
        )
        assert_all_finite(labels, input_name="y", estimator_name=type(self).__name__)
        check_classification_targets(labels)
        return labels

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


class TorchRegressor(MultiOutputMixin, RegressorMixin, TorchEstimator):  # type: ignore[misc]
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
    insecure : bool
        Let workers of a cluster with TLS send gradients over a network as they are.
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
        insecure: bool = False,
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
        self.insecure = insecure
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

    def partial_fit(self, X: Any, y: Any) -> TorchRegressor:
        """Go on: learn once from more samples, as a stream brings them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), or what `open` takes
            Their targets, as many as before; read into memory.

        Returns
        -------
        TorchRegressor
            Itself.

        Raises
        ------
        ShapeError
            If there are more or fewer targets than before.
        """
        self._check_more(X)
        x, targets = check_supervised(self, X, y)
        outputs = 1 if targets.ndim == 1 else targets.shape[1]
        before = self._so_far()
        if before is not None and (outputs, targets.ndim == 1) != (
            before.outputs, self._one_target,
        ):  # fmt: skip
            message = (
                f"targets of shape {targets.shape} came after some of {before.outputs} numbers"
            )
            raise ShapeError(message)
        self._one_target = targets.ndim == 1
        self._train(x, targets, outputs, "mse", more=True)
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
