"""What training makes small, and how: losses of a batch, and optimisers by their names."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from leptonhpc.errors import DTypeError, ShapeError
from leptonhpc.train.recipe import LossName, Settings


def loss_sum(name: LossName, outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum the losses of the samples of a batch.

    Parameters
    ----------
    name : {"cross_entropy", "mse"}
        Minus the logarithm of the softmax at the class; or the mean, over a sample's outputs, of
        squared differences.
    outputs : tensor of shape (n, k)
        What the model gave.
    targets : tensor of shape (n,) or (n, k)
        Classes (int64), or what the outputs should be.

    Returns
    -------
    tensor of shape ()
        The sum: of parts of a batch they add up to that of the batch.
    """
    if name == "cross_entropy":
        return nn.functional.cross_entropy(outputs, targets, reduction="sum")
    wanted = targets.reshape(outputs.shape)
    return nn.functional.mse_loss(outputs, wanted, reduction="sum") * (1.0 / outputs.shape[1])


def make_optimiser(settings: Settings, model: nn.Module) -> torch.optim.Optimizer:
    """Make the optimiser of a run.

    Parameters
    ----------
    settings : Settings
        With its name and rates.
    model : torch.nn.Module
        Whose parameters it changes.

    Returns
    -------
    torch.optim.Optimizer
        SGD, SGD with momentum, or Adam [1]_.

    References
    ----------
    .. [1] D. P. Kingma, J. Ba, Adam: a method for stochastic optimization, ICLR 2015, Algorithm 1.
    """
    parameters = list(model.parameters())
    if settings.optimiser == "adam":
        # one pass over a parameter in place of seven; those that are divided have no such kernel
        fused = all(_is_plain(parameter) for parameter in parameters)
        return torch.optim.Adam(parameters, lr=settings.learning_rate, fused=fused)
    momentum = settings.momentum if settings.optimiser == "momentum" else 0.0
    return torch.optim.SGD(parameters, lr=settings.learning_rate, momentum=momentum)


def _is_plain(parameter: Tensor) -> bool:
    there = parameter.device.type in ("cpu", "cuda")
    return type(parameter) is nn.Parameter and parameter.is_floating_point() and there


def inputs_of(x: NDArray[Any], like: Tensor) -> Tensor:
    """Give samples to a model, in its dtype and on its device.

    Parameters
    ----------
    x : array
        The samples.
    like : tensor
        A parameter.

    Returns
    -------
    tensor
        They.

    Raises
    ------
    DTypeError
        If they are whole numbers, as indices are, that half precision would round to others.
    """
    given = torch.from_numpy(_native(x))
    found = given.to(like.device, like.dtype)
    if x.dtype.kind in "iu" and like.dtype in (torch.float16, torch.bfloat16):
        rounded = given.to(torch.float64) != found.to("cpu", torch.float64)
        if bool(rounded.any()):
            message = (
                f"samples are whole numbers, and the model's {like.dtype} makes others of them: "
                f"{given[rounded][0].item()} is {found.cpu()[rounded][0].item():g} there. Indices "
                "need a model in single precision; what are no indices X.astype('float32')"
            )
            raise DTypeError(message)
    return found


def targets_of(y: NDArray[Any], loss: LossName, like: Tensor) -> Tensor:
    """Give targets to a loss: classes as int64, one a sample; numbers in the model's dtype."""
    if loss == "cross_entropy":
        return torch.from_numpy(_native(y.reshape(-1))).to(like.device, torch.int64)
    return torch.from_numpy(_native(y)).to(like.device, like.dtype)


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """Give them in the machine's byte order and without gaps, as torch takes them."""
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))


def seed_draws(seed: int) -> None:
    """Seed what layers such as dropout draw from.

    Parameters
    ----------
    seed : int
        Of the step.

    Notes
    -----
    `torch.manual_seed` also notes, for each kind of device that is not in use, where it was called
    from: that took a tenth of a step of a small network.
    """
    torch.default_generator.manual_seed(seed)
    cuda: Any = torch.cuda
    if cuda.is_initialized():
        cuda.manual_seed_all(seed)


def a_parameter(model: nn.Module) -> Tensor:
    """Give one parameter: its dtype and device are those of the model.

    Parameters
    ----------
    model : torch.nn.Module
        The model.

    Returns
    -------
    tensor
        The first that is floating.

    Raises
    ------
    ShapeError
        If there is none to be learnt.
    """
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.requires_grad:
            return parameter
    message = "training needs a model with parameters; model_fn() gave one that has none to learn"
    raise ShapeError(message)
