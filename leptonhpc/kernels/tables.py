"""Which function serves a kernel on which device."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from leptonhpc.errors import OptionError
from leptonhpc.kernels import (
    accelerated,
    bands,
    divide,
    iterations,
    narrow,
    nmf,
    nmf_kl,
    norms,
    orthogonal,
    panels,
    products,
    reference,
    scaling,
    singular,
    spectra,
    substitution,
    tall,
)
from leptonhpc.kernels.fold import Blas, Fold
from leptonhpc.kernels.host import HOST

DEVICES = {
    "host": HOST,
    "reference": Blas(
        reference.gemm, reference.syrk, reference.trsm, reference.trmm, reference.sum_of_squares,
        reference.potrf, reference.getrf, reference.permute, reference.geqrf, reference.reflect,
    ),
}  # fmt: skip


_MODULES = {"cuda": "leptonhpc.kernels.cuda", "cuda-tf32": "leptonhpc.kernels.cuda.tf32"}
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
def table(device: str, precision: str | None = None) -> dict[str, Fold]:
    """Give the kernels of a device by name.

    Parameters
    ----------
    device : str
        See `primitives_of`.
    precision : {None, "float64", "float32", "tf32"}
        Of products; see `Blas.computing`.

    Returns
    -------
    dict of str to Fold
        The kernels. An accelerator has those that do many operations for each number that comes
        to it; all else is the host's.
    """
    primitives = primitives_of(device).computing(precision)
    if not primitives.is_host:
        return {**table("host"), **accelerated.folds(primitives)}
    return {
        **_streaming(primitives),
        "moments": bands.Moments(primitives),
        "sketch": bands.Sketch(primitives),
        "rotate": bands.Rotate(primitives),
        "norms": norms.Norms(primitives),
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
        "extents": scaling.Extents(primitives),
        "scaled": scaling.Scaled(primitives),
        "load_whole": spectra.LoadWhole(primitives),
        "syevd": spectra.Syevd(primitives, spectra.SOLVERS[device]),
        "gesdd": singular.Gesdd(primitives, singular.SOLVERS[device]),
        "hemm": spectra.Hemm(primitives),
        "compose": spectra.Compose(primitives),
        "squared_syrk": divide.Squared(primitives, diagonal=True),
        "squared_gemm": divide.Squared(primitives, diagonal=False),
        "shifted": divide.Shifted(primitives),
        "perturbed": divide.Perturbed(primitives),
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
        "hals": nmf.Hals(primitives),
        "kl_update": nmf_kl.MultiplicativeUpdate(primitives),
        "split_norms": nmf.SplitNorms(primitives),
        "scale_columns": nmf.ScaleColumns(primitives),
    }


def _streaming(primitives: Blas) -> dict[str, Fold]:
    """Kernels that stream blocks past an accumulator: what an accelerator is good for."""
    return {
        "gram": bands.Gram(primitives),
        "gram_narrow": narrow.NarrowGram(primitives),
        "normal": bands.Normal(primitives),
        "gemm": products.Gemm(primitives),
        "gemm_hermitian": products.GemmHermitian(primitives),
        "syrk": products.Syrk(primitives),
    }
