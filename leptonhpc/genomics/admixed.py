"""Relatedness where ancestry differs from person to person: PC-Relate."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray, Region
from leptonhpc.blocks.sources import Source
from leptonhpc.errors import LinAlgError, NonFiniteError, OptionError, ShapeError
from leptonhpc.genomics.autosomes import warn_of_other_contigs
from leptonhpc.genomics.components import samples_of
from leptonhpc.genomics.extras import Nbytes, require_xarray
from leptonhpc.genomics.genotypes import Genotypes
from leptonhpc.genomics.opening import open_genotypes
from leptonhpc.genomics.orientation import by_variant
from leptonhpc.genomics.pairs import PairsOutput, Product
from leptonhpc.genomics.standardised import missing_in, require_calls
from leptonhpc.store.locations import Location

if TYPE_CHECKING:
    import xarray

_STRIP_CELLS = 1 << 20


def pc_relate(
    genotypes: Any,
    components: Any,
    *,
    min_frequency: float = 0.01,
    out: Location | None = None,
    memory: Nbytes = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> xarray.Dataset:
    """Estimate kinship given each person's ancestry.

    Parameters
    ----------
    genotypes : Genotypes, or what `open_genotypes` takes
        The cohort.
    components : xarray.Dataset or array of shape (samples, k)
        Of ancestry: what `pca` gave of these samples, or scores in their order. Components should
        be of unrelated samples; others may be placed among them by `project`.
    min_frequency : float
        A variant counts for a person whose expected frequency is from this to one less this.
    out : str or path, optional
        A Zarr array to be made, and then read where it is asked for. A call that was stopped goes
        on, from its last finished block, when it is made again.
    memory : int, float or str, optional
        Budget of each worker.
    overwrite : bool
        Replace what is at `out`.
    progress : bool, optional
        Show a bar; default: where somebody looks.

    Returns
    -------
    xarray.Dataset
        ``pc_relate_phi`` (samples_0, samples_1): 0.5 for twins, 0.25 for first-degree relatives,
        0 for strangers of whatever ancestry; on the diagonal (1 + inbreeding) / 2. NaN for pairs
        for whom no variant counts. And the samples' names.

    Raises
    ------
    ShapeError
        If components are of other samples, or there are as many as samples.
    NonFiniteError
        If they are not finite; the message names the first sample.
    LinAlgError
        If components depend on one another.
    OptionError
        If `min_frequency` is not between 0 and 0.5.
    OutputExistsError, JobMismatchError
        If `out` is taken, or ``OUT.residuals`` or ``OUT.deviations`` beside it are something else.

    Warns
    -----
    UserWarning
        If variants are not on autosomes.

    Notes
    -----
    The expected copies 2 m of each person are a regression of the calls on the components, and
    ``phi_ij = sum (g_i - 2 m_i)(g_j - 2 m_j) / (4 sum sqrt(m_i (1 - m_i) m_j (1 - m_j)))`` [1]_:
    two products (half of each), in which residuals and deviations are made as calls are read. A
    missing call is at its variant's mean in the regression, and in no sum.

    References
    ----------
    .. [1] M. P. Conomos, A. P. Reiner, B. S. Weir, T. A. Thornton (2016), Model-free estimation of
       recent genetic relatedness, Am. J. Hum. Genet. 98, 127-148, equation 3.
    """
    require_xarray()
    cohort = open_genotypes(genotypes)
    if not 0 < min_frequency < 0.5:
        raise OptionError(f"min_frequency is between 0 and 0.5; found {min_frequency}")
    basis = _basis(components, cohort)
    output = PairsOutput(out, ("residuals", "deviations"), overwrite=overwrite)
    warn_of_other_contigs(cohort, "PC-Relate")

    def product(kind: Kind) -> Product:
        rows = ExpectedRows(by_variant(cohort.calls.source), basis, min_frequency, kind)
        x = BlockedArray(rows)
        return output.product(f"{kind}s", x.T, x, memory=memory, progress=progress)

    residuals, deviations = product("residual"), product("deviation")

    def band(rows: slice) -> NDArray[np.float64]:
        sums, weights = np.asarray(residuals[rows]), np.asarray(deviations[rows])
        phi = np.full(sums.shape, np.nan)
        np.divide(sums, 4 * weights, out=phi, where=weights > 0)
        return phi

    return output.keep(cohort, "pc_relate_phi", (residuals, deviations), band)


Kind = Literal["residual", "deviation"]


@dataclass(frozen=True, eq=False)
class ExpectedRows:
    """What calls are beyond, or should vary about, what a person's ancestry lets expect.

    Zero where the expected frequency is too near to 0 or 1.
    """

    base: Source
    """(variants, samples)."""
    basis: NDArray[np.float64]
    """(samples, k + 1): orthonormal, of the components and a constant."""
    min_frequency: float
    kind: Kind

    dtype = np.dtype(np.float64)

    @property
    def shape(self) -> tuple[int, ...]:
        """Variants and samples."""
        return self.base.shape

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of the piece that is read at once: all samples of some variants."""
        return self.base.unit[0], self.base.shape[1]

    @property
    def name(self) -> str:
        """The source in words."""
        return f"{self.kind}s of {self.base.name}"

    @property
    def shareable(self) -> bool:
        """Whether other processes can read it."""
        return self.base.shareable

    def read(self, region: Region, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Give a region; of each variant all calls are read, as the regression needs them."""
        (top, bottom), (first, last) = region
        if out is None:
            out = np.empty((bottom - top, last - first), self.dtype)
        step = max(1, _STRIP_CELLS // max(1, self.shape[1]))
        for low in range(top, bottom, step):
            high = min(low + step, bottom)
            out[low - top : high - top] = self._made(low, high)[:, first:last]
        return out

    def _made(self, low: int, high: int) -> NDArray[np.float64]:
        calls = self.base.read(((low, high), (0, self.shape[1])))
        require_calls(calls.T, self.base.name, first_variant=low)
        missing = missing_in(calls)
        g = np.where(missing, 0, calls).astype(np.float64)
        if missing.any():
            called = np.maximum(g.shape[1] - missing.sum(axis=1, keepdims=True), 1)
            g += missing * (g.sum(axis=1, keepdims=True) / called)
        expected = (g @ self.basis) @ self.basis.T
        frequency = expected / 2
        counts = (frequency >= self.min_frequency) & (frequency <= 1 - self.min_frequency)
        counts &= ~missing  # in the regression they are at the mean; in the sums they are not
        if self.kind == "residual":
            residual: NDArray[np.float64] = np.where(counts, g - expected, 0)
            return residual
        inside = np.where(counts, frequency, 0)
        deviation: NDArray[np.float64] = np.sqrt(inside * (1 - inside))
        return deviation

    def units_in(self, region: Region) -> int:
        """Count the storage units that a region touches."""
        return self.base.units_in((region[0], (0, self.shape[1])))

    def identity(self) -> dict[str, Any]:
        """Describe the source and the components by their digest."""
        sha = hashlib.sha256(self.basis.tobytes()).hexdigest()[:16]
        of = self.base.identity()
        return {self.kind: sha, "min_frequency": self.min_frequency, "of": of}


def _basis(components: Any, cohort: Genotypes) -> NDArray[np.float64]:
    """Give an orthonormal basis of the components and a constant."""
    if hasattr(components, "data_vars"):
        at = _first_difference(components, cohort)
        if at is not None:
            message = f"the components are of other samples than {cohort.name}: number {at} is"
            raise ShapeError(f"{message} {samples_of(components).label(at)!r}")
        components = components["sample_pca_projection"]
    scores = np.asarray(components, np.float64)
    samples = cohort.shape[0]
    if scores.ndim != 2 or len(scores) != samples or scores.shape[1] >= samples - 1:
        message = (
            f"components need shape ({samples}, k), k below {samples - 1}, as {cohort.name} has "
            f"{samples} samples; found {scores.shape}"
        )
        raise ShapeError(message)
    if not np.isfinite(scores).all():
        at = int(np.argmin(np.isfinite(scores).all(axis=1)))
        message = f"components must be finite; those of {cohort.samples.label(at)!r} are not"
        raise NonFiniteError(message)
    design = np.column_stack([np.ones(samples), scores / np.linalg.norm(scores, axis=0)])
    q, r = np.linalg.qr(design)
    if not np.all(np.abs(np.diagonal(r)) > 1e-10 * np.linalg.norm(design, axis=0)):
        raise LinAlgError("components depend on one another, or on a constant; leave some out")
    return q


def _first_difference(components: Any, cohort: Genotypes) -> int | None:
    people = samples_of(components)
    if len(people) != len(cohort.samples):
        return None  # the shape is refused
    return people.first_difference(cohort.samples)
