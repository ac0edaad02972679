"""Connecting to a scheduler that is there already."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonhpc.cluster.clients import identity, workers_in
from leptonhpc.cluster.demand import NAME as DEMAND
from leptonhpc.cluster.demand import call_for
from leptonhpc.cluster.security import security_of
from leptonhpc.errors import OptionError, WorkerError

if TYPE_CHECKING:
    from distributed import Client


SCHEDULER = "LEPTONHPC_SCHEDULER"
"""Environment variable: the scheduler file that programs connect to."""
_LOOK_SECONDS = 0.1


@contextmanager
def connect(
    scheduler: str | Path | None = None,
    *,
    security: str | Path | None = None,
    insecure: bool = False,
    workers: int = 0,
    timeout: float | None = None,
) -> Iterator[Client]:
    """Run what is inside on a cluster that is there already.

    Parameters
    ----------
    scheduler : str or path, optional
        Address of the scheduler, its scheduler file, or a folder of a run (or made by `invite`)
        with ``scheduler.json`` and keys in it. Default: $LEPTONHPC_SCHEDULER, which `leptonhpc
        cluster run` sets.
    security : str or path, optional
        Folder with ``ca.pem``, ``client.pem`` and ``client-key.pem``; default: that of the
        scheduler file, else what Dask's configuration (``distributed.comm.tls``) names.
    insecure : bool
        Connect to ``tcp://`` as well: whoever reaches such a port runs code as its owner.
    workers : int
        Workers to wait for.
    timeout : float, optional
        Seconds to wait, for the scheduler and then for its workers; default: what Dask's
        configuration says (``distributed.comm.timeouts.connect``, half a minute).

    Yields
    ------
    distributed.Client
        Connected: drivers inside run on it. It is closed at the end; the cluster stays.

    Raises
    ------
    OptionError
        If it is not encrypted and `insecure` was not said, or there are no keys.
    WorkerError
        If it does not answer, or refuses the certificate, or the workers do not come.
    """
    chosen = scheduler if scheduler is not None else os.environ.get(SCHEDULER)
    if chosen is None:
        raise OptionError(f"connect needs a scheduler; none was given, and ${SCHEDULER} is not set")
    address, folder = _find(chosen)
    if security is not None:
        folder = Path(security)
    keys = _keys(address, folder, insecure=insecure)
    if timeout is None:
        timeout = _usual_timeout()
    client = _connected(address, keys, timeout)
    with client:
        if workers:
            _wait(client, workers, timeout)
        yield client


def _find(scheduler: str | Path) -> tuple[str, Path | None]:
    """Give the address, and the folder that may hold keys."""
    path = Path(scheduler)
    file = path / "scheduler.json" if path.is_dir() else path
    if not file.is_file():
        if "://" in str(scheduler):
            return str(scheduler), None
        message = (
            "a scheduler is an address such as tls://host:8786, a scheduler file, or the folder of "
            f"a run; found {str(scheduler)!r}"
        )
        raise OptionError(message)
    try:
        address = str(json.loads(file.read_text())["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{str(file)!r} is not a scheduler file: {error}"
        raise OptionError(message) from error
    return address, file.parent if (file.parent / "ca.pem").is_file() else None


def _keys(address: str, folder: Path | None, *, insecure: bool) -> Any:
    scheme = address.partition("://")[0]
    if scheme == "tcp" and insecure:
        return None
    if scheme != "tls":
        message = (
            f"a scheduler must be reached by tls://; found {address!r}, where everybody who "
            "reaches its port runs code as its owner. Start it with TLS, or pass insecure=True"
        )
        raise OptionError(message)
    if folder is not None:
        return security_of(folder)
    from distributed.security import Security

    configured: Any = Security(require_encryption=True)
    if not configured.tls_ca_file or not configured.tls_client_cert:
        message = (
            f"{address} needs keys: pass security=FOLDER with ca.pem, client.pem and "
            "client-key.pem, or name them in Dask's configuration (distributed.comm.tls)"
        )
        raise OptionError(message)
    return configured


def _usual_timeout() -> float:
    import dask
    from dask.utils import parse_timedelta

    return float(parse_timedelta(dask.config.get("distributed.comm.timeouts.connect", 30)))


def _connected(address: str, keys: Any, timeout: float) -> Client:
    from distributed import Client

    problem = ""
    try:
        return Client(address, security=keys, timeout=timeout)
    except (OSError, ValueError) as error:
        problem = str(error)
        if "certificate does not match" in problem:
            problem = (
                "the keys are of another run, and worth nothing once that has ended; ask for a new "
                "invitation"
            )
    # not raised above: a traceback would keep the half-made client alive
    message = f"cannot connect to the scheduler at {address}: {problem}"
    raise WorkerError(message)


def _wait(client: Client, workers: int, timeout: float) -> None:
    deadline, found = time.monotonic() + timeout, 0
    adaptive = call_for(client, workers, seconds=timeout)
    while (answer := identity(client)) and (found := len(workers_in(answer))) < workers:
        groups = answer.get(DEMAND)
        most = workers if groups is None else sum(group["workers"] for group in groups.values())
        if most < workers:
            message = (
                f"{workers} workers were to come; {found} came, and no more than {most} can: so "
                "many the profile has, less those whose jobs ended again and again, or were refused"
            )
            raise WorkerError(message)
        if time.monotonic() > deadline:
            message = f"{workers} workers were to come within {timeout:g} seconds; {found} came"
            raise WorkerError(message)
        time.sleep(_LOOK_SECONDS)
    if adaptive:
        call_for(client, 0)
