"""Showing a result: its values, its certificate, its report, and where it is stored."""

from __future__ import annotations

from typing import Any

from leptonhpc.cli.show import print_json, print_note, print_table, print_text

MOST_MODES = 20
"""Singular values that are shown; --json has all."""

_FIELDS = ("u", "s", "vh", "mean", "scale", "product")


def print_result(result: Any, *, out: str | None, as_json: bool) -> None:
    """Print the result of a driver.

    Parameters
    ----------
    result : SvdResult, MatmulResult or NormResult
        What the function gave.
    out : str or None
        Where it is stored.
    as_json : bool
        As one JSON document.
    """
    if as_json:
        print_json(result_document(result, out=out))
        return
    fields = _fields(result)
    if "s" in fields:
        _print_modes(result)
        print_text("")
    elif not fields:
        print_text(f"{result.value:.16g}\n")
    print_text(f"{result.certificate}\n\n{result.report}")
    if out is not None:
        print_text(f"\n{_describe_stored(out, fields)}")
    elif "u" in fields:
        print_note("\nu and vh were not kept: --out stores them, --no-compute-uv saves the work")


def result_document(result: Any, *, out: str | None) -> dict[str, Any]:
    """Give what ``--json`` prints of a result.

    Parameters
    ----------
    result : SvdResult, MatmulResult or NormResult
        What the function gave.
    out : str or None
        Where it is stored.

    Returns
    -------
    dict
        Driver, out, shapes and dtypes of the fields, values, certificate, report.
    """
    values = {"s": result.s} if hasattr(result, "s") else {}
    if hasattr(result, "value"):
        values = {"value": result.value}
    return {
        "driver": result.report.driver,
        "out": out,
        "fields": {
            name: {"shape": field.shape, "dtype": str(field.dtype)}
            for name, field in _fields(result).items()
        },
        **values,
        "certificate": result.certificate.to_dict(),
        "report": result.report.to_dict(),
    }


def _fields(result: Any) -> dict[str, Any]:
    found = {name: getattr(result, name, None) for name in _FIELDS}
    return {name: field for name, field in found.items() if field is not None}


def _print_modes(result: Any) -> None:
    certificate = result.certificate
    rows = [
        (str(i + 1), f"{s:.8g}", f"{100 * share:.4f} %", f"{residual:.1e}")
        for i, (s, share, residual) in enumerate(
            zip(result.s, certificate.captured_each, certificate.residuals, strict=True)
        )
    ]
    more = len(rows) - MOST_MODES
    note = f"and {more} more: --json shows all" if more > 0 else ""
    print_table(("mode", "singular value", "variance", "residual"), rows[:MOST_MODES], note=note)


def _describe_stored(out: str, fields: dict[str, Any]) -> str:
    shapes = ", ".join(f"{name} {field.shape}" for name, field in fields.items())
    return f"stored in {out}: {shapes}"
