"""The page of `lisard watch` in headless Chromium while the server under it ends and starts again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lisard_ros.statuses import StatusView
from lisard_ros.watch.board import Board

TOKEN = "0123456789abcdef"
STATE = "(document.getElementById('state')?.textContent ?? '')"


@contextlib.asynccontextmanager
async def served(board: Board, port: int, token: str) -> AsyncIterator[int]:
    """One run of the server: its port. It ends with the block."""
    from lisard_ros.watch.server import WatchServer

    used: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(WatchServer(board, None, token, "127.0.0.1").serve(port, used.set_result))
    await asyncio.wait({task, used}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield await used if used.done() else await task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def board() -> Board:
    """A camera that a recording showed, and its end."""
    made = Board("drive.mcap", can_act=False)
    made.saw_statuses("/p", [StatusView("camera front", 0, "5.5 Hz", (("received", "7"), ("rate_hz", "5.5")))], 1.0)
    made.ended("the recording has ended")
    return made


def test_a_page_goes_on_with_a_server_that_starts_again_and_says_when_it_is_refused(
    accessibility: Any, board: Board
) -> None:
    async def main() -> None:
        async with accessibility.browser() as page:
            async with served(board, 0, TOKEN) as port:
                await page.open(f"http://127.0.0.1:{port}/?token={TOKEN}")
                await page.until(f"{STATE} === 'the recording has ended'")
            await page.until(f"{STATE}.includes('trying again')")
            async with served(board, port, TOKEN):
                await page.until(f"{STATE} === 'the recording has ended'")
                assert await page.evaluate("document.querySelectorAll('.camera').length") == 1
            async with served(board, port, TOKEN[::-1]):
                await page.until(f"{STATE}.includes('open the URL that it printed last')")

    asyncio.run(main())
