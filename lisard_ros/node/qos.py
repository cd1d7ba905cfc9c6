"""Which reliability to subscribe with, decided from what the publishers of a topic offer.

Pure: the node asks the graph, these functions decide. A best-effort subscription loses large images of a reliable
camera as well (its writer does not repeat them for us), so reliable is used wherever every publisher offers it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Reliability = Literal["reliable", "best_effort"]
Policy = Literal["auto", "best_effort", "reliable"]

OVERRIDE_PREFIX = "qos_overrides."
MOST_DEPTH = 1000
# Above this share, frames lost in transport are reported.
LOSS_WARN_SHARE = 0.01
# What a user may set for a subscription with the parameter qos_overrides.TOPIC.subscription.POLICY. Every image kept
# would be memory without an end, so history stays keep_last.
_OVERRIDES: dict[str, tuple[str, ...]] = {
    "reliability": ("reliable", "best_effort"),
    "durability": ("volatile", "transient_local"),
    "history": ("keep_last",),
    "depth": (),
}
# rclpy itself takes the overrides of these.
_RCLPY_TOPICS = ("/clock.", "/parameter_events.", "/rosout.")


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the user has set for one subscription; `policies` names all of it for rclpy, None means not set."""

    reliability: Policy | None = None
    depth: int | None = None
    durability: str | None = None
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """What one publisher of a topic offers."""

    node: str
    topic_type: str
    reliability: str
    durability: str
    history: str = ""
    depth: int = 0

    @property
    def words(self) -> str:
        """The publisher as a user reads it in /diagnostics."""
        queue = f", {self.history} {self.depth}" if self.history else ""
        return f"{self.node} ({self.topic_type}, {self.reliability}, {self.durability}{queue})"


def decide(policy: str, offered: Iterable[str]) -> Reliability:
    """Return the reliability to subscribe with.

    auto: reliable when every publisher offers it, and while there is none: a best-effort publisher that comes then
    raises the incompatible-QoS event before a single frame could be matched, and the decision is made again.
    """
    if policy != "auto":
        return "reliable" if policy == "reliable" else "best_effort"
    return "reliable" if all(reliability == "reliable" for reliability in offered) else "best_effort"


def overrides_of(values: Mapping[str, object], topic: str) -> Overrides:
    """Return what `values` (parameter name -> value, checked by `complaint`) set for the subscription of `topic`."""
    given = {policy: values.get(_override_name(topic, policy)) for policy in _OVERRIDES}
    policies = tuple(policy for policy, value in given.items() if value is not None)
    return Overrides(given["reliability"], given["depth"], given["durability"], policies)  # type: ignore[arg-type]


def complaint(name: str, value: object, topics: Sequence[str]) -> str:
    """Say why a parameter is a QoS override that cannot be honoured, or return '' when it can or is none.

    topics: what the node subscribes to, fully resolved.
    """
    if not name.startswith(OVERRIDE_PREFIX) or name.removeprefix(OVERRIDE_PREFIX).startswith(_RCLPY_TOPICS):
        return ""
    known = {_override_name(topic, policy): policy for topic in topics for policy in _OVERRIDES}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        expected = f"{', '.join(_OVERRIDES)} of a subscription to {' or '.join(topics)}"
        return f"parameter '{name}': no QoS of this node that can be set, expected {expected}{hint}"
    choices = _OVERRIDES[known[name]]
    if choices and value not in choices:
        return f"parameter '{name}': found {value!r}, expected {' or '.join(choices)}"
    if not choices and not (type(value) is int and 1 <= value <= MOST_DEPTH):
        return f"parameter '{name}': found {value!r}, expected an integer in [1, {MOST_DEPTH}]"
    return ""


def _override_name(topic: str, policy: str) -> str:
    return f"{OVERRIDE_PREFIX}{topic}.subscription.{policy}"


def mismatch(policy: Reliability, wanted_type: str, offers: Sequence[Offer], overrides: Overrides = Overrides()) -> str:
    """Say in words why `offers` cannot reach a subscription of `wanted_type`, or '' when they can."""
    wrong = [offer for offer in offers if offer.topic_type != wanted_type]
    if wrong:
        hint = "a CompressedImage topic ends in /compressed"
        return f"wrong type: {wrong[0].topic_type} instead of {wanted_type} ({hint})"
    refused = [offer for offer in offers if policy == "reliable" and offer.reliability == "best_effort"]
    if refused:
        cure = "remove the QoS override" if overrides.reliability else "set reliability to auto"
        return f"the subscription asks for reliable, the publisher offers best_effort: {cure}"
    if overrides.durability == "transient_local" and any(offer.durability == "volatile" for offer in offers):
        return "the QoS override asks for transient_local, the publisher offers volatile: remove the override"
    return ""


def describe(topic: str, silent_s: float, offers: Sequence[Offer], reason: str, similar: Sequence[str]) -> str:
    """Say that no image came for `silent_s` seconds, who publishes the topic and with which QoS."""
    text = f"no image on {topic} for {silent_s:.0f} s: "
    if not offers:
        hint = f"; image topics that exist: {', '.join(similar)}" if similar else "; no image topic exists"
        return text + "0 publishers" + hint
    plural = "s" if len(offers) > 1 else ""
    text += f"{len(offers)} publisher{plural}: " + "; ".join(offer.words for offer in offers)
    return f"{text}. {reason}" if reason else text


def loss_warning(topic: str, lost: int, share: float) -> str:
    """Report how much of a topic is lost in transport, and the cure."""
    return (
        f"{topic}: {lost} frames ({100 * share:.1f} %) lost in transport; start the process that PUBLISHES {topic} "
        "with FASTDDS_DEFAULT_PROFILES_FILE (Fast DDS 2: FASTRTPS_DEFAULT_PROFILES_FILE) set to lisard_ros's "
        "config/fastdds_shm.xml, or let it publish reliable; a profile in this node does not help"
    )
