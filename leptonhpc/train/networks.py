"""What torch estimators have in common: their network, and how it is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from leptonhpc.decomposition.samples import check_samples, seed_of
from leptonhpc.errors import OptionError
from leptonhpc.train.fitting import fit
from leptonhpc.train.inputs import require_torch
from leptonhpc.train.layout import Layout
from leptonhpc.train.recipe import Compression, OptimiserName, Strategy, whole_number
from leptonhpc.train.result import TrainResult

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


class TorchEstimator(BaseEstimator):  # type: ignore[misc]
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
    insecure: bool
    progress: bool

    def _train(self, x: Any, y: Any, outputs: int, loss: Any, *, more: bool = False) -> None:
        require_torch()
        make: Any = _Making(self._maker(), self._widths(), self.n_features_in_, outputs)
        self.result_ = fit(
            make, (x, y), strategy=self.strategy, layout=self.layout, loss=loss,
            optimiser=self.optimiser, learning_rate=self.learning_rate, momentum=self.momentum,
            epochs=1 if more else self.epochs, start=self._so_far() if more else None,
            batch_size=self.batch_size, seed=seed_of(self.random_state),
            compression=self.compression, local_steps=self.local_steps, memory=self.memory,
            max_restarts=self.max_restarts, insecure=self.insecure, progress=self.progress,
        )  # fmt: skip
        self.n_iter_ = len(self.result_.history) + (self.__dict__.get("n_iter_", 0) if more else 0)

    def _maker(self) -> ModelOf | None:
        """Give what makes the model; a model that is there could not be fitted anew."""
        model: Any = self.model
        if model is not None and (hasattr(model, "parameters") or not callable(model)):
            message = (
                "model is a function model(features, outputs) that makes the network; found "
                f"{type(model).__name__}"
            )
            raise OptionError(message)
        return self.model

    def _widths(self) -> tuple[int, ...]:
        try:
            return tuple(whole_number("hidden", width, 1) for width in self.hidden)
        except TypeError as error:
            message = f"hidden is a tuple of widths, such as (128,); found {self.hidden!r}"
            raise OptionError(message) from error

    def _so_far(self) -> TrainResult | None:
        return self.__dict__.get("result_")

    def _check_more(self, X: Any) -> None:
        """Refuse samples of another width than those before."""
        if self._so_far() is not None:
            check_samples(self, X, reset=False)

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
