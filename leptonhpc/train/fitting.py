"""`fit`: a model, samples in Zarr, and a strategy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from leptonhpc.cluster.gangs import GangLimits
from leptonhpc.cluster.gangs_ranks import require_private
from leptonhpc.errors import OptionError
from leptonhpc.runtime.progress import choose_progress
from leptonhpc.train.inputs import require_torch
from leptonhpc.train.layout import Layout, choose_layout
from leptonhpc.train.recipe import (
    Compression,
    LossName,
    OptimiserName,
    Settings,
    Strategy,
    real_number,
    whole_number,
)
from leptonhpc.train.result import TrainResult

if TYPE_CHECKING:
    import torch


def fit(
    model_fn: Callable[[], torch.nn.Module],
    data: tuple[Any, Any],
    *,
    strategy: Strategy = "data",
    loss: LossName = "cross_entropy",
    optimiser: OptimiserName = "adam",
    learning_rate: float = 1e-3,
    momentum: float = 0.9,
    epochs: int = 1,
    batch_size: int = 64,
    validation: tuple[Any, Any] | None = None,
    patience: int | None = None,
    seed: int = 0,
    shuffle: bool = True,
    compression: Compression = "none",
    local_steps: int = 1,
    staleness: int | None = None,
    layout: Layout | None = None,
    start: TrainResult | None = None,
    memory: Any = None,
    out: Any = None,
    overwrite: bool = False,
    checkpoint_seconds: float = 60.0,
    workers: int | None = None,
    max_restarts: int = 3,
    timeout: float = 60.0,
    insecure: bool = False,
    progress: bool | None = None,
) -> TrainResult:
    """Train a torch model on samples that may not fit in memory.

    On the connected cluster each worker takes a part of each batch, in proportion to how fast it
    was measured to be; without one this process trains alone, and finds the same model.

    Parameters
    ----------
    model_fn : callable
        Makes the model; called on each worker, and once here to see whether it fits the data.
    data : tuple of (X, y)
        What `leptonhpc.open` takes: samples of shape (m, ...), and m labels (whole numbers from 0)
        or targets of shape (m,) or (m, k). Samples are converted to the dtype of the parameters.
    strategy : {"data", "model", "hybrid", "async"}
        "data": all workers take a part of each batch, in step. "model": they hold one model
        together, each some layers of it, or some columns and rows of its matrices. "hybrid": groups
        of workers hold a model each and take parts of each batch. The numbers of these are those of
        one process. "async": each takes whole batches and gives its gradients to a parameter server
        when it has them, for workers of unpredictable speed; the numbers depend on the timing.
    loss : {"cross_entropy", "mse"}
        For classes or for numbers.
    optimiser : {"sgd", "momentum", "adam"}
        How parameters change.
    learning_rate, momentum : float
        Of the optimiser; `momentum` of "momentum" alone.
    epochs : int
        How often each sample is learnt from.
    batch_size : int
        Samples of a step, over all workers together.
    validation : tuple of (X, y), optional
        Scored after each epoch.
    patience : int, optional
        Stop after so many epochs without a smaller validation loss, and give the best model.
    seed : int
        Of the parameters, of the order of samples, and of dropout.
    shuffle : bool
        Take samples in an order that depends on the seed and the epoch alone.
    compression : {"none", "fp16", "powersgd", "topk"}
        Of gradients that are sent; all but "none" change the numbers.
    local_steps : int
        Steps that each worker makes by itself before parameters are averaged.
    staleness : int, optional
        Of "async": updates that a gradient may be old when it is applied; default: any number.
    layout : Layout, optional
        Of "model" and "hybrid": how one model is divided; default: a pipeline of layers.
    start : TrainResult, optional
        Go on from what an earlier call gave, on these samples: its model and its optimiser.
    memory : int, float, str or None
        Budget of each worker, such as "2 GB".
    out : str, path or URL, optional
        Store of the run: checkpoints, and the trained model. The same call again goes on from
        there, or gives what was finished. All workers must see it.
    overwrite : bool
        Replace what is at `out`.
    checkpoint_seconds : float
        How often the state is stored, beside the ends of epochs.
    workers : int, optional
        Most workers to use; default: all. Workers that join later are taken in.
    max_restarts : int
        How often training goes on from its checkpoint after workers were lost.
    timeout : float
        Seconds that a worker may keep the others waiting before it is given up.
    insecure : bool
        Let workers of a cluster with TLS that are on a network send each other gradients and
        parameters as they are: torch's collectives are neither encrypted nor authenticated.
    progress : bool, optional
        Show a bar; default: where somebody sees it.

    Returns
    -------
    TrainResult
        The model, the history, and what it cost.

    Raises
    ------
    OptionError, ShapeError, DTypeError, MemoryBudgetError
        If something cannot be: found before anything runs, and said with the way out.
    NonFiniteError
        If the loss is NaN or infinite; the message names epoch and batch.
    WorkerError
        If workers were lost more often than `max_restarts`.
    JobMismatchError
        If `out` holds another training, or another model than `model_fn` makes.
    Exception
        What the model raises of itself, at once and as it is.

    Notes
    -----
    Workers send each other the sum of gradients, weighted so that unequal parts give the gradient
    of the whole batch [1]_. Normalisation over the batch sees a worker's part alone, and in a
    pipeline a micro-batch. Dropout draws other numbers than one process does.

    References
    ----------
    .. [1] S. Li et al., PyTorch Distributed: experiences on accelerating data parallel training,
           VLDB 2020.

    Examples
    --------
    >>> import numpy as np, torch
    >>> import leptonhpc as lh
    >>> x = np.random.default_rng(0).standard_normal((256, 4)).astype("float32")
    >>> y = (x[:, 0] > 0).astype(int)
    >>> r = lh.train.fit(lambda: torch.nn.Linear(4, 2), (x, y), epochs=20, learning_rate=0.05)
    >>> r.evaluate(x, y).accuracy > 0.95
    True
    """
    began = time.perf_counter()
    require_torch()
    settings = Settings(
        loss=loss, optimiser=optimiser, learning_rate=learning_rate, momentum=momentum,
        epochs=epochs, batch_size=batch_size, seed=seed, shuffle=shuffle, patience=patience,
        compression=compression, local_steps=local_steps,
    )  # fmt: skip
    if strategy not in ("data", "model", "hybrid", "async"):
        raise OptionError(f"strategy is one of data, model, hybrid, async; found {strategy!r}")
    if staleness is not None:
        if strategy != "async":
            message = f"staleness={staleness!r} is of strategy='async'; others have none"
            raise OptionError(message)
        staleness = whole_number("staleness", staleness, 0)
    asked = choose_layout(strategy, layout, settings)
    limits = GangLimits(
        most=None if workers is None else whole_number("workers", workers, 1),
        max_restarts=whole_number("max_restarts", max_restarts, 0),
        timeout=real_number("timeout", timeout), insecure=insecure,
    )  # fmt: skip
    checkpoint_seconds = real_number("checkpoint_seconds", checkpoint_seconds)
    from leptonhpc.cluster.clients import identities
    from leptonhpc.runtime import connected_client
    from leptonhpc.train.asynchronous import require_for_async, run_async
    from leptonhpc.train.running import (
        divided,
        make_recipe,
        require_sendable,
        run,
        run_store,
        workers_for,
    )

    checked = make_recipe(
        model_fn, data, validation, settings, strategy=strategy, memory=memory,
        checkpoint=None, checkpoint_seconds=checkpoint_seconds, layout=asked,
        workers=1 if asked is None else workers_for(limits), start=start,
    )  # fmt: skip
    if strategy == "async":
        require_for_async(checked, staleness)
    if asked is not None:
        checked, limits = divided(checked, asked, limits)
    client = connected_client()
    if client is not None:
        require_sendable(checked)
        if strategy != "async":  # that goes by Dask's own messages
            require_private(identities(client), insecure=insecure)
    with run_store(out, overwrite=overwrite) as place:  # from here on what was there is gone
        recipe = replace(checked, checkpoint=place)
        bar = choose_progress(progress, "train")
        try:
            if strategy == "async":
                return run_async(recipe, staleness, limits, bar, began)
            return run(recipe, limits, bar, began)
        finally:
            bar.close()
