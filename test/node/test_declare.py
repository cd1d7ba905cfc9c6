"""Parameters on a real node: files as launch_ros writes them, bulk reads, changes in another type, QoS overrides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from peers import NodeProcess, Peer, node_with, wait_until
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import Image

from lisard_ros.node.parameters import BY_NAME

Start = Callable[..., NodeProcess]


def run_to_the_end(*words: str) -> tuple[int, str]:
    process = node_with(["--ros-args", "-r", "__ns:=/declare", *words])
    try:
        return process.wait(30), process.log
    finally:
        process.process.kill()


def test_lists_of_a_python_launch_file_are_read(tmp_path: Path) -> None:
    """launch_ros writes them as !!python/tuple, which the safe loader of PyYAML refused."""
    file = tmp_path / "params.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    image_topics: !!python/tuple\n    - /a/image_raw\n"
        "    fixed_boxes: !!python/tuple [0.0, 0.0, 8.0, 8.0]\n    top_k: 0\n",
        encoding="utf-8",
    )
    status, log = run_to_the_end("--params-file", str(file))
    assert "parameter 'top_k': found 0 (int)" in log and "tag" not in log
    assert status == 2


def everything(peer: Peer, node: str) -> dict[str, object]:
    """Read all parameters as `ros2 param dump` does."""
    request = ListParameters.Request(depth=0)
    names = list(peer.call(ListParameters, f"{node}/list_parameters", request).result.names)
    values = peer.call(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=names)).values
    assert len(values) == len(names)
    found = {name: parameter_value_to_python(value) for name, value in zip(names, values, strict=True)}
    return {
        name: list(value) if hasattr(value, "__len__") and not isinstance(value, str) else value
        for name, value in found.items()
    }


def test_a_dump_is_complete_and_is_taken_as_a_params_file(
    peer: Peer, bundle: Path, start: Start, tmp_path: Path
) -> None:
    node = start("/dump", bundle=bundle, image_topics=["/dump/image"], threads=2)
    node.said("active: ")
    read = everything(peer, "/dump/perception")
    assert set(BY_NAME) <= set(read)
    assert read["camera_names"] == [] and read["fixed_boxes"] == [] and read["self_test.suite"] == []
    assert node.stop() == 0
    file = tmp_path / "dump.yaml"
    file.write_text(yaml.safe_dump({"/dump/perception": {"ros__parameters": read}}), encoding="utf-8")
    again = node_with(["--ros-args", "-r", "__ns:=/dump", "--params-file", str(file)])
    try:
        again.said("active: ")
        assert everything(peer, "/dump/perception") == read
    finally:
        assert again.stop() == 0


def test_a_change_at_run_time_may_have_another_type(peer: Peer, bundle: Path, start: Start) -> None:
    node = start("/change", bundle=bundle, image_topics=["/change/image"])
    node.said("active: ")

    def change(name: str, **value: object) -> tuple[bool, str]:
        request = SetParameters.Request(parameters=[Parameter(name=name, value=ParameterValue(**value))])
        (result,) = peer.call(SetParameters, "/change/perception/set_parameters", request).results
        return result.successful, result.reason

    assert change("min_score", type=2, integer_value=1) == (True, "")
    assert everything(peer, "/change/perception")["min_score"] == 1.0
    assert change("self_test.suite", type=4, string_value="clean") == (True, "")
    successful, reason = change("min_score", type=4, string_value="high")
    assert not successful and "found 'high' (str), expected a number in [0, 1]" in reason
    successful, reason = change("roi_classes", type=9, string_array_value=["stop"])
    assert not successful and "read-only" in reason
    assert node.stop() == 0


def reliabilities(peer: Peer, topic: str) -> set[ReliabilityPolicy]:
    return {info.qos_profile.reliability for info in peer.node.get_subscriptions_info_by_topic(topic)}


def test_a_qos_override_of_an_image_topic_is_honoured_whatever_comes(peer: Peer, bundle: Path, start: Start) -> None:
    override = {"qos_overrides./qos/image_raw.subscription.reliability": "best_effort"}
    words = {"bundle": bundle, "image_topics": ["image_raw"], "reliability": "reliable", "diagnostics_period_s": 0.1}
    node = start("/qos", **words, **override)
    node.said("active: ")
    wait_until(lambda: reliabilities(peer, "/qos/image_raw"), "the subscription")
    publisher = peer.publisher(Image, "/qos/image_raw")  # a reliable one, which `auto` would follow
    diagnosis = peer.diagnosis("/qos/perception")
    wait_until(lambda: diagnosis.count > 3, "a few looks at the publishers")
    assert reliabilities(peer, "/qos/image_raw") == {ReliabilityPolicy.BEST_EFFORT}
    assert everything(peer, "/qos/perception")[next(iter(override))] == "best_effort"
    peer.node.destroy_publisher(publisher)
    assert node.stop() == 0


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "/declare/image_ra.subscription.reliability:=reliable",
            "did you mean 'qos_overrides./declare/image_raw.s",
        ),
        ("/declare/image_raw.publisher.depth:=5", "no QoS of this node that can be set"),
        ("/declare/image_raw.subscription.reliability:=best", "found 'best', expected reliable or best_effort"),
        ("/declare/image_raw.subscription.depth:=0", "found 0, expected an integer in [1, 1000]"),
    ],
)
def test_a_qos_override_that_cannot_be_honoured_is_refused(override: str, said: str) -> None:
    status, log = run_to_the_end("-p", f"qos_overrides.{override}")
    assert status == 2 and said in log and "Traceback" not in log


def test_a_section_for_a_like_name_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "slip.yaml"
    file.write_text("/declare/perceptoin:\n  ros__parameters:\n    top_k: 0\n", encoding="utf-8")
    status, log = run_to_the_end("--params-file", str(file))
    assert "the section '/declare/perceptoin' is for another node and ignored: did you mean '/declare/percep" in log
    assert status == 1  # not 2: the section is ignored, as ROS does, and no bundle is named
