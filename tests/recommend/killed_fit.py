"""A fit that ends itself without a word, as a kill does, before it keeps a given half sweep."""

import os
import signal
import sys
from pathlib import Path

from leptonhpc.recommend import ImplicitALS, checkpoints

ratings, out, last = sys.argv[1:]
real = checkpoints.Checkpoints.keep


def keep(self, number, factors, half):
    if number == int(last):
        place = Path(self._place) / checkpoints._slot(number)
        real(self, number, factors, half)  # the slot is there, the mark is not
        (Path(self._place) / ".leptonhpc" / "stages" / f"{checkpoints._stage(number)}.npz").unlink()
        assert place.exists()
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, number, factors, half)


checkpoints.Checkpoints.keep = keep
ImplicitALS(n_factors=3, tol=0, max_iter=4).fit(ratings, out=out)
