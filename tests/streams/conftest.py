"""One process for a module, from which the others of a test are forked."""

from collections.abc import Iterator

import pytest

from .forking import Forks, forks


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Start a process of Python code with arguments: as `subprocess.Popen`, at once."""
    with forks(tmp_path_factory.mktemp("scripts")) as started:
        yield started
