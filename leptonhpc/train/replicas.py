"""The model on each rank, kept the same: gradients averaged at each step, or parameters at some."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from leptonhpc.train.compression import Meter, register_hook
from leptonhpc.train.recipe import Settings


class Replicas(Protocol):
    """What keeps models the same."""

    model: nn.Module
    """The one to call."""
    meter: Meter

    def weight(self, samples: int, total: int) -> float:
        """Say by what the sum of this rank's losses is multiplied."""

    def after_step(self, share: float) -> None:
        """Note that the optimiser made a step."""

    def settle(self, share: float) -> None:
        """Make the models the same now."""


class Alone:
    """One process: nothing is sent.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.meter = model, Meter()

    def weight(self, samples: int, total: int) -> float:
        """Give the weight of the mean loss."""
        return 1.0 / total

    def after_step(self, share: float) -> None:
        """Do nothing."""

    def settle(self, share: float) -> None:
        """Do nothing."""


class AveragedGradients:
    """Gradients are averaged while they are computed (torch's DistributedDataParallel).

    Parameters
    ----------
    model : torch.nn.Module
        The model; all ranks get rank 0's parameters.
    settings : Settings
        With the compression.
    unused : bool
        Whether it has parameters that get no gradient: they are looked for at each step.
    """

    def __init__(self, model: nn.Module, settings: Settings, *, unused: bool) -> None:
        self.model: nn.Module = DistributedDataParallel(model, find_unused_parameters=unused)
        self.meter = Meter()
        self._world = dist.get_world_size()
        register_hook(self.model, settings.compression, self.meter)

    def weight(self, samples: int, total: int) -> float:
        """Give the weight that makes the mean of gradients that of the batch.

        Ranks have unlike numbers of samples: the mean over ranks of world/total sum_i g_i is the
        gradient of the mean loss over the batch.
        """
        return self._world / total

    def after_step(self, share: float) -> None:
        """Do nothing."""

    def settle(self, share: float) -> None:
        """Do nothing."""


class AveragedParameters:
    """Each rank makes some steps by itself, then parameters are averaged by shares (local SGD).

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    settings : Settings
        With the number of steps.

    References
    ----------
    S. U. Stich, Local SGD converges fast and communicates little, ICLR 2019, Algorithm 1.
    """

    def __init__(self, model: nn.Module, settings: Settings) -> None:
        self.model, self.meter = model, Meter()
        self._every, self._since = settings.local_steps, 0
        for tensor in _tensors(model):
            dist.broadcast(tensor, 0)

    def weight(self, samples: int, total: int) -> float:
        """Give the weight of the mean over the rank's own samples."""
        return 1.0 / max(1, samples)

    def after_step(self, share: float) -> None:
        """Average, if it is time."""
        self.meter.ready_at = time.perf_counter()
        self._since += 1
        if self._since >= self._every:
            self.settle(share)

    def settle(self, share: float) -> None:
        """Average now."""
        if not self._since:
            return
        self._since = 0
        flat = torch.cat([t.reshape(-1) for t in _tensors(self.model)]) * share
        self.meter.sent_nbytes += flat.nbytes
        dist.all_reduce(flat)
        at = 0
        for tensor in _tensors(self.model):
            tensor.copy_(flat[at : at + tensor.numel()].reshape(tensor.shape))
            at += tensor.numel()


def replicas_of(
    model: nn.Module, world: int, settings: Settings, unused: Callable[[], bool]
) -> Replicas:
    """Choose how models are kept the same.

    Parameters
    ----------
    model : torch.nn.Module
        The model of this rank.
    world : int
        Ranks.
    settings : Settings
        With compression and local steps.
    unused : callable
        Says whether parameters get no gradient; called by all ranks or none.

    Returns
    -------
    Replicas
        What keeps them.
    """
    if world == 1:
        return Alone(model)
    if settings.local_steps > 1:
        return AveragedParameters(model, settings)
    return AveragedGradients(model, settings, unused=unused())


def divergence(model: nn.Module, world: int) -> float:
    """Measure how far the parameters of the ranks are from each other.

    Parameters
    ----------
    model : torch.nn.Module
        The model of this rank.
    world : int
        Ranks.

    Returns
    -------
    float
        Largest difference of one parameter between two ranks; zero where all is well.
    """
    if world == 1:
        return 0.0
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    largest, smallest = flat.clone(), flat.clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    dist.all_reduce(smallest, dist.ReduceOp.MIN)
    return float((largest - smallest).abs().max())


def _tensors(model: nn.Module) -> list[Tensor]:
    """Give parameters and floating buffers, in one order on all ranks."""
    found = [p.detach() for p in model.parameters()]
    return found + [b for b in model.buffers() if b.is_floating_point()]
