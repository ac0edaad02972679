"""A truncated SVD on the allocation that this script runs in."""

import argparse

import leptonhpc as lh
from leptonhpc import cluster


def main() -> None:
    """Compute, on what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", help="Zarr array")
    parser.add_argument("output", help="Zarr group to be written")
    parser.add_argument("--rank", type=int, default=20)
    parser.add_argument("--interface", help="network that the nodes share, such as ib0")
    options = parser.parse_args()
    with cluster.in_allocation(interface=options.interface) as client:
        print(f"{len(client.scheduler_info(n_workers=-1)['workers'])} workers", flush=True)
        r = lh.svd(lh.open(options.input), rank=options.rank, out=options.output)
    print(r.certificate)
    print(r.report)


if __name__ == "__main__":
    main()
