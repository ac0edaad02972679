"""`leptonhpc explain DRIVER ARRAYS`: what a job will cost, with the driver's keywords."""

from __future__ import annotations

import typer

from leptonhpc.cli.commands import explain_command, shell_name
from leptonhpc.cli.drivers import PLANNED

app = typer.Typer(
    help="Say what a job will cost, without running it.",
    no_args_is_help=True,
    subcommand_metavar="DRIVER ARRAYS... [OPTIONS]",
)
for driver in PLANNED:
    app.command(shell_name(driver.name))(explain_command(driver))
