"""`lisard watch`: one page in the browser for a running node or a recording."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import secrets
import sys
from importlib.metadata import entry_points
from pathlib import Path

from lisard_ros import needs
from lisard_ros.cli import EXIT_DONE
from lisard_ros.errors import UsageError
from lisard_ros.watch.board import Board
from lisard_ros.watch.sources import Actions, NodeSource, Source

SUMMARY = "show a running node or a recording in the browser"
HELP = """Show a running node, or a recording, as one page in the browser: cameras with their answers, latencies and
images without an answer over time, injection, the self test, and what else the node reports.

  lisard watch                         the first perception node that reports on /diagnostics
  lisard watch --node /perception      this one
  lisard watch drive.mcap              a recording; `lisard replay --mcap` writes one with answers

Open the printed URL; it holds a token, without which nothing is shown. The page reads topics. Its buttons for
injection and the self test call the node's services, after a question. Prometheus reads /metrics with the same token
(LISARD_WATCH_TOKEN sets one that stays). Only this machine can open the page unless --host says otherwise."""

# Where the part that needs rclpy is found: this package is imported without ROS.
ROS_GROUP = "lisard_ros.watched_node"
TOKEN_VARIABLE = "LISARD_WATCH_TOKEN"  # noqa: S105  the name of a variable
SHORTEST_TOKEN = 16
PORT, HIGHEST_PORT = 8480, 65535


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("bag", nargs="?", type=Path, help="a recording; without one the running node is shown")
    parser.add_argument("--node", default="", metavar="NAME", help="full name of the node (default: the first)")
    parser.add_argument("--rate", type=float, default=1.0, help="speed of a recording (default: 1)")
    parser.add_argument("--port", type=int, default=PORT, help=f"0: any free one (default: {PORT})")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    _check(args)
    token = _token()
    try:
        from lisard_ros.watch.server import WatchServer
    except ImportError as error:
        raise UsageError(
            "`lisard watch` needs the Python packages aiohttp and prometheus-client",
            found=str(error),
            expected="them in this environment",
            cure="pip install 'lisard_ros[watch]'",
        ) from error
    board = Board(str(args.bag) if args.bag else "running node", can_act=args.bag is None)
    source, actions = _opened(board, args)

    def ready(port: int) -> None:
        host = "localhost" if ipaddress.ip_address(args.host).is_unspecified else args.host
        shown = f"[{host}]" if ":" in host else host
        print(f"open http://{shown}:{port}/?token={token}\nCtrl-C ends it", flush=True)

    async def serve() -> None:
        await WatchServer(board, actions, token, args.host).serve(args.port, ready)

    try:
        asyncio.run(serve())
    finally:
        source.close()
    return EXIT_DONE


def _check(args: argparse.Namespace) -> None:
    """Refuse numbers out of range and an address that is none; tell what another address than loopback means."""
    if not 0 <= args.port <= HIGHEST_PORT:
        raise UsageError("--port", found=args.port, expected=f"0 to {HIGHEST_PORT}")
    if not args.rate > 0.0:
        raise UsageError("--rate", found=args.rate, expected="above 0")
    if args.bag is not None and args.node:
        raise UsageError("a recording and --node", found="both", expected="one of them")
    try:
        address = ipaddress.ip_address(args.host)
    except ValueError:
        raise UsageError("--host", found=args.host, expected="an IP address, such as 127.0.0.1 or 0.0.0.0") from None
    if not address.is_loopback:
        print(
            f"lisard watch: {args.host} can be reached from other machines, unencrypted: whoever reads the token can "
            "switch injection on",
            file=sys.stderr,
        )


def _token() -> str:
    """Return the token of the environment, or a new one."""
    given = os.environ.get(TOKEN_VARIABLE)
    if given is None:
        return secrets.token_urlsafe(SHORTEST_TOKEN)
    if len(given) < SHORTEST_TOKEN or not given.isalnum():
        raise UsageError(
            TOKEN_VARIABLE,
            found=f"{len(given)} characters",
            expected=f"at least {SHORTEST_TOKEN} letters and digits",
            cure="openssl rand -hex 16",
        )
    return given


def _opened(board: Board, args: argparse.Namespace) -> tuple[Source, Actions | None]:
    """Return what fills the board, and what the buttons act on."""
    if args.bag is None:
        node = _running_node(board, args.node)
        return node, node
    from lisard_ros.watch.recorded import WatchedRecording

    return WatchedRecording(board, args.bag, args.rate), None


def _running_node(board: Board, node: str) -> NodeSource:
    """Watch through the entry point of the part that needs ROS."""
    try:
        for entry in entry_points(group=ROS_GROUP):
            source: NodeSource = entry.load()(board, node)
            return source
    except ImportError as error:
        raise needs.cannot_import(error) from error
    raise UsageError(
        "watching a running node is not installed",
        found="no such entry point",
        expected=f"the group {ROS_GROUP}",
        cure="run `make setup`, or `pip install -e .` in the checkout; a recording needs no ROS",
    )
