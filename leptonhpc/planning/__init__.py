"""Plans are values: what will be read, computed and written, and what that costs."""

from leptonhpc.planning.costs import Rates, Resources, flops, seconds
from leptonhpc.planning.explain import Alternative, Explanation
from leptonhpc.planning.layout import BandLayout, choose_bands
from leptonhpc.planning.precision import Precision, computing_dtype, rounding
from leptonhpc.planning.tasks import Read, Stage, Step, Target, Task

__all__ = [
    "Alternative",
    "BandLayout",
    "Explanation",
    "Precision",
    "Rates",
    "Read",
    "Resources",
    "Stage",
    "Step",
    "Target",
    "Task",
    "choose_bands",
    "computing_dtype",
    "flops",
    "rounding",
    "seconds",
]
