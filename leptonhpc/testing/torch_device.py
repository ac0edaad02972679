"""PyTorch's tensors as a device: its CPU here, its GPU where there is one.

`$LEPTONHPC_TORCH` names the device of PyTorch ("cuda", "cuda:1", "xpu"); default: its CPU. It shows
that a kind of device is a short module, and that unlike devices do one job together. "mps" has no
double precision, which sums and certificates need. It was run on the CPU only.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels.accelerators import accelerator
from leptonhpc.kernels.fold import Blas

_OF_FREE = 0.6
"""A job may use this part: what comes ahead, and what PyTorch keeps, have the rest."""


def primitives() -> Blas:
    """Give what PyTorch brings.

    Returns
    -------
    Blas
        Its primitives.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    RuntimeError
        If it has no such device here, or one without double precision.
    """
    import torch
    from array_api_compat import torch as xp

    device = torch.device(os.environ.get("LEPTONHPC_TORCH") or "cpu")
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (AssertionError, TypeError) as error:
        raise RuntimeError(f"PyTorch cannot compute in float64 on {device}: {error}") from None
    if device.type == "cuda":  # containers may have switched it on: who wants TF32 says so
        torch.set_float32_matmul_precision("highest")

    def put(host: NDArray[Any]) -> Any:
        return torch.from_numpy(np.array(host, order="C")).to(device)

    def get(tensor: Any) -> NDArray[Any]:
        return np.array(tensor.cpu().resolve_conj().numpy())

    def take(host: NDArray[Any]) -> Any:
        return torch.from_numpy(host).to(device)

    def give(tensor: Any) -> NDArray[Any]:
        host: NDArray[Any] = tensor.cpu().resolve_conj().numpy()
        return host

    capacity = _capacity_of(torch, device)
    return accelerator(
        xp, torch.Tensor, put=put, get=get, take=take, give=give, capacity_nbytes=capacity
    )


def _capacity_of(torch: Any, device: Any) -> int | None:
    """Say how much of the device's own memory a job may use; None: it is the host's."""
    if device.type == "cpu":
        return None
    free, _ = getattr(torch, device.type).mem_get_info(device)
    return int(_OF_FREE * free)
