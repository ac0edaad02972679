"""The commands `recommend store`, `fit`, `evaluate`, `users` and `similar`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from leptonhpc.cli import options as o
from leptonhpc.cli.running import running

if TYPE_CHECKING:
    from leptonhpc.recommend import ALS, ImplicitALS

app = typer.Typer(
    help="Recommendation from sparse ratings, which need not fit in memory.", no_args_is_help=True
)

Source = Annotated[
    str,
    typer.Argument(
        metavar="RATINGS", help="A text file of one rating a line, or a Zarr array of one a row."
    ),
]
Ratings = Annotated[
    str, typer.Argument(metavar="RATINGS", help="What `leptonhpc recommend store` made.")
]
Test = Annotated[str, typer.Argument(metavar="TEST", help="Ratings that were held out, stored.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="What `recommend fit` made.")]
Users = Annotated[
    list[str] | None, typer.Argument(metavar="[USER]...", help="Default: all, which needs --out.")
]
Items = Annotated[list[str], typer.Argument(metavar="ITEM...", help="Of which others are sought.")]
Out = Annotated[str, typer.Option(metavar="OUT", help="The Zarr group to be made.")]
ModelOut = Annotated[
    str,
    typer.Option(
        metavar="OUT", help="Where the factors go. After a stop the same command goes on."
    ),
]
Table = Annotated[
    Path | None, typer.Option(metavar="FILE.csv", help="Write a table instead of showing it.")
]
Columns = Annotated[
    str,
    typer.Option(
        metavar="C,C,C", help="Where user, item and value are: positions from 0, or names."
    ),
]
Delimiter = Annotated[str, typer.Option(help="Of a text file; 'tab' is one.")]
Header = Annotated[
    bool, typer.Option("--header/--no-header", help="Whether a text file begins with names.")
]
Duplicates = Annotated[
    Literal["refuse", "last", "sum"],
    typer.Option(help="What a pair that comes twice is."),
]
Kind = Annotated[
    Literal["explicit", "implicit"],
    typer.Option(help="Ratings that are predicted, or counts that say what was liked."),
]
Factors = Annotated[int | None, typer.Option(help="Length of the factors. Default: 16, or 64.")]
Regularization = Annotated[
    float | None, typer.Option(help="Factor of squared lengths. Default: 0.1, or 1.")
]
Alpha = Annotated[float | None, typer.Option(help="Implicit: confidence of a count. Default: 2.")]
Sweeps = Annotated[int | None, typer.Option("--max-iter", help="Sweeps at most. Default: 30.")]
Tol = Annotated[
    float | None,
    typer.Option(help="Stop when a sweep takes away no larger share of the loss; 0: never."),
]
Count = Annotated[int, typer.Option("--n", help="How many.")]
Seen = Annotated[
    bool,
    typer.Option("--exclude-seen/--no-exclude-seen", help="Leave out what the user has rated."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is at OUT.")]


@app.command()
def store(
    ratings: Source,
    out: Out,
    columns: Columns = "0,1,2",
    delimiter: Delimiter = ",",
    header: Header = True,
    duplicates: Duplicates = "refuse",
    memory: o.Memory = None,
    overwrite: Overwrite = False,
    json: o.Json = False,
) -> None:
    """Write ratings as Zarr, in blocks by users and by items."""
    with running(None):
        from leptonhpc import recommend
        from leptonhpc.cli.show import print_json, print_text

        places = [int(c) if c.lstrip("-").isdecimal() else c for c in columns.split(",")]
        batches: Any
        if Path(ratings).is_file():
            tab = "\t" if delimiter == "tab" else delimiter
            batches = recommend.read_triples(ratings, columns=places, delimiter=tab, header=header)
        else:
            batches = recommend.array_triples(ratings, columns=_positions(places))
        found = recommend.store_ratings(
            batches, out, duplicates=duplicates, memory=memory, overwrite=overwrite
        )
        if json:
            users, items = found.shape
            print_json({"out": out, "users": users, "items": items, "ratings": found.count})
        else:
            print_text(repr(found))


@app.command()
def fit(
    ratings: Ratings,
    out: ModelOut,
    kind: Kind = "implicit",
    factors: Factors = None,
    regularization: Regularization = None,
    alpha: Alpha = None,
    max_iter: Sweeps = None,
    tol: Tol = None,
    seed: o.Seed = 0,
    memory: o.Memory = None,
    overwrite: Overwrite = False,
    progress: o.Progress = None,
    scheduler: o.Scheduler = None,
    json: o.Json = False,
) -> None:
    """Find factors of users and items by alternating least squares."""
    with running(scheduler, out=out, overwrite=overwrite):
        from leptonhpc import recommend
        from leptonhpc.cli.show import print_json, print_text
        from leptonhpc.errors import OptionError

        given = {
            "n_factors": factors, "regularization": regularization, "alpha": alpha,
            "max_iter": max_iter, "tol": tol, "random_state": seed, "memory": memory,
            "progress": progress,
        }  # fmt: skip
        if kind == "explicit" and alpha is not None:
            raise OptionError("--alpha is of implicit feedback; found --kind explicit")
        # what is not given has the default of the estimator; progress= has one of its own here
        chosen: dict[str, Any] = {
            key: value for key, value in given.items() if value is not None or key == "progress"
        }
        estimator = recommend.ALS if kind == "explicit" else recommend.ImplicitALS
        model = estimator(**chosen).fit(ratings, out=out, overwrite=overwrite)
        if json:
            print_json(_document(model, out))
        else:
            print_text(f"{model.certificate_}\n{model.report_}\nstored in {out}")


@app.command()
def evaluate(
    model: Model,
    test: Test,
    k: Annotated[int, typer.Option("--k", help="Items that are recommended.")] = 10,
    json: o.Json = False,
) -> None:
    """Recommend to every user of held-out ratings, and compare."""
    with running(None):
        from leptonhpc import recommend
        from leptonhpc.cli.show import print_json, print_table

        measures = recommend.evaluate(recommend.load(model), test, k=k)
        if json:
            print_json(measures)
        else:
            print_table(
                ("measure", f"at {k}"), [(name, f"{v:.4f}") for name, v in measures.items()]
            )


@app.command()
def users(
    model: Model,
    user: Users = None,
    n: Count = 10,
    exclude_seen: Seen = True,
    out: Table = None,
    overwrite: Overwrite = False,
    json: o.Json = False,
) -> None:
    """Recommend items to users."""
    with running(None):
        from leptonhpc import recommend
        from leptonhpc.cli.rankings import labels_of, show_rankings
        from leptonhpc.errors import OptionError

        if not user and out is None:
            raise OptionError("items for all users are a table: give --out, or name users")
        fitted = recommend.load(model)
        asked = labels_of(fitted.user_labels_, len(fitted.user_factors_), user or None, "user")
        show_rankings(
            ("user", "item"), asked,
            lambda some: fitted.recommend(some, n, exclude_seen=exclude_seen),
            out=out, overwrite=overwrite, as_json=json,
        )  # fmt: skip


@app.command()
def similar(
    model: Model,
    item: Items,
    n: Count = 10,
    out: Table = None,
    overwrite: Overwrite = False,
    json: o.Json = False,
) -> None:
    """Find items like others; each is the first of its own."""
    with running(None):
        from leptonhpc import recommend
        from leptonhpc.cli.rankings import labels_of, show_rankings

        fitted = recommend.load(model)
        asked = labels_of(fitted.item_labels_, len(fitted.item_factors_), item, "item")
        show_rankings(
            ("item", "similar"), asked, lambda some: fitted.similar_items(some, n),
            out=out, overwrite=overwrite, as_json=json,
        )  # fmt: skip


def _positions(places: list[int | str]) -> list[int]:
    from leptonhpc.errors import OptionError

    if not all(isinstance(place, int) for place in places):
        message = f"--columns of an array are three positions from 0; found {places}"
        raise OptionError(message)
    return [int(place) for place in places]


def _document(model: ALS | ImplicitALS, out: str) -> dict[str, Any]:
    return {
        "driver": type(model).__name__,
        "out": out,
        "fields": {
            "user_factors": {"shape": model.user_factors_.shape},
            "item_factors": {"shape": model.item_factors_.shape},
        },
        "certificate": model.certificate_.to_dict(),
        "report": model.report_.to_dict(),
    }
