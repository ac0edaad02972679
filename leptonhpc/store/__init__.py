"""Zarr arrays in whole storage units, outputs that appear whole, and the journal of a job."""

from leptonhpc.store.arrays import StoredArray, create_array, is_store, open_array, open_object
from leptonhpc.store.completeness import EVERY_CHUNK, LOWER, UPPER
from leptonhpc.store.icechunk_repository import snapshot_of
from leptonhpc.store.journal import Journal
from leptonhpc.store.locations import (
    create_group,
    exists,
    join,
    partial_location,
    read_attributes,
    remove,
    require_free,
    require_space,
    update_attributes,
)
from leptonhpc.store.making import being_made, is_only_begun
from leptonhpc.store.publishing import is_half_published, publish, remove_replaced
from leptonhpc.store.units import units_touched

__all__ = [
    "EVERY_CHUNK",
    "LOWER",
    "UPPER",
    "Journal",
    "StoredArray",
    "being_made",
    "create_array",
    "create_group",
    "exists",
    "is_half_published",
    "is_only_begun",
    "is_store",
    "join",
    "open_array",
    "open_object",
    "partial_location",
    "publish",
    "read_attributes",
    "remove",
    "remove_replaced",
    "require_free",
    "require_space",
    "snapshot_of",
    "units_touched",
    "update_attributes",
]
