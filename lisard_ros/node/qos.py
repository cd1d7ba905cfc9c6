"""Which reliability to subscribe with, decided from what the publishers of a topic offer.

Pure: the node asks the graph, these functions decide. A best-effort subscription loses large images of a reliable
camera as well (its writer does not repeat them for us), so reliable is used wherever every publisher offers it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Reliability = Literal["reliable", "best_effort"]
Policy = Literal["auto", "best_effort", "reliable"]


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


def mismatch(policy: Reliability, wanted_type: str, offers: Sequence[Offer]) -> str:
    """Say in words why `offers` cannot reach a subscription of `wanted_type`, or '' when they can."""
    wrong = [offer for offer in offers if offer.topic_type != wanted_type]
    if wrong:
        hint = "a CompressedImage topic ends in /compressed"
        return f"wrong type: {wrong[0].topic_type} instead of {wanted_type} ({hint})"
    refused = [offer for offer in offers if policy == "reliable" and offer.reliability == "best_effort"]
    if refused:
        return "the subscription asks for reliable, the publisher offers best_effort: set reliability to auto"
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
