"""Each command does what the function of its name does, and shows it."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import leptonhpc as lh


def test_svd_prints_values_certificate_and_report(run: Any) -> None:
    done = run("svd", "a.zarr", "--rank", "3")
    assert done.exit_code == 0
    for words in ("singular value", "captured variance", "residual", "peak", "not kept"):
        assert words in done.stdout
    assert done.stderr == ""


def test_svd_values_are_within_the_certificate_of_numpys(run_json: Any, matrix: Any) -> None:
    document = run_json("svd", "a.zarr", "--rank", "4")
    certificate = document["certificate"]
    error = np.abs(np.array(document["s"]) - np.linalg.svd(matrix, compute_uv=False)[:4])
    assert np.all(error <= np.array(certificate["residuals"]) + certificate["rounding"])
    assert document["driver"] == document["report"]["driver"] == "svd"
    assert document["fields"]["u"]["shape"] == [300, 4]
    assert document["out"] is None


@pytest.mark.parametrize(
    ("options", "keywords"),
    [
        (("--tol", "0.5"), {"tol": 0.5}),
        (("--variance", "0.7"), {"variance": 0.7}),
        (("--rank", "2", "--no-compute-uv"), {"rank": 2, "compute_uv": False}),
        (
            ("--rank", "2", "--center", "--scale", "std"),
            {"rank": 2, "center": True, "scale": "std"},
        ),
        (
            ("--rank", "2", "--method", "krylov", "--accuracy", "1e-6", "--seed", "5"),
            {"rank": 2, "method": "krylov", "accuracy": 1e-6, "seed": 5},
        ),
        (("--rank", "2", "--memory", "600MB"), {"rank": 2, "memory": "600MB"}),
    ],
)
def test_svd_hands_its_options_to_the_function(
    run_json: Any, options: tuple[str, ...], keywords: dict[str, Any]
) -> None:
    document = run_json("svd", "a.zarr", *options)
    result = lh.svd("a.zarr", **keywords)
    bound = result.certificate.rounding + 2 * max(result.certificate.residuals)
    assert len(document["s"]) == len(result.s)
    assert np.max(np.abs(np.array(document["s"]) - result.s)) <= bound
    assert document["certificate"]["method"] == result.certificate.method
    assert ("u" in document["fields"]) == (result.u is not None)


def test_svd_reads_weights_and_scale_from_files(run_json: Any, matrix: Any) -> None:
    weights, scale = np.linspace(1, 2, 120), np.linspace(2, 1, 120)
    np.save("w.npy", weights)
    np.save("s.npy", scale)
    document = run_json("svd", "a.zarr", "--rank", "120", "--weights", "w.npy", "--scale", "s.npy")
    expected = np.linalg.svd(matrix / scale * weights, compute_uv=False)
    certificate = document["certificate"]
    error = np.abs(np.array(document["s"]) - expected)
    assert np.all(error <= np.array(certificate["residuals"]) + certificate["rounding"])


def test_svd_stores_what_load_reads(run: Any, run_json: Any) -> None:
    stored = run_json("svd", "a.zarr", "--rank", "3", "--out", "o.zarr")
    assert sorted(zarr.open_group("o.zarr", mode="r").array_keys()) == ["s", "u", "vh"]
    assert run_json("load", "o.zarr") == stored
    shown = run("load", "o.zarr").stdout
    assert "captured variance" in shown
    assert "stored in o.zarr: u (300, 3)" in shown


def test_svd_again_gives_the_stored_result_without_computing(run_json: Any) -> None:
    command = ("svd", "a.zarr", "--rank", "3", "--out", "o.zarr")
    assert run_json(*command) == run_json(*command)


def test_svd_replaces_with_overwrite(run_json: Any) -> None:
    run_json("svd", "a.zarr", "--rank", "3", "--out", "o.zarr")
    document = run_json("svd", "a.zarr", "--rank", "2", "--out", "o.zarr", "--overwrite")
    assert document["fields"]["s"]["shape"] == [2]
    assert lh.load("o.zarr").s.shape == (2,)


def test_svd_shows_the_first_modes_of_many(run: Any) -> None:
    assert "and 100 more" in run("svd", "a.zarr").stdout


def test_matmul_stores_the_product(run: Any, run_json: Any, matrix: Any) -> None:
    done = run("matmul", "a.zarr", "b.zarr", "--out", "c.zarr", "--memory", "600MB")
    assert done.exit_code == 0, done.stderr
    assert "stored in c.zarr: product (300, 7)" in done.stdout
    product, factors = zarr.open_array("c.zarr", mode="r")[...], (matrix, matrix[:120, :7])
    # |fl(AB) - AB| <= k eps |A||B| entry by entry
    bound = 120 * np.finfo(float).eps * (np.abs(factors[0]) @ np.abs(factors[1]))
    assert np.all(np.abs(product - factors[0] @ factors[1]) <= 2 * bound)
    assert run_json("load", "c.zarr")["driver"] == "matmul"


@pytest.mark.parametrize("order", ["fro", "1", "inf", "2", "nuc"])
def test_norm_gives_the_norm(run: Any, run_json: Any, matrix: Any, order: str) -> None:
    numpys = {"1": 1, "2": 2, "inf": np.inf}.get(order, order)
    expected = np.linalg.norm(matrix, numpys)
    document = run_json("norm", "a.zarr", "--ord", order)
    # s^2 from a Gram matrix, stopped at 1e-6 for 2
    assert abs(document["value"] - expected) <= 1e-6 * expected
    assert f"{expected:.5f}"[:6] in run("norm", "a.zarr", "--ord", order).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("svd", "a.zarr", "--rank", "3", "--center"),
        ("matmul", "a.zarr", "b.zarr"),
        ("norm", "a.zarr", "--ord", "inf"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_explain_says_the_cost_and_computes_nothing(
    run: Any, run_json: Any, folder: Path, arguments: tuple[str, ...]
) -> None:
    before = sorted(folder.rglob("*"))
    document = run_json("explain", *arguments, "--memory", "1GB")
    assert document["driver"] == arguments[0]
    assert document["memory_nbytes"] == 10**9
    assert document["stages"]
    shown = run("explain", *arguments, "--memory", "1GB").stdout
    assert document["method"] in shown
    assert sorted(folder.rglob("*")) == before


def test_info_describes_an_array(run: Any, run_json: Any) -> None:
    assert run_json("info", "a.zarr") == lh.info("a.zarr")
    shown = run("info", "a.zarr").stdout
    assert shown.startswith("a.zarr\n")
    for words in ("300 x 120", "float64", "288 kB", "3 x 1 of 100 x 120"):
        assert words in shown


def test_info_shows_shards_dimensions_and_attributes(run: Any) -> None:
    zarr.create_array(
        "sharded.zarr", shape=(8, 6), shards=(4, 6), chunks=(2, 3), dtype="f4",
        dimension_names=("time", "x"), attributes={"units": "K", "missing": float("nan")},
    )  # fmt: skip
    shown = run("info", "sharded.zarr").stdout
    for words in ("2 x 1 of 4 x 6", "2 x 3 inside each shard", "time, x", "units", "K"):
        assert words in shown
    assert json.loads(run("info", "sharded.zarr", "--json").stdout)["attributes"]["missing"] is None


def test_probe_measures_and_keeps(
    run: Any, run_json: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("leptonhpc.runtime.probe"), "_SECONDS", 0.01)
    (device,) = run_json("probe", "--no-save")["devices"]
    rates = device["rates"]
    assert rates["measured"]
    assert rates["gemm_flops"] > 0
    assert not (folder / "cache").exists()
    assert "GFLOP/s a core" in run("probe").stdout
    assert len(list((folder / "cache").iterdir())) == 1


def test_progress_is_on_stderr(run: Any) -> None:
    done = run("norm", "a.zarr", "--progress")
    assert "norm norms" in done.stderr
    assert "norm norms" not in done.stdout


def test_version_is_that_of_the_package(run: Any) -> None:
    assert run("--version").stdout == f"leptonhpc {lh.__version__}\n"
