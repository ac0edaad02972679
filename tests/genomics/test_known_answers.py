"""People of the 1000 Genomes Project at ancestry-informative variants: shares of variance known."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from leptonhpc import datasets, genomics
from leptonhpc.errors import DatasetError

SHARES = {"kidd": (0.3199, 0.1910), "seldin": (0.2262, 0.1125)}
"""Of standardised calls, by NumPy's SVD of the tables of genotypes that come with the panels."""


@pytest.fixture(scope="module", params=["kidd", "seldin"])
def panel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ancestry") / f"{request.param}.zarr"
    try:
        datasets.fetch(f"ancestry-{request.param}", out=path)
    except DatasetError as error:
        if "could not be downloaded" not in str(error):
            raise
        pytest.skip(str(error))
    return path


@pytest.mark.parametrize("precision", ["single", "double"])
def test_components_hold_their_known_shares(panel: Path, precision: str) -> None:
    cohort = genomics.open_genotypes(panel)
    found = genomics.pca(
        cohort,
        components=2,
        method="exact",
        precision=precision,  # type: ignore[arg-type]
    )
    shares = np.asarray(found.sample_pca_explained_variance_ratio)
    np.testing.assert_allclose(shares, SHARES[panel.stem], atol=5e-5)


def test_continents_lie_apart(panel: Path) -> None:
    found = genomics.pca(genomics.open_genotypes(panel), components=3)
    with xr.open_zarr(panel, consolidated=False) as stored:
        group = stored.superpopulation.values
        names = list(stored.superpopulation.attrs["meanings"])
    assert names == ["AFR", "AMR", "EAS", "EUR", "SAS"]
    scores = np.asarray(found.sample_pca_projection)
    centres = np.stack([scores[group == g].mean(axis=0) for g in range(5)])
    nearest = np.argmin(np.linalg.norm(scores[:, None] - centres, axis=2), axis=1)
    unmixed = group != names.index("AMR")  # admixed: between the others
    assert np.mean(nearest[unmixed] == group[unmixed]) > 0.94


def test_variants_have_names_of_their_places(panel: Path) -> None:
    cohort = genomics.open_genotypes(panel)
    assert cohort.shape == (2504, {"kidd": 55, "seldin": 127}[panel.stem])
    assert set(cohort.variants.contig) <= {str(i) for i in range(1, 23)}
    counted = genomics.genotype_statistics(cohort)
    assert counted.complete
    if panel.stem == "kidd":
        assert cohort.variants.position[0] == 101_709_563
        # as the panel's own table has it: AC=421 of 5008
        assert counted.copies[0] == 421
