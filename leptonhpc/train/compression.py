"""Fewer bytes of gradients: half precision, low rank, or the largest entries."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

from leptonhpc.train.recipe import Compression

KEPT = 0.02
"""Part of the entries that "topk" sends."""
_RANK = 4
"""Of the matrices that "powersgd" sends."""

Hook = Callable[[Any, Any], Any]


@dataclass
class Meter:
    """What one rank gave to collectives, and when its gradients were ready."""

    sent_nbytes: int = 0
    ready_at: float = 0.0
    """By `time.perf_counter`: when the last gradients of a step were computed."""


@dataclass
class _Residuals:
    """What was not sent yet, by bucket."""

    meter: Meter
    kept: dict[int, Tensor] = field(default_factory=dict)


def register_hook(model: Any, compression: Compression, meter: Meter) -> None:
    """Let a DistributedDataParallel model average its gradients so, and count what it sends.

    Parameters
    ----------
    model : DistributedDataParallel
        The model.
    compression : {"none", "fp16", "powersgd", "topk"}
        All of a gradient; in half precision; as two thin factors with error feedback [1]_; or the
        two per cent of entries with the largest magnitude, with error feedback [2]_.
    meter : Meter
        Counts.

    References
    ----------
    .. [1] T. Vogels, S. P. Karimireddy, M. Jaggi, PowerSGD, NeurIPS 2019, Algorithm 2.
    .. [2] S. U. Stich, J.-B. Cordonnier, M. Jaggi, Sparsified SGD with memory, NeurIPS 2018,
           Algorithm 1.
    """
    hook, state = _hook(compression, meter)

    def measured(given: Any, bucket: Any) -> torch.futures.Future[Tensor]:
        meter.ready_at = time.perf_counter()
        if compression in ("none", "fp16"):
            each = bucket.buffer().element_size() if compression == "none" else 2
            meter.sent_nbytes += bucket.buffer().numel() * each
        before = getattr(given, "total_numel_after_compression", 0)
        future = hook(given, bucket)
        sent = getattr(given, "total_numel_after_compression", 0) - before
        meter.sent_nbytes += sent * bucket.buffer().element_size()
        return future  # type: ignore[no-any-return]

    gradients: Any = dist.GradBucket  # type: ignore[attr-defined]
    measured.__annotations__ = {"bucket": gradients}  # torch compares types, not their names
    model.register_comm_hook(state, measured)


def _hook(compression: Compression, meter: Meter) -> tuple[Hook, Any]:
    if compression == "fp16":
        return default_hooks.fp16_compress_hook, None
    if compression == "powersgd":
        state = powerSGD_hook.PowerSGDState(
            None, matrix_approximation_rank=_RANK, start_powerSGD_iter=2
        )
        return powerSGD_hook.powerSGD_hook, state
    if compression == "topk":
        return _send_largest, _Residuals(meter)
    return default_hooks.allreduce_hook, None


def _send_largest(state: _Residuals, bucket: Any) -> torch.futures.Future[Tensor]:
    buffer = bucket.buffer()
    gradient = buffer if (kept := state.kept.get(bucket.index())) is None else buffer + kept
    index, values = largest(gradient)
    rest = gradient.clone()
    rest[index] = 0
    state.kept[bucket.index()] = rest
    # two int32 for each entry: its place and the bits of its value
    packed = torch.cat([index.to(torch.int32), values.float().view(torch.int32)])
    state.meter.sent_nbytes += packed.nbytes
    world = dist.get_world_size()
    gathered = [torch.empty_like(packed) for _ in range(world)]
    work: Any = dist.all_gather(gathered, packed, async_op=True)

    def add(_: Any) -> Tensor:
        total = torch.zeros_like(buffer)
        for each in gathered:
            places, bits = each.chunk(2)
            total.index_add_(0, places.long(), bits.view(torch.float32).to(total.dtype))
        return total / world

    future: torch.futures.Future[Tensor] = work.get_future().then(add)
    return future


def largest(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the entries of largest magnitude.

    Parameters
    ----------
    gradient : tensor of shape (n,)
        The entries.

    Returns
    -------
    tuple of (tensor of int64, tensor)
        Places and values of two per cent of them, at least one.
    """
    count = max(1, round(KEPT * gradient.numel()))
    index = gradient.abs().topk(count, sorted=False).indices
    return index, gradient[index]
