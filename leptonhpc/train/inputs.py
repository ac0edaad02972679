"""What training is given, checked before anything runs."""

from __future__ import annotations

import dis
from typing import TYPE_CHECKING, Any

import numpy as np

import leptonhpc as lh
from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import (
    DTypeError,
    MemoryBudgetError,
    NonFiniteError,
    OptionError,
    ShapeError,
)
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.runtime import resources_of
from leptonhpc.train.recipe import LossName, Settings
from leptonhpc.train.sampling import Order

if TYPE_CHECKING:
    import torch

_WINDOW_NBYTES = 64 << 20
"""Samples that are shuffled among each other, about."""
_WINDOWS = 2
"""In memory: the one that is used and the one that is read."""
_COPIES = 3
"""Of a batch: as stored, in the model's dtype, and what layers keep of it, at least."""


def require_torch() -> None:
    """Refuse to begin without torch.

    Raises
    ------
    OptionError
        If it is not installed.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        message = f"training needs torch ({error}): pip install 'leptonhpc[train]'"
        raise OptionError(message) from error


def check_pair(x: Any, y: Any, x_name: str, y_name: str) -> tuple[BlockedArray, BlockedArray]:
    """Open samples with their targets.

    Parameters
    ----------
    x, y : what `leptonhpc.open` takes
        Samples of shape (m, ...), targets of shape (m,) or (m, k).
    x_name, y_name : str
        What they are called, for messages.

    Returns
    -------
    tuple of (BlockedArray, BlockedArray)
        Opened; nothing is read.

    Raises
    ------
    ShapeError
        If their numbers differ, or there are none.
    DTypeError
        If they are no real numbers.
    """
    samples = lh.open(x)
    try:
        targets = lh.open(y)
    except DTypeError as error:
        message = (
            f"{y_name} needs numbers: {error}. Labels of other kinds are for TorchClassifier, or "
            "give their codes: numpy.unique(y, return_inverse=True)"
        )
        raise DTypeError(message) from error
    for array, name in ((samples, x_name), (targets, y_name)):
        if array.dtype.kind not in "biuf":
            message = f"{name} needs real numbers; {array.name} has dtype {array.dtype}"
            raise DTypeError(message)
    if samples.ndim < 2 or not samples.size:
        message = (
            f"{x_name} needs shape (samples, features, ...), not empty; {samples.name} has shape "
            f"{samples.shape}"
        )
        raise ShapeError(message)
    if targets.ndim not in (1, 2) or len(targets) != len(samples):
        message = (
            f"{y_name} needs a target for each sample of {x_name}; {samples.name} has shape "
            f"{samples.shape} and {targets.name} has shape {targets.shape}"
        )
        raise ShapeError(message)
    return samples, targets


def check_targets(y: BlockedArray, loss: LossName, outputs: int, name: str) -> None:
    """Look at all targets once: they must fit the loss and the model.

    Parameters
    ----------
    y : BlockedArray
        The targets; read in pieces.
    loss : {"cross_entropy", "mse"}
        The loss.
    outputs : int
        Of the model, for each sample.
    name : str
        What they are called.

    Raises
    ------
    ShapeError
        If there are more or fewer numbers for a sample than the model gives.
    DTypeError, OptionError
        If labels are not whole numbers from 0 to below the number of classes.
    NonFiniteError
        If a number is NaN or infinite.
    """
    from leptonhpc.train.scoring import pieces

    width = 1 if y.ndim == 1 else y.shape[1]
    if loss == "cross_entropy":
        if width != 1:
            message = (
                f"loss='cross_entropy' needs one label for each sample; {name} has shape {y.shape}."
                " For several outputs use loss='mse'"
            )
            raise ShapeError(message)
        if y.dtype.kind not in "biu":
            message = (
                f"loss='cross_entropy' needs labels that are whole numbers; {y.name} has dtype "
                f"{y.dtype}. Convert them, or use loss='mse'"
            )
            raise DTypeError(message)
    elif width != outputs:
        message = (
            f"the model gives {outputs} numbers for each sample; {name} has shape {y.shape}. "
            "Change its last layer"
        )
        raise ShapeError(message)
    for start, stop in pieces(y, 0, len(y)):
        values = y.read(((start, stop), *((0, n) for n in y.shape[1:]))).reshape(stop - start, -1)
        wrong = ~np.isfinite(values)
        if loss == "cross_entropy":
            wrong = (values < 0) | (values >= outputs)
        if wrong.any():
            row = int(np.argmax(wrong.any(axis=1)))
            _refuse(values[row], start + row, y, loss, outputs)


def _refuse(found: Any, row: int, y: BlockedArray, loss: LossName, outputs: int) -> None:
    if loss == "mse":
        message = f"{y.name} has {found} at row {row}. Remove such samples, or fill them in first"
        raise NonFiniteError(message)
    message = (
        f"labels are from 0 to {outputs - 1}, as the model gives {outputs} numbers for each "
        f"sample; {y.name} has {found[0]} at row {row}"
    )
    raise OptionError(message)


def check_model(model: torch.nn.Module, x: BlockedArray, loss: LossName) -> int:
    """Try the model on one sample.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    x : BlockedArray
        The samples; the first is read.
    loss : {"cross_entropy", "mse"}
        The loss.

    Returns
    -------
    int
        How many numbers it gives for a sample.

    Raises
    ------
    ShapeError
        If it does not take such samples, or does not give a row for each.
    """
    import torch

    from leptonhpc.train.objectives import a_parameter, inputs_of

    first = x.read(((0, 1), *((0, length) for length in x.shape[1:])))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            outputs = model(inputs_of(first, a_parameter(model)))
    except RuntimeError as error:
        if not is_of_torch(error):
            raise
        message = (
            f"the model does not take samples of shape {x.shape[1:]} (as {x.name} has them): "
            f"{error}"
        )
        if "indices" in message:
            message += ". They come in the dtype of its parameters: make indices inside, x.long()"
        raise ShapeError(message) from error
    finally:
        model.train(was_training)
    if not isinstance(outputs, torch.Tensor):
        message = f"training needs a model that gives a tensor; it gave {type(outputs).__name__}"
        raise ShapeError(message)
    shape = tuple(outputs.shape)
    if len(shape) != 2 or shape[0] != 1 or (loss == "cross_entropy" and shape[1] < 2):
        wanted = "(n, classes), two or more" if loss == "cross_entropy" else "(n, outputs)"
        message = f"loss={loss!r} needs outputs of shape {wanted}; the model gave {shape} for n=1"
        raise ShapeError(message)
    return int(shape[1])


def is_of_torch(error: RuntimeError) -> bool:
    """Say whether torch refused what it was given, or the user's own code raised an error.

    Parameters
    ----------
    error : RuntimeError
        What came out of a model.

    Returns
    -------
    bool
        False for other kinds of error, and where a ``raise`` outside torch made it.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if type(error) is not RuntimeError or trace is None:
        return False
    frame = trace.tb_frame
    is_raised = dis.opname[frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"
    return not is_raised or str(frame.f_globals.get("__name__")).startswith("torch.")


def plan_order(
    x: BlockedArray, y: BlockedArray, settings: Settings, held: tuple[int, int], memory: Any
) -> Order:
    """Choose how many batches are shuffled among each other.

    Parameters
    ----------
    x, y : BlockedArray
        Samples and targets.
    settings : Settings
        With the batch size and the seed.
    held : tuple of (int, int)
        Bytes that a worker needs for the model, if it is the only one, and as it is divided.
    memory : int, float, str or None
        Budget of each worker.

    Returns
    -------
    Order
        The order of the samples.

    Raises
    ------
    MemoryBudgetError
        If a batch, beside the model, does not fit; the message names the way out.
    """
    batch = min(settings.batch_size, len(x))
    need, models, room = _room(x, y, batch, held, memory)
    if need > room:
        fitting = batch * max(room, 0) // need
        least = -(-(need + models + LIBRARIES_NBYTES) // 10**6)
        message = (
            f"a batch of {batch} samples of {x.name} needs at least memory='{least} MB' for each "
            "worker"
        )
        raise MemoryBudgetError(message + (f", or batch_size={fitting}" if fitting else ""))
    row_nbytes = _row_nbytes(x, y)
    window = min(_WINDOW_NBYTES, (room - need) // _WINDOWS + batch * row_nbytes)
    return Order(
        len(x), max(1, min(x.source.unit[0], len(x))), batch,
        max(1, window // (batch * row_nbytes)), settings.seed, settings.shuffle,
    )  # fmt: skip


def plan_kept(
    x: BlockedArray, y: BlockedArray, order: Order, held: tuple[int, int], memory: Any
) -> int:
    """Say how much of the samples stays in a worker's memory once it was read.

    Parameters
    ----------
    x, y : BlockedArray
        Samples and targets.
    order : Order
        With the windows that are in memory too.
    held : tuple of (int, int)
        Bytes that a worker needs for the model, as `plan_order` takes them.
    memory : int, float, str or None
        Budget of each worker.

    Returns
    -------
    int
        Bytes: half of what is left. What layers keep of a batch is not known, and takes the rest.
    """
    need, _, room = _room(x, y, order.batch, held, memory)
    window = order.window_batches * order.batch * _row_nbytes(x, y)
    # the thread that reads has one more, and the units that it is from
    return min(max(0, (room - need - (_WINDOWS + 1) * window) // 2), x.nbytes + y.nbytes)


def _room(
    x: BlockedArray, y: BlockedArray, batch: int, held: tuple[int, int], memory: Any
) -> tuple[int, int, int]:
    """Give the bytes that a batch needs at least, those of the model, and what it leaves."""
    floats = x.nbytes // len(x) // x.dtype.itemsize * 4
    arrays = resources_of(parse_nbytes(memory)).arrays_nbytes
    need = batch * (_WINDOWS * _row_nbytes(x, y) + _COPIES * floats)
    # the same order, so that it may go on, with any number of workers; if one of them would do
    models = held[0] if need <= arrays - held[0] else held[1]
    return need, models, arrays - models


def _row_nbytes(x: BlockedArray, y: BlockedArray) -> int:
    return (x.nbytes + y.nbytes) // len(x)
