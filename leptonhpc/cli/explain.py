"""`leptonhpc explain DRIVER ARRAYS`: what a job will cost, with the driver's keywords."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from leptonhpc.cli import options as o
from leptonhpc.cli.drivers import read_order, read_scale
from leptonhpc.cli.running import load_numbers, running

if TYPE_CHECKING:
    from leptonhpc import Plan

app = typer.Typer(
    help="Say what a job will cost, without running it.",
    no_args_is_help=True,
    subcommand_metavar="DRIVER ARRAYS... [OPTIONS]",
)


@app.command()
def svd(
    x: o.Array,
    rank: o.Rank = None,
    tol: o.Tol = None,
    variance: o.Variance = None,
    compute_uv: o.ComputeUv = True,
    center: o.Center = False,
    scale: o.Scale = None,
    weights: o.Weights = None,
    missing: o.MissingOption = "raise",
    method: o.MethodOption = "auto",
    accuracy: o.Accuracy = 1e-3,
    most_passes: o.MostPasses = 10,
    seed: o.Seed = 0,
    memory: o.Memory = None,
    scheduler: o.Scheduler = None,
    json: o.Json = False,
) -> None:
    """Say what `leptonhpc svd` will cost."""
    from leptonhpc import plan

    with running(scheduler):
        _print_plan(
            plan(
                "svd", x, rank=rank, tol=tol, variance=variance, method=method, center=center,
                scale=read_scale(scale), weights=load_numbers(weights, option="--weights"),
                missing=missing, compute_uv=compute_uv, accuracy=accuracy,
                most_passes=most_passes, seed=seed, memory=memory,
            ),
            as_json=json,
        )  # fmt: skip


@app.command()
def matmul(
    a: o.Left,
    b: o.Right,
    seed: o.Seed = 0,
    memory: o.Memory = None,
    scheduler: o.Scheduler = None,
    json: o.Json = False,
) -> None:
    """Say what `leptonhpc matmul` will cost."""
    from leptonhpc import plan

    with running(scheduler):
        _print_plan(plan("matmul", a, b, seed=seed, memory=memory), as_json=json)


@app.command()
def norm(
    x: o.Array,
    ord: o.Ord = "fro",  # noqa: A002  (the array API's name)
    memory: o.Memory = None,
    seed: o.Seed = 0,
    scheduler: o.Scheduler = None,
    json: o.Json = False,
) -> None:
    """Say what `leptonhpc norm` will cost."""
    from leptonhpc import plan

    with running(scheduler):
        _print_plan(plan("norm", x, ord=read_order(ord), memory=memory, seed=seed), as_json=json)


def _print_plan(plan: Plan, *, as_json: bool) -> None:
    from leptonhpc.cli.show import print_json, print_text

    if as_json:
        print_json(plan.explanation.to_dict())
    else:
        print_text(plan.explain())
