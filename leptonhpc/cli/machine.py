"""The command `probe`: how fast this machine is."""

from __future__ import annotations

from typing import Annotated

import typer

from leptonhpc.cli.options import Json

_ROWS = (
    ("gemm", "gemm_flops", "GFLOP/s a core"),
    ("syrk", "syrk_flops", "GFLOP/s a core"),
    ("skinny gemm", "skinny_flops", "GFLOP/s a core"),
    ("eigh", "eigh_flops", "GFLOP/s in all"),
    ("read Zarr", "read_bytes", "GB/s a core"),
    ("write Zarr", "write_bytes", "GB/s a core"),
)


def probe(
    save: Annotated[
        bool,
        typer.Option(
            "--save/--no-save", help="Keep the rates for later predictions on this machine."
        ),
    ] = True,
    json: Json = False,
) -> None:
    """Measure how fast this machine is."""
    from leptonhpc import probe
    from leptonhpc.cli.show import print_json, print_text

    rates = probe(save=save).to_dict()
    if json:
        print_json(rates)
        return
    lines = ["this machine, float64"]
    lines += [f"  {label:<13}{rates[key] / 1e9:>8.3g} {unit}" for label, key, unit in _ROWS]
    if save:
        lines.append("kept for the predictions of explain")
    print_text("\n".join(lines))
