"""Ranks of one process group, in processes that are made once for all tests of this folder."""

import contextlib
import multiprocessing
import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from leptonhpc import store
from leptonhpc.cluster.gangs import GangLimits, GangOutcome
from leptonhpc.cluster.gangs_ranks import Seat
from leptonhpc.train.layout import Layout, choose_layout, settle_layout
from leptonhpc.train.ranks import RankOutcome, train_rank
from leptonhpc.train.recipe import Recipe, Settings
from leptonhpc.train.result import TrainResult
from leptonhpc.train.running import make_recipe, result_of, seeded_model

_COLLECTIVE_SECONDS, _END_SECONDS, _RESULT_SECONDS = 240.0, 260.0, 600.0
"""So long ranks wait for each other: a hang, on a machine that has much else to do."""


class Ranks:
    """Trains as a gang does, without a cluster."""

    def __init__(self, pool: ProcessPoolExecutor, folder: Path) -> None:
        self._pool, self._folder = pool, folder

    def fit(
        self, world: int, model_fn: Any, data: Any, *, strategy: Any, layout: Layout | None = None,
        validation: Any = None, out: Path | None = None, memory: Any = None, **settings: Any,
    ) -> TrainResult:  # fmt: skip
        recipe = self.recipe(
            world, model_fn, data, strategy=strategy, layout=layout, validation=validation,
            out=out, memory=memory, **settings,
        )  # fmt: skip
        found = self.run(world, train_rank, recipe)
        return result_of(recipe, GangOutcome(tuple(found), (), 0, 0), time.perf_counter())

    def recipe(
        self, world: int, model_fn: Any, data: Any, *, strategy: Any, layout: Layout | None = None,
        validation: Any = None, out: Path | None = None, memory: Any = None, **settings: Any,
    ) -> Recipe:  # fmt: skip
        chosen = Settings(**settings)
        recipe = make_recipe(
            model_fn, data, validation, chosen, strategy=strategy, memory=memory,
            checkpoint=None if out is None else str(out), checkpoint_seconds=60.0,
        )  # fmt: skip
        if out is not None and not out.exists():
            store.create_group(str(out), attributes={})
        asked = choose_layout(strategy, layout, chosen)
        if asked is None:
            return recipe
        model = seeded_model(model_fn, chosen.seed)
        settled, _ = settle_layout(asked, strategy, model, world, GangLimits())
        return replace(recipe, layout=settled)

    def run(self, world: int, main: Callable[..., Any], *arguments: Any) -> list[Any]:
        meeting = str(self._folder / uuid.uuid4().hex)
        ranks = [
            self._pool.submit(_run_rank, rank, world, meeting, main, arguments)
            for rank in range(world)
        ]
        return [rank.result(timeout=_RESULT_SECONDS) for rank in ranks]


def _run_rank(
    rank: int, world: int, meeting: str, main: Callable[..., Any], arguments: Any
) -> RankOutcome | Any:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    files: Any = dist
    dist.init_process_group(
        "gloo", store=files.FileStore(meeting, world), rank=rank, world_size=world,
        timeout=timedelta(seconds=_COLLECTIVE_SECONDS),
    )  # fmt: skip
    group: Any = dist.group.WORLD
    try:
        dist.barrier()  # who ends at once closes sockets on which others are still to be joined
        return main(Seat(rank, world), *arguments)
    except BaseException:
        group.abort()  # as a gang does
        raise
    finally:
        dist.destroy_process_group()


def _meet(number: int, count: int, folder: Path) -> None:
    """Wait until so many do: then all are there before the first test."""
    (folder / f"there-{number}").touch()
    while len(list(folder.glob("there-*"))) < count:
        time.sleep(0.02)


@contextlib.contextmanager
def rank_processes(count: int, folder: Path) -> Iterator[Ranks]:
    context = multiprocessing.get_context("forkserver")
    pool = ProcessPoolExecutor(count, mp_context=context)
    try:
        list(pool.map(_meet, range(count), [count] * count, [folder] * count))
        yield Ranks(pool, folder)
    finally:
        processes, manager = list(pool._processes.values()), pool._executor_manager_thread
        pool.shutdown(wait=False, cancel_futures=True)
        deadline = time.monotonic() + _END_SECONDS
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()  # a rank that waits in torch for others would not end
            process.join()
        manager.join()


__all__ = ["Ranks", "Recipe", "rank_processes"]
