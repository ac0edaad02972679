"""Runs the linear algebra part of data-apis/array-api-tests on leptonhpc.array_api, twice.

First as it is: small NumPy matrices go to NumPy. Then with every matrix going to the drivers, and
without the tests in skips.txt. The suite is on GitHub only; with its submodule:

    git clone --recurse-submodules https://github.com/data-apis/array-api-tests
    pip install pytest-json-report ndindex
    python tests/array_api/run_array_api_tests.py array-api-tests
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

VERSION = "2024.12"
SKIPS = Path(__file__).with_name("skips.txt")
AS_IT_IS = "leptonhpc.array_api"
BY_DRIVERS = (  # the suite runs this; the choice lasts as long as the object that is kept
    "exec('import leptonhpc.array_api as xp; xp.kept = xp.using_drivers(from_nbytes=0); "
    "xp.kept.__enter__()')"
)


def main() -> int:
    """Run both, and give the exit code of the worse."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkout", type=Path, help="folder of array-api-tests")
    parser.add_argument(
        "--max-examples", type=int, default=200,
        help="of Hypothesis for a test; most tests of the suite take a tenth (default: 200)",
    )  # fmt: skip
    given = parser.parse_args()
    if not (given.checkout / "array-api" / "spec" / VERSION).is_dir():
        parser.error(f"{given.checkout} is no checkout of array-api-tests with its submodule")
    codes = [
        run(given.checkout, AS_IT_IS, given.max_examples),
        run(given.checkout, BY_DRIVERS, given.max_examples, "--skips-file", str(SKIPS)),
    ]
    return max(codes)


def run(checkout: Path, module: str, examples: int, *options: str) -> int:
    """Run the suite on one module."""
    environment = {
        **os.environ, "ARRAY_API_TESTS_MODULE": module, "ARRAY_API_TESTS_VERSION": VERSION,
    }  # fmt: skip
    command = [
        sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider",
        "array_api_tests/test_linalg.py", "array_api_tests/test_signatures.py", "-k", "linalg",
        "--disable-deadline", "--max-examples", str(examples), *options,
    ]  # fmt: skip
    return subprocess.run(command, cwd=checkout, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
