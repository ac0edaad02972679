"""Which function serves a kernel on which device."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from leptonhpc.errors import OptionError
from leptonhpc.kernels import (
    bands,
    blas,
    dense,
    divide,
    iterations,
    orthogonal,
    panels,
    products,
    reference,
    spectra,
    substitution,
    tall,
)
from leptonhpc.kernels.fold import Blas, Fold

DEVICES = {
    "host": Blas(
        blas.gemm, blas.syrk, blas.trsm, blas.trmm, blas.sum_of_squares, dense.potrf, dense.getrf,
        dense.permute, dense.geqrf, dense.reflect,
    ),
    "reference": Blas(
        reference.gemm, reference.syrk, reference.trsm, reference.trmm, reference.sum_of_squares,
        reference.potrf, reference.getrf, reference.permute, reference.geqrf, reference.reflect,
    ),
}  # fmt: skip


_MODULES = {"cuda": "leptonhpc.kernels.cuda"}
"""Kinds that are imported when they are asked for."""


def primitives_of(device: str) -> Blas:
    """Give what a kind of device brings.

    Parameters
    ----------
    device : str
        "host", "reference", "cuda", or the name of a module whose ``primitives()`` gives a `Blas`.

    Returns
    -------
    Blas
        Its primitives.

    Raises
    ------
    OptionError
        If there is no such kind, or it cannot be used here.
    """
    if device in DEVICES:
        return DEVICES[device]
    try:
        found = import_module(_MODULES.get(device, device)).primitives()
    except (ImportError, AttributeError, RuntimeError, ValueError) as error:
        kinds = ", ".join(dict.fromkeys((*DEVICES, *_MODULES)))
        message = f"a device is one of {kinds}, or a module with primitives(); {device!r}: {error}"
        raise OptionError(message) from error
    if not isinstance(found, Blas) or found.array is None:
        raise OptionError(f"primitives() of {device!r} is a Blas with the type of its arrays")
    DEVICES[device] = found
    return found


@cache
def table(device: str) -> dict[str, Fold]:
    """Give the kernels of a device by name.

    Parameters
    ----------
    device : str
        See `primitives_of`.

    Returns
    -------
    dict of str to Fold
        The kernels. An accelerator has those that stream large blocks through it; small
        factorisations and all else are the host's.
    """
    primitives = primitives_of(device)
    if primitives.array is not None:
        return {**table("host"), **_streaming(primitives)}
    return {
        **_streaming(primitives),
        "moments": bands.Moments(primitives),
        "sketch": bands.Sketch(primitives),
        "rotate": bands.Rotate(primitives),
        "norms": products.Norms(primitives),
        "copy": products.Copy(primitives),
        "load": panels.Load(primitives),
        "load_hermitian": panels.LoadHermitian(primitives),
        "update_potrf": panels.UpdateCholesky(primitives),
        "potrf": panels.FactorCholesky(primitives),
        "update_getrf": panels.UpdateLu(primitives),
        "getrf": panels.FactorLu(primitives),
        "unpack": panels.Unpack(primitives),
        "load_sides": substitution.LoadSides(primitives),
        "forward": substitution.Forward(primitives),
        "backward": substitution.Backward(primitives),
        "adjoint": substitution.Adjoint(primitives),
        "solved": substitution.Solved(primitives),
        "apply": substitution.Apply(primitives),
        "load_whole": spectra.LoadWhole(primitives),
        "syevd": spectra.Syevd(primitives, spectra.SOLVERS[device]),
        "hemm": spectra.Hemm(primitives),
        "compose": spectra.Compose(primitives),
        "squared_syrk": divide.Squared(primitives, diagonal=True),
        "squared_gemm": divide.Squared(primitives, diagonal=False),
        "shifted": divide.Shifted(primitives),
        "draw": divide.Draw(primitives),
        "join": divide.Join(primitives),
        "pair_residuals": divide.PairResiduals(primitives),
        "update_geqrf": orthogonal.UpdateQr(primitives),
        "geqrf": orthogonal.FactorQr(primitives),
        "form_q": orthogonal.FormQ(primitives),
        "unpack_r": orthogonal.UnpackR(primitives),
        "isometry": orthogonal.Isometry(primitives),
        "solved_gram": tall.SolvedGram(primitives),
        "stack": tall.Stack(primitives),
        "residual": tall.Residual(primitives),
        "shortest": tall.Shortest(primitives),
        "gather": tall.Gather(primitives),
        "apply_bands": iterations.ApplyBands(primitives),
        "normal_bands": iterations.NormalBands(primitives),
        "gather_rows": iterations.GatherRows(primitives),
    }


def _streaming(primitives: Blas) -> dict[str, Fold]:
    """Kernels that stream blocks past an accumulator: what an accelerator is good for."""
    return {
        "gram": bands.Gram(primitives),
        "normal": bands.Normal(primitives),
        "gemm": products.Gemm(primitives),
        "gemm_hermitian": products.GemmHermitian(primitives),
        "syrk": products.Syrk(primitives),
    }
