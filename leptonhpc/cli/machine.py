"""The command `probe`: how fast this machine is, or each worker of a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from leptonhpc.cli.options import Json, Scheduler

_ROWS = (
    ("gemm", "gemm_flops", "GFLOP/s a core"),
    ("syrk", "syrk_flops", "GFLOP/s a core"),
    ("skinny gemm", "skinny_flops", "GFLOP/s a core"),
    ("potrf", "potrf_flops", "GFLOP/s a core"),
    ("geqrf", "geqrf_flops", "GFLOP/s a core"),
    ("eigh", "eigh_flops", "GFLOP/s in all"),
    ("sums", "sweep_flops", "GFLOP/s a core"),
    ("read Zarr", "read_bytes", "GB/s a core"),
    ("write Zarr", "write_bytes", "GB/s a core"),
    ("fresh memory", "fresh_bytes", "GB/s a core"),
)


def probe(
    save: Annotated[
        bool,
        typer.Option(
            "--save/--no-save", help="Keep the rates for later predictions on this machine."
        ),
    ] = True,
    scheduler: Scheduler = None,
    json: Json = False,
) -> None:
    """Measure how fast this machine is, or each worker of a cluster."""
    from leptonhpc import probe
    from leptonhpc.cli.running import running
    from leptonhpc.cli.show import print_json, print_text

    with running(scheduler):
        machine = probe(save=save).to_dict()
    if json:
        print_json(machine)
        return
    lines = []
    for device in machine["devices"]:
        lines.append(f"{device['name']}, {device['cores']} cores, float64")
        rates = device["rates"]
        lines += [f"  {label:<13}{rates[key] / 1e9:>8.3g} {unit}" for label, key, unit in _ROWS]
        lines.append(f"  {'float32':<13}{rates['single_speedup']:>8.3g} times as fast in gemm")
        if device["tf32"]:
            lines.append(f"  {'tf32':<13}{rates['tf32_speedup']:>8.3g} times as fast in gemm")
        lines.append(f"  {'gemm n_1/2':<13}{rates['half_size']:>8.3g}")
        if "link_bytes" in device:  # infinite, and left out, where there is nothing to copy
            copies = f"GB/s in and out, {device['link_seconds'] * 1e6:.3g} microseconds each"
            lines.append(f"  {'copies':<13}{device['link_bytes'] / 1e9:>8.3g} {copies}")
    if save:
        lines.append("kept for the predictions of explain")
    print_text("\n".join(lines))
