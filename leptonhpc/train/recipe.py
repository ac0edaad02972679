"""What is trained, with what, and for how long: one value that workers are sent."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import OptionError
from leptonhpc.train.layout import Layout
from leptonhpc.train.sampling import Order

if TYPE_CHECKING:
    import torch

Strategy = Literal["data", "async", "model", "hybrid"]
LossName = Literal["cross_entropy", "mse"]
OptimiserName = Literal["sgd", "momentum", "adam"]
Compression = Literal["none", "fp16", "powersgd", "topk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the parameters are found; all of it in the name of a checkpoint."""

    loss: LossName = "cross_entropy"
    optimiser: OptimiserName = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    """Of "momentum" alone."""
    epochs: int = 1
    batch_size: int = 64
    """Samples of a step, over all workers together."""
    seed: int = 0
    shuffle: bool = True
    patience: int | None = None
    """Epochs without a better validation loss before training stops."""
    compression: Compression = "none"
    """Of gradients that are sent."""
    local_steps: int = 1
    """Steps that each worker makes by itself between two averages of the parameters."""

    def __post_init__(self) -> None:
        # plain numbers: those of NumPy are not read from a checkpoint again
        for name in ("epochs", "batch_size", "local_steps"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), 1))
        if self.patience is not None:
            object.__setattr__(self, "patience", whole_number("patience", self.patience, 1))
        object.__setattr__(self, "seed", whole_number("seed", self.seed, 0))
        for name in ("learning_rate", "momentum"):
            object.__setattr__(self, name, real_number(name, getattr(self, name)))
        if not 0 < self.learning_rate < float("inf"):
            raise OptionError(f"learning_rate is a number above 0; found {self.learning_rate!r}")
        if not 0 <= self.momentum < 1:
            raise OptionError(f"momentum is from 0 to below 1; found {self.momentum!r}")
        if self.seed >= 2**63:
            raise OptionError(f"seed is from 0 to 2**63 - 1; found {self.seed!r}")
        self._require_choices()
        if self.local_steps > 1 and self.compression != "none":
            message = (
                f"compression={self.compression!r} is of gradients, and local_steps="
                f"{self.local_steps} sends none; use one of them"
            )
            raise OptionError(message)

    def _require_choices(self) -> None:
        choices = {
            "loss": ("cross_entropy", "mse"),
            "optimiser": ("sgd", "momentum", "adam"),
            "compression": ("none", "fp16", "powersgd", "topk"),
        }
        for name, known in choices.items():
            value = getattr(self, name)
            if value not in known:
                raise OptionError(f"{name} is one of {', '.join(known)}; found {value!r}")


def whole_number(name: str, value: Any, least: int) -> int:
    """Take a whole number of any kind.

    Parameters
    ----------
    name : str
        Of the option, for the message.
    value : object
        What was given.
    least : int
        The smallest that may be.

    Returns
    -------
    int
        The number.

    Raises
    ------
    OptionError
        If it is none, or too small.
    """
    try:
        found = operator.index(value)
    except TypeError:
        found = least - 1
    if found < least or isinstance(value, bool):
        raise OptionError(f"{name} is a whole number from {least}; found {value!r}")
    return found


def real_number(name: str, value: Any) -> float:
    """Take a number of any kind.

    Parameters
    ----------
    name : str
        Of the option, for the message.
    value : object
        What was given.

    Returns
    -------
    float
        The number.

    Raises
    ------
    OptionError
        If it is none.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise OptionError(f"{name} is a number; found {value!r}")
    return float(value)


@dataclass(frozen=True, slots=True)
class Start:
    """What training begins from, instead of a model as it was made."""

    model: Mapping[str, Any]
    """Its state."""
    optimiser: Mapping[str, Any]
    """Its state; empty: it begins anew."""
    digest: str
    """Of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training run, as every rank needs it."""

    strategy: Strategy
    """How work is shared."""
    model_fn: Callable[[], torch.nn.Module]
    """Makes the model; called after torch's generator was seeded."""
    x: BlockedArray
    y: BlockedArray
    validation: tuple[BlockedArray, BlockedArray] | None
    settings: Settings
    order: Order
    outputs: int
    """Classes, or numbers that are predicted for each sample."""
    checkpoint: str | None
    """Location of the run's store; None: nothing is kept (in one process only)."""
    checkpoint_seconds: float = 60.0
    """How often the state is stored, beside the ends of epochs."""
    layout: Layout | None = None
    """Of "model" and "hybrid". Not in the fingerprint: checkpoints hold the whole model."""
    start: Start | None = None
    """None: the model as it is made."""
    kept_nbytes: int = 0
    """Of samples and targets that stay in a worker's memory once they were read, at most."""

    def described(self) -> str:
        """Say what is trained, so that a checkpoint of something else is not taken up.

        Returns
        -------
        str
            JSON, of data and settings (the code of the model is not known).
        """
        described: dict[str, Any] = {
            "strategy": self.strategy,
            "settings": {k: v for k, v in asdict(self.settings).items() if k != "epochs"},
            "x": self.x.source.identity(),
            "y": self.y.source.identity(),
            "order": {"window": self.order.window_batches, "unit": self.order.unit},
        }
        if self.start is not None:
            described["start"] = self.start.digest
        return json.dumps(described, sort_keys=True, default=str)

    def fingerprint(self) -> str:
        """Name what is trained.

        Returns
        -------
        str
            Sixteen hexadecimal digits, of what `described` gives.
        """
        return hashlib.sha256(self.described().encode()).hexdigest()[:16]


_SAID = {
    "x": "the samples are others",
    "y": "the targets are others",
    "order": "samples are shuffled in other windows, as memory= or their chunks are others",
    "start": "start= is another",
}
"""Of what has no values that say something."""


def differences(there: str, now: str) -> str:
    """Say in what two descriptions of recipes differ.

    Parameters
    ----------
    there, now : str
        What `Recipe.described` gave.

    Returns
    -------
    str
        Such as "learning_rate=0.1 there, 0.01 now; the samples are others".

    Examples
    --------
    >>> differences('{"strategy": "data"}', '{"strategy": "async"}')
    "strategy='data' there, 'async' now"
    """
    old, new = json.loads(there), json.loads(now)
    old, new = ({**each.pop("settings", {}), **each} for each in (old, new))
    names = [n for n in sorted(old.keys() | new.keys()) if old.get(n) != new.get(n)]
    if len(names) > 1 and "order" in names:
        names.remove("order")  # it follows from the others
    return "; ".join(
        _SAID.get(name) or f"{name}={old.get(name)!r} there, {new.get(name)!r} now"
        for name in names
    )
