"""A headless browser that opens a page, waits until it is drawn, and gives a picture of it."""

import asyncio
import base64
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tornado.websocket import websocket_connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
WAIT_SECONDS = 300.0


def picture_of(address: str, *, drawn: str, profile: Path) -> bytes:
    """Give a PNG of a page once an expression of JavaScript is true there."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1100,900",
        "--remote-debugging-port=0", f"--user-data-dir={profile}",
    ]  # fmt: skip
    with subprocess.Popen(
        [program, *options, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as browser:
        try:
            return asyncio.run(_photograph(profile / "DevToolsActivePort", address, drawn))
        finally:
            browser.terminate()
            browser.wait(120)


async def _photograph(port_file: Path, address: str, drawn: str) -> bytes:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (port_file.exists() and port_file.read_text().count("\n")):
        assert time.monotonic() < deadline, "the browser did not start"
        await asyncio.sleep(0.1)
    port = port_file.read_text().splitlines()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=120) as answer:
        (page,) = [each for each in json.load(answer) if each["type"] == "page"]
    tab = await websocket_connect(
        page["webSocketDebuggerUrl"], max_message_size=1 << 27, connect_timeout=20
    )
    try:
        while not (await _ask(tab, "Runtime.evaluate", expression=drawn))["result"].get("value"):
            assert time.monotonic() < deadline, f"{address} was not drawn"
            await asyncio.sleep(0.2)
        shot = await _ask(tab, "Page.captureScreenshot", format="png")
        return base64.b64decode(shot["data"])
    finally:
        tab.close()
        while await tab.read_message() is not None:  # its socket is closed when the browser agrees
            continue


async def _ask(tab: Any, method: str, **params: Any) -> dict[str, Any]:
    """Ask by the DevTools protocol; events in between are not for us."""
    await tab.write_message(json.dumps({"id": 1, "method": method, "params": params}))
    while True:
        said = json.loads(await tab.read_message())
        if said.get("id") == 1:
            return dict(said["result"])
