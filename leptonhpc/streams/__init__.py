"""Arrays that grow: appended so that nobody sees half of it, watched, and followed by an SVD."""

from leptonhpc.streams.angles import principal_angles
from leptonhpc.streams.appending import append, end_stream
from leptonhpc.streams.drift import Drift, DriftMonitor
from leptonhpc.streams.svd import IncrementalSVD
from leptonhpc.streams.watching import Slab, Watcher, watch

__all__ = [
    "Drift",
    "DriftMonitor",
    "IncrementalSVD",
    "Slab",
    "Watcher",
    "append",
    "end_stream",
    "principal_angles",
    "watch",
]
