"""A truncated SVD on workers that are SLURM jobs, on CPU nodes and on GPU nodes."""

import argparse
from pathlib import Path

import leptonhpc as lh
from leptonhpc import cluster


def main() -> None:
    """Compute, on what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", help="Zarr array")
    parser.add_argument("output", help="Zarr group to be written")
    parser.add_argument("--rank", type=int, default=20)
    parser.add_argument("--profile", default=Path(__file__).with_name("profile.toml"))
    parser.add_argument("--workers", type=int, default=1, help="begin when so many have come")
    options = parser.parse_args()
    with cluster.slurm(options.profile, workers=options.workers) as client:
        print(f"{len(client.scheduler_info(n_workers=-1)['workers'])} workers", flush=True)
        r = lh.svd(lh.open(options.input), rank=options.rank, out=options.output)
    print(r.certificate)
    print(r.report)


if __name__ == "__main__":
    main()
