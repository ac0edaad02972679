"""The commands `datasets list` and `datasets fetch`."""

from pathlib import Path
from typing import Any

import zarr

from leptonhpc.datasets import list_datasets


def test_list_names_every_data_set(run: Any, run_json: Any) -> None:
    names = [dataset.name for dataset in list_datasets()]
    assert [dataset["name"] for dataset in run_json("datasets", "list")] == names
    shown = run("datasets", "list").stdout
    assert [line.split()[0] for line in shown.splitlines()] == names
    assert "--people" in shown


def test_fetch_makes_the_array_and_describes_it(run: Any, run_json: Any, folder: Path) -> None:
    options = ("--people", "30", "--variants", "40", "--seed", "1", "--chunks", "10,40")
    done = run("datasets", "fetch", "simulated-genotypes", "--out", "x.zarr", *options)
    assert done.exit_code == 0, done.stderr
    assert "30 x 40" in done.stdout
    stored = zarr.open_array("x.zarr", mode="r")
    assert (stored.shape, stored.chunks) == ((30, 40), (10, 40))
    again = ("datasets", "fetch", "simulated-genotypes", "--out", "x.zarr", *options)
    assert run_json(*again, "--overwrite")["shape"] == [30, 40]


def test_fetch_refuses_what_exists_and_chunks_that_are_no_lengths(run: Any) -> None:
    taken = run("datasets", "fetch", "simulated-genotypes", "--out", "a.zarr")
    assert taken.exit_code == 2
    assert "'a.zarr' exists; pass --overwrite" in taken.stderr
    odd = run("datasets", "fetch", "simulated-genotypes", "--out", "x.zarr", "--chunks", "a,b")
    assert odd.exit_code == 2
    assert "--chunks needs lengths such as" in odd.stderr
