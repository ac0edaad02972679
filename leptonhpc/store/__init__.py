"""Zarr arrays in whole storage units, outputs that appear whole, and the journal of a job."""

from leptonhpc.store.arrays import StoredArray, create_array, is_store, open_array, open_object
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
from leptonhpc.store.publishing import publish

__all__ = [
    "Journal",
    "StoredArray",
    "create_array",
    "create_group",
    "exists",
    "is_store",
    "join",
    "open_array",
    "open_object",
    "partial_location",
    "publish",
    "read_attributes",
    "remove",
    "require_free",
    "require_space",
    "update_attributes",
]
