"""A server that speaks S3, one for all tests of this folder."""

import subprocess
import sys
from collections.abc import Iterator

import fsspec
import pytest

S3_SERVER = """
import logging, sys, threading
logging.disable()
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
threading.Event().wait()
"""


def serve(program: str, *arguments: str) -> Iterator[str]:
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


@pytest.fixture(scope="package")
def endpoint() -> Iterator[str]:
    for url in serve(S3_SERVER):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", url)
            patch.setenv("AWS_ACCESS_KEY_ID", "key")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            patch.setenv("AWS_ALLOW_HTTP", "true")
            yield url
            for cls in fsspec.registry.values():
                cls.clear_instance_cache()
