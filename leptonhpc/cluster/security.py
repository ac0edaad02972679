"""Keys of a run: made with it, private to its owner, gone with it."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from leptonhpc.cluster.certificates import make_authority, make_certificate, write_private
from leptonhpc.errors import OptionError, OutputExistsError

if TYPE_CHECKING:
    from distributed.security import Security

_NAME_NBYTES = 64
"""Of a certificate's common name, by RFC 5280."""
MEMBERS = ("scheduler", "worker")
"""Who talks without end; the audit log calls them so."""
ROLES = (*MEMBERS, "client")


def make_keys(folder: Path) -> None:
    """Make an authority and a certificate for each role.

    Parameters
    ----------
    folder : path
        Of the run; only its owner can open it.
    """
    make_authority(folder)
    for role in ROLES:
        make_certificate(folder, role)


def security_of(folder: str | Path, *, role: Literal["client", "all"] = "client") -> Security:
    """Give the keys in a folder in the form that Dask takes: TLS 1.3 and nothing else.

    Parameters
    ----------
    folder : str or path
        Of a run, or made by `invite`.
    role : {"client", "all"}
        Which keys.

    Returns
    -------
    distributed.Security
        It requires encryption.

    Raises
    ------
    OptionError
        If a key is not there, or others can read it.
    """
    from distributed.security import Security

    folder = Path(folder).absolute()
    roles = ROLES if role == "all" else (role,)
    files = {"tls_ca_file": str(_certificate(folder, "ca"))}
    for name in roles:
        files[f"tls_{name}_cert"] = str(_certificate(folder, name))
        files[f"tls_{name}_key"] = str(_key(folder, name))
    return Security(require_encryption=True, tls_min_version=ssl.TLSVersion.TLSv1_3, **files)


def invite(run: str | Path, name: str, folder: str | Path) -> Path:
    """Let a colleague connect to a run: a client certificate of their own, in a folder.

    Parameters
    ----------
    run : str or path
        Folder of the run.
    name : str
        The colleague; the audit log calls them so.
    folder : str or path
        Must not be there; made for its owner only. Hand it over in private: who has it can run
        code on the workers. It is worth nothing once the run has ended.

    Returns
    -------
    Path
        The folder, which `leptonhpc.cluster.connect` takes.

    Raises
    ------
    OptionError
        If there is no such run, or the name is empty, too long, not printable, or of a role.
    OutputExistsError
        If the folder is there.
    """
    run, folder = Path(run), Path(folder)
    if not (run / "scheduler.json").is_file() or not (run / "ca-key.pem").is_file():
        message = f"invite needs the folder of a run; {str(run)!r} is none"
        raise OptionError(message)
    if folder.exists():
        message = f"{str(folder)!r} exists; give a folder that does not"
        raise OutputExistsError(message)
    if not name.isprintable() or not 0 < len(name.encode()) <= _NAME_NBYTES:
        message = f"a name has 1 to {_NAME_NBYTES} bytes, all printable; found {name!r}"
        raise OptionError(message)
    if name in ROLES:  # the log would take them for this run's own
        message = f"{', '.join(ROLES)} are the run's own; give another name than {name!r}"
        raise OptionError(message)
    folder.mkdir(mode=0o700, parents=True)
    make_certificate(run, "client", name=name, into=folder)
    for shared in ("ca.pem", "scheduler.json"):
        write_private(folder / shared, (run / shared).read_bytes())
    return folder


def _certificate(folder: Path, name: str) -> Path:
    path = folder / f"{name}.pem"
    if not path.is_file():
        message = (
            "security needs a folder with ca.pem, client.pem and client-key.pem; "
            f"{path} is not there"
        )
        raise OptionError(message)
    return path


def _key(folder: Path, name: str) -> Path:
    path = _certificate(folder, f"{name}-key")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        message = f"a key must be readable by its owner only; {path} has mode {mode:o}: chmod 600"
        raise OptionError(message)
    return path
