"""Play a recording into ROS topics: `lisard bag play BAG`.

Messages are published as the serialised bytes of the bag, at the recorded pace, at a fixed number of frames per second
or as fast as possible, once enough subscribers have matched. What was published is printed as one JSON line.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lisard_ros import needs
from lisard_ros.errors import DataError, LisardError, UsageError
from lisard_ros.message_fields import NS_PER_S, from_ns
from lisard_ros.node import fastdds
from lisard_ros.tools.playback import Message, Pace, Recording, read_stamp_ns, shift_stamp
from lisard_ros.tools.stop import ROS_ARGUMENTS, SLEEP_SLICE_S, Stop

if TYPE_CHECKING:
    from rosbags.interfaces import Connection

SUMMARY = "play a rosbag2 recording into ROS topics"
HELP = """Publish the serialised bytes of a bag, once enough subscribers have matched. Ends with one JSON line: what was
published on each topic, and how late."""

SCHEMA = 1
CLOCK = "/clock"
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
FOLLOW_TIMEOUT_S = 2.0
SETTLE_AFTER_MATCH_S = 0.2


@dataclass(frozen=True, slots=True)
class Wanted:
    """Subscribers to wait for: `every` on each topic, other counts for the topics in `each`, one `anywhere`."""

    every: int = 0
    each: tuple[tuple[str, int], ...] = ()
    anywhere: bool = True


@dataclass(frozen=True, slots=True)
class PlaybackOptions:
    """How to play; `rate` and `hz` None or 0 mean as fast as possible. Empty `topics` means all of them.

    follow: topic and message type of answers; the next frame waits until the last one was answered.
    """

    bag: Path
    topics: tuple[str, ...] = ()
    remap: tuple[tuple[str, str], ...] = ()
    rate: float | None = 1.0
    hz: float | None = None
    loops: int = 1
    reliability: str = "reliable"
    depth: int = 10
    wait_for: Wanted = field(default_factory=Wanted)
    wait_timeout_s: float = 20.0
    linger_s: float = 0.5
    clock_hz: float | None = None
    stamps: Path | None = None
    follow: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was played: messages published by topic, the time it took, and how late the latest one was."""

    published: Mapping[str, int]
    seconds: float
    late_max_ms: float
    finished: bool
    unanswered: int = 0


def use_profile(profile: Path) -> None:
    """Tell Fast DDS to read `profile`.

    It reads it when the first participant of the process is made, so this comes before rclpy.init().
    """
    if not profile.is_file():
        raise UsageError("no such profile", found=profile, expected="a Fast DDS profiles file (XML)")
    for name in fastdds.VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(fastdds.variables(profile, os.environ.get("AMENT_PREFIX_PATH", "")))


def message_class(kind: str) -> Any:
    """Import the rclpy class of a message type such as 'sensor_msgs/msg/Image'."""
    package, _, name = kind.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise DataError(
            f"the bag has a message type that this ROS installation does not have: {error}",
            found=kind,
            expected="an installed message package",
            cure=f"install {package}, or leave the topic out with --topics",
        ) from error


def starts_with_header(kind: Any) -> bool:
    """Tell whether messages of this class begin with a std_msgs/Header."""
    fields = list(kind.get_fields_and_field_types().items())
    return bool(fields) and fields[0][1] == "std_msgs/Header"


class Follower:
    """Waits until answers have caught up with what was sent, so that a slow machine slows down instead of dropping."""

    def __init__(self, node: Any, topic: str, kind: str) -> None:
        """Subscribe to the answers; only their stamps are read."""
        from rclpy.executors import SingleThreadedExecutor

        self._node, self.topic = node, topic
        self._answered_ns = -1
        self.given_up = 0
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        node.create_subscription(message_class(kind), topic, self._on_answer, 100, raw=True)

    def _on_answer(self, data: bytes) -> None:
        self._answered_ns = max(self._answered_ns, read_stamp_ns(data))

    def matched(self) -> bool:
        """Whether somebody publishes the answers."""
        return self._node.count_publishers(self.topic) > 0

    def wait(self, stamp_ns: int, stop: Stop) -> None:
        """Wait until `stamp_ns` or a later one was answered; after FOLLOW_TIMEOUT_S it is given up and counted."""
        deadline = time.monotonic() + FOLLOW_TIMEOUT_S
        while self._answered_ns < stamp_ns and not stop.asked:
            if time.monotonic() > deadline:
                self.given_up += 1
                return
            self._executor.spin_once(timeout_sec=SLEEP_SLICE_S)


class Player:
    """Publishers for the topics of one recording, on a node of its own."""

    def __init__(self, node: Any, recording: Recording, options: PlaybackOptions, stop: Stop) -> None:
        """Create one publisher for each topic, and /clock when it is asked for."""
        self._node, self._recording, self._options, self._stop = node, recording, options, stop
        self._names = {link.topic: dict(options.remap).get(link.topic, link.topic) for link in recording.connections}
        classes = {link.topic: message_class(link.msgtype) for link in recording.connections}
        self._stamped = {topic for topic, kind in classes.items() if starts_with_header(kind)}
        self._publishers = {
            link.topic: node.create_publisher(
                classes[link.topic], self._names[link.topic], _quality(reliability_of(link, options), options.depth)
            )
            for link in recording.connections
        }
        self._images = {link.topic for link in recording.connections if link.msgtype in IMAGE_TYPES}
        self._follower = Follower(node, *options.follow) if options.follow else None
        self._clock = _clock_publisher(node) if options.clock_hz else None
        self._clock_sent_ns = 0
        self._published: Counter[str] = Counter({name: 0 for name in self._names.values()})

    def wait(self) -> None:
        """Wait until each topic has the wanted number of subscribers."""
        deadline = time.monotonic() + self._options.wait_timeout_s
        while unmatched := self._unmatched():
            if time.monotonic() > deadline:
                raise DataError(
                    f"not enough subscribers within {self._options.wait_timeout_s:g} s",
                    found="; ".join(unmatched),
                    cure="start the subscriber first, check the topics it asks for, its QoS and ROS_DOMAIN_ID",
                )
            if not self._stop.sleep(SLEEP_SLICE_S):
                return
        self._stop.sleep(SETTLE_AFTER_MATCH_S)

    def play(self, stamps: TextIO | None) -> Outcome:
        """Publish everything; stops early when the process is asked to end. `stamps` gets one JSON line a message."""
        start_ns, late_ns = time.monotonic_ns(), 0
        pace, finished = Pace(self._options.rate, self._options.hz), True
        waiting_for_ns = last_bag_ns = -1
        for message, shift_ns in self._passes():
            bag_ns = message.bag_ns + shift_ns
            if self._follower is not None and bag_ns != last_bag_ns:
                self._follower.wait(waiting_for_ns, self._stop)
            due_ns = start_ns + pace.due_ns(bag_ns)
            if not self._sleep_until(due_ns, bag_ns):
                finished = False
                break
            late_ns = max(late_ns, time.monotonic_ns() - due_ns)
            sent_ns, last_bag_ns = self._publish(message, shift_ns, stamps), bag_ns
            waiting_for_ns = sent_ns if message.topic in self._images else waiting_for_ns
        seconds = (time.monotonic_ns() - start_ns) / NS_PER_S
        self._drain()
        late_ms = late_ns / 1e6 if self._options.hz or self._options.rate else 0.0
        given_up = self._follower.given_up if self._follower else 0
        return Outcome(dict(self._published), round(seconds, 3), round(late_ms, 2), finished, given_up)

    def _passes(self) -> Iterator[tuple[Message, int]]:
        """Yield every message of every loop with the nanoseconds by which its times are moved."""
        period_ns = self._recording.period_ns()
        for loop in range(self._options.loops):
            for message in self._recording.messages():
                yield message, loop * period_ns

    def _unmatched(self) -> list[str]:
        """Return which topics have fewer subscribers than wanted, in words."""
        wanted = self._options.wait_for
        each = dict(wanted.each)
        matched = {self._names[topic]: sender.get_subscription_count() for topic, sender in self._publishers.items()}
        if self._clock is not None and CLOCK in each:
            matched[CLOCK] = self._clock.get_subscription_count()
        if absent := sorted(set(each) - set(matched)):
            played = ", ".join(sorted(matched))
            raise UsageError("--wait-for names topics that are not played", found=", ".join(absent), expected=played)
        if self._follower is not None and not self._follower.matched():
            return [f"no publisher of {self._follower.topic}"]
        if wanted.anywhere and not any(matched.values()):
            return ["no subscriber on any of " + ", ".join(matched)]
        counts = [(name, number, each.get(name, wanted.every)) for name, number in matched.items()]
        return [f"{name} has {number} of {needed}" for name, number, needed in counts if number < needed]

    def _publish(self, message: Message, shift_ns: int, stamps: TextIO | None) -> int:
        """Publish one message; return its stamp, -1 when its type has none."""
        stamped = message.topic in self._stamped
        data = shift_stamp(message.data, shift_ns) if stamped and shift_ns else message.data
        name = self._names[message.topic]
        sent_ns = time.monotonic_ns()
        self._publishers[message.topic].publish(data)
        self._published[name] += 1
        if stamps is not None and stamped:
            line = {"topic": name, "stamp_ns": read_stamp_ns(data), "sent_ns": sent_ns}
            stamps.write(json.dumps(line) + "\n")
        return read_stamp_ns(data) if stamped else -1

    def _sleep_until(self, due_ns: int, bag_ns: int) -> bool:
        """Sleep in slices, so that a signal ends the wait and /clock keeps its rate; bag_ns is the time at `due_ns`."""
        factor = 1.0 if self._options.hz else self._options.rate or 1.0
        slice_s = min(SLEEP_SLICE_S, 1 / self._options.clock_hz) if self._options.clock_hz else SLEEP_SLICE_S
        while (left_ns := due_ns - time.monotonic_ns()) > 0:
            self._tell_time(bag_ns - round(left_ns * factor))
            if not self._stop.sleep(min(left_ns / NS_PER_S, slice_s)):
                return False
        self._tell_time(bag_ns)
        return not self._stop.asked

    def _tell_time(self, now_ns: int) -> None:
        """Publish /clock; it never runs backwards, and not more often than `clock_hz`, except at a message."""
        if self._clock is None or now_ns <= self._clock_sent_ns:
            return
        self._clock_sent_ns = now_ns
        self._clock.publish(_clock_message(now_ns))

    def _drain(self) -> None:
        """Let the last messages arrive before the publishers go."""
        from rclpy.duration import Duration

        if not self._stop.asked:
            for publisher in self._publishers.values():
                publisher.wait_for_all_acked(Duration(seconds=2))
        self._stop.sleep(self._options.linger_s)


def reliability_of(link: Connection, options: PlaybackOptions) -> str:
    """Only images are sent best effort: they are large and replaceable; labels, boxes and the like are neither."""
    return options.reliability if link.msgtype in IMAGE_TYPES else "reliable"


def _quality(reliability: str, depth: int) -> Any:
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    policy = ReliabilityPolicy.RELIABLE if reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=depth, reliability=policy)


def _clock_publisher(node: Any) -> Any:
    from rosgraph_msgs.msg import Clock

    return node.create_publisher(Clock, CLOCK, 10)


def _clock_message(now_ns: int) -> Any:
    from builtin_interfaces.msg import Time
    from rosgraph_msgs.msg import Clock

    sec, nanosec = from_ns(now_ns)
    return Clock(clock=Time(sec=sec, nanosec=nanosec))


def play(options: PlaybackOptions) -> Outcome:
    """Play a bag from a node of its own: open, wait for the subscribers, publish, close.

    Everything heavy is imported once the signals are taken over, so that an early one ends it without a traceback.
    """
    with Stop() as stop, Recording(options.bag, options.topics) as recording:
        import rclpy

        from lisard_ros.node.compat import init, try_shutdown

        init(ROS_ARGUMENTS)
        node = rclpy.create_node("lisard_player", start_parameter_services=False)
        try:
            player = Player(node, recording, options, stop)
            player.wait()
            if options.stamps is None:
                return player.play(None)
            options.stamps.parent.mkdir(parents=True, exist_ok=True)
            with options.stamps.open("w", encoding="utf-8", buffering=1) as file:
                return player.play(file)
        finally:
            node.destroy_node()
            try_shutdown()


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("bag", type=Path, help="folder of the recording (sqlite3 or mcap)")
    parser.add_argument("--topics", default="", help="comma-separated topics to play (default: all)")
    parser.add_argument("--remap", action="append", default=[], metavar="FROM:=TO", help="publish topic FROM as TO")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--rate", type=_positive, default=1.0, help="factor on the recorded pace (default: 1)")
    pace.add_argument("--hz", type=_positive, help="frames per second instead of the recorded pace")
    pace.add_argument("--fast", action="store_true", help="publish as fast as possible")
    parser.add_argument(
        "--loops", type=int, default=1, help="how many times to play it, with rising stamps (default: 1)"
    )
    parser.add_argument(
        "--reliability",
        choices=("reliable", "best_effort"),
        default="reliable",
        help="reliability of images; everything else is reliable (default: reliable)",
    )
    parser.add_argument("--depth", type=int, default=10, help="queue depth of each publisher (default: 10)")
    parser.add_argument(
        "--wait-for",
        action="append",
        default=[],
        metavar="N|TOPIC=N",
        help="subscribers to wait for, on each topic or on one (default: one on any topic)",
    )
    parser.add_argument(
        "--wait-timeout", type=float, default=20.0, metavar="S", help="give up waiting after S seconds (default: 20)"
    )
    parser.add_argument(
        "--linger", type=float, default=0.5, metavar="S", help="end S seconds after the last message (default: 0.5)"
    )
    parser.add_argument(
        "--clock",
        nargs="?",
        type=_positive,
        const=40.0,
        metavar="HZ",
        help="publish /clock, 40 times a second without HZ",
    )
    parser.add_argument(
        "--profile",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="FILE",
        help="use this Fast DDS profile; without FILE: the shared-memory profile of this package",
    )
    parser.add_argument("--stamps", type=Path, metavar="FILE", help="write when each message was sent, as JSON lines")
    parser.add_argument(
        "--follow",
        metavar="TOPIC=TYPE",
        help="send the next frame when it is due and the previous one was answered on TOPIC",
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def to_options(arguments: argparse.Namespace) -> PlaybackOptions:
    """Turn parsed arguments into options."""
    return PlaybackOptions(
        bag=arguments.bag,
        topics=tuple(name for name in arguments.topics.split(",") if name),
        remap=tuple(_pair(rule, ":=", "--remap") for rule in arguments.remap),
        rate=None if arguments.fast else arguments.rate,
        hz=arguments.hz,
        loops=arguments.loops,
        reliability=arguments.reliability,
        depth=arguments.depth,
        wait_for=_wanted(arguments.wait_for),
        wait_timeout_s=arguments.wait_timeout,
        linger_s=arguments.linger,
        clock_hz=arguments.clock,
        stamps=arguments.stamps,
        follow=_pair(arguments.follow, "=", "--follow") if arguments.follow else None,
    )


def _wanted(words: Sequence[str]) -> Wanted:
    each: dict[str, int] = {}
    every = 0
    for word in words:
        topic, number = _pair(word, "=", "--wait-for") if "=" in word else ("", word)
        if not number.isdecimal():
            raise UsageError("--wait-for is not a count", found=repr(word), expected="N or TOPIC=N")
        if topic:
            each[topic] = int(number)
        else:
            every = int(number)
    return Wanted(every, tuple(each.items()), anywhere=not words)


def _pair(text: str, separator: str, option: str) -> tuple[str, str]:
    left, middle, right = text.partition(separator)
    if not (left and middle and right):
        raise UsageError(f"{option} is not a pair", found=repr(text), expected=f"LEFT{separator}RIGHT")
    return left, right


def run(arguments: argparse.Namespace) -> int:
    """Run the command; exit status 0 played to the end or ended by a signal, 1 failed, 2 usage error."""
    try:
        options = to_options(arguments)
        if arguments.profile is not None:
            use_profile(fastdds.profile_path() if arguments.profile == Path() else arguments.profile)
        outcome = play(options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"error: {needs.cannot_import(error)}", file=sys.stderr)
        return 2
    except LisardError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    summary = {
        "schema": SCHEMA,
        "bag": str(options.bag),
        "published": dict(outcome.published),
        "seconds": outcome.seconds,
        "late_max_ms": outcome.late_max_ms,
        "finished": outcome.finished,
        "unanswered": outcome.unanswered,
        "reliability": options.reliability,
        "profile": next((os.environ[name] for name in fastdds.VARIABLES if os.environ.get(name)), None),
    }
    print(json.dumps(summary), flush=True)
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command without the `lisard` command: `python -m lisard_ros.tools.player`."""
    parser = argparse.ArgumentParser(prog="lisard bag play", description=HELP)
    configure(parser)
    return run(parser.parse_args(words))


if __name__ == "__main__":
    raise SystemExit(main())
