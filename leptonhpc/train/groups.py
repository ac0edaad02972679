"""Ranks that hold one model together, and ranks that have the same part of different ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from leptonhpc.train.holdings import device_of_rank
from leptonhpc.train.objectives import a_parameter, inputs_of
from leptonhpc.train.recipe import Recipe

_PROBE_ROWS = 64
_number = itertools.count()
"""Of the meshes that this process made."""


class Groups:
    """A mesh of ranks: (group, part).

    Parameters
    ----------
    rank, world : int
        Which rank this is, and of how many.
    parts : int
        Ranks of a group; neighbours.
    """

    def __init__(self, rank: int, world: int, parts: int) -> None:
        self.parts, self.count = parts, world // parts
        self.index, self.part = divmod(rank, parts)
        # torch keeps what it found out for a mesh, and takes one with the same ranks and names for
        # the same: but in the next attempt this process may have another rank
        number = next(_number)
        names = f"group-{number}", f"part-{number}"
        self.mesh: DeviceMesh = init_device_mesh(
            device_of_rank(), (self.count, parts), mesh_dim_names=names
        )
        self.within: DeviceMesh = self.mesh[names[1]]
        """The ranks of this group."""
        self.members = self.within.get_group()
        self._peers = self.mesh.get_group(names[0])

    def gather(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give what all ranks have.

        Parameters
        ----------
        values : array of shape (n,)
            Of this rank.

        Returns
        -------
        array of shape (groups, parts, n)
            Of all.
        """
        all_of_them = torch.zeros((self.count, self.parts, len(values)), dtype=torch.float64)
        all_of_them[self.index, self.part] = torch.from_numpy(values)
        dist.all_reduce(all_of_them)
        found: NDArray[np.float64] = all_of_them.numpy()
        return found

    def broadcast(self, value: Tensor | None, like: Tensor, part: int) -> Tensor:
        """Give a tensor of one rank to all of its group, on the host.

        Parameters
        ----------
        value : tensor or None
            On the rank that has it.
        like : tensor
            Of its shape and dtype.
        part : int
            Who has it.

        Returns
        -------
        tensor
            On the host.
        """
        held = self.part == part and value is not None
        sent = value.detach().cpu().clone() if held and value is not None else torch.zeros_like(
            like, device="cpu"
        )  # fmt: skip
        dist.broadcast(sent, self.index * self.parts + part, group=self.members)
        return sent

    def add_gradients(self, module: nn.Module) -> int:
        """Sum the gradients of the same parts over all groups.

        Parameters
        ----------
        module : torch.nn.Module
            Its gradients are replaced by the sums.

        Returns
        -------
        int
            Bytes that this rank gave.
        """
        if self.count == 1:
            return 0
        grads = [_local(p.grad) for p in module.parameters() if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat, group=self._peers)
        at = 0
        for grad in grads:
            grad.copy_(flat[at : at + grad.numel()].reshape(grad.shape))
            at += grad.numel()
        return int(flat.nbytes)

    def divergence(self, parameters: Sequence[Tensor]) -> float:
        """Measure how far parameters of the same parts are from each other.

        Parameters
        ----------
        parameters : sequence of tensor
            Of this rank.

        Returns
        -------
        float
            Largest difference over all groups and parts; the same on all ranks.
        """
        if self.count == 1:
            return 0.0
        flat = torch.cat([_local(p.detach()).reshape(-1) for p in parameters])
        largest, smallest = flat.clone(), flat.clone()
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self._peers)
        dist.all_reduce(smallest, dist.ReduceOp.MIN, group=self._peers)
        most = (largest - smallest).abs().max().double().cpu()
        dist.all_reduce(most, dist.ReduceOp.MAX)
        return float(most)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def probe_samples(model: nn.Module, recipe: Recipe) -> Tensor:
    """Make samples to try a model on, the same on all ranks.

    Parameters
    ----------
    model : torch.nn.Module
        They are of its dtype.
    recipe : Recipe
        With their shape.

    Returns
    -------
    tensor of shape (rows, ...)
        As many as a batch has, 64 at most; on the host. Normal numbers, or the first that are
        stored where these are whole numbers: a model may take them for indices.
    """
    like, rows = a_parameter(model), min(_PROBE_ROWS, recipe.order.batch)
    first = recipe.x.read(((0, rows), *((0, length) for length in recipe.x.shape[1:])))
    if first.any() and (first == np.round(first)).all():
        return inputs_of(first, like.cpu())
    made = torch.Generator().manual_seed(recipe.settings.seed)
    return torch.randn((rows, *recipe.x.shape[1:]), generator=made, dtype=like.dtype)
