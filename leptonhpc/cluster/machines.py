"""Which machine, and which process: a number alone may be another one's by now, or elsewhere."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

_STARTED_FIELD = 22
"""Of /proc/PID/stat, counted from 1: clock ticks from the machine's start to the process's."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine, from its start until it is started again."""

    host: str
    """Its name."""
    boot: str
    """Random id that the kernel made when it started; empty where there is none."""

    @property
    def is_here(self) -> bool:
        """Whether this is it, or was before it was started again: then its locks are seen here."""
        here = this_machine()
        if self.boot and self.boot == here.boot:
            return True
        # many machines have this name
        return self.host == here.host and not self.host.startswith("localhost")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that cannot be mistaken for a later one of the same number."""

    pid: int
    started: int | None
    """Clock ticks after its machine; None: the system does not say."""
    host: str
    """Name of its machine."""
    boot: str
    """Boot id of its machine."""

    @property
    def is_running_here(self) -> bool:
        """Whether it runs on this machine: same start of the machine, same start of the process."""
        here = this_machine()
        return (
            (self.host, self.boot) == (here.host, here.boot)
            and self.started is not None
            and self.started == _started(self.pid)
        )

    def kill(self) -> bool:
        """Kill it, if it runs on this machine.

        Returns
        -------
        bool
            Whether it was; never another process.
        """
        if not self.is_running_here:
            return False
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                if self.is_running_here:  # looked at again: the descriptor stays with its process
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    return True
            finally:
                os.close(descriptor)
        return False


def this_machine() -> Machine:
    """Give the machine that this process runs on.

    Returns
    -------
    Machine
        By its name and its boot id.
    """
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Machine(socket.gethostname(), boot)


def identify(pid: int) -> ProcessIdentity:
    """Say which process of this machine has a number now.

    Parameters
    ----------
    pid : int
        Of a child that was not waited for yet, or of this process: it cannot be another's.

    Returns
    -------
    ProcessIdentity
        That process and no later one.
    """
    here = this_machine()
    return ProcessIdentity(pid, _started(pid), here.host, here.boot)


def _started(pid: int) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        # the name is in brackets, and may hold blanks and brackets itself
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(after_name[_STARTED_FIELD - 3])
    return None
