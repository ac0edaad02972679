"""Who writes to scratch late finds out that it is not the one that it was given."""

import pickle
from pathlib import Path

import numpy as np

from leptonhpc.planning import Target
from leptonhpc.runtime.targets import Workspace


def test_a_writer_knows_scratch_that_was_removed_or_made_anew(tmp_path: Path) -> None:
    target = Target("y1", (20, 3), "<f8", (8, 3), scratch=True)
    workspace = Workspace(str(tmp_path / "out"))
    first = workspace.create(target)
    assert first.is_there()
    again = Workspace(str(tmp_path / "out")).take_up(target)
    assert again.is_there()
    second = workspace.create(target)
    assert second.is_there()
    assert not first.is_there()
    assert not again.is_there()
    second.write(((0, 8), (0, 3)), np.ones((8, 3)))
    there = pickle.loads(pickle.dumps(second))
    assert there.is_there()
    workspace.drop_scratch([target])
    assert not second.is_there()
    assert not there.is_there()
    assert not pickle.loads(pickle.dumps(second)).is_there()


def test_what_is_kept_has_no_mark(tmp_path: Path) -> None:
    writer = Workspace(str(tmp_path / "out")).create(Target("u", (20, 3), "<f8", (8, 3)))
    assert not writer.mark
    assert writer.is_there()
