"""What a task took is divided between computing and reading: by who had the core."""

from dataclasses import replace
from typing import Any

import pytest

from leptonhpc.kernels import primitives_of
from leptonhpc.runtime.reading import Context, Reader, Resident

CONTEXT = Context("job", "stage", {}, frozenset(), None, None, 1, True, None)


@pytest.mark.parametrize(
    ("seconds", "waited", "ran", "loading", "computed"),
    [
        (6.0, 0.0, 4.0, 2.0, 4.0),  # one core for both threads
        (24.0, 2.0, 4.0, 2.0, 16.0),  # of a process that runs a quarter of the time
        (5.0, 1.0, 4.0, 5.0, 4.0),  # a core for each
        (100.0, 95.0, 4.0, 1.0, 5.0),  # a store that is far away
        (6.0, 2.0, 4.0, 0.0, 4.0),  # nothing is read ahead
    ],
)
def test_a_task_on_one_core_computed_while_its_thread_had_the_core(
    seconds: float, waited: float, ran: float, loading: float, computed: float
) -> None:
    reader = Reader(CONTEXT, {}, Resident(), primitives_of("host"))
    reader.waited_seconds, reader.loading_seconds = waited, loading
    assert reader.computed_seconds(seconds, ran) == computed
    many: Any = replace(CONTEXT, blas_threads=4)
    reader.context = many
    assert reader.computed_seconds(seconds, ran) == seconds - waited
