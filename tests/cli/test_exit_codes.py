"""What ends with 0, 1 and 2, and the one line that is printed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc import errors
from leptonhpc.cli.exits import exit_code, in_shell_words

USAGE = [
    (("svd", "a.zarr", "--rank", "2", "--tol", "0.1"), "give one of --rank, --tol and --variance"),
    (("svd", "a.zarr", "--rank", "121"), "rank is from 1 to 120"),
    (("svd", "field.zarr"), "svd needs a matrix"),
    (("svd", "a.zarr", "--memory", "much"), "memory is a number of bytes"),
    (("svd", "a.zarr", "--memory", "1MB"), "needs at least --memory '"),
    (("svd", "a.zarr", "--resume"), "give --out"),
    (("svd", "a.zarr", "--out", "new.zarr", "--resume"), "no unfinished output"),
    (("svd", "a.zarr", "--out", "a.zarr"), "choose another output"),
    (("svd", "a.zarr", "--scale", "sdt"), "--scale needs a file"),
    (("svd", "a.zarr", "--scale", "text.npy"), "--scale needs a file"),
    (("svd", "a.zarr", "--weights", "five.npy"), "weights needs one number per column"),
    (("matmul", "a.zarr", "a.zarr", "--out", "c.zarr"), "inner lengths"),
    (("explain", "svd", "a.zarr", "--memory", "1MB"), "needs at least --memory '"),
    (("explain", "svd", "a.zarr", "--timeline", "a.png"), "is drawn as SVG"),
    (("svd", "a.zarr", "--scheduler", "nowhere.json"), "a scheduler is an address"),
    (("datasets", "fetch", "face", "--out", "x.zarr"), "Did you mean 'faces'"),
]

FAILURES = [
    (("svd", "none.zarr"), "nothing is stored at"),
    (("load", "none.zarr"), "nothing is stored at"),
    (("load", "a.zarr"), "is not a result of leptonhpc"),
    (("info", "none.zarr"), "nothing is stored at"),
    (("svd", "nan.zarr"), "241"),
    (("norm", "nan.zarr"), "241"),
]

OF_THE_PARSER = [
    (("svd",), "Missing argument"),
    (("svd", "a.zarr", "--rnk", "2"), "--rank"),
    (("svd", "a.zarr", "--rank", "two"), "--rank"),
    (("svd", "a.zarr", "--method", "fast"), "'auto', 'gram', 'krylov', 'sketch'"),
    (("svd", "a.zarr", "--weights", "none.npy"), "does not exist"),
    (("matmul", "a.zarr", "b.zarr"), "Missing option '--out'"),
    (("norm", "a.zarr", "--ord", "3"), "--ord"),
    (("explain", "schur", "a.zarr"), "No such command"),
]


@pytest.fixture(autouse=True)
def _files(folder: Path) -> None:
    np.save("five.npy", np.ones(5))
    (folder / "text.npy").write_text("not numbers")


def _names(cases: list[tuple[tuple[str, ...], str]]) -> list[str]:
    return [" ".join(arguments) for arguments, _ in cases]


@pytest.mark.parametrize(("arguments", "words"), USAGE, ids=_names(USAGE))
def test_what_another_command_line_would_mend_ends_with_2_and_one_line(
    run: Any, folder: Path, arguments: tuple[str, ...], words: str
) -> None:
    before = sorted(folder.rglob("*"))
    done = run(*arguments)
    assert done.exit_code == 2
    _assert_one_line(done, words)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(("arguments", "words"), FAILURES, ids=_names(FAILURES))
def test_what_fails_ends_with_1_and_one_line(
    run: Any, arguments: tuple[str, ...], words: str
) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    _assert_one_line(done, words)


@pytest.mark.parametrize(("arguments", "words"), OF_THE_PARSER, ids=_names(OF_THE_PARSER))
def test_what_does_not_parse_ends_with_2_and_says_where_help_is(
    run: Any, arguments: tuple[str, ...], words: str
) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert "--help" in done.stderr
    assert done.stdout == ""


def test_output_that_exists_is_refused_and_left_alone(run: Any, folder: Path) -> None:
    run("svd", "a.zarr", "--rank", "3", "--out", "o.zarr")
    done = run("svd", "a.zarr", "--rank", "2", "--out", "o.zarr")
    assert done.exit_code == 2
    _assert_one_line(done, "'o.zarr' exists, and is the result of another job: parameters.rank was")
    assert "or pass --overwrite" in done.stderr
    assert lh.load("o.zarr").s.shape == (3,)


def test_json_leaves_stdout_empty_when_it_fails(run: Any) -> None:
    done = run("svd", "nan.zarr", "--json")
    assert done.exit_code == 1
    _assert_one_line(done, "241")


def test_an_unfinished_output_goes_on_or_is_refused_as_asked(
    run: Any, run_json: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("svd", "a.zarr", "--rank", "3", "--method", "gram", "--out", "o.zarr")
    with monkeypatch.context() as patch:
        patch.setattr("leptonhpc.api.outputs._finish", _stop)
        assert run(*command).exit_code == 130
    assert (folder / "o.zarr.partial").exists()
    refused = run(*command, "--no-resume")
    assert refused.exit_code == 2
    _assert_one_line(refused, "is an unfinished output; pass --resume to go on with it")
    other = run("svd", "a.zarr", "--rank", "2", "--out", "o.zarr")
    assert other.exit_code == 2
    _assert_one_line(other, "belongs to another job")
    report = run_json(*command, "--resume")["report"]
    assert any(stage["resumed"] for stage in report["stages"])
    assert lh.load("o.zarr").s.shape == (3,)
    assert not (folder / "o.zarr.partial").exists()


def test_a_job_stopped_before_its_output_has_its_name_goes_on(
    run: Any, run_json: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("svd", "a.zarr", "--rank", "3", "--method", "krylov", "--out", "o.zarr")
    with monkeypatch.context() as patch:
        patch.setattr("leptonhpc.api.outputs._finish", _stop)
        assert run(*command).exit_code == 130
    assert run_json(*command)["fields"]["s"]["shape"] == [3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "nothing was stored; with --out the same command would go on"),
        (("--out", "o.zarr"), "the same command goes on from here"),
        (("--out", "o.zarr", "--overwrite"), "the same command without --overwrite goes on"),
        (("--out", "o.zarr", "--no-resume"), "the same command without --no-resume goes on"),
    ],
)
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(
    run: Any, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], words: str
) -> None:
    monkeypatch.setattr("leptonhpc.api.drivers.run_to_output", _stop)
    done = run("svd", "a.zarr", *options)
    assert done.exit_code == 130
    _assert_one_line(done, words)


def test_not_converged_warns_on_stderr_and_ends_with_0(run: Any) -> None:
    done = run(
        "svd", "a.zarr", "--rank", "2", "--method", "krylov", "--most-passes", "1",
        "--accuracy", "1e-12",
    )  # fmt: skip
    assert done.exit_code == 0
    assert done.stderr.startswith("leptonhpc: warning: svd of ")
    assert "More passes" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "NOT CONVERGED" in done.stdout


def test_an_error_that_nobody_foresaw_is_one_line_too(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leptonhpc.api.drivers.run_to_output", _break)
    done = run("svd", "a.zarr")
    assert done.exit_code == 1
    _assert_one_line(done, "KeyError: 'x' (with LEPTONHPC_DEBUG=1 the traceback is shown)")


def test_debug_shows_the_traceback(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTONHPC_DEBUG", "1")
    done = run("svd", "none.zarr")
    assert done.exit_code == 1
    assert isinstance(done.exception, errors.StoreError)


def test_every_error_has_its_exit_code() -> None:
    usage = {
        "OptionError", "ShapeError", "DTypeError", "MemoryBudgetError", "OutputExistsError",
        "JobMismatchError",
    }  # fmt: skip
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.LeptonError)
    ]
    assert {kind.__name__ for kind in kinds if exit_code(kind("why")) == 2} == usage
    assert {exit_code(kind("why")) for kind in kinds} == {1, 2}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("pass resume=True to go on", "pass --resume to go on"),
        ("give compute_uv=False", "give --no-compute-uv"),
        ("needs rank=, and missing='raise'", "needs --rank, and --missing 'raise'"),
        ("memory=2000 is more than", "--memory 2000 is more than"),
        ("nothing at time=2000-08-01, nor", "nothing at time=2000-08-01, nor"),
        ("in 'a/rank=3.zarr' and rank=3.zarr", "in 'a/rank=3.zarr' and rank=3.zarr"),
        ("one\n  two", "one two"),
    ],
)
def test_messages_are_in_the_words_of_a_shell(message: str, words: str) -> None:
    assert in_shell_words(message) == words


def _assert_one_line(done: Any, words: str) -> None:
    assert words in done.stderr
    assert done.stderr.startswith("leptonhpc: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def _stop(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def _break(*_: Any, **__: Any) -> None:
    raise KeyError("x")
