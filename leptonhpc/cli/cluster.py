"""The commands `cluster up`, `cluster run`, `cluster status` and `cluster down`."""

from __future__ import annotations

from typing import Annotated

import typer

from leptonhpc.cli.options import Json

app = typer.Typer(
    help="Clusters with TLS from a profile: on this machine, or of SLURM jobs.",
    no_args_is_help=True,
)

Profile = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="A TOML file, or the name of one in $LEPTONHPC_PROFILES (default "
        "~/.config/leptonhpc/profiles).",
    ),
]
AnyProfile = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="Only clusters of this profile.")
]
Timeout = Annotated[float, typer.Option(help="Seconds that the start may take.")]


@app.command()
def up(profile: Profile, timeout: Timeout = 120.0, json: Json = False) -> None:
    """Start the cluster of a profile and leave it running."""
    from leptonhpc.cli.show import print_json, print_text
    from leptonhpc.cluster import up

    folder = str(up(profile, timeout=timeout))
    if json:
        print_json({"folder": folder, "scheduler_file": f"{folder}/scheduler.json"})
        return
    print_text(f"up: {folder}\nend it with `leptonhpc cluster down --profile {profile}`")


@app.command(context_settings={"ignore_unknown_options": True})
def run(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND...", help="After --: a program, its arguments.")
    ],
    profile: Profile,
    timeout: Timeout = 600.0,
) -> None:
    """Run a program on the cluster of a profile: the one that is up, or one that ends with it.

    Inside, `distributed.Client()` and `leptonhpc.cluster.connect()` find it.
    """
    import shutil

    from leptonhpc.cluster.detached import environment
    from leptonhpc.cluster.programs import run_program
    from leptonhpc.errors import OptionError

    if shutil.which(command[0]) is None:
        raise OptionError(f"there is no program {command[0]!r} to run")
    with environment(profile, timeout=timeout) as variables:
        code = run_program(command, variables)
    raise typer.Exit(code)


@app.command()
def status(profile: AnyProfile = None, json: Json = False) -> None:
    """Say which clusters are up."""
    from dataclasses import asdict

    from leptonhpc.cli.show import print_json, print_text
    from leptonhpc.cluster import status

    found = status(profile)
    if json:
        print_json([asdict(each) for each in found])
        return
    if not found:
        print_text("no cluster is up" if profile is None else f"no cluster of {profile!r} is up")
    for each in found:
        workers = "do not answer" if each.workers is None else f"{each.workers} of {each.wanted}"
        print_text(f"{each.run}  ({each.kind}, profile {each.profile or 'none'})")
        if each.scheduler is None:
            workers = "none yet: it starts"
        print_text(f"  workers    {workers}\n  scheduler  {each.scheduler or '-'}")
        print_text(f"  folder     {each.folder}")
        if each.dashboard is not None:
            print_text(f"  dashboard  {each.dashboard}")


@app.command()
def down(profile: Profile, json: Json = False) -> None:
    """End the cluster of a profile, and remove what dead ones left."""
    from leptonhpc.cli.show import print_json, print_text
    from leptonhpc.cluster import down

    count = down(profile)
    if json:
        print_json({"ended": count})
        return
    print_text(f"ended: {count}")
