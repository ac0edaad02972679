"""Contigs that are not autosomes: of those not everybody has two copies."""

from __future__ import annotations

import warnings

import numpy as np

from leptonhpc.genomics.genotypes import Genotypes

_NAMES = {"X", "Y", "XY", "M", "MT", "PAR1", "PAR2"}
_NUMBERS = {"23", "24", "25", "26"}
"""What PLINK calls X, Y, XY and MT of man; species with more chromosomes have autosomes there."""


def other_contigs(cohort: Genotypes) -> list[str]:
    """Name the contigs of a cohort that are no autosomes.

    Parameters
    ----------
    cohort : Genotypes
        The cohort.

    Returns
    -------
    list of str
        X, Y, XY, MT and pseudoautosomal regions, with or without "chr"; 23 to 26 unless there are
        contigs of higher numbers.
    """
    contigs = [str(name) for name in np.unique(cohort.variants.contig)]
    bare = {name: name[3:] if name.lower().startswith("chr") else name for name in contigs}
    numbers = [int(b) for b in bare.values() if b.isdecimal()]
    others = _NAMES | (_NUMBERS if max(numbers, default=0) <= 26 else set())
    return [name for name in contigs if bare[name].upper() in others]


def warn_of_other_contigs(cohort: Genotypes, what: str) -> None:
    """Warn where a method for autosomes is applied to other contigs.

    Parameters
    ----------
    cohort : Genotypes
        The cohort.
    what : str
        What they are in, for the message.

    Warns
    -----
    UserWarning
        With the contigs, and how to leave them out.
    """
    found = other_contigs(cohort)
    if not found:
        return
    count = np.count_nonzero(np.isin(cohort.variants.contig, found))
    message = (
        f"{count} of {cohort.shape[1]} variants of {cohort.name} are on contigs "
        f"{', '.join(found)}, of which not everybody has two copies; {what} takes them as "
        "autosomes, and depends on sex. cohort.select(variants=~numpy.isin(cohort.variants.contig, "
        f"{found})) leaves them out"
    )
    warnings.warn(message, UserWarning, stacklevel=4)
