"""Make a folder of wheels for gpu_check on a machine without a network.

python benchmarks/gpu_wheels.py --out wheels                 # here, with a network
python -m pip install --no-index --no-deps --target site wheels/*.whl      # there
PYTHONPATH=site:. python benchmarks/gpu_check.py

The machine there has Python 3.12 and, being a GPU's, cupy-cuda13x, NumPy and SciPy: these three
are not in the folder, for they are larger than all the rest.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

NEEDED = (
    "annotated-doc", "annotated-types", "array-api-compat", "array-api-strict", "cffi", "click",
    "cloudpickle", "cryptography", "dask", "distributed", "donfig", "fsspec", "google-crc32c",
    "hypothesis", "iniconfig", "jinja2", "locket", "markdown-it-py", "markupsafe", "mdurl",
    "msgpack", "msgspec", "numcodecs", "packaging", "partd", "pluggy", "psutil", "pycparser",
    "pydantic", "pydantic-core", "pygments", "pytest", "pyyaml", "rich", "shellingham",
    "sortedcontainers", "tblib", "threadpoolctl", "toolz", "tornado", "typer",
    "typing-extensions", "typing-inspection", "zarr", "zict",
)  # fmt: skip
MOST_NBYTES = 64 << 20
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64",
             "manylinux_2_5_x86_64", "manylinux1_x86_64", "any")  # fmt: skip


def main() -> int:
    """Fetch the wheels; refuse a folder over 64 MiB."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--out", type=Path, required=True, help="the folder")
    chosen = made.parse_args()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
               "--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp",
               "--dest", str(chosen.out)]  # fmt: skip
    for platform in PLATFORMS:
        command += ["--platform", platform]
    subprocess.run([*command, *NEEDED], check=True)
    root = Path(__file__).parents[1]
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*build, "--wheel-dir", str(chosen.out), str(root)], check=True)
    wheels = sorted(chosen.out.glob("*.whl"))
    total = sum(wheel.stat().st_size for wheel in wheels)
    print(f"{len(wheels)} wheels, {total / (1 << 20):.1f} MiB, in {chosen.out}")
    if total > MOST_NBYTES:
        print(f"more than {MOST_NBYTES >> 20} MiB")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
