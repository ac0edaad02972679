"""Our page and our metrics are behind the dashboard's token, as all of it is."""

import json
import urllib.error
import urllib.request
from typing import Any

import numpy as np

import leptonhpc as lh
from leptonhpc.cluster.clients import identities
from leptonhpc.cluster.runs import Run


def get(cluster: tuple[Any, Run], path: str, token: str | None) -> tuple[int, str]:
    address = json.loads(cluster[1].scheduler_file.read_text())["dashboard"]
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(address.removesuffix("/status") + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_page_and_metrics_of_a_job_are_shown_with_the_token_only(
    cluster: tuple[Any, Run], rng: np.random.Generator
) -> None:
    lh.svd(rng.standard_normal((600, 40)), rank=5)
    token = json.loads(cluster[1].launch_file.read_text())["token"]
    for path in ("/leptonhpc", "/metrics"):
        assert get(cluster, path, None) == (401, "Unauthorized")
        assert get(cluster, path, "wrong")[0] == 401
    code, page = get(cluster, "/leptonhpc", token)
    assert (code, "<title>leptonhpc: plan</title>" in page) == (200, True)
    code, metrics = get(cluster, "/metrics", token)
    assert code == 200
    assert 'leptonhpc_job_running{driver="svd"' in metrics
    workers = identities(cluster[0])
    assert any(f'device="{address}"' in metrics for address in workers)
