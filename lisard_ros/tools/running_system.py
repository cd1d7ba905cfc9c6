"""What `lisard doctor --ros` concludes: pure functions from what was seen of a running system to findings.

`system_observer` looks; nothing here needs ROS. docs/troubleshooting.md lists every finding with its cure.
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lisard_ros.commands.doctor import OPTIONAL, REQUIRED, Finding
from lisard_ros.errors import UsageError
from lisard_ros.node import fastdds, qos
from lisard_ros.node.qos import Offer
from lisard_ros.statuses import StatusView

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
INPUT_TYPES = (*IMAGE_TYPES, "vision_msgs/msg/Detection2DArray")
ANSWER_TYPES = ("vision_msgs/msg/Classification", "vision_msgs/msg/Detection2DArray")
FAST_DDS = "rmw_fastrtps"
# Stamps that differ more from this machine's clock are reported: of another clock, or of a recording.
STAMP_TOLERANCE_S = 1.0
# The segment that Fast DDS makes for each process without a profile.
DEFAULT_SEGMENT_BYTES = 512 << 10
# Domains above have no ports (ROS 2 documentation, "The ROS_DOMAIN_ID").
HIGHEST_DOMAIN = 232
# Names of nodes or topics in one line.
MOST_NAMES = 8
_RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
_OK, _ERROR = 0, 2


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What decides about transport and discovery in this shell.

    middleware: name of the RMW implementation. shm_bytes, shm_free_bytes: of /dev/shm, 0 where there is none.
    """

    middleware: str
    environment: Mapping[str, str]
    shm_bytes: int
    shm_free_bytes: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What arrived on one topic while it was measured.

    rate_hz: 0 below two messages. largest_bytes: the largest message, serialised. lost: messages that the middleware
    reported as lost. age_s: median time since the stamps by this machine's clock; None without stamps.
    """

    messages: int
    rate_hz: float = 0.0
    largest_bytes: int = 0
    lost: int = 0
    age_s: float | None = None

    @property
    def loss_share(self) -> float:
        """Share of the messages known to be sent that were lost."""
        sent = self.messages + self.lost
        return self.lost / sent if sent else 0.0


@dataclass(frozen=True, slots=True)
class TopicView:
    """One topic: who publishes it and who subscribes with which QoS; traffic None where it was not measured."""

    name: str
    offers: tuple[Offer, ...] = ()
    requests: tuple[Offer, ...] = ()
    traffic: Traffic | None = None


@dataclass(frozen=True, slots=True)
class PerceptionView:
    """One node of this package: its topics and what it answers about itself.

    use_sim_time, diagnostics_period_s: None where it did not answer the question.
    """

    name: str
    inputs: tuple[TopicView, ...] = ()
    answers: tuple[TopicView, ...] = ()
    use_sim_time: bool | None = None
    diagnostics_period_s: float | None = None
    statuses: tuple[StatusView, ...] = ()


@dataclass(frozen=True, slots=True)
class RunningSystem:
    """All that was seen in `seconds`. nodes: full names, one for each node, without hidden ones.

    images: every image topic that somebody publishes, without our own overlays.
    """

    seconds: float
    surroundings: Surroundings
    nodes: tuple[str, ...]
    perception: tuple[PerceptionView, ...]
    images: tuple[TopicView, ...]
    clock: TopicView


def findings(system: RunningSystem) -> list[Finding]:
    """Return one finding for each thing that was looked at, the cure of what is wrong in its detail."""
    inputs = {topic.name for node in system.perception for topic in node.inputs}
    return [
        _middleware(system.surroundings),
        _discovery(system.surroundings.environment),
        _profile(system.surroundings),
        _shared_memory(system.surroundings),
        *_nodes(system),
        *_clock(system),
        *(finding for node in system.perception for finding in _perception(node, system)),
        *(finding for topic in system.images if topic.name not in inputs for finding in _other_images(topic)),
    ]


def require_domain(environment: Mapping[str, str]) -> None:
    """Refuse a domain with which ROS does not start.

    Raises:
        UsageError: ROS_DOMAIN_ID is no number, or has no ports.
    """
    domain = environment.get("ROS_DOMAIN_ID", "").strip()
    if domain and not (domain.isdecimal() and int(domain) <= HIGHEST_DOMAIN):
        raise UsageError("ROS_DOMAIN_ID", found=repr(domain), expected=f"an integer from 0 to {HIGHEST_DOMAIN}")


def fine(what: str, text: str) -> Finding:
    """Return a finding of something that is as it should be."""
    return Finding(what, REQUIRED, True, text)


def note(what: str, text: str) -> Finding:
    """Return a finding that a user should know and that need not be wrong."""
    return Finding(what, OPTIONAL, False, text)


def wrong(what: str, text: str) -> Finding:
    """Return a finding of something that is wrong: exit status 1."""
    return Finding(what, REQUIRED, False, text)


# --- transport and discovery, as this shell has them --------------------------------------------------------------


def _middleware(surroundings: Surroundings) -> Finding:
    """All processes of a system need the same middleware."""
    name = surroundings.middleware
    if not name.startswith(FAST_DDS):
        return note("middleware", f"{name}: what is reported about profiles and shared memory is about Fast DDS")
    return fine("middleware", f"{name}; all processes of a system need the same")


def _discovery(environment: Mapping[str, str]) -> Finding:
    """Whom the nodes that are started in this shell can see."""
    domain = f"ROS_DOMAIN_ID {environment.get('ROS_DOMAIN_ID') or '0 (not set)'}"
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    if environment.get("ROS_LOCALHOST_ONLY") == "1":
        return note(
            "discovery", f"{domain}, ROS_LOCALHOST_ONLY=1: nodes on other machines are not seen; unset it for these"
        )
    if reach == "OFF":
        return wrong(
            "discovery",
            f"{domain}, ROS_AUTOMATIC_DISCOVERY_RANGE=OFF: no node sees another; set it to LOCALHOST or SUBNET",
        )
    if reach and reach not in _RANGES:
        return wrong(
            "discovery",
            f"{domain}, ROS_AUTOMATIC_DISCOVERY_RANGE={reach} is no range and means LOCALHOST; set it to "
            "LOCALHOST or SUBNET",
        )
    peers = environment.get("ROS_STATIC_PEERS", "")
    return fine(
        "discovery", f"{domain}, range {reach or 'SUBNET (not set)'}" + (f", static peers {peers}" if peers else "")
    )


def _profile(surroundings: Surroundings) -> Finding:
    """Whether processes that are started in this shell can publish large best-effort images."""
    environment = surroundings.environment
    given = {name: environment[name] for name in fastdds.VARIABLES if environment.get(name)}
    if not given:
        return note(
            "DDS profile",
            "none is set in this shell: a camera driver that publishes large images best effort loses them; start it "
            f"with config/{fastdds.PROFILE_NAME} (docs/node.md, Reliability)",
        )
    absent = [f"{name}={path}" for name, path in given.items() if not Path(path).is_file()]
    if absent:
        return wrong(
            "DDS profile", f"{absent[0]} is not a file, so Fast DDS goes on without a profile; correct the path"
        )
    other = [f"{name}={path}" for name, path in given.items() if "<profiles" not in _text(path)]
    if other:
        return wrong("DDS profile", f"{other[0]} holds no profiles of Fast DDS; correct the path")
    read = fastdds.variable_names(environment.get("AMENT_PREFIX_PATH", ""))
    if read == (fastdds.OLDER,) and fastdds.OLDER not in given:
        return wrong("DDS profile", f"this version of Fast DDS does not read {fastdds.NEWER}; set {fastdds.OLDER}")
    return fine("DDS profile", ", ".join(f"{name}={path}" for name, path in given.items()))


def _text(path: str) -> str:
    """Return the text of a file, '' where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _shared_memory(surroundings: Surroundings) -> Finding:
    """Room for the segments of Fast DDS."""
    total, free = surroundings.shm_bytes, surroundings.shm_free_bytes
    if not total:
        return wrong("/dev/shm", "not there: images go through the network stack; mount it (docker: --ipc=host)")
    shown = f"{total >> 20} MiB, {free >> 20} MiB free"
    if free < DEFAULT_SEGMENT_BYTES:
        return wrong("/dev/shm", f"{shown}: full; remove what ended processes left with `fastdds shm clean`")
    if free < fastdds.SEGMENT_BYTES:
        return note(
            "/dev/shm",
            f"{shown}: a process with our profile takes {fastdds.SEGMENT_BYTES >> 20} MiB; make it larger (docker: "
            "--ipc=host or --shm-size), or remove what ended processes left with `fastdds shm clean`",
        )
    return fine("/dev/shm", shown)


# --- nodes and clock ------------------------------------------------------------------------------------------------


def _nodes(system: RunningSystem) -> list[Finding]:
    """Report who was discovered, and names that two nodes have."""
    if not system.nodes:
        text = (
            "no node was discovered: start the system, or run this with its ROS_DOMAIN_ID, its discovery range and its "
            "middleware"
        )
        return [wrong("nodes", text)]
    found = [fine("nodes", f"{len(system.nodes)}: {_some(sorted(set(system.nodes)))}")]
    ours = {node.name for node in system.perception}
    if not ours:
        text = "no perception node was discovered: start it, or run this with its ROS_DOMAIN_ID and discovery range"
        found.append(wrong("perception node", text))
    for name, count in sorted(Counter(system.nodes).items()):
        if count > 1:
            mark = wrong if name in ours else note
            text = f"{count} nodes have this name: their answers, services and parameters mix; start each under a name"
            found.append(mark(name, f"{text} of its own (-r __node:=NAME or -r __ns:=/NAMESPACE)"))
    return found


def _clock(system: RunningSystem) -> list[Finding]:
    """Compare use_sim_time of the nodes with what comes on /clock."""
    clock, messages = system.clock, system.clock.traffic.messages if system.clock.traffic else 0
    simulated = [node.name for node in system.perception if node.use_sim_time]
    real = [node.name for node in system.perception if node.use_sim_time is False]
    found = []
    if len(clock.offers) > 1:
        names = ", ".join(offer.node for offer in clock.offers)
        found.append(
            wrong(
                "clock",
                f"{len(clock.offers)} publishers of /clock ({names}): time jumps between them; stop all but one",
            )
        )
    if simulated and not messages:
        found.append(
            wrong(
                "clock",
                f"{', '.join(simulated)}: use_sim_time is set and /clock is silent ({len(clock.offers)} publishers); "
                "start the player or simulator that publishes it, or set use_sim_time to false",
            )
        )
    if real and messages:
        found.append(
            note(
                "clock",
                f"/clock is published and {', '.join(real)} follows the system clock; start it with "
                "use_sim_time:=true where its images come from a recording or a simulator",
            )
        )
    if not found:
        found.append(fine("clock", "/clock, as use_sim_time asks" if simulated else "the system clock"))
    return found


# --- one node of this package -----------------------------------------------------------------------------------------


def _perception(node: PerceptionView, system: RunningSystem) -> list[Finding]:
    """Report what a node answers about itself, its inputs and its answers."""
    found = []
    if node.use_sim_time is None:
        text = f"no answer from {node.name}/get_parameters: the process hangs or has been stopped"
        found.append(wrong(node.name, f"{text}; look at its log, start it again"))
    found += _diagnostics(node, system.seconds)
    images = [topic.name for topic in system.images]
    for topic in node.inputs:
        found += _input(topic, node.name, system.seconds, images)
    return found + [_answers(topic) for topic in node.answers]


def _diagnostics(node: PerceptionView, seconds: float) -> list[Finding]:
    """Report each status of the node; a WARN is wrong as well, but for an injection, which somebody asked for."""
    name = f"{node.name}: diagnostics"
    if not node.statuses:
        period_s = node.diagnostics_period_s or 1.0
        if period_s > seconds:
            return [
                note(name, f"none within {seconds:g} s, at one every {period_s:g} s; run this with a larger --seconds")
            ]
        text = f"none within {seconds:g} s, expected one every {period_s:g} s: the process hangs or has been stopped"
        return [wrong(name, f"{text}; look at its log, start it again")]
    found = []
    for status in node.statuses:
        what = f"{node.name}: {status.name}"
        state = status.value("state")
        if status.name == "injection" and status.level not in (_OK, _ERROR):
            found.append(note(what, f"{status.message}; ~/injection with data: false ends it"))
        elif status.level != _OK:
            level = "ERROR" if status.level >= _ERROR else "WARN"
            found.append(wrong(what, f"{level} {status.message} (docs/troubleshooting.md)"))
        elif state and state != "active":
            text = (
                f"the node is {state} and answers nothing; activate it: ros2 lifecycle set {node.name} {_next(state)}"
            )
            found.append(wrong(what, text))
        else:
            found.append(fine(what, status.message))
    return found


def _next(state: str) -> str:
    return "activate" if state == "inactive" else "configure"


def _input(topic: TopicView, node: str, seconds: float, images: Sequence[str]) -> list[Finding]:
    """Report one subscribed topic of a node: whether publishers and QoS fit, and what arrives."""
    request = next((one for one in topic.requests if one.node == node), None)
    if request is None:
        return [wrong(topic.name, f"the subscription of {node} has gone; look at the log of the node")]
    reason = qos.mismatch(
        "reliable" if request.reliability == "reliable" else "best_effort",
        request.topic_type,
        topic.offers,
        qos.Overrides(durability=request.durability),
    )
    traffic = topic.traffic or Traffic(0)
    if reason or not topic.offers:
        others = [name for name in images if name != topic.name]
        similar = difflib.get_close_matches(topic.name, others, n=MOST_NAMES, cutoff=0.0)
        return [wrong(topic.name, qos.describe(topic.name, seconds, topic.offers, reason, similar))]
    if not traffic.messages:
        reason = (
            "Its publisher is silent, or all is lost on the way: look at the publisher's log, and start it with "
            f"config/{fastdds.PROFILE_NAME} (docs/node.md, Reliability)"
        )
        return [wrong(topic.name, qos.describe(topic.name, seconds, topic.offers, reason, ()))]
    if traffic.loss_share > qos.LOSS_WARN_SHARE:
        return [wrong(topic.name, qos.loss_warning(topic.name, traffic.lost, traffic.loss_share))]
    return [fine(topic.name, _words(topic)), *_stamps(topic)]


def _stamps(topic: TopicView) -> list[Finding]:
    """Report stamps that are not of this machine's clock."""
    age_s = topic.traffic.age_s if topic.traffic is not None else None
    if age_s is None or abs(age_s) <= STAMP_TOLERANCE_S:
        return []
    text = (
        f"stamps are {abs(age_s):.1f} s {'behind' if age_s > 0 else 'ahead of'} this machine's clock: of a recording "
        "or a simulator (then set use_sim_time), or of another machine (then synchronise the clocks); max_age_ms would "
        "drop such frames"
    )
    return [note(f"{topic.name}: stamps", text)]


def _answers(topic: TopicView) -> Finding:
    """Report one output of a node, and subscriptions that get nothing of it."""
    for request in topic.requests:
        for offer in topic.offers:
            reason = _unmatched(offer, request)
            if reason:
                return wrong(topic.name, f"{request.node} gets nothing: it {reason}; change its subscription")
    return fine(topic.name, _words(topic))


def _other_images(topic: TopicView) -> list[Finding]:
    """Report an image topic that no node of this package has subscribed to."""
    for request in topic.requests:
        for offer in topic.offers:
            reason = _unmatched(offer, request)
            if reason:
                return [note(topic.name, f"{request.node} gets nothing from {offer.node}: it {reason}")]
    return [fine(topic.name, _words(topic))]


def _unmatched(offer: Offer, request: Offer) -> str:
    """Say what a subscription asks for that a publisher does not offer, or return ''."""
    if offer.topic_type != request.topic_type:
        return f"subscribes {request.topic_type}, published is {offer.topic_type}"
    if request.reliability == "reliable" and offer.reliability == "best_effort":
        return "asks for reliable, offered is best_effort"
    if request.durability == "transient_local" and offer.durability == "volatile":
        return "asks for transient_local, offered is volatile"
    return ""


def _words(topic: TopicView) -> str:
    """Describe a topic in one line: what was measured, who publishes and who subscribes."""
    traffic = topic.traffic
    if traffic is None:
        measured = "not measured, as nobody subscribes"
    else:
        large = traffic.largest_bytes >= 100_000
        shown = f"{traffic.largest_bytes / 1e6:.2f} MB" if large else f"{traffic.largest_bytes / 1e3:.1f} kB"
        size = f", up to {shown}" if traffic.messages else ""
        late = "" if traffic.age_s is None else f", {1e3 * traffic.age_s:.0f} ms after its stamp"
        measured = f"{traffic.rate_hz:.1f} Hz{size}{late}, {traffic.lost} lost"
    published = "; ".join(offer.words for offer in topic.offers)
    readers = "; ".join(request.words for request in topic.requests) or "nobody"
    return f"{measured}; published by {published}; read by {readers}"


def _some(names: Sequence[str]) -> str:
    """Join names, the first few of many."""
    return ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")


def shared_memory(folder: str = "/dev/shm") -> tuple[int, int]:
    """Return size and free space of the folder of shared memory in bytes; zeros where there is none."""
    try:
        place = os.statvfs(folder)
    except OSError:
        return 0, 0
    return place.f_frsize * place.f_blocks, place.f_frsize * place.f_bavail
