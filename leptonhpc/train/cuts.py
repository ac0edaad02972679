"""Which layers of a model are cut by columns and which by rows, so that few sums are sent."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.nn.modules import activation

from leptonhpc.errors import OptionError
from leptonhpc.train.layout import Cut

_ACROSS = (
    activation.Softmax, activation.LogSoftmax, activation.Softmax2d, activation.Softmin,
    activation.GLU, activation.MultiheadAttention, activation.PReLU,
)  # fmt: skip
"""They look at other entries of a sample, or have parameters for each."""


def plan_cuts(model: nn.Module, plan: Mapping[str, Cut] | None, parts: int) -> dict[str, Cut]:
    """Check a plan, or make one.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    plan : mapping, optional
        Of layers' names, to "colwise" or "rowwise".
    parts : int
        Workers that each get some columns or rows.

    Returns
    -------
    dict
        The plan.

    Raises
    ------
    OptionError
        If there is nothing to cut, a name is of no Linear, or a width does not divide.

    Notes
    -----
    Of Linear, activation, Linear the first is cut by its outputs and the second by its inputs:
    then nothing is sent between them, and one sum behind them [1]_.

    References
    ----------
    .. [1] M. Shoeybi et al., Megatron-LM, arXiv:1909.08053, section 3.
    """
    chosen = dict(plan) if plan is not None else _found(model, parts)
    if not chosen:
        message = (
            "kind='tensor' cuts Linear, activation, Linear inside a torch.nn.Sequential, with a "
            f"width between them that divides by {parts}; the model has none. Give "
            "Layout(plan=...), change parts or the width, or use kind='pipeline' or 'fsdp'"
        )
        raise OptionError(message)
    layers = dict(model.named_modules())
    for name, cut in chosen.items():
        layer = layers.get(name)
        if not isinstance(layer, nn.Linear):
            found = "no layer" if layer is None else type(layer).__name__
            linear = ", ".join(n for n, m in layers.items() if isinstance(m, nn.Linear)) or "none"
            message = f"plan names torch.nn.Linear layers ({linear}); {name!r} is {found}"
            raise OptionError(message)
        width = layer.out_features if cut == "colwise" else layer.in_features
        if width % parts:
            message = (
                f"kind='tensor' cuts layer {name!r} {cut}: its width {width} does not divide by "
                f"{parts} workers. Change the width, or pass Layout(parts=...)"
            )
            raise OptionError(message)
    return chosen


def _found(model: nn.Module, parts: int) -> dict[str, Cut]:
    plan: dict[str, Cut] = {}
    for prefix, module in model.named_modules():
        if not isinstance(module, nn.Sequential):
            continue
        first: tuple[str, nn.Linear] | None = None
        for name, layer in module.named_children():
            full = f"{prefix}.{name}" if prefix else name
            if not isinstance(layer, nn.Linear):
                first = first if _is_elementwise(layer) else None
            elif first is not None and first[1].out_features == layer.in_features:
                plan |= {first[0]: "colwise", full: "rowwise"}
                first = None
            else:
                first = (full, layer) if layer.out_features % parts == 0 else None
    return plan


def _is_elementwise(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Dropout | nn.Identity):
        return True
    return type(layer).__module__ == activation.__name__ and not isinstance(layer, _ACROSS)
