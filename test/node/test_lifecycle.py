"""The lifecycle from outside, without /clock, and a second node of the same name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from diagnostic_msgs.srv import SelfTest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from peers import NodeProcess, Peer, image, wait_until
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool
from vision_msgs.msg import Classification

NAME = "/life/perception"
Start = Callable[..., NodeProcess]


def change(peer: Peer, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return peer.call(ChangeState, f"{NAME}/change_state", request).success


def state(peer: Peer) -> str:
    return peer.call(GetState, f"{NAME}/get_state").current_state.label


def test_a_manager_leads_the_node_through_its_states_without_clock(peer: Peer, bundle: Path, start: Start) -> None:
    """use_sim_time without /clock: diagnostics, services and answers all work."""
    diagnosis = peer.diagnosis(NAME)
    node = start(
        "/life",
        bundle=bundle,
        image_topics=["/l/cam/image_raw"],
        autostart=False,
        use_sim_time=True,
        diagnostics_period_s=0.2,
        max_age_ms=1.0,
        no_image_warn_s=0.5,
    )
    wait_until(lambda: diagnosis.values.get("model", {}).get("state") == "unconfigured", "early diagnostics")
    assert peer.call(SelfTest, f"{NAME}/self_test").passed == b"\x00"
    assert peer.call(SetBool, f"{NAME}/injection", SetBool.Request(data=False)).success

    assert change(peer, Transition.TRANSITION_CONFIGURE)
    assert state(peer) == "inactive" and peer.node.count_subscribers("/l/cam/image_raw") == 0
    assert not change(peer, Transition.TRANSITION_CONFIGURE), "it is configured already"
    assert change(peer, Transition.TRANSITION_ACTIVATE)
    camera = peer.publisher(Image, "/l/cam/image_raw")
    answers = peer.collect(Classification, f"{NAME}/l/cam/classification")
    camera.publish(image((200, 20, 20), 1_000))
    assert wait_until(lambda: answers and answers[0], "an answer").results[0].class_id == "red"
    wait_until(lambda: "/clock is silent" in diagnosis.messages["model"], "the clock in the diagnostics")
    wait_until(lambda: "1 publisher: /peer" in diagnosis.messages.get("camera l/cam", ""), "the silence")
    assert "age_p50_ms" not in diagnosis.values["camera l/cam"]

    assert change(peer, Transition.TRANSITION_DEACTIVATE)
    wait_until(lambda: camera.get_subscription_count() == 0, "the subscription to go")
    assert change(peer, Transition.TRANSITION_CLEANUP)
    wait_until(lambda: diagnosis.values["model"]["bundle"] == "", "the model to be freed")
    assert change(peer, Transition.TRANSITION_CONFIGURE) and change(peer, Transition.TRANSITION_ACTIVATE)
    wait_until(lambda: camera.get_subscription_count() == 1, "the subscription to come back")
    camera.publish(image((20, 200, 20), 2_000))
    wait_until(lambda: len(answers) == 2, "an answer after cleanup and configure")
    assert change(peer, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert state(peer) == "finalized"
    assert node.stop() == 0 and "Traceback" not in node.log
    peer.node.destroy_publisher(camera)


def test_a_second_node_of_the_same_name_is_a_warning(peer: Peer, bundle: Path, start: Start) -> None:
    diagnosis = peer.diagnosis("/twins/perception")
    first, second = (
        start("/twins", bundle=bundle, image_topics=["/w/image"], diagnostics_period_s=0.2) for _ in range(2)
    )
    wait_until(lambda: "2 nodes have this name" in diagnosis.messages.get("model", ""), "the warning")
    assert diagnosis.levels["model"] == "WARN"
    first.said("2 nodes have this name")
    assert second.stop() == 0
    wait_until(lambda: "nodes have this name" not in diagnosis.messages["model"], "the warning to end")
    assert first.stop() == 0


def test_a_transition_made_from_outside_is_no_error(peer: Peer, bundle: Path, start: Start) -> None:
    """A lifecycle manager that also configures and activates the node: the node stays active."""
    node = start("/life", bundle=bundle, image_topics=["/l/cam/image_raw"], diagnostics_period_s=0.2)
    node.said("active: ")
    assert not change(peer, Transition.TRANSITION_CONFIGURE)
    assert state(peer) == "active"
    assert node.stop() == 0
