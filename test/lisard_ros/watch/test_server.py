"""The server over real sockets: the token, foreign names, events, images, metrics, buttons, a port in use."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lisard_ros.errors import DataError, UsageError
from lisard_ros.statuses import StatusView
from lisard_ros.watch.board import Board
from lisard_ros.watch.server import WatchServer
from lisard_ros.watch.views import ShownImage

TOKEN = "0123456789abcdef"


class Buttons:
    """A node that knows injection and refuses the self test."""

    def __init__(self) -> None:
        self.injection: list[bool] = []

    def set_injection(self, on: bool) -> str:
        self.injection.append(on)
        return "done"

    def self_test(self, limit_s: float) -> str:
        raise DataError("the service /p/self_test", found="nobody offers it")

    def cancel_self_test(self) -> str:
        return "refused"


@pytest.fixture
def board() -> Board:
    made = Board("a node", can_act=True)
    values = (("received", "7"), ("answered", "6"), ("replaced", "1"), ("rate_hz", "5.5"), ("total_p95_ms", "21.5"))
    injection = StatusView("injection", 1, "injection is on: noise", (("enabled", "true"), ("answered", "4")))
    tested = StatusView("self_test", 0, "passed", (("passed", "1"),))
    made.saw_statuses("/p", [StatusView('camera "front"', 0, "5.5 Hz", values), injection, tested], 1.0)
    made.saw_image('"front"', ShownImage(5, 64, 48, b"\xff\xd8jpeg"))
    return made


@contextlib.asynccontextmanager
async def served(board: Board, buttons: Buttons | None = None) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(WatchServer(board, buttons, TOKEN, "127.0.0.1").serve(0, port.set_result))
    done, _ = await asyncio.wait({task, port}, return_when=asyncio.FIRST_COMPLETED)
    if task in done:
        await task
    async with aiohttp.ClientSession() as session:
        yield f"http://127.0.0.1:{port.result()}", session
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_nothing_is_shown_without_the_token_or_under_a_foreign_name(board: Board) -> None:
    async def main() -> None:
        async with served(board) as (url, session):
            for path in ("/", "/events", "/image?camera=x&stamp=5", "/metrics"):
                async with session.get(url + path) as answer:
                    assert answer.status == 403, path
            for path in ("/injection?on=true", "/self_test"):
                async with session.post(url + path, params={"token": TOKEN[::-1]}) as answer:
                    assert answer.status == 403, path
            async with session.get(url, params={"token": TOKEN}, headers={"Host": "evil.example"}) as answer:
                assert answer.status == 403
            async with session.get(url, params={"token": TOKEN}) as answer:
                assert answer.status == 200 and "lisard watch" in await answer.text()
                assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            for path in ("/page/../server.py", "/page/%2e%2e/server.py", "/page//etc/passwd"):
                async with session.get(url + path) as answer:
                    assert answer.status in (403, 404), path

    asyncio.run(main())


def test_events_images_and_metrics(board: Board) -> None:
    async def main() -> None:
        async with served(board) as (url, session):
            async with session.get(url + "/events", params={"token": TOKEN}) as answer:
                line = (await answer.content.readline()).decode()
                page = json.loads(line.removeprefix("data: "))
                assert board.viewers == 1
            assert [camera["name"] for camera in page["cameras"]] == ['"front"']
            assert page["cameras"][0]["frame"] == {"stamp_ns": "5", "width_px": 64, "height_px": 48, "answer": None}
            query = {"token": TOKEN, "camera": '"front"', "stamp": "5"}
            async with session.get(url + "/image", params=query) as answer:
                assert await answer.read() == b"\xff\xd8jpeg" and answer.content_type == "image/jpeg"
            for stamp in ("4", "", "x", "-1"):
                async with session.get(url + "/image", params={**query, "stamp": stamp}) as answer:
                    assert answer.status == 404
            async with session.get(url + "/metrics", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
                families = {family.name: family for family in text_string_to_metric_families(await answer.text())}
        samples = {s.labels["outcome"]: s.value for s in families["lisard_frames"].samples}
        assert samples == {"answered": 6.0, "replaced": 1.0}
        (latency,) = families["lisard_latency_ms"].samples
        assert latency.labels == {"camera": '"front"', "stage": "total", "quantile": "0.95"} and latency.value == 21.5
        assert families["lisard_up"].samples[0].value == 1.0
        assert families["lisard_injection_enabled"].samples[0].value == 1.0
        assert families["lisard_self_test_passed"].samples[0].value == 1.0

    asyncio.run(main())
    assert board.viewers == 0


def test_buttons_act_and_report_what_the_node_says(board: Board) -> None:
    buttons = Buttons()

    async def main() -> None:
        async with served(board, buttons) as (url, session):
            for on in ("true", "false"):
                async with session.post(f"{url}/injection?on={on}&token={TOKEN}") as answer:
                    assert (answer.status, await answer.text()) == (200, "done")
            async with session.post(f"{url}/self_test?token={TOKEN}") as answer:
                assert answer.status == 502 and "nobody offers it" in await answer.text()
            async with session.get(f"{url}/injection?on=true&token={TOKEN}") as answer:
                assert answer.status == 405, "a link must not switch anything"
        async with served(board) as (url, session), session.post(f"{url}/self_test?token={TOKEN}") as answer:
            assert answer.status == 409 and "a recording" in await answer.text()

    asyncio.run(main())
    assert buttons.injection == [True, False]


def test_a_port_in_use_is_refused_with_the_cure(board: Board) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = WatchServer(board, None, TOKEN, "127.0.0.1")
        with pytest.raises(UsageError, match=r"choose another with --port"):
            asyncio.run(server.serve(taken.getsockname()[1], lambda port: None))
