"""Showing a result: its values, its certificate, its report, and where it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leptonhpc.cli.show import print_json, print_note, print_table, print_text

MOST_MODES = 20
"""Singular values that are shown; --json has all."""

_VALUES = ("value", "sign", "logabsdet", "eigenvalues", "s")
"""Fields that are shown and not only described."""


def print_result(result: Any, *, out: str | None, as_json: bool, driver: str = "") -> None:
    """Print the result of a driver.

    Parameters
    ----------
    result : Result, or NormResult and its kin
        What the function gave.
    out : str or None
        Where it is stored.
    as_json : bool
        As one JSON document.
    driver : str
        The command, if it is not the driver that the report names.
    """
    if as_json:
        print_json(result_document(result, out=out, driver=driver))
        return
    fields, values = _fields(result), _values(result, driver)
    if fields.keys() >= {"u", "s"} or fields.keys() == {"s"}:
        _print_modes(result)
        print_text("")
    elif "eigenvalues" in values:
        _print_rows(("pair", "eigenvalue", "residual"), result.eigenvalues, result.certificate)
        print_text("")
    for name in ("value", "sign", "logabsdet"):
        if name in values:
            label = "" if name == "value" else f"{name:<10} "
            print_text(f"{label}{_number(values[name])}" + "\n" * (name != "sign"))
    print_text(f"{result.certificate}\n\n{result.report}")
    lost = [name for name in fields if name not in _VALUES]
    if out is not None:
        print_text(f"\n{_describe_stored(out, fields)}")
    elif lost:
        saves = ", --no-compute-uv saves the work" if "vh" in lost else ""
        were = "was" if len(lost) == 1 else "were"
        print_note(f"\n{' and '.join(lost)} {were} not kept: --out stores them{saves}")


def result_document(result: Any, *, out: str | None, driver: str = "") -> dict[str, Any]:
    """Give what ``--json`` prints of a result.

    Parameters
    ----------
    result : Result, or NormResult and its kin
        What the function gave.
    out : str or None
        Where it is stored.
    driver : str
        The command, if it is not the driver that the report names.

    Returns
    -------
    dict
        Driver, out, shapes and dtypes of the fields, values, certificate, report.
    """
    return {
        "driver": driver or result.report.driver,
        "out": out,
        "fields": {
            name: {"shape": field.shape, "dtype": str(field.dtype)}
            for name, field in _fields(result).items()
        },
        **_values(result, driver),
        "certificate": result.certificate.to_dict(),
        "report": result.report.to_dict(),
    }


def _fields(result: Any) -> dict[str, Any]:
    """Give the arrays that can be stored."""
    found: dict[str, Any] = result.arrays() if hasattr(result, "arrays") else {}
    return {} if "sign" in found else found


def _values(result: Any, driver: str) -> dict[str, Any]:
    if driver == "det":
        return {"value": result.det()}
    return {name: getattr(result, name) for name in _VALUES if hasattr(result, name)}


def _print_modes(result: Any) -> None:
    certificate = result.certificate
    shares = [
        f"{100 * share:.4f} %" if certificate.norm else "-"  # of nothing there are no shares
        for share in certificate.captured_each
    ]
    heads = ("mode", "singular value", "variance", "residual")
    _print_rows(heads, result.s, certificate, shares)


def _print_rows(
    heads: Sequence[str], values: Any, certificate: Any, shares: Sequence[str] | None = None
) -> None:
    rows = [
        (str(i + 1), f"{value:.8g}", *([] if shares is None else [shares[i]]), f"{residual:.1e}")
        for i, (value, residual) in enumerate(zip(values, certificate.residuals, strict=True))
    ]
    more = len(rows) - MOST_MODES
    note = f"and {more} more: --json shows all" if more > 0 else ""
    print_table(heads, rows[:MOST_MODES], note=note)


def _number(value: Any) -> str:
    return f"{value.item() if hasattr(value, 'item') else value:.16g}"


def _describe_stored(out: str, fields: dict[str, Any]) -> str:
    shapes = ", ".join(f"{name} {field.shape}" for name, field in fields.items())
    return f"stored in {out}: {shapes}"
