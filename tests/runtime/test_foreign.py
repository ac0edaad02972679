"""Errors of a device's library come to a client that does not have it, in words of ours."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from distributed.core import error_message
from distributed.protocol.pickle import loads

from leptonhpc.errors import LeptonError, MemoryBudgetError, WorkerError
from leptonhpc.kernels.fold import Held
from leptonhpc.planning import Task
from leptonhpc.runtime import execute
from leptonhpc.runtime.adding import sum_afresh
from leptonhpc.runtime.execute import run_task
from leptonhpc.runtime.reading import Context

LIBRARY = "library_of_a_device"
DEVICE = "leptonhpc.testing.strict_device"


@pytest.fixture(params=["LostError", "OutOfMemoryError", "behind"])
def error(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Exception:
    """Give an error of a library that only its workers have, or one that came of such."""
    library = ModuleType(LIBRARY)
    kinds: dict[str, Any] = {"LostError": RuntimeError, "OutOfMemoryError": MemoryError}
    for name, base in kinds.items():
        setattr(library, name, type(name, (base,), {"__module__": LIBRARY}))
    monkeypatch.setitem(sys.modules, LIBRARY, library)
    if request.param != "behind":
        found: Exception = getattr(library, request.param)("the device is gone")
        return found
    found = WorkerError("the device is gone")
    found.__context__ = library.LostError("unspecified launch failure")
    return found


def arrived(run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> BaseException:
    """Give what a client gets of what a worker's task raised."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  (any: what it is, is asked below)
        run()
    message: Any = error_message(caught.value)
    monkeypatch.delitem(sys.modules, LIBRARY)
    result: BaseException = loads(message["exception"].data)
    return result


def test_an_error_of_a_devices_library_is_one_of_ours_to_the_client(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any) -> None:
        raise error

    pytest.importorskip("array_api_strict")
    monkeypatch.setattr(execute, "_folded", lose)
    task = Task("gram-0", "gram", (), 0)
    context = Context(
        "job", "gram", {}, frozenset(), None, None, 1, True, None, DEVICE, topic="tasks"
    )
    found = arrived(lambda: run_task(task, context, {}, None), monkeypatch)
    assert type(found) is (MemoryBudgetError if isinstance(error, MemoryError) else WorkerError)
    assert "the device is gone" in str(found)
    if not isinstance(error, LeptonError):
        for word in ("task gram-0", DEVICE, "this process"):
            assert word in str(found)


def test_an_error_of_what_is_added_is_one_of_ours_too(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(_: Any) -> Any:
        raise error

    part = {"x": Held(np.zeros(3), lose), "steps": frozenset({1})}
    found = arrived(lambda: sum_afresh([part]), monkeypatch)
    assert isinstance(found, LeptonError)
