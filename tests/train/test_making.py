"""A model that lies in a file while each rank takes its part: the same numbers, less memory."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import leptonhpc as lh
from leptonhpc.errors import MemoryBudgetError, StoreError
from leptonhpc.train import Layout
from leptonhpc.train.inputs import plan_order
from leptonhpc.train.layout import held_nbytes
from leptonhpc.train.making import laid_model
from leptonhpc.train.recipe import Settings

from .conftest import three_classes
from .measured_memory import most_memory, own_nbytes
from .models import LAYERS, WIDTH, large, wide
from .processes import Ranks

X, Y = three_classes(100)
LAYER = WIDTH * WIDTH * 4


@pytest.mark.parametrize(
    ("strategy", "kind"), [("model", "pipeline"), ("model", "tensor"), ("hybrid", "fsdp")]
)
def test_a_rank_takes_the_memory_of_its_part(
    ranks: Ranks, strategy: Any, kind: Any, tmp_path: Path
) -> None:
    layout = Layout(kind=kind, parts=4)
    recipes = (
        ranks.recipe(
            4, model_fn, (X, Y), strategy=strategy, layout=layout, optimiser="momentum"
        )
        for model_fn in (wide, large)
    )  # fmt: skip
    found = ranks.run(4, most_memory, *recipes, tmp_path)
    whole = LAYERS * LAYER + 4 * (7 * WIDTH + 3 * WIDTH + 3)
    # biases and the last layer are not divided by columns and rows
    assert whole <= sum(part for part, _, _ in found) <= 1.02 * whole
    for part, most, _ in found:
        # beside it a layer and its gradients that are tried, or what is sent of one, and what
        # threads of libraries take when they begin: 5.5 layers were seen
        assert most <= part + 8 * LAYER < whole * 2 / 3
    assert min(most for _, most, _ in found) < whole * 2 / 3
    # all parameters, and as many averages, went through the memory of the first: in pieces of
    # 32 MiB, which are read and written, and some layers that are sent
    assert (stored := (tmp_path / "state.pt").stat().st_size) > 2 * whole
    assert max(most for _, _, most in found) < stored * 2 / 3


class Tied(nn.Module):
    """Parameters with two names, and some that were drawn before a module had them."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(10, 8, padding_idx=0), nn.Linear(8, 10, bias=False)
        self.out.weight = self.words.weight
        own = nn.Parameter(torch.randn(3, 4))
        self.one, self.other = own, own


def odd() -> nn.Module:
    """Make layers whose numbers are drawn in many ways, one of them until it is content."""
    model = nn.Sequential(
        nn.Linear(6, 40), nn.BatchNorm1d(4), Tied(), nn.LSTM(4, 5), nn.Linear(40, 3)
    ).to(torch.float64)
    nn.init.orthogonal_(model[0].weight)
    nn.init.trunc_normal_(model[4].weight)
    return model.append(nn.utils.parametrizations.weight_norm(nn.Linear(5, 6)))


def test_a_model_in_a_file_has_the_numbers_of_one_in_memory() -> None:
    torch.manual_seed(3)
    expected = odd()
    found, _ = laid_model(odd, 3, {})
    assert list(found.state_dict()) == list(expected.state_dict())
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)
    assert found[2].one is found[2].other
    assert found[2].out.weight is found[2].words.weight
    twice = {name: 2 * value for name, value in expected.state_dict().items()}
    again, _ = laid_model(odd, 3, twice)
    assert torch.equal(again.state_dict()["0.weight"], twice["0.weight"])


def test_a_model_in_a_file_takes_the_memory_of_some_of_its_layers() -> None:
    before = own_nbytes()
    model, laid = laid_model(large, 0, {})
    assert all(laid.holds(p) for p in model.parameters())
    assert own_nbytes() - before < LAYERS * LAYER / 4


def test_no_room_for_the_file_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, begin: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match=r"no room for .* bytes more .*TMPDIR"):
        laid_model(odd, 0, {})


def test_the_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    laid_model(odd, 0, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("strategy", "layout"),
    [
        ("model", Layout()),
        ("model", Layout(kind="tensor")),
        ("hybrid", Layout(kind="fsdp")),
    ],
)
def test_a_model_that_one_worker_has_no_room_for_may_be_divided(
    strategy: Any, layout: Layout
) -> None:
    """It takes 1.15 GB with gradients, momentum and a copy to store; its layers 36 MB each."""
    with torch.device("meta"):
        layers = [nn.Linear(3000, 3000) for _ in range(8)]
        model = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())])
    settings, memory = Settings(optimiser="momentum", batch_size=10), "700 MB"
    data = lh.open(X), lh.open(Y)
    alone = held_nbytes(model, "data", "momentum", None, 8)
    with pytest.raises(MemoryBudgetError, match="needs at least memory='1303 MB'"):
        plan_order(*data, settings, alone, memory)
    for workers in (1, 8):
        held = held_nbytes(model, strategy, "momentum", layout, workers)
        assert held[0] == alone[0] == 4 * sum(p.nbytes for p in model.parameters())
        if workers == 8:
            plan_order(*data, settings, held, memory)
        else:
            assert held[1] == alone[1]
    unlike = held_nbytes(model, strategy, "adam", layout, 8)
    assert unlike[1] - held[1] == pytest.approx(held[0] / 4 / 8, rel=1e-2)  # one average more
