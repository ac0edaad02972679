"""The mean power spectrum of the rows of a Zarr array: what is no linear algebra, by several means.

Each contestant runs the same function on the same bands of whole chunks, and sums what it gives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from measure import Timer
from peers import Contestant, cluster


def power(rows: Any) -> Any:
    """Give the sum of the rows' power spectra, in double precision."""
    return np.sum(np.abs(np.fft.rfft(rows.astype(np.float64), axis=1)) ** 2, axis=0)


def power_leptonhpc(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Run it on threads of this process."""
    from leptonhpc import parallel

    with timer:
        total = _ours(parallel, options)
    return {"s": total.tolist()}


def power_leptonhpc_distributed(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Run it on a worker with the same memory limit."""
    from leptonhpc import parallel

    with cluster(options, "leptonhpc.parallel"):
        _ours(parallel, options)  # its functions are on the worker now, as those of the peer
        with timer:
            total = _ours(parallel, options)
    return {"s": total.tolist()}


def power_dask(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Map blocks of a Dask array and sum, on threads."""
    import dask
    import dask.array as da

    with timer, dask.config.set(scheduler="threads", num_workers=options["cores"]):
        x = da.from_zarr(options["x"])
        sums = x.map_blocks(lambda b: power(b)[np.newaxis], chunks=(1, x.shape[1] // 2 + 1))
        total = sums.sum(axis=0).compute()
    return {"s": total.tolist()}


def power_futures(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Map a function that reads its band over a worker with `Client.map`; sum as they come."""
    import zarr
    from distributed import as_completed, get_client

    path, step = options["x"], options["chunk_rows"]

    def read_and_do(start: int) -> Any:
        return power(zarr.open_array(path, mode="r")[start : start + step])

    starts = range(0, zarr.open_array(path, mode="r").shape[0], step)
    with cluster(options, "zarr"):
        client = get_client()
        client.submit(read_and_do, 0).result()
        with timer:
            futures = client.map(read_and_do, starts, pure=False)
            total = sum(value for _, value in as_completed(futures, with_results=True))
    return {"s": total.tolist()}


def _ours(parallel: Any, options: dict[str, Any]) -> Any:
    parts = parallel.distribute_data(options["x"], size=options["chunk_rows"])
    results = parallel.parallel_process(power, parts, progress=False)
    return parallel.aggregate_results(results, "sum")


CONTESTANTS = {
    ("power", "leptonhpc"): Contestant(power_leptonhpc),
    ("power", "leptonhpc-distributed"): Contestant(power_leptonhpc_distributed),
    ("power", "dask"): Contestant(power_dask, ("dask.array",)),
    ("power", "dask-futures"): Contestant(power_futures),
}
