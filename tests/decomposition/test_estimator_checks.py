"""scikit-learn's own checks of estimators, all of them."""

import json
import os
import subprocess
import sys

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")  # the checks make and look for warnings of their own
from sklearn.utils.estimator_checks import check_estimator
from leptonhpc import decomposition
from leptonhpc.decomposition import *
estimators = [
    NMF(), PCA(), TruncatedSVD(), IncrementalPCA(), KernelPCA(), Ridge(),
]
assert {type(e).__name__ for e in estimators} == set(decomposition.__all__)
found = {}
for estimator in estimators:
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    found[str(estimator)] = [(r["check_name"], r["status"], str(r["exception"])) for r in results]
print(json.dumps(found))
"""


def test_every_estimator_passes_all_checks_of_scikit_learn() -> None:
    # a process of its own: the checks of the array API need the variable before SciPy is imported
    environment = {**os.environ, "SCIPY_ARRAY_API": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 6
    for name, results in found.items():
        assert len(results) > 40, name
        assert [r for r in results if r[1] != "passed"] == [], name
