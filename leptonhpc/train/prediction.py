"""Predictions for samples in a store: piece after piece, on all workers."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import leptonhpc as lh
from leptonhpc import store
from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import NonFiniteError, OptionError, ShapeError
from leptonhpc.runtime import connected_client
from leptonhpc.store.locations import is_local, local_path
from leptonhpc.train.inputs import is_of_torch
from leptonhpc.train.objectives import a_parameter, inputs_of
from leptonhpc.train.scoring import pieces


def predict(
    model: torch.nn.Module, X: Any, *, classes: bool, out: Any = None,
    probabilities: bool = False, overwrite: bool = False,
) -> NDArray[Any] | BlockedArray:  # fmt: skip
    """Predict for samples, in pieces of whole storage units, on the connected cluster or here.

    Parameters
    ----------
    model : torch.nn.Module
        Takes samples in its parameters' dtype, gives (n, k).
    X : what `leptonhpc.open` takes, of shape (m, ...)
        The samples.
    classes : bool
        Give the place of the largest output (int64), not the outputs.
    out : str, path or URL, optional
        A Zarr array to be made; all workers must see it. Without it, predictions are in memory.
    probabilities : bool
        Give the softmax of the outputs; instead of `classes`.
    overwrite : bool
        Replace what is at `out`.

    Returns
    -------
    ndarray or BlockedArray of shape (m,) or (m, k)
        With `out` a BlockedArray.

    Raises
    ------
    ShapeError
        If the model does not take such samples.
    NonFiniteError
        If the largest of a sample's outputs is asked for, and one is NaN.
    OutputExistsError
        If something is at `out`.
    """
    x = lh.open(X)
    if x.ndim < 2 or not x.size:
        message = (
            f"predict needs samples of shape (m, ...), not empty; {x.name} has shape {x.shape}"
        )
        raise ShapeError(message)
    form = "probabilities" if probabilities else "classes" if classes else "outputs"
    cuts = list(pieces(x, 0, len(x)))
    first = _predict_piece(model, x, (0, 1), form)
    if out is None:
        parts = _on_workers(model, x, cuts, form, None)
        return np.concatenate(parts)
    partial = store.partial_location(str(local_path(out)) if is_local(out) else out)
    store.require_free(out, overwrite=overwrite)
    store.create_array(
        partial, shape=(len(x), *first.shape[1:]), dtype=first.dtype,
        chunks=(max(1, min(cuts[0][1], len(x))), *first.shape[1:]), overwrite=True,
    )  # fmt: skip
    _on_workers(model, x, cuts, form, str(partial))
    store.publish(partial, out, overwrite=overwrite)
    return lh.open(out)


def _on_workers(
    model: torch.nn.Module, x: BlockedArray, cuts: list[tuple[int, int]], form: str,
    out: str | None,
) -> list[Any]:  # fmt: skip
    client = connected_client()
    if client is None:
        return [_predict_to(model, x, cut, form, out) for cut in cuts]
    if not x.source.shareable:
        message = (
            f"workers of a cluster read samples from a store; {x.name} is in the memory of this "
            "process. Write it to Zarr first"
        )
        raise OptionError(message)
    from leptonhpc.runtime.dealing import Call, Dealer

    # both are sent to a worker once, however many pieces it predicts
    dealer = Dealer(client, _Work(model, x, form, out))
    found: list[Any] = [None] * len(cuts)
    try:
        for number, cut in enumerate(cuts):
            name = f"the prediction of rows {cut[0]} to {cut[1] - 1} of {x.name}"
            dealer.send(Call(number, pickle.dumps(cut), name))
        left = len(cuts)
        while left:
            for ended in dealer.receive():
                found[ended.number] = pickle.loads(ended.outcome)
                left -= 1
    finally:
        dealer.close()
    return found


@dataclass(frozen=True, slots=True)
class _Work:
    """What a worker does with the bounds of a piece."""

    model: torch.nn.Module
    x: BlockedArray
    form: str
    out: str | None

    def __call__(self, payload: bytes) -> bytes:
        cut = pickle.loads(payload)
        return pickle.dumps(_predict_to(self.model, self.x, cut, self.form, self.out), protocol=5)


def _predict_to(
    model: torch.nn.Module, x: BlockedArray, cut: tuple[int, int], form: str, out: str | None
) -> NDArray[Any] | None:
    """Predict one piece; into the store, if there is one: a piece is one of its chunks."""
    predicted = _predict_piece(model, x, cut, form)
    if out is None:
        return predicted
    array = store.open_array(out, writable=True)
    array.write_units((cut[0] // array.unit[0], *(0 for _ in predicted.shape[1:])), predicted)
    return None


def _predict_piece(
    model: torch.nn.Module, x: BlockedArray, cut: tuple[int, int], form: str
) -> NDArray[Any]:
    rows = x.read((cut, *((0, length) for length in x.shape[1:])))
    model.eval()
    try:
        with torch.no_grad():
            outputs = model(inputs_of(rows, a_parameter(model)))
    except RuntimeError as error:
        if not is_of_torch(error):
            raise
        message = f"the model does not take samples of shape {x.shape[1:]} of {x.name}: {error}"
        raise ShapeError(message) from error
    if form == "classes":
        _require_numbers(outputs, cut[0], x)
        outputs = outputs.argmax(dim=1)
    elif form == "probabilities":
        outputs = outputs.softmax(dim=1)
    if outputs.dtype == torch.bfloat16:  # NumPy has none
        outputs = outputs.float()
    found: NDArray[Any] = outputs.cpu().numpy()
    return found


def _require_numbers(outputs: torch.Tensor, first: int, x: BlockedArray) -> None:
    """Refuse to name a class where there is no largest output."""
    wrong = outputs.isnan().any(dim=1)
    if not bool(wrong.any()):
        return
    row = first + int(wrong.int().argmax())
    message = (
        f"the model gives NaN for row {row} of {x.name}: it has no class. Look for NaN in the "
        "samples, or ask for probabilities"
    )
    raise NonFiniteError(message)
