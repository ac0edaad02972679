"""Which function serves a kernel on which device."""

from __future__ import annotations

from functools import cache

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


@cache
def table(device: str) -> dict[str, Fold]:
    """Give the kernels of a device by name.

    Parameters
    ----------
    device : str
        One of `DEVICES`.

    Returns
    -------
    dict of str to Fold
        The kernels.
    """
    if device not in DEVICES:
        message = f"there are kernels for {', '.join(DEVICES)}; found {device!r}"
        raise OptionError(message)
    primitives = DEVICES[device]
    return {
        "moments": bands.Moments(primitives),
        "gram": bands.Gram(primitives),
        "normal": bands.Normal(primitives),
        "sketch": bands.Sketch(primitives),
        "rotate": bands.Rotate(primitives),
        "gemm": products.Gemm(primitives),
        "gemm_hermitian": products.GemmHermitian(primitives),
        "syrk": products.Syrk(primitives),
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
