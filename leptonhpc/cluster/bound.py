"""A program that ends when the process that started it is killed: Linux sees to it.

``python -I -S bound.py PARENT COMMAND...`` becomes the command; it is run by its path.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Become a program.

    Parameters
    ----------
    arguments : list of str
        The process that started this one, and the command.
    """
    parent, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # killed before it was set
        sys.exit(128 + signal.SIGTERM)
    # Python ignores them, and what is ignored stays so
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"cannot run {command[0]!r}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
