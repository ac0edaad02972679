"""Genotypes in, population structure and association out: PLINK's questions on Zarr and Dask."""

from leptonhpc.genomics.admixed import pc_relate
from leptonhpc.genomics.association import gwas
from leptonhpc.genomics.bed import read_bed
from leptonhpc.genomics.components import pca, project
from leptonhpc.genomics.filtering import filter_variants
from leptonhpc.genomics.genotypes import Genotypes, Samples, Variants
from leptonhpc.genomics.hwe import hwe
from leptonhpc.genomics.linkage import ld, ld_prune
from leptonhpc.genomics.opening import open_genotypes
from leptonhpc.genomics.phenotypes import Table, read_table
from leptonhpc.genomics.plots import plot_components, plot_manhattan, plot_qq
from leptonhpc.genomics.relationship import grm, kinship
from leptonhpc.genomics.statistics import Statistics, genotype_statistics
from leptonhpc.genomics.storing import store_genotypes
from leptonhpc.genomics.text_files import write_gwas, write_pairs, write_pca

__all__ = [
    "Genotypes",
    "Samples",
    "Statistics",
    "Table",
    "Variants",
    "filter_variants",
    "genotype_statistics",
    "grm",
    "gwas",
    "hwe",
    "kinship",
    "ld",
    "ld_prune",
    "open_genotypes",
    "pc_relate",
    "pca",
    "plot_components",
    "plot_manhattan",
    "plot_qq",
    "project",
    "read_bed",
    "read_table",
    "store_genotypes",
    "write_gwas",
    "write_pairs",
    "write_pca",
]
