"""What cannot be fetched is refused with a way out, and nothing half-written has a final name."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from leptonhpc import store
from leptonhpc.datasets import fetch, fetching, list_datasets
from leptonhpc.errors import DatasetError, OptionError, OutputExistsError
from leptonhpc.store.making import MARK
from leptonhpc.store.standing import this_process

SMALL = {"people": 5, "variants": 6}


def test_every_data_set_has_a_source_and_a_licence() -> None:
    datasets = list_datasets()
    assert len({dataset.name for dataset in datasets}) == len(datasets) >= 7
    for dataset in datasets:
        assert dataset.summary
        assert dataset.citation
        assert dataset.licence
        assert len(dataset.dims) == len(dataset.shape)
        assert pickle.loads(pickle.dumps(dataset)) == dataset


def test_unknown_name_lists_the_names_and_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Did you mean 'pacific-sst'.*faces"):
        fetch("pacific-ss", out=tmp_path / "x.zarr")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("faces", {"people": 10}, "has one size and takes none"),
        ("faces", {"seed": 1}, "takes no seed"),
        ("simulated-genotypes", {"lats": 4}, "takes people, variants, populations"),
        ("simulated-genotypes", {"people": 0}, "at least 1; got 0"),
        ("simulated-genotypes", {"seed": -1}, "must not be negative"),
        ("simulated-genotypes", {"chunks": (10,)}, "need 2 positive numbers"),
        ("simulated-genotypes", {"chunks": (10, 0)}, "need 2 positive numbers"),
        ("simulated-climate", {"modes": 7}, "at most 6; got 7"),
        ("simulated-climate", {"times": 3}, "at least 12; got 3"),
    ],
)
def test_option_that_cannot_be_is_refused(
    tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        fetch(name, out=tmp_path / "x.zarr", **options)
    assert list(tmp_path.iterdir()) == []


def test_existing_output_is_kept_unless_told(tmp_path: Path) -> None:
    out = tmp_path / "x.zarr"
    fetch("simulated-genotypes", out=out, **SMALL)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        fetch("simulated-genotypes", out=out, people=9, variants=9)
    assert store.open_array(out).shape == (5, 6)
    fetch("simulated-genotypes", out=out, people=9, variants=9, overwrite=True)
    assert store.open_array(out).shape == (9, 9)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]


def test_failure_half_way_leaves_nothing_and_keeps_the_old_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.zarr"
    fetch("simulated-genotypes", out=out, **SMALL)

    def fail_after_a_part(_dataset: object, location: Any, **_: object) -> None:
        store.create_array(location, shape=(2, 2), dtype="int8", chunks=(1, 2))
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "write_genotypes", fail_after_a_part)
    with pytest.raises(KeyboardInterrupt):
        fetch("simulated-genotypes", out=out, overwrite=True, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]
    assert store.open_array(out).shape == (5, 6)


def test_left_over_part_of_a_killed_fetch_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "x.zarr"
    dead = {**this_process(), "process_began": 0.0, "name": "of a killed call"}
    store.create_group(store.partial_location(out), attributes={MARK: dead})
    fetch("simulated-genotypes", out=out, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]


def test_a_folder_of_the_user_is_not_removed(tmp_path: Path) -> None:
    mine = tmp_path / "x.zarr.partial" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("four years")
    with pytest.raises(
        OutputExistsError, match=r"x\.zarr\.partial', .* is something else; move it"
    ):
        fetch("simulated-genotypes", out=tmp_path / "x.zarr", **SMALL)
    assert mine.read_text() == "four years"


def test_fetch_gives_the_location_of_the_main_array(tmp_path: Path) -> None:
    assert fetch("simulated-genotypes", out=tmp_path / "x.zarr", **SMALL) == f"{tmp_path}/x.zarr"
    sizes = {"times": 12, "lats": 3, "lons": 3}
    location = fetch("simulated-climate", out=f"{tmp_path}/y.zarr/", **sizes)
    assert location == f"{tmp_path}/y.zarr/temperature"
    assert store.open_array(location).shape == (12, 3, 3)
