"""The web server of `lisard watch`: the page, its events, images of cameras, Prometheus, and two buttons.

It listens on loopback unless asked otherwise. Every address needs the token that stands in the printed URL, and the
name under which the server was asked for must be its own, so that a page of somebody else cannot reach it through the
browser.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import signal
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

import msgspec
from aiohttp import web

from lisard_ros.errors import LisardError, UsageError, one_line
from lisard_ros.reporting import pages
from lisard_ros.watch import metrics
from lisard_ros.watch.board import Board
from lisard_ros.watch.sources import Actions

PAGE = Path(__file__).parent / "page"
TICK_S = 0.5  # between two events of a page
SELF_TEST_LIMIT_S = 3600.0
CONTENT_SECURITY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WatchServer:
    """One running server; `serve` returns when the process is told to end."""

    def __init__(self, board: Board, actions: Actions | None, token: str, host: str) -> None:
        """actions: None where there is nothing to act on, such as a recording."""
        self._board, self._actions, self._token, self._host = board, actions, token, host
        self._ending = asyncio.Event()
        self._names = {"localhost", "127.0.0.1", "::1", host}
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._index)
        app.router.add_get("/events", self._events)
        app.router.add_get("/image", self._image)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/injection", self._set_injection)
        app.router.add_post("/self_test", self._self_test)
        app.router.add_post("/cancel_self_test", self._cancel_self_test)
        app.router.add_get("/page/report.css", self._style)
        app.router.add_static("/page", PAGE)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def serve(self, port: int, ready: Callable[[int], None]) -> None:
        """Listen, call `ready` with the port, and serve until SIGINT or SIGTERM.

        Args:
            port: 0: any free one.
            ready: Called once with the port that is used.

        Raises:
            UsageError: The address cannot be used.
        """
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self._host, port)
            try:
                await site.start()
            except OSError as error:
                raise UsageError(
                    f"{self._host}:{port} cannot be listened on",
                    found=error.strerror or one_line(error),
                    expected="a free port of this machine",
                    cure="end what uses it, or choose another with --port (0: any free one)",
                ) from error
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._ending.set)
            ready(self._runner.addresses[0][1])
            await self._ending.wait()
        finally:
            await self._runner.cleanup()

    # --- who may ask ----------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.query.get("token", "")
        shared = request.path.startswith("/page/")  # script and style hold nothing of the vehicle
        if request.url.host not in self._names and not self._is_open:
            raise web.HTTPForbidden(text="ask for this page under the address that `lisard watch` printed")
        if not shared and not hmac.compare_digest(given.encode(), self._token.encode()):
            raise web.HTTPForbidden(text="the token is missing or wrong: use the whole URL that `lisard watch` printed")
        response = await handler(request)
        if not response.prepared:
            response.headers["Content-Security-Policy"] = CONTENT_SECURITY
            response.headers["Referrer-Policy"] = "no-referrer"
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    @property
    def _is_open(self) -> bool:
        """Whether it listens on all addresses, under names that nobody knows here."""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self._host).is_unspecified
        return False

    # --- what can be asked for ------------------------------------------------------------------------------------

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE / "index.html")

    async def _style(self, request: web.Request) -> web.StreamResponse:
        """Give the page the style of the reports."""
        return web.FileResponse(pages.SHARED / "report.css")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Send the state again and again; the first event has the whole history."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        self._board.opened()
        try:
            seen = 0
            while not self._ending.is_set():
                page, seen = self._board.view(after=seen)
                await response.write(b"data: " + msgspec.json.encode(page) + b"\n\n")
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), TICK_S)
        except ConnectionError:  # the page was closed
            pass
        finally:
            self._board.closed()
        return response

    async def _image(self, request: web.Request) -> web.StreamResponse:
        stamp = request.query.get("stamp", "")
        image = self._board.image(request.query.get("camera", ""), int(stamp) if stamp.isdigit() else -1)
        if image is None:
            raise web.HTTPNotFound(text="a newer image has taken its place")
        return web.Response(body=image.jpeg, content_type="image/jpeg")

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=metrics.text(self._board), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _set_injection(self, request: web.Request) -> web.StreamResponse:
        on = request.query.get("on") == "true"
        return await self._acted(lambda actions: actions.set_injection(on))

    async def _self_test(self, request: web.Request) -> web.StreamResponse:
        return await self._acted(lambda actions: actions.self_test(SELF_TEST_LIMIT_S))

    async def _cancel_self_test(self, request: web.Request) -> web.StreamResponse:
        return await self._acted(lambda actions: actions.cancel_self_test())

    async def _acted(self, act: Callable[[Actions], str]) -> web.StreamResponse:
        """Do what a button asks for, in a thread: the page goes on meanwhile."""
        if self._actions is None:
            raise web.HTTPConflict(text="a recording is shown: there is no node to ask")
        try:
            return web.Response(text=await asyncio.to_thread(act, self._actions))
        except LisardError as error:
            return web.Response(text=str(error), status=HTTPStatus.BAD_GATEWAY)
