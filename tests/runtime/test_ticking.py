"""What is told beside a job: again and again, and whatever comes of it the job goes on."""

import threading
import time

import pytest

from leptonhpc.errors import StoreError
from leptonhpc.runtime import ticking
from leptonhpc.runtime.ticking import Ticker


@pytest.mark.parametrize("failure", [None, StoreError("full"), OSError("gone"), ValueError("shut")])
def test_a_ticker_goes_on_whatever_comes_of_it(
    failure: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticking, "EVERY_SECONDS", 0.01)
    often = threading.Semaphore(0)

    def act() -> None:
        often.release()
        if failure is not None:
            raise failure

    ticker = Ticker(act)
    try:
        for _ in range(3):
            assert often.acquire(timeout=300)
    finally:
        ticker.close()


def test_nothing_is_told_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticking, "EVERY_SECONDS", 0.01)
    begun, told = threading.Event(), []

    def act() -> None:
        begun.set()
        time.sleep(0.2)
        told.append(1)

    ticker = Ticker(act)
    assert begun.wait(300)
    ticker.close()
    count = len(told)
    time.sleep(0.3)
    assert len(told) == count > 0
