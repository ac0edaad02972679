"""The command `leptonhpc`: its commands in the order in which a newcomer needs them.

Modules of this layer import nothing heavy: NumPy, Dask and Zarr load when a command runs, so that
``--help`` is immediate.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from leptonhpc.cli import (
    cluster,
    datasets,
    drivers,
    eof,
    explain,
    genomics,
    machine,
    recommend,
    stored,
)
from leptonhpc.cli.commands import run_command, shell_name
from leptonhpc.cli.exits import GuardedGroup

HELP = "Linear algebra on Zarr arrays larger than memory: planned, bounded, certified, on Dask."
EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."

COMPUTING = tuple(shell_name(driver.name) for driver in drivers.DRIVERS)
ORDER = (
    "explain",
    *COMPUTING,
    "eof",
    "gpca",
    "grm",
    "gwas",
    "recommend",
    "load",
    "report",
    "status",
    "clean",
    "info",
    "probe",
    "cluster",
    "datasets",
)


class _Commands(GuardedGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(ORDER)


app = typer.Typer(
    cls=_Commands,
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)
app.add_typer(explain.app, name="explain")
for driver in drivers.DRIVERS:
    app.command(shell_name(driver.name))(run_command(driver))
app.command()(eof.eof)
app.command()(genomics.gpca)
app.command()(genomics.grm)
app.command()(genomics.gwas)
app.add_typer(recommend.app, name="recommend")
app.command()(stored.load)
app.command()(stored.report)
app.command()(stored.status)
app.command()(stored.clean)
app.command()(stored.info)
app.command()(machine.probe)
app.add_typer(cluster.app, name="cluster")
app.add_typer(datasets.app, name="datasets")


def main() -> None:
    """Run the command line."""
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        from leptonhpc import __version__

        typer.echo(f"leptonhpc {__version__}")
        raise typer.Exit


@app.callback()
def _options_before_the_command(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    pass
