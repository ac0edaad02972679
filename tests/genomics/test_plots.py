"""Pictures show the numbers that they are of."""

from typing import Any

import numpy as np
import pytest

from leptonhpc import genomics
from leptonhpc.errors import OptionError, ShapeError

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


@pytest.fixture(scope="module")
def result(complete: Any) -> Any:
    y = np.random.default_rng(1).normal(size=(61, 2))
    return genomics.gwas(complete.bed, {"height": y[:, 0], "weight": y[:, 1]})


def points(ax: Any) -> np.ndarray:
    return np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections if len(
        c.get_offsets()) > 1])  # fmt: skip


def test_manhattan_has_every_variant_at_its_p(result: Any) -> None:
    ax = genomics.plot_manhattan(result, trait="weight")
    drawn = points(ax)
    expected = -np.log10(np.asarray(result.variant_linreg_p_value)[:, 1])
    np.testing.assert_allclose(drawn[:, 1], expected)
    assert np.all(np.diff(drawn[:, 0]) > 0)  # three contigs, one after another
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "3"]
    assert ax.get_title() == "weight"


def test_quantiles_are_sorted_against_uniform_ones(result: Any) -> None:
    ax = genomics.plot_qq(result)
    drawn = points(ax)
    assert len(drawn) == 240
    np.testing.assert_allclose(drawn[0, 0], -np.log10(0.5 / 240))
    np.testing.assert_allclose(10 ** -drawn[:, 1], np.sort(result.variant_linreg_p_value[:, 0]))


def test_components_are_coloured_by_group(complete: Any) -> None:
    model = genomics.pca(complete.bed, components=3, method="exact")
    ax = genomics.plot_components(model, groups=complete.population, components=(1, 3))
    scores = np.asarray(model.sample_pca_projection)[:, [0, 2]]
    for g, drawn in enumerate(ax.collections):
        np.testing.assert_array_equal(drawn.get_offsets(), scores[complete.population == g])
    assert ax.get_ylabel().startswith("PC3 (")
    for wrong in ((0, 1), (1, 4)):
        with pytest.raises(OptionError, match="from 1 to 3"):
            genomics.plot_components(model, components=wrong)
    with pytest.raises(ShapeError, match="61 entries"):
        genomics.plot_components(model, groups=[1, 2])


def test_a_trait_that_is_not_there_is_refused(result: Any) -> None:
    with pytest.raises(OptionError, match="no trait 'age'; there are height, weight"):
        genomics.plot_qq(result, trait="age")
