"""Which kernels a device with memory of its own has."""

from __future__ import annotations

from leptonhpc.kernels.accelerated import (
    bands,
    iterations,
    nmf,
    panels,
    products,
    spectra,
    sweeps,
    systems,
    tall,
)
from leptonhpc.kernels.fold import Blas, Fold


def folds(blas: Blas) -> dict[str, Fold]:
    """Give the kernels of a device by name.

    Parameters
    ----------
    blas : Blas
        Its primitives.

    Returns
    -------
    dict of str to Fold
        Their blocks are arrays of the device.
    """
    return {
        "gram": bands.Gram(blas),
        "gram_narrow": bands.NarrowGram(blas),
        "normal": bands.Normal(blas),
        "sketch": bands.Sketch(blas),
        "rotate": bands.Rotate(blas),
        "gemm": products.Gemm(blas),
        "gemm_hermitian": products.GemmHermitian(blas),
        "syrk": products.Syrk(blas),
        "squared_gemm": products.Squared(blas, diagonal=False),
        "squared_syrk": products.Squared(blas, diagonal=True),
        "update_potrf": panels.UpdateCholesky(blas),
        "potrf": panels.FactorCholesky(blas),
        "update_getrf": panels.UpdateLu(blas),
        "getrf": panels.FactorLu(blas),
        "update_geqrf": panels.UpdateQr(blas),
        "geqrf": panels.FactorQr(blas),
        "form_q": panels.FormQ(blas),
        "forward": systems.Forward(blas),
        "backward": systems.Backward(blas),
        "adjoint": systems.Adjoint(blas),
        "solved": systems.Solved(blas),
        "syevd": spectra.Syevd(blas, blas.syevd),
        "hemm": spectra.Hemm(blas),
        "compose": spectra.Compose(blas),
        "apply_bands": iterations.ApplyBands(blas),
        "normal_bands": iterations.NormalBands(blas),
        "hals": nmf.Hals(blas),
        "kl_update": nmf.MultiplicativeUpdate(blas),
        "moments": sweeps.Moments(blas),
        "norms": sweeps.Norms(blas),
        "isometry": tall.Isometry(blas),
        "solved_gram": tall.SolvedGram(blas),
        "stack": tall.Stack(blas),
        "residual": tall.Residual(blas),
        "shortest": tall.Shortest(blas),
    }
