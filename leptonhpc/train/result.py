"""What training gives: the model, how it came about, and what it cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import OptionError
from leptonhpc.train.metrics import Score
from leptonhpc.train.recipe import LossName

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TrainReport:
    """What a training run cost, as measured."""

    strategy: str
    seconds: float
    """Of training, over all attempts that were stored, without the start of workers."""
    wall_seconds: float
    """From the call to the result."""
    workers: int
    """At the end."""
    addresses: tuple[str, ...] = ()
    """Of the workers at the end; none: this process."""
    shares: tuple[float, ...] = (1.0,)
    """What part of each batch each worker took at the end; those that hold one model together take
    the same one."""
    samples: tuple[int, ...] = ()
    """How many samples each worker learnt from in the last attempt."""
    compute_seconds: tuple[float, ...] = ()
    """Of each worker in the model, in the last attempt."""
    sent_nbytes: int = 0
    """What workers gave to each other or the server, as gradients, parameters or activations, in
    the last attempt."""
    restarts: int = 0
    """How often it went on from a checkpoint because a worker was lost."""
    regroups: int = 0
    """How often, because a worker joined."""
    divergence: float = 0.0
    """Largest difference of a parameter between workers at the end; zero where all is well."""
    staleness: dict[int, int] = field(default_factory=dict)
    """Of "async": how many gradients were so many updates old."""
    inference_seconds: float = 0.0
    """Of scoring the validation samples, the last time."""
    held: tuple[str, ...] = ()
    """What each worker had of the model, where it was divided or copied."""

    def to_dict(self) -> dict[str, Any]:
        """Give it for JSON.

        Returns
        -------
        dict
            All fields.
        """
        return asdict(self)

    def __str__(self) -> str:
        """Say it in some lines."""
        lines = [
            f"strategy {self.strategy}, {self.workers} worker{'s' * (self.workers != 1)}: "
            f"{self.seconds:.2f} s of training, {self.wall_seconds:.2f} s in all",
            f"shares {', '.join(f'{share:.2f}' for share in self.shares)}; "
            f"{self.sent_nbytes / 1e6:,.1f} MB sent; {self.restarts} restarts, "
            f"{self.regroups} regroups",
        ]
        if any(part != "all" for part in self.held):
            lines.append(f"of the model: {'; '.join(self.held)}")
        if self.staleness:
            count = sum(self.staleness.values())
            mean = sum(age * n for age, n in self.staleness.items()) / count
            lines.append(f"{count} updates, {mean:.2f} old in the mean, {max(self.staleness)} most")
        else:
            lines.append(f"largest difference between the workers' models {self.divergence:.1e}")
        return "\n".join(lines)


@dataclass(frozen=True)
class TrainResult:
    """A trained model."""

    model: torch.nn.Module
    """On the host, ready to predict."""
    history: tuple[dict[str, Any], ...]
    """One mapping for each epoch: loss, validation figures, seconds since the start, workers."""
    step_losses: NDArray[np.float64]
    """(steps,): mean loss of each batch, before its step."""
    loss: LossName
    outputs: int
    """Classes, or numbers predicted for each sample."""
    report: TrainReport
    optimiser: dict[str, Any] = field(default_factory=dict, repr=False)
    """State of the optimiser, for `fit` with ``start=``."""

    @property
    def metrics(self) -> dict[str, float]:
        """What the last epoch was worth on the validation samples; empty without them."""
        if not self.history:
            return {}
        prefix = "validation_"
        last = self.history[-1]
        return {k.removeprefix(prefix): v for k, v in last.items() if k.startswith(prefix)}

    def predict(self, X: Any, *, out: Any = None, probabilities: bool = False) -> Any:
        """Predict for samples, as `leptonhpc.train.predict` does.

        Parameters
        ----------
        X : what `leptonhpc.open` takes, of shape (m, ...)
            The samples.
        out : str or path, optional
            A Zarr array to be made.
        probabilities : bool
            Give each class's probability, not the class.

        Returns
        -------
        ndarray or BlockedArray
            Classes or numbers; with `out` in the store.

        Raises
        ------
        OptionError
            If there are no classes that could be probable.
        """
        from leptonhpc.train.prediction import predict

        if probabilities and self.loss != "cross_entropy":
            message = f"probabilities are of classes; this model was trained with {self.loss!r}"
            raise OptionError(message)
        return predict(
            self.model, X, classes=self.loss == "cross_entropy", out=out,
            probabilities=probabilities,
        )  # fmt: skip

    def evaluate(self, X: Any, y: Any) -> Score:
        """Score the model on other samples, read in pieces by this process.

        Parameters
        ----------
        X, y : what `leptonhpc.open` takes
            Samples and targets.

        Returns
        -------
        Score
            Loss; of classes also accuracy, precision, recall, F1 and the confusion matrix.

        Raises
        ------
        ShapeError, DTypeError, OptionError, NonFiniteError
            If samples or targets are not such as the model was trained on.
        """
        from leptonhpc.train.inputs import check_model, check_pair, check_targets
        from leptonhpc.train.scoring import score_part

        x, targets = check_pair(X, y, "X", "y")
        check_model(self.model, x, self.loss)
        check_targets(targets, self.loss, self.outputs, "y")
        return score_part(self.model, x, targets, self.loss, self.outputs)

    def __repr__(self) -> str:
        """Show figures of the last epoch and the report."""
        last = self.history[-1] if self.history else {}
        figures = ", ".join(
            f"{name} {value:.4g}" for name, value in last.items() if isinstance(value, float)
        )
        return f"TrainResult after {len(self.history)} epochs: {figures}\n{self.report}"
