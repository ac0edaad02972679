"""Real data fetched, checked and converted to Zarr, and simulated data of any size."""

from leptonhpc.datasets.catalogue import Dataset, SizeOption, list_datasets
from leptonhpc.datasets.fetching import fetch

__all__ = ["Dataset", "SizeOption", "fetch", "list_datasets"]
