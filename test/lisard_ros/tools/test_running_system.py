"""What `lisard doctor --ros` concludes from a system, without ROS: one fault each, and a sound system without any."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from lisard_ros.errors import UsageError
from lisard_ros.node import fastdds
from lisard_ros.node.qos import Offer
from lisard_ros.tools import running_system
from lisard_ros.tools.running_system import (
    PerceptionView,
    RunningSystem,
    StatusView,
    Surroundings,
    TopicView,
    Traffic,
)

ROOT = Path(__file__).resolve().parents[3]
PROFILE = str(ROOT / "config" / fastdds.PROFILE_NAME)
GIB = 1 << 30
IMAGE, ANSWER = "sensor_msgs/msg/Image", "vision_msgs/msg/Classification"

CAMERA = TopicView(
    "/front/image_raw",
    (Offer("/cam", IMAGE, "best_effort", "volatile", "keep_last", 5),),
    (Offer("/perception", IMAGE, "best_effort", "volatile", "keep_last", 1),),
    Traffic(90, 30.0, 921_700, 0, 0.012),
)
ANSWERS = TopicView(
    "/perception/front/classification",
    (Offer("/perception", ANSWER, "reliable", "volatile", "keep_last", 10),),
    (Offer("/planner", ANSWER, "reliable", "volatile"),),
    Traffic(90, 30.0, 300, 0, 0.04),
)
MODEL = StatusView("model", 0, "active", (("state", "active"), ("backend", "ONNX Runtime")))
NODE = PerceptionView(
    "/perception", (CAMERA,), (ANSWERS,), False, 1.0, (MODEL, StatusView("camera front", 0, "30.0 Hz"))
)
SURROUNDINGS = Surroundings("rmw_fastrtps_cpp", {fastdds.NEWER: PROFILE, fastdds.OLDER: PROFILE}, GIB, GIB)
SOUND = RunningSystem(3.0, SURROUNDINGS, ("/cam", "/perception", "/planner"), (NODE,), (CAMERA,), TopicView("/clock"))


def with_environment(**variables: str) -> RunningSystem:
    environment: Mapping[str, str] = {**SURROUNDINGS.environment, **variables}
    return replace(SOUND, surroundings=replace(SURROUNDINGS, environment=environment))


def with_camera(**changes: object) -> RunningSystem:
    camera = replace(CAMERA, **changes)  # type: ignore[arg-type]
    return replace(SOUND, perception=(replace(NODE, inputs=(camera,)),), images=(camera,) if camera.offers else ())


def with_node(**changes: object) -> RunningSystem:
    return replace(SOUND, perception=(replace(NODE, **changes),))  # type: ignore[arg-type]


def lines(system: RunningSystem) -> dict[str, str]:
    """The findings that are not fine, by what they are about: FAIL or `-`, then the words."""
    return {
        f.what: f"{'FAIL' if f.need == 'required' else '-'} {f.detail}"
        for f in running_system.findings(system)
        if not f.ok
    }


def test_a_sound_system_has_no_fault_and_every_topic_is_listed() -> None:
    found = {finding.what: finding for finding in running_system.findings(SOUND)}
    assert lines(SOUND) == {}
    assert found["/front/image_raw"].detail == (
        "30.0 Hz, up to 0.92 MB, 12 ms after its stamp, 0 lost; published by /cam (sensor_msgs/msg/Image, best_effort, "
        "volatile, keep_last 5); read by /perception (sensor_msgs/msg/Image, best_effort, volatile, keep_last 1)"
    )
    assert "read by /planner" in found["/perception/front/classification"].detail
    assert found["/perception: model"].detail == "active" and found["discovery"].detail.startswith("ROS_DOMAIN_ID 0")


@pytest.mark.parametrize(
    ("system", "what", "words"),
    [
        (replace(SOUND, nodes=(), perception=(), images=()), "nodes", "FAIL no node was discovered"),
        (replace(SOUND, perception=()), "perception node", "FAIL no perception node was discovered"),
        (replace(SOUND, nodes=(*SOUND.nodes, "/perception")), "/perception", "FAIL 2 nodes have this name"),
        (replace(SOUND, nodes=(*SOUND.nodes, "/cam")), "/cam", "- 2 nodes have this name"),
        (with_environment(ROS_AUTOMATIC_DISCOVERY_RANGE="OFF"), "discovery", "set it to LOCALHOST or SUBNET"),
        (with_environment(ROS_AUTOMATIC_DISCOVERY_RANGE="HOST"), "discovery", "HOST is no range and means LOCALHOST"),
        (with_environment(ROS_LOCALHOST_ONLY="1"), "discovery", "- ROS_DOMAIN_ID 0 (not set), ROS_LOCALHOST_ONLY=1"),
        (with_environment(**{fastdds.NEWER: "", fastdds.OLDER: ""}), "DDS profile", "- none is set in this shell"),
        (with_environment(**{fastdds.NEWER: "/no.xml"}), "DDS profile", "FAIL FASTDDS_DEFAULT_PROFILES_FILE=/no.xml"),
        (with_environment(**{fastdds.NEWER: __file__}), "DDS profile", "holds no profiles of Fast DDS"),
        (
            replace(SOUND, surroundings=replace(SURROUNDINGS, middleware="rmw_zenoh_cpp")),
            "middleware",
            "- rmw_zenoh_cpp",
        ),
        (replace(SOUND, surroundings=replace(SURROUNDINGS, shm_bytes=0)), "/dev/shm", "--ipc=host"),  # noqa: S108
        (replace(SOUND, surroundings=replace(SURROUNDINGS, shm_free_bytes=1000)), "/dev/shm", "fastdds shm clean"),  # noqa: S108
        (replace(SOUND, surroundings=replace(SURROUNDINGS, shm_free_bytes=8 << 20)), "/dev/shm", "takes 64 MiB"),  # noqa: S108
        (with_node(use_sim_time=None), "/perception", "FAIL no answer from /perception/get_parameters"),
        (with_node(statuses=()), "/perception: diagnostics", "FAIL none within 3 s, expected one every 1 s"),
        (with_node(statuses=(), diagnostics_period_s=10.0), "/perception: diagnostics", "- none within 3 s"),
        (
            with_node(statuses=(StatusView("model", 0, "inactive", (("state", "inactive"),)),)),
            "/perception: model",
            "ros2 lifecycle set /perception activate",
        ),
        (with_node(statuses=(StatusView("model", 2, "cannot"),)), "/perception: model", "FAIL ERROR cannot (docs/"),
        (with_node(statuses=(StatusView("camera a", 1, "lost"),)), "/perception: camera a", "FAIL WARN lost (docs/"),
        (
            with_node(statuses=(StatusView("injection", 1, "injection is on: noise"),)),
            "/perception: injection",
            "- inj",
        ),
        (with_camera(offers=()), "/front/image_raw", "FAIL no image on /front/image_raw for 3 s: 0 publishers"),
        (
            with_camera(requests=(replace(CAMERA.requests[0], reliability="reliable"),)),
            "/front/image_raw",
            "set reliability to auto",
        ),
        (
            with_camera(requests=(replace(CAMERA.requests[0], durability="transient_local"),)),
            "/front/image_raw",
            "the publisher offers volatile: remove the override",
        ),
        (
            with_camera(offers=(replace(CAMERA.offers[0], topic_type="sensor_msgs/msg/CompressedImage"),)),
            "/front/image_raw",
            "FAIL no image on /front/image_raw for 3 s: 1 publisher",
        ),
        (with_camera(traffic=Traffic(0)), "/front/image_raw", "FAIL no image on /front/image_raw for 3 s: 1 publisher"),
        (with_camera(traffic=Traffic(80, 30.0, 9, 10)), "/front/image_raw", "start the process that PUBLISHES"),
        (with_camera(requests=()), "/front/image_raw", "FAIL the subscription of /perception has gone"),
        (
            with_camera(traffic=replace(CAMERA.traffic, age_s=86_400.0)),
            "/front/image_raw: stamps",
            "- stamps are 86400.0 s behind this machine's clock",
        ),
        (
            with_camera(traffic=replace(CAMERA.traffic, age_s=-2.0)),
            "/front/image_raw: stamps",
            "- stamps are 2.0 s ahead of this machine's clock",
        ),
        (
            with_node(answers=(replace(ANSWERS, requests=(Offer("/late", ANSWER, "reliable", "transient_local"),)),)),
            "/perception/front/classification",
            "FAIL /late gets nothing: it asks for transient_local, offered is volatile",
        ),
        (
            replace(
                SOUND,
                images=(replace(CAMERA, name="/x", requests=(Offer("/viewer", IMAGE, "reliable", "volatile"),)),),
            ),
            "/x",
            "- /viewer gets nothing from /cam: it asks for reliable, offered is best_effort",
        ),
        (with_node(use_sim_time=True), "clock", "FAIL /perception: use_sim_time is set and /clock is silent"),
        (
            replace(SOUND, clock=TopicView("/clock", traffic=Traffic(100, 40.0))),
            "clock",
            "- /clock is published and /perception follows the system clock",
        ),
        (
            replace(with_node(use_sim_time=True), clock=TopicView("/clock", (CAMERA.offers * 2), (), Traffic(9))),
            "clock",
            "FAIL 2 publishers of /clock",
        ),
    ],
)
def test_each_fault_is_one_finding_with_what_to_do(system: RunningSystem, what: str, words: str) -> None:
    found = lines(system)
    assert list(found) == [what] and words in found[what], found


def test_a_topic_without_a_publisher_names_those_that_exist() -> None:
    other = replace(CAMERA, name="/front/image", requests=())
    silent = with_camera(offers=())
    found = lines(replace(silent, images=(other,)))
    assert "image topics that exist: /front/image" in found["/front/image_raw"]


def test_a_variable_that_fast_dds_2_does_not_read_is_named(tmp_path: Path) -> None:
    share = tmp_path / "share" / fastdds.MIDDLEWARE
    share.mkdir(parents=True)
    (share / "package.xml").write_text("<package><depend>fastrtps</depend></package>", encoding="utf-8")
    system = with_environment(AMENT_PREFIX_PATH=str(tmp_path), **{fastdds.OLDER: ""})
    assert lines(system)["DDS profile"].startswith("FAIL this version of Fast DDS does not read FASTDDS_DEFAULT")


def test_a_topic_that_nobody_reads_is_not_measured() -> None:
    unread = replace(CAMERA, name="/rear/image_raw", requests=(), traffic=None)
    (finding,) = [f for f in running_system.findings(replace(SOUND, images=(CAMERA, unread))) if "rear" in f.what]
    assert finding.ok and "not measured, as nobody subscribes" in finding.detail


def test_the_segment_is_that_of_the_profile() -> None:
    text = (ROOT / "config" / fastdds.PROFILE_NAME).read_text(encoding="utf-8")
    assert f"<segment_size>{fastdds.SEGMENT_BYTES}<" in text


@pytest.mark.parametrize("domain", ["999", "-1", "abc"])
def test_a_domain_without_ports_is_refused(domain: str) -> None:
    running_system.require_domain({})
    running_system.require_domain({"ROS_DOMAIN_ID": "42"})
    with pytest.raises(UsageError, match="expected an integer from 0 to 232"):
        running_system.require_domain({"ROS_DOMAIN_ID": domain})


def test_the_folder_of_shared_memory() -> None:
    total, free = running_system.shared_memory()
    assert 0 <= free <= total
    assert running_system.shared_memory("/no/such/folder") == (0, 0)


def test_conclusions_need_no_ros() -> None:
    code = "import sys; sys.modules['rclpy'] = None; import lisard_ros.tools.running_system"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
