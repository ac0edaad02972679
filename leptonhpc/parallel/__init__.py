"""Any function over the parts of arrays, tables and iterables: on threads, processes or a cluster.

What is not linear algebra: cut the data, run a function on each part, put the results together.
"""

from leptonhpc.parallel.aggregate import aggregate_results
from leptonhpc.parallel.distribute import distribute_data
from leptonhpc.parallel.parts import Part, Parts
from leptonhpc.parallel.process import ProcessReport, Results, parallel_process

__all__ = [
    "Part",
    "Parts",
    "ProcessReport",
    "Results",
    "aggregate_results",
    "distribute_data",
    "parallel_process",
]
