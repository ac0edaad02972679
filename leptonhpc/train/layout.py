"""How one model lies on several workers: what may be asked for, and what that needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from leptonhpc.cluster.gangs import GangLimits
from leptonhpc.errors import OptionError

if TYPE_CHECKING:
    import torch

    from leptonhpc.train.recipe import OptimiserName, Settings, Strategy

Kind = Literal["pipeline", "tensor", "fsdp"]
Schedule = Literal["1f1b", "gpipe"]
Cut = Literal["colwise", "rowwise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one model is divided, for `fit` with strategy "model" or "hybrid".

    Examples
    --------
    >>> import leptonhpc as lh
    >>> lh.train.Layout(kind="pipeline", schedule="gpipe", micro_batches=8).parts is None
    True
    """

    kind: Kind = "pipeline"
    """With "pipeline" each worker has some neighbouring layers of an ``nn.Sequential``, as many as
    its measured speed allows, and micro-batches go through them one after the other; with "tensor"
    some columns or rows of the matrices of ``nn.Linear`` layers; with "fsdp", of "hybrid" alone, a
    part of every parameter, and it gets the rest when it is needed."""
    parts: int | None = None
    """Workers that hold one model together; None: all, but two with "hybrid" (all with "fsdp")."""
    schedule: Schedule = "1f1b"
    """Of a pipeline. "1f1b": backwards as soon as possible, so that few micro-batches are in
    memory; "gpipe": all forwards first."""
    micro_batches: int = 4
    """Of a pipeline: pieces that each batch is cut into, no fewer than there are parts. The last
    one is filled up with samples that do not count."""
    plan: Mapping[str, Cut] | None = None
    """Of "tensor": names of layers, to "colwise" (cut by their outputs) or "rowwise" (by their
    inputs). None: each Linear that is followed by an activation and a Linear by its outputs, and
    that one by its inputs."""

    def __post_init__(self) -> None:
        for name, known in (("kind", ("pipeline", "tensor", "fsdp")), ("schedule", _SCHEDULES)):
            value = getattr(self, name)
            if value not in known:
                raise OptionError(f"{name} is one of {', '.join(known)}; found {value!r}")
        for name in ("parts", "micro_batches"):
            value = getattr(self, name)
            if name == "parts" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise OptionError(f"{name} is a whole number from 1; found {value!r}")
        if self.plan is not None:
            if self.kind != "tensor":
                raise OptionError(f"plan is of kind='tensor'; found kind={self.kind!r}")
            for layer, cut in self.plan.items():
                if cut not in ("colwise", "rowwise"):
                    message = f"plan cuts colwise or rowwise; found {cut!r} for {layer!r}"
                    raise OptionError(message)


_SCHEDULES = ("1f1b", "gpipe")


def choose_layout(strategy: Strategy, layout: Layout | None, settings: Settings) -> Layout | None:
    """Give the layout of a strategy; refuse settings that it does not have.

    Parameters
    ----------
    strategy : {"data", "async", "model", "hybrid"}
        The strategy.
    layout : Layout, optional
        What was asked for.
    settings : Settings
        With compression and local steps.

    Returns
    -------
    Layout or None
        None where each worker has the whole model.

    Raises
    ------
    OptionError
        If they do not go together.
    """
    if strategy not in ("model", "hybrid"):
        if layout is not None:
            message = f"layout is of strategy='model' and 'hybrid'; found strategy={strategy!r}"
            raise OptionError(message)
        return None
    if layout is not None and not isinstance(layout, Layout):
        raise OptionError(f"layout is a leptonhpc.train.Layout; found {type(layout).__name__}")
    chosen = Layout() if layout is None else layout
    if strategy == "model" and chosen.kind == "fsdp":
        message = "kind='fsdp' shares out samples and parameters; it is of strategy='hybrid'"
        raise OptionError(message)
    if settings.compression != "none" or settings.local_steps > 1:
        message = (
            f"strategy={strategy!r} takes neither compression nor local_steps; use strategy='data'"
        )
        raise OptionError(message)
    return chosen


def settle_layout(
    layout: Layout, strategy: Strategy, model: torch.nn.Module, workers: int, limits: GangLimits
) -> tuple[Layout, GangLimits]:
    """Choose how many workers hold one model, and check that the model can be divided so.

    Parameters
    ----------
    layout : Layout
        What was asked for.
    strategy : {"model", "hybrid"}
        The strategy.
    model : torch.nn.Module
        The model; it is not changed.
    workers : int
        How many there are; one: it is not divided.
    limits : GangLimits
        Of the run.

    Returns
    -------
    tuple of (Layout, GangLimits)
        With the parts, and with ranks that fit them.

    Raises
    ------
    OptionError
        If it cannot be; the message names the way out.
    """
    parts = _parts(layout, strategy, workers)
    if layout.parts is not None and workers > 1 and parts > workers:
        message = (
            f"parts={parts} needs as many workers; there are {workers}. Use fewer parts, or add "
            "workers"
        )
        raise OptionError(message)
    settled = replace(layout, parts=parts)
    _require_divisible(settled, model)
    if workers == 1:
        return settled, replace(limits, most=1)
    if strategy == "model":
        # a pipeline goes on with fewer workers; columns and rows are cut into so many parts
        least = 1 if layout.kind == "pipeline" else parts
        return settled, replace(limits, least=least, most=parts)
    if layout.kind == "fsdp" and layout.parts is None:
        return replace(settled, parts=None), limits
    return settled, replace(limits, least=parts, multiple=parts)


def _parts(layout: Layout, strategy: Strategy, workers: int) -> int:
    if layout.parts is not None:
        return layout.parts
    all_of_them = strategy == "model" or layout.kind == "fsdp"
    return workers if all_of_them else min(2, workers)


def held_nbytes(
    model: torch.nn.Module, strategy: Strategy, optimiser: OptimiserName, layout: Layout | None,
    workers: int,
) -> tuple[int, int]:  # fmt: skip
    """Say what memory the worker with the largest part of a model needs for it, at least.

    Parameters
    ----------
    model : torch.nn.Module
        The model; shapes and dtypes of its parameters are looked at.
    strategy : {"data", "async", "model", "hybrid"}
        The strategy.
    optimiser : {"sgd", "momentum", "adam"}
        It keeps nothing, one number or two for each parameter.
    layout : Layout or None
        How the model is divided.
    workers : int
        How many there are.

    Returns
    -------
    tuple of (int, int)
        Bytes where one worker has the whole model, and where it is divided.

    Notes
    -----
    Parameters, gradients, what the optimiser keeps, and a copy while it is stored; with "async" the
    server has them beside a trainer, and both have what is sent. Of a divided model a worker has
    its part, and the largest layer with its gradients while it is tried, gathered or put together.
    """
    whole, kept = _nbytes(model), {"sgd": 0, "momentum": 1, "adam": 2}[optimiser]
    alone = whole * (kept + (8 if strategy == "async" else 3))
    parts = 1 if layout is None else _parts(layout, strategy, workers)
    if layout is None or min(parts, workers) == 1:
        return alone, alone
    part = -(-whole // parts)
    if layout.kind == "tensor":
        from leptonhpc.train.cuts import plan_cuts

        names = plan_cuts(model, layout.plan, parts)
        cut = sum(model.get_parameter(f"{name}.weight").nbytes for name in names)
        part = whole - cut + -(-cut // parts)
    largest = max((_nbytes(layer) for layer in model.children()), default=whole)
    return alone, part * (kept + 2) + 2 * largest


def _nbytes(module: torch.nn.Module) -> int:
    return sum(p.nbytes for p in module.parameters())


def _require_divisible(layout: Layout, model: torch.nn.Module) -> None:
    from leptonhpc.train.cuts import plan_cuts
    from leptonhpc.train.stages import require_units

    parts = layout.parts or 1
    if layout.kind == "pipeline":
        require_units(model, parts)
    elif layout.kind == "tensor":
        plan_cuts(model, layout.plan, parts)
    else:
        for name, parameter in model.named_parameters():
            if parameter.ndim == 0:
                message = (
                    f"kind='fsdp' divides parameters along their first axis; {name} is one number."
                    " Give it shape (1,)"
                )
                raise OptionError(message)
