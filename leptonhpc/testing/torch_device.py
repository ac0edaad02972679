"""PyTorch's tensors as a device: its CPU here, its GPU or a laptop's where there is one.

`$LEPTONHPC_TORCH` names the device of PyTorch ("cuda", "mps", "xpu"); default: its CPU. It shows
that a kind of device is a short module, and that unlike devices do one job together.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.kernels.accelerators import accelerator
from leptonhpc.kernels.fold import Blas


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
    """
    import torch
    from array_api_compat import torch as xp

    device = torch.device(os.environ.get("LEPTONHPC_TORCH") or "cpu")

    def put(host: NDArray[Any]) -> Any:
        return torch.from_numpy(np.array(host, order="C")).to(device)

    def get(tensor: Any) -> NDArray[Any]:
        return np.array(tensor.cpu().resolve_conj().numpy())

    def take(host: NDArray[Any]) -> Any:
        return torch.from_numpy(host).to(device)

    def give(tensor: Any) -> NDArray[Any]:
        host: NDArray[Any] = tensor.cpu().resolve_conj().numpy()
        return host

    return accelerator(xp, torch.Tensor, put=put, get=get, take=take, give=give)
