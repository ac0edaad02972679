"""Arrays as grids of blocks: integers (`BlockGrid`), data (`Source`) and both (`BlockedArray`)."""

from leptonhpc.blocks.array import BlockedArray
from leptonhpc.blocks.grid import BlockGrid, Region
from leptonhpc.blocks.sources import MemorySource, Source, StoredSource

__all__ = ["BlockGrid", "BlockedArray", "MemorySource", "Region", "Source", "StoredSource"]
