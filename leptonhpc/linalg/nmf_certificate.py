"""How good a non-negative factorisation is."""

from __future__ import annotations

from dataclasses import dataclass

from leptonhpc.linalg.certificates import Certificate

_WORDS = {
    "exact": "WH is X to tol",
    "optimality": "the optimality conditions hold to tol",
    "decrease": "the error falls by less than tol a sweep",
    "rounding": "what is left of the error may be rounding",
    "solved": "W was solved for",
    "sweeps": "no sweep was left",
}


@dataclass(frozen=True)
class NmfCertificate(Certificate):
    """Error of X ~ W H and how far W and H are from a stationary point, both measured.

    A factorisation that is not negative has many stationary points: another start may find a better
    one, and nothing here can tell.
    """

    loss: str
    method: str
    sweeps: int
    """Times that W and H were improved in turn."""
    passes: float
    """Readings of the whole input, those for the start included."""
    norm: float
    """Frobenius norm of X; with the divergence its sum."""
    error: float
    """|X - WH|_F, or the divergence D(X | WH), from sums of the last pass."""
    error_bound: float
    """An upper bound of it, with rounding."""
    relative_error: float
    """Error by norm."""
    kkt: float
    """Residual of the optimality conditions: |[min(W, dW) min(H, dH)]|_F by |X|_F, dW and dH the
    gradients, rows of H scaled to norm one for the first and columns of W for the second; with the
    divergence, sums in place of norms. No scaling of W and H changes it."""
    tol: float
    """What was asked for."""
    least: float
    """Smallest entry of W and H as given: not negative."""
    reason: str
    """Why no further sweep was made: "exact", "optimality", "decrease", "rounding", "solved", or
    "sweeps" if none was left."""
    history: tuple[float, ...]
    """Relative error after each sweep (with compression: of the compressed array)."""

    def __str__(self) -> str:
        """Show it in words."""
        what = "|X - WH|" if self.loss == "frobenius" else "D(X | WH)"
        return "\n".join(
            [
                f"{'converged' if self.converged else 'NOT CONVERGED'} in {self.sweeps} sweeps, "
                f"{self.passes:.3g} passes, {self.method}: {_WORDS[self.reason]}",
                f"  relative error        {self.relative_error:.6g} ({what} = {self.error:.6g}, at "
                f"most {self.error_bound:.6g})",
                f"  optimality            {self.kkt:.1e} of X, tol {self.tol:.1e}",
                f"  smallest entry        {self.least:.3g}",
            ]
        )
