"""The one place for rclpy calls that differ between Humble, Jazzy and Kilted.

Everything newer than Humble is guarded here, so that the rest of the node reads as if there were one rclpy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import rclpy
from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import ROSInterruptException
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

from lisard_ros.node import qos
from lisard_ros.node.qos import Offer

try:  # Iron and later
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError  # type: ignore[no-redef]

try:  # Kilted and later
    from rclpy.subscription import MessageInfo
except ImportError:
    MessageInfo = dict[str, Any]  # type: ignore[misc, assignment]

MsgT = TypeVar("MsgT")
INTERRUPTS = (KeyboardInterrupt, ExternalShutdownException, ROSInterruptException)

__all__ = [
    "INTERRUPTS",
    "MessageInfo",
    "guard_transitions",
    "init",
    "offers",
    "overriding",
    "parameter_overrides",
    "qos_overrides",
    "requests",
    "resolved_topics",
    "subscribe",
    "take",
    "try_shutdown",
]


def init(args: Sequence[str]) -> None:
    """Start rclpy without its signal handlers: the process has its own, which end it in order."""
    try:
        from rclpy.signals import SignalHandlerOptions
    except ImportError:  # before Humble's later releases
        rclpy.init(args=list(args))
        return
    rclpy.init(args=list(args), signal_handler_options=SignalHandlerOptions.NO)


def try_shutdown() -> None:
    """Shut the default context down unless that has happened already."""
    if hasattr(rclpy, "try_shutdown"):
        rclpy.try_shutdown()
    elif rclpy.ok():
        rclpy.shutdown()


def guard_transitions(node: LifecycleNode) -> None:
    """Answer a transition that the node's state does not allow with `success: false`, as Kilted's rclpy does.

    That of Humble and Jazzy raises in the service's callback, which would end the process.
    """
    service = node._service_change_state
    change = service.callback

    def guarded(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        try:
            return change(request, response)
        except rclpy_implementation.RCLError:
            response.success = False
            return response

    service.callback = guarded


def parameter_overrides(node: Node) -> dict[str, object]:
    """Return the overrides that reached `node` by file or command line, name -> value; rclpy has no public name."""
    return {name: parameter.value for name, parameter in node._parameter_overrides.items()}


def qos_overrides(node: Node, topic: str) -> qos.Overrides:
    """Return the QoS that the user has set for the subscription of `topic`."""
    return qos.overrides_of(parameter_overrides(node), node.resolve_topic_name(topic))


def overriding(overrides: qos.Overrides) -> QoSOverridingOptions:
    """Let rclpy declare and honour what the user has set, and nothing else.

    It would hold a subscription that is opened again to what it was first declared with.
    """
    return QoSOverridingOptions([QoSPolicyKind[policy.upper()] for policy in overrides.policies])


def resolved_topics(node: Node, topics: Sequence[str]) -> tuple[str, ...]:
    """Return the full names of `topics`, without those that are no names; configuring refuses these with words."""
    names = []
    for topic in topics:
        with contextlib.suppress(Exception):  # rclpy has several classes for a name it does not like
            names.append(node.resolve_topic_name(topic))
    return tuple(names)


def subscribe(
    node: Node,
    message_type: type[MsgT],
    topic: str,
    callback: Callable[[MsgT, MessageInfo], None],
    profile: QoSProfile,
    on_lost: Callable[[int], None],
    on_incompatible: Callable[[], None],
    group: CallbackGroup | None = None,
    overrides: qos.Overrides = qos.Overrides(),  # noqa: B008  frozen
    *,
    raw: bool = False,
) -> Subscription[MsgT]:
    """Subscribe with the middleware's events: `on_lost(frames)` and `on_incompatible()`, where they are supported.

    callback: gets the message and its info, an empty one on Humble. raw: the message stays serialised bytes.
    """
    if not hasattr(Subscription, "CallbackType"):  # Humble tells a callback nothing but the message
        with_info = callback

        def callback(message: MsgT) -> None:  # type: ignore[misc]
            with_info(message, cast("MessageInfo", {}))

    events = SubscriptionEventCallbacks(
        incompatible_qos=lambda info: on_incompatible(),
        message_lost=lambda info: on_lost(int(info.total_count_change)),
        use_default_callbacks=False,
    )
    options: dict[str, Any] = {
        "callback_group": group,
        "qos_overriding_options": overriding(overrides),
        "raw": raw,
    }
    try:
        return node.create_subscription(message_type, topic, callback, profile, event_callbacks=events, **options)
    except UnsupportedEventTypeError:  # a middleware without message_lost: loss stays unknown, nothing else changes
        fewer = SubscriptionEventCallbacks(incompatible_qos=lambda info: on_incompatible(), use_default_callbacks=False)
        return node.create_subscription(message_type, topic, callback, profile, event_callbacks=fewer, **options)


def take(subscription: Subscription[MsgT]) -> tuple[MsgT, MessageInfo] | None:
    """Take the next message of a subscription and its info outside the executor, or None when there is none."""
    with subscription.handle:
        taken: tuple[MsgT, MessageInfo] | None = subscription.handle.take_message(subscription.msg_type, False)
    return taken


def take_serialised(subscription: Subscription[Any]) -> bytes | None:
    """Take the next message of a subscription as its serialised bytes, outside the executor; None: there is none."""
    with subscription.handle:
        taken = subscription.handle.take_message(subscription.msg_type, True)
    return None if taken is None else bytes(taken[0])


def offers(node: Node, topic: str) -> tuple[Offer, ...]:
    """Return what each publisher of `topic` (fully resolved) offers."""
    return tuple(_offer(info) for info in node.get_publishers_info_by_topic(topic))


def requests(node: Node, topic: str) -> tuple[Offer, ...]:
    """Return what each subscription of `topic` (fully resolved) asks for."""
    return tuple(_offer(info) for info in node.get_subscriptions_info_by_topic(topic))


def _offer(info: TopicEndpointInfo) -> Offer:
    profile = info.qos_profile
    history = profile.history.name.lower()
    return Offer(
        f"{info.node_namespace.rstrip('/')}/{info.node_name}",
        info.topic_type,
        profile.reliability.name.lower(),
        profile.durability.name.lower(),
        "" if history in ("unknown", "system_default") else history,
        profile.depth,
    )
