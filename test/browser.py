"""Headless Chromium through its DevTools protocol, for the tests of pages: open, evaluate, wait, take a picture."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from chromium import CHROMIUM

START_S, WAIT_S, LOOK_S = 60.0, 60.0, 0.1


class Browser:
    """One open page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.errors: list[str] = []

    async def call(self, method: str, **parameters: Any) -> Any:
        """Send one command and wait for its result; errors of the page are collected on the way."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = json.loads((await self._socket.receive(timeout=WAIT_S)).data)
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(message["params"]["exceptionDetails"])[:2000])
            if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.errors.append(message["params"]["entry"]["text"] + " " + message["params"]["entry"].get("url", ""))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    async def open(self, url: str) -> None:
        """Load a page."""
        for domain in ("Page", "Runtime", "Log"):
            await self.call(domain + ".enable")
        await self.call("Page.navigate", url=url)

    async def size(self, width: int, height: int) -> None:
        """Give the window a size."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, awaited."""
        done = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait until an expression is true, and return it."""
        end = asyncio.get_running_loop().time() + WAIT_S
        while not (value := await self.evaluate(expression)):
            assert asyncio.get_running_loop().time() < end, f"never true: {expression}"
            await asyncio.sleep(LOOK_S)
        return value

    async def screenshot(self, path: Path) -> None:
        """Save what the window shows, all of the page."""
        shown = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shown["data"]))


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Start Chromium with an empty page; it ends with the block."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        process = subprocess.Popen(
            [*words, f"--user-data-dir={folder}", "about:blank"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        try:
            port = await asyncio.wait_for(asyncio.to_thread(_port, process), START_S)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    pages = [page for page in await answer.json() if page["type"] == "page"]
                async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    yield Browser(socket)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _port(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"DevTools listening on ws://[^:]+:(\d+)/", line):
            return int(found[1])
    raise AssertionError("Chromium did not start")
