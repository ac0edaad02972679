"""What tests of kernels share."""

import pytest

from leptonhpc.kernels import threads


@pytest.fixture(params=[False, True], ids=["whole", "cut"])
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let threads of a lane do products, in pieces, as where BLAS has one thread."""
    if request.param:
        monkeypatch.setattr(threads, "_LEAST_FLOPS", 0)
        monkeypatch.setattr(threads, "_LEAST_WIDTH", 4)
        monkeypatch.setattr(threads, "_allowed", 3)
        monkeypatch.setattr(threads, "_cuts", True)
        assert len(threads.pieces_of(33, 1.0)) == 8
