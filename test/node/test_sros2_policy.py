"""config/sros2_policy.xml allows exactly the names that running nodes create: it stops nothing, and allows no more."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

from peers import NodeProcess, Peer, wait_until

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "config/sros2_policy.xml"
NAME = "perception"
# Humble's nodes do not offer it.
NEWER_THAN_HUMBLE = {"get_type_description"}
Names = dict[str, set[str]]
# Nodes that together use everything: a classifier of whole frames, and one of the boxes of a topic.
PARAMETERS: dict[str, dict[str, str]] = {"/secured": {}, "/secured_boxes": {"boxes_topic": "boxes"}}


def full(name: str, namespace: str) -> str:
    """A name of the policy as ROS resolves it for the node in a namespace."""
    if name.startswith("/"):
        return name
    return f"{namespace}/{NAME}{name[1:]}" if name.startswith("~") else f"{namespace}/{name}"


def allowed(namespace: str) -> Names:
    """What the policy allows, by right: publish, subscribe, reply, request."""
    rights: Names = {right: set() for right in ("publish", "subscribe", "reply", "request")}
    (profile,) = ElementTree.parse(POLICY).getroot().iter("profile")
    assert profile.get("node") == NAME and profile.get("ns") == "/"
    for group in profile:
        for right, verdict in group.attrib.items():
            assert verdict == "ALLOW"
            names = [full((entry.text or "").strip(), namespace) for entry in group]
            assert not rights[right] & set(names), "a name is there twice"
            rights[right].update(names)
    return rights


def created(peer: Peer, namespace: str) -> Names:
    """What a node has made, as the graph shows it."""
    node = peer.node

    def names(pairs: list[tuple[str, list[str]]]) -> set[str]:
        return {name for name, _ in pairs}

    return {
        "publish": names(node.get_publisher_names_and_types_by_node(NAME, namespace)),
        "subscribe": names(node.get_subscriber_names_and_types_by_node(NAME, namespace)),
        "reply": names(node.get_service_names_and_types_by_node(NAME, namespace)),
        "request": names(node.get_client_names_and_types_by_node(NAME, namespace)),
    }


def settled(look: Callable[[], list[Names]]) -> list[Names]:
    """What LOOK returns once it has stayed the same for two seconds; discovery takes a moment."""
    seen, since = look(), time.monotonic()
    deadline = since + 30
    while time.monotonic() < min(since + 2, deadline):
        time.sleep(0.2)
        now = look()
        if now != seen:
            seen, since = now, time.monotonic()
    return seen


def test_the_policy_allows_what_the_node_creates_and_no_more(
    peer: Peer, bundle: Path, start: Callable[..., NodeProcess]
) -> None:
    always = {"bundle": bundle, "injection__enabled": True, "use_sim_time": True}
    nodes = [start(namespace, **always, **more) for namespace, more in PARAMETERS.items()]
    for node in nodes:
        node.said("active: ")
    expected = {(NAME, namespace) for namespace in PARAMETERS}
    wait_until(lambda: expected <= set(peer.node.get_node_names_and_namespaces()), "the nodes in the graph")
    first = next(iter(PARAMETERS))
    wanted = allowed(first)
    union: Names = {right: set() for right in wanted}
    of_each = settled(lambda: [created(peer, namespace) for namespace in PARAMETERS])
    for namespace, found in zip(PARAMETERS, of_each, strict=True):
        for right, names in found.items():
            union[right] |= {re.sub(rf"^{namespace}/", f"{first}/", name) for name in names}
    assert [node.stop() for node in nodes] == [0, 0]
    missing = {name.rpartition("/")[2] for name in wanted["reply"] - union["reply"]}
    assert missing <= NEWER_THAN_HUMBLE
    wanted["reply"] = {name for name in wanted["reply"] if name.rpartition("/")[2] not in missing}
    assert union == wanted
