"""Climate statistics on fields larger than memory: xarray in, xarray out."""

from leptonhpc.climate.accessor import register as _register
from leptonhpc.climate.coupled import cca, mca
from leptonhpc.climate.eofs import eof
from leptonhpc.climate.gaps import fill_gaps
from leptonhpc.climate.hilbert import hilbert_eof
from leptonhpc.climate.maps import correlation_map, regression_map
from leptonhpc.climate.models import common_eofs
from leptonhpc.climate.plotting import plot_eof, plot_scree
from leptonhpc.climate.rotation import rotate
from leptonhpc.climate.scores import project, reconstruct, scores
from leptonhpc.climate.significance import bootstrap, north_separated, rule_n

__all__ = [
    "bootstrap",
    "cca",
    "common_eofs",
    "correlation_map",
    "eof",
    "fill_gaps",
    "hilbert_eof",
    "mca",
    "north_separated",
    "plot_eof",
    "plot_scree",
    "project",
    "reconstruct",
    "regression_map",
    "rotate",
    "rule_n",
    "scores",
]

_register()
