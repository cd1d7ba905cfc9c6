"""Ask a running node for its self test: `python -m lisard_ros.tools.ask self_test /perception`; prints one JSON line.

With --active it waits for the node to be active first. Exit status 0: passed, and the report that the node was to write
is there; 1: not, or no answer.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lisard_ros.errors import DataError, LisardError
from lisard_ros.evaluation.self_test_report import REPORT_CASE
from lisard_ros.tools.stop import ROS_ARGUMENTS, Stop

SPIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Case:
    """One status of the answer: one attack of the suite."""

    name: str
    level: int
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What ~/self_test answered."""

    passed: bool
    id: str
    cases: tuple[Case, ...]
    seconds: float

    @property
    def unwritten(self) -> str:
        """Why the report is not there that the node was to write, '' where it is or none was asked for."""
        return next((case.message for case in self.cases if case.name == REPORT_CASE), "")


def self_test(node_name: str, timeout_s: float, *, active: bool = False) -> Answer:
    """Call NODE/self_test from a node of its own; active: not before that node is active."""
    import rclpy
    from diagnostic_msgs.srv import SelfTest
    from lifecycle_msgs.msg import State
    from lifecycle_msgs.srv import GetState

    from lisard_ros.node.compat import init, try_shutdown

    with Stop() as stop:
        init(ROS_ARGUMENTS)
        node = rclpy.create_node("lisard_ask", start_parameter_services=False)
        try:
            started, deadline = time.monotonic(), time.monotonic() + timeout_s

            def called(kind: Any, service: str) -> Any:
                """Wait for a service of the node, call it, and wait for the answer."""
                client: Any = node.create_client(kind, f"{node_name}/{service}")
                while not client.service_is_ready():
                    _go_on(stop, deadline, f"the service {node_name}/{service} did not appear")
                    rclpy.spin_once(node, timeout_sec=SPIN_S)
                future = client.call_async(kind.Request())
                while not future.done():
                    _go_on(stop, deadline, f"{node_name}/{service} did not answer")
                    is_gone = not client.service_is_ready()
                    rclpy.spin_once(node, timeout_sec=SPIN_S)
                    if is_gone and not future.done():  # an answer that had been on its way would be here now
                        raise DataError(f"{node_name} ended before it answered", found=f"no {service} any more")
                node.destroy_client(client)
                return future.result()

            while active and called(GetState, "get_state").current_state.id != State.PRIMARY_STATE_ACTIVE:
                _go_on(stop, deadline, f"{node_name} did not become active")
                time.sleep(SPIN_S)
            return _answer(called(SelfTest, "self_test"), time.monotonic() - started)
        finally:
            node.destroy_node()
            try_shutdown()


def _go_on(stop: Stop, deadline: float, what: str) -> None:
    if stop.asked or time.monotonic() > deadline:
        raise DataError(what, found="told to end" if stop.asked else "time is up", cure="is the node active?")


def _answer(response: Any, seconds: float) -> Answer:
    cases = tuple(Case(status.name, _number(status.level), status.message) for status in response.status)
    return Answer(_number(response.passed) == 1, response.id, cases, round(seconds, 2))


def _number(field: Any) -> int:
    """Return a `byte` field, which rclpy gives as bytes of length one."""
    return field[0] if isinstance(field, bytes) else int(field)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m lisard_ros.tools.ask", description="Ask a running node.")
    parser.add_argument("what", choices=("self_test",))
    parser.add_argument("node", help="full name of the node, for example /perception")
    parser.add_argument("--active", action="store_true", help="wait until the node is active")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S", help="give up after S seconds")
    arguments = parser.parse_args(words)
    try:
        answer = self_test(arguments.node.rstrip("/"), arguments.timeout, active=arguments.active)
    except LisardError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(answer)), flush=True)
    return 0 if answer.passed and not answer.unwritten else 1


if __name__ == "__main__":
    raise SystemExit(main())
