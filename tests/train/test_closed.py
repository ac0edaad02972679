"""What torch sends is not encrypted: on a closed cluster it leaves the machine only if asked to."""

import os
from typing import Any

import psutil
import pytest
from distributed import Client

import leptonhpc as lh
from leptonhpc.cluster.gangs import GangLimits, run_gang
from leptonhpc.cluster.gangs_ranks import _choose_interface, require_private
from leptonhpc.errors import OptionError

from .conftest import network, three_classes

# distributed looks for a port with a socket that it leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

NETWORK = "tls://192.0.2.7:8786"
"""Of an address that is kept for examples."""


def test_gradients_leave_the_machine_of_a_closed_cluster_only_if_that_was_said() -> None:
    private = ["tls://127.0.0.1:1", "tls://127.0.0.3:1", "tls://[::1]:1"]
    require_private([*private, "tcp://192.0.2.7:8786"], insecure=False)  # of TCP all was said
    require_private([*private, NETWORK], insecure=True)
    for on_a_network in (NETWORK, "tls://[2001:db8::1]:1", "tls://node1:1"):
        with pytest.raises(OptionError, match=r"neither encrypted.*insecure=True.*'async'"):
            require_private([*private, on_a_network], insecure=False)


@pytest.mark.parametrize("strategy", ["data", "model", "hybrid"])
def test_training_is_refused_before_anything_runs(
    client: Client, monkeypatch: pytest.MonkeyPatch, strategy: Any
) -> None:
    found = {NETWORK: {}, "tls://192.0.2.8:8786": {}}
    monkeypatch.setattr("leptonhpc.cluster.clients.identities", lambda client: found)
    with pytest.raises(OptionError, match="192.0.2.7"):
        lh.train.fit(network, three_classes(40), strategy=strategy)


def test_a_gang_is_refused_too(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {NETWORK: {"last_seen": 0.0, "nthreads": 1}}
    monkeypatch.setattr("leptonhpc.cluster.gangs.identities", lambda client: found)
    with pytest.raises(OptionError, match="192.0.2.7"):
        run_gang(client, print, limits=GangLimits(max_restarts=0))


def test_torch_talks_on_the_interface_of_the_worker_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "eth99")  # what a user's shell says counts for nothing
    for host in ("127.0.0.1", "127.0.0.3"):
        _choose_interface(host)
        chosen = os.environ["GLOO_SOCKET_IFNAME"]
        assert "127.0.0.1" in {each.address for each in psutil.net_if_addrs()[chosen]}
    with pytest.raises(OptionError, match=r"no interface .* 192\.0\.2\.7"):
        _choose_interface("192.0.2.7")
    with pytest.raises(OptionError, match="IP address; found 'node1'"):
        _choose_interface("node1")
