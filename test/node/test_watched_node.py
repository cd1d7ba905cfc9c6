"""`lisard watch` beside a real node: answers under their images, the buttons, a node that is killed and starts again.

Where Chromium is installed, the same through the page.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from peers import RELIABLE, NodeProcess, Peer, camera, wait_until

from lisard_ros.errors import DataError
from lisard_ros.tools.watched_node import WatchedNode
from lisard_ros.watch.board import Board

pytestmark = pytest.mark.ros
CAMERAS = ("front", "left", "rear", "right")
TOKEN = "0123456789abcdef"
HAS_AIOHTTP = importlib.util.find_spec("aiohttp") is not None
sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture
def cameras(peer: Peer) -> Iterator[None]:
    """Four cameras."""
    with ExitStack() as publishing:
        for name in CAMERAS:
            publishing.enter_context(camera(peer, f"/watched/{name}/image_raw", RELIABLE))
        yield


@pytest.fixture
def watched(peer: Peer) -> Iterator[tuple[Board, WatchedNode]]:
    board = Board("running node", can_act=True)
    source = WatchedNode(board, "")
    yield board, source
    source.close()


def started(start: Callable[..., NodeProcess], bundle: Path) -> NodeProcess:
    topics = [f"/watched/{name}/image_raw" for name in CAMERAS]
    parameters = {"injection__attacks": ["noise"], "diagnostics_period_s": 0.3, "self_test__min_interval_s": 0.0}
    return start("/watched", bundle=str(bundle), image_topics=topics, **parameters)


def answered(board: Board) -> list[Any]:
    """The cameras whose image is shown with its answer."""
    cards = board.view()[0].cameras
    return [card for card in cards if card.frame and card.frame.answer is not None]


def status(board: Board, name: str) -> Any:
    return next((one for one in board.view()[0].statuses if one.name == name), None)


def test_four_cameras_with_their_answers_the_buttons_and_a_restart(
    start: Callable[..., NodeProcess], bundle: Path, cameras: None, watched: tuple[Board, WatchedNode]
) -> None:
    board, source = watched
    with pytest.raises(DataError, match="no perception node has reported yet"):
        source.set_injection(True)
    process = started(start, bundle)
    wait_until(lambda: len(board.view()[0].cameras) == 4, "four cameras")
    assert not any(card.frame for card in board.view()[0].cameras), "nobody looks: no image is fetched"
    board.opened()
    wait_until(lambda: len(answered(board)) == 4, "four answered images")
    for card in answered(board):
        assert card.frame.answer.classes[0][0] == "red"
        assert card.frame.stamp_ns == str(card.frame.answer.stamp_ns)
    assert source.set_injection(True).startswith("done")
    wait_until(lambda: status(board, "injection").value("enabled") == "true", "injection on")
    assert source.set_injection(False).startswith("done")
    assert source.self_test(60.0).startswith("passed")
    process.stop(9)
    wait_until(lambda: not board.view()[0].alive, "its silence is said")
    with pytest.raises(DataError):
        source.cancel_self_test()
    started(start, bundle)
    wait_until(lambda: board.view()[0].alive, "it is back")


@pytest.mark.skipif(not HAS_AIOHTTP, reason="requirements/watch.txt is not installed")
def test_the_page_in_chromium(
    start: Callable[..., NodeProcess], bundle: Path, cameras: None, watched: tuple[Board, WatchedNode]
) -> None:
    from browser import CHROMIUM, browser

    from lisard_ros.watch.server import WatchServer

    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    board, source = watched
    process = started(start, bundle)

    async def main() -> None:
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        server = asyncio.create_task(WatchServer(board, source, TOKEN, "127.0.0.1").serve(0, port.set_result))
        url = f"http://127.0.0.1:{await port}/?token={TOKEN}"
        async with browser() as page, browser() as second:
            await page.open(url)
            await second.open(url)
            for one in (page, second):
                await one.until("document.querySelectorAll('.camera').length === 4")
                await one.until(
                    "[...document.querySelectorAll('figcaption')].every(c => c.textContent.includes('red'))"
                )
            await page.evaluate("document.getElementById('injection-on').click()")
            assert await page.evaluate("document.getElementById('ask').open"), "a button asks first"
            await page.evaluate("document.getElementById('ask-no').click()")
            assert status(board, "injection").value("enabled") == "false"
            await page.evaluate("document.getElementById('injection-on').click()")
            await page.evaluate("document.getElementById('ask-yes').click()")
            await second.until("document.getElementById('injection-message').textContent.includes('injection is on')")
            await page.evaluate("document.getElementById('self-test-run').click()")
            await page.evaluate("document.getElementById('ask-yes').click()")
            await page.until("document.getElementById('answer').textContent.startsWith('passed')")
            process.stop(9)
            await page.until("document.getElementById('state').textContent.includes('silent')")
            assert await page.evaluate("document.getElementById('self-test-run').disabled")
            await asyncio.to_thread(started, start, bundle)
            await page.until("document.getElementById('state').textContent === '/watched/perception reports'")
            assert [error for error in page.errors if "404" not in error] == []
        server.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server
        wait_until(lambda: board.viewers == 0, "both pages are gone")

    asyncio.run(main())
