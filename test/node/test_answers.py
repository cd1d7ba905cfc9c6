"""One node, two cameras, over DDS: answers, every kind of bad frame, injection, self test, cameras that come and go."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.srv import SelfTest
from peers import BEST_EFFORT, Diagnosis, NodeProcess, Peer, image, jpeg, stamp_ns, wait_until
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Classification, LabelInfo

RED, GREEN, BLUE, WHITE = (200, 20, 20), (20, 200, 20), (20, 20, 200), (255, 255, 255)
NAME = "/answers/perception"
STAMPS = itertools.count(1_000_000_000_000, 33_000_000)


class World:
    """The node under test and everything that talks to it."""

    def __init__(self, peer: Peer, bundle: Path) -> None:
        self.peer = peer
        self.diagnosis: Diagnosis = peer.diagnosis(NAME)
        self.node = NodeProcess(
            "/answers",
            bundle=bundle,
            image_topics=["/t/front/image_raw", "/t/rear/image_raw/compressed"],
            diagnostics_period_s=0.2,
            no_image_warn_s=1.0,
            self_test__seed=1,
        )
        wait_until(lambda: self.diagnosis.values.get("model", {}).get("state") == "active", "the node to be active")
        self.front = peer.publisher(Image, "/t/front/image_raw")
        self.rear = peer.publisher(CompressedImage, "/t/rear/image_raw/compressed")
        self.front_answers = peer.collect(Classification, f"{NAME}/t/front/classification")
        self.rear_answers = peer.collect(Classification, f"{NAME}/t/rear/classification")

    def counts(self, camera: str = "t/front") -> dict[str, str]:
        return self.diagnosis.values.get(f"camera {camera}", {})

    def wait_count(self, key: str, value: int, camera: str = "t/front") -> None:
        wait_until(lambda: int(self.counts(camera).get(key, 0)) >= value, f"{key} >= {value}: {self.counts(camera)}")

    def answer(self, message: Any) -> Any:
        """Publish on the front camera and wait for the answer with its stamp."""
        self.front.publish(message)
        return self.answer_to(message, self.front_answers)

    def answer_to(self, message: Any, answers: list[Any]) -> Any:
        wanted = stamp_ns(message)
        return wait_until(lambda: next((a for a in answers if stamp_ns(a) == wanted), None), f"an answer to {wanted}")

    def answer_to_one_of(self, colour: tuple[int, int, int], clock: Callable[[], int], publisher: Any = None) -> Any:
        """Publish images, whose stamps `clock` gives, until one is answered: of each of them, that may fail for once.

        A best-effort image may get lost, and one on a loaded machine may be older than a limit when its turn comes.
        """
        sent: set[int] = set()

        def answered() -> Any:
            message = image(colour, clock())
            sent.add(stamp_ns(message))
            (publisher or self.front).publish(message)
            return next((answer for answer in self.front_answers if stamp_ns(answer) in sent), None)

        return wait_until(answered, f"an answer to one of {len(sent)} images")

    def bad(self, message: Any, cause: str, publisher: Any = None, camera: str = "t/front") -> str:
        """Publish a frame that must fail under `cause`; return the words in the diagnostics."""
        before = int(self.counts(camera).get(f"failed_{cause}", 0))
        (publisher or self.front).publish(message)
        self.wait_count(f"failed_{cause}", before + 1, camera)
        return self.diagnosis.messages[f"camera {camera}"]


@pytest.fixture(scope="module")
def world(peer: Peer, bundle: Path) -> Iterator[World]:
    made = World(peer, bundle)
    yield made
    if made.node.process.poll() is None:
        made.node.stop()


def test_a_frame_is_answered_under_its_own_header(world: World) -> None:
    message = image(GREEN, next(STAMPS))
    answer = world.answer(message)
    assert answer.header == message.header
    assert [r.class_id for r in answer.results][0] == "green" and answer.results[0].score > 0.9
    assert len(answer.results) == 3


def test_compressed_frames_and_one_message_for_each_frame(world: World) -> None:
    sent = [jpeg(colour, next(STAMPS)) for colour in (RED, BLUE, GREEN)]
    for message, label in zip(sent, ("red", "blue", "green"), strict=True):
        world.rear.publish(message)
        assert world.answer_to(message, world.rear_answers).results[0].class_id == label
    assert [stamp_ns(a) for a in world.rear_answers] == [stamp_ns(m) for m in sent]


def test_labels_are_latched(world: World) -> None:
    got = world.peer.collect(LabelInfo, f"{NAME}/label_info", latched=True)
    info = wait_until(lambda: got and got[0], "the label info")
    assert [(c.class_id, c.class_name) for c in info.class_map] == [(0, "red"), (1, "green"), (2, "blue")]


def test_answers_are_paused_and_resumed_without_unloading(world: World) -> None:
    def enable(on: bool) -> str:
        return world.peer.call(SetBool, f"{NAME}/enable", SetBool.Request(data=on)).message

    assert enable(False) == "paused"
    message = image(RED, next(STAMPS))
    world.front.publish(message)
    world.wait_count("failed_paused", 1)
    assert world.diagnosis.levels["model"] == "WARN" and "~/enable" in world.diagnosis.messages["model"]
    assert enable(True) == "answering"
    assert world.answer(image(BLUE, next(STAMPS))).results[0].class_id == "blue"
    assert stamp_ns(message) not in [stamp_ns(a) for a in world.front_answers]


def set_parameter(world: World, name: str, value: ParameterValue) -> Any:
    request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
    return world.peer.call(SetParameters, f"{NAME}/set_parameters", request).results[0]


@contextmanager
def changed(world: World, name: str, value: ParameterValue, back: ParameterValue) -> Iterator[None]:
    """Change a parameter for a while; later tests get `back` whatever happens."""
    assert set_parameter(world, name, value).successful
    try:
        yield
    finally:
        assert set_parameter(world, name, back).successful


def number(value: float) -> ParameterValue:
    return ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)


def names(*values: str) -> ParameterValue:
    return ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=list(values))


def test_settings_of_the_answer_change_while_it_runs(world: World) -> None:
    labels = world.peer.collect(LabelInfo, f"{NAME}/label_info", latched=True)
    with changed(world, "classes", names("green"), names()), changed(world, "min_score", number(0.5), number(0.0)):
        wait_until(lambda: labels and labels[-1].threshold == 0.5, "the new threshold")
        assert [r.class_id for r in world.answer(image(GREEN, next(STAMPS))).results] == ["green"]
        assert not world.answer(image(RED, next(STAMPS))).results
        refused = set_parameter(world, "classes", names("gren"))
        assert "expected one of blue, green, red; did you mean 'green'?" in refused.reason
    assert len(world.answer(image(RED, next(STAMPS))).results) == 3


def broken(**changes: object) -> Image:
    message = image(RED, next(STAMPS))
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_bad_images_are_counted_and_explained(world: World) -> None:
    assert "unknown image encoding: found 'rgb9'" in world.bad(broken(encoding="rgb9"), "bad_image")
    assert "too little data: found 5 bytes, expected 2304" in world.bad(broken(data=b"\0" * 5), "bad_image")
    assert "empty image: found 0x0" in world.bad(broken(width=0, height=0, step=0, data=b""), "bad_image")
    assert "(depth)" in world.bad(broken(encoding="32FC1"), "bad_image")
    corrupt = jpeg(RED, next(STAMPS))
    corrupt.data = corrupt.data[:-40]
    assert "corrupt JPEG" in world.bad(corrupt, "bad_image", world.rear, "t/rear")
    assert world.diagnosis.levels["camera t/rear"] == "WARN"
    world.node.said("t/front: bad_image: unknown image encoding")
    assert world.answer(image(BLUE, next(STAMPS))).results[0].class_id == "blue", "the node goes on"


def test_nan_of_the_model_is_counted_an_error_and_not_published(world: World) -> None:
    message = image(WHITE, next(STAMPS))
    assert "not finite" in world.bad(message, "bad_output")
    assert world.diagnosis.levels["camera t/front"] == "ERROR"
    assert world.answer(image(RED, next(STAMPS))).results[0].class_id == "red"
    assert stamp_ns(message) not in [stamp_ns(a) for a in world.front_answers]


def test_one_pixel_and_8k(world: World) -> None:
    assert world.answer(image(GREEN, next(STAMPS), 1, 1)).results[0].class_id == "green"
    large = jpeg(RED, next(STAMPS), 7680, 4320)
    world.rear.publish(large)
    assert world.answer_to(large, world.rear_answers).results[0].class_id == "red"


def test_stamps_that_jump_back_are_counted_and_answered(world: World) -> None:
    before = int(world.counts()["time_jumps_back"])
    assert world.answer(image(RED, 5_000)).results[0].class_id == "red"
    world.wait_count("time_jumps_back", before + 1)


def test_the_overlay_is_drawn_only_for_a_subscriber(world: World) -> None:
    got = world.peer.collect(Image, f"{NAME}/t/front/overlay")
    message = image(RED, next(STAMPS), 64, 48)
    world.answer(message)
    overlay = wait_until(lambda: got and got[-1], "the overlay")
    assert overlay.header == message.header and (overlay.width, overlay.height) == (64, 48)
    assert bytes(overlay.data) != bytes(message.data)


def test_the_timing_of_each_answer_is_published_for_a_subscriber(world: World) -> None:
    got = world.peer.collect(Float64MultiArray, f"{NAME}/t/front/timing")

    def answered_and_timed() -> bool:
        """The node may know of its new subscriber a moment later than the subscriber of the node."""
        world.answer(image(RED, next(STAMPS)))
        return bool(got)

    wait_until(answered_and_timed, "a timing")
    timing = got[-1]
    values = dict(zip(timing.layout.dim[0].label.split(","), timing.data, strict=True))
    stages = ("wait", "decode", "preprocess", "infer", "postprocess", "publish")
    assert all(values[f"{stage}_ms"] >= 0 for stage in stages)
    assert values["total_ms"] >= values["infer_ms"] > 0


def answered_attacked(world: World, pixels: np.ndarray, attacked: list[Any]) -> tuple[Any, Any]:
    """Publish an image again and again until a copy of it was attacked; return both answers to that one.

    Which frames are attacked depends on the processor time that is left for it.
    """
    operational: dict[int, Any] = {}

    def both() -> Any:
        answer = world.answer(image(pixels, next(STAMPS)))
        operational[stamp_ns(answer)] = answer
        return next(((operational[stamp_ns(a)], a) for a in attacked if stamp_ns(a) in operational), None)

    return wait_until(both, "the answer to an attacked copy")


def results(answer: Any) -> list[tuple[str, float]]:
    return [(r.class_id, r.score) for r in answer.results]


def test_injection_leaves_the_operational_answers_identical(world: World) -> None:
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 250, (24, 32, 3), np.uint8) for _ in range(4)]
    clean = [results(world.answer(image(p, next(STAMPS)))) for p in images]
    assert set_parameter(world, "injection.attacks", names("universal")).successful
    assert world.peer.call(SetBool, f"{NAME}/injection", SetBool.Request(data=True)).message == "injection: universal"
    attacked = world.peer.collect(Classification, f"{NAME}/t/front/attacked/classification")
    assert [results(world.answer(image(p, next(STAMPS)))) for p in images] == clean, "operational answers do not change"
    operational, other = answered_attacked(world, images[-1], attacked)
    assert results(operational) == clean[-1] and results(other) != clean[-1], "the attacked answer does"
    wait_until(lambda: world.diagnosis.values["injection"]["enabled"] == "true", "the injection in the diagnostics")
    assert world.diagnosis.levels["injection"] == "WARN"
    assert world.peer.call(SetBool, f"{NAME}/injection", SetBool.Request(data=False)).success
    wait_until(lambda: world.diagnosis.values["injection"]["process"] == "off", "the injection process to end")
    number = len(attacked)
    assert [results(world.answer(image(p, next(STAMPS)))) for p in images] == clean
    assert len(attacked) == number, "no attacked answer while it is off"


def switch_injection(world: World, on: bool) -> SetBool.Response:
    return world.peer.call(SetBool, f"{NAME}/injection", SetBool.Request(data=on))


def switched_on(world: World) -> None:
    """Switch injection on, again if it was on a moment ago."""
    wait_until(lambda: switch_injection(world, True).success, "injection to be switched on")


def test_injection_is_switched_on_only_once_in_a_while(world: World) -> None:
    client: Any = world.peer.node.create_client(SetBool, f"{NAME}/injection")
    assert client.wait_for_service(timeout_sec=60)

    def refused() -> Any:
        calls = [client.call_async(SetBool.Request(data=True)) for _ in range(2)]
        wait_until(lambda: all(call.done() for call in calls), "two answers")
        return next((call.result() for call in calls if not call.result().success), None)

    assert "call again in " in wait_until(refused, "two calls in one second").message
    world.peer.node.destroy_client(client)
    assert switch_injection(world, False).success, "it can be switched off at any time"
    switched_on(world)
    assert switch_injection(world, False).success


def test_a_corruption_can_be_injected(world: World) -> None:
    assert set_parameter(world, "injection.attacks", names("corruption/contrast/5")).successful
    switched_on(world)
    red = np.full((24, 32, 3), RED, np.uint8)
    clean = world.answer(image(red, next(STAMPS)))
    attacked = world.peer.collect(Classification, f"{NAME}/t/front/attacked/classification")
    operational, other = answered_attacked(world, red, attacked)
    assert results(operational) == results(clean) and other.header == operational.header
    assert world.peer.call(SetBool, f"{NAME}/injection", SetBool.Request(data=False)).success


def test_an_attack_the_bundle_lacks_is_refused(world: World) -> None:
    result = set_parameter(world, "injection.attacks", names("universe"))
    assert not result.successful and "did you mean 'universal'?" in result.reason


def test_parameters_can_change_within_their_limits(world: World) -> None:
    none, one, five = (ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=n) for n in (0, 1, 5))
    with changed(world, "top_k", one, five):
        assert len(world.answer(image(RED, next(STAMPS))).results) == 1
        assert not set_parameter(world, "top_k", none).successful
    assert not set_parameter(world, "threads", one).successful, "read-only"
    request = DescribeParameters.Request(names=["max_age_ms", "regions"])
    described = world.peer.call(DescribeParameters, f"{NAME}/describe_parameters", request).descriptors
    assert "Unit: ms." in described[0].description and described[0].floating_point_range[0].to_value == 3600000
    assert described[1].additional_constraints == "one of auto, whole, fixed, topic, detector"


def test_old_frames_are_dropped_when_a_limit_is_set(world: World) -> None:
    def dropped() -> bool:
        """The limit is lifted for a second after the jump back of an earlier test."""
        world.front.publish(image(RED, next(STAMPS)))
        return int(world.counts()["too_old"]) > 0

    with changed(world, "max_age_ms", number(500.0), number(0.0)):
        wait_until(dropped, "old frames to be dropped")
        fresh = world.answer_to_one_of(RED, lambda: world.peer.node.get_clock().now().nanoseconds)
        assert fresh.results[0].class_id == "red"


def test_the_self_test_passes_while_frames_are_answered(world: World) -> None:
    response = world.peer.call(SelfTest, f"{NAME}/self_test")
    assert response.passed == b"\x01" and response.id.startswith("colours ")
    assert [s.name for s in response.status] == ["clean", "noise"]
    assert "limit 90.0 %: passed" in response.status[0].message
    wait_until(lambda: world.diagnosis.values["self_test"]["passed"] == "1", "the self test in the diagnostics")
    assert world.diagnosis.messages["self_test"] == "passed: 2 of 2 limits hold"
    assert not world.peer.call(Trigger, f"{NAME}/cancel_self_test").success


def test_a_camera_that_dies_and_returns_with_another_qos(world: World) -> None:
    assert world.counts()["reliability"] == "reliable"
    world.peer.node.destroy_publisher(world.front)
    silence = re.compile(r"no image on /t/front/image_raw for .* 0 publishers")
    try:
        wait_until(lambda: silence.search(world.diagnosis.messages["camera t/front"]), "silence without a publisher")
        world.node.said("no image on /t/front/image_raw for")
    finally:  # later tests need a camera
        world.front = world.peer.publisher(Image, "/t/front/image_raw", BEST_EFFORT)
    wait_until(lambda: world.counts()["reliability"] == "best_effort", "a best-effort subscription")
    assert world.answer_to_one_of(GREEN, STAMPS.__next__).results[0].class_id == "green"
    wait_until(lambda: world.diagnosis.levels["camera t/front"] == "OK", "the warnings to end")


def test_a_reliable_and_a_best_effort_publisher_are_both_heard(world: World) -> None:
    other = world.peer.publisher(Image, "/t/front/image_raw")
    try:
        for publisher in (other, world.front):
            assert world.answer_to_one_of(BLUE, STAMPS.__next__, publisher).results[0].class_id == "blue"
    finally:
        world.peer.node.destroy_publisher(other)


def test_at_the_end_every_frame_is_accounted_for(world: World) -> None:
    def replaced_in_a_burst() -> bool:
        """The middleware keeps few frames for a reader that is behind, so how many of a burst come is open."""
        for _ in range(10):
            world.front.publish(image(RED, next(STAMPS)))
        return int(world.counts().get("replaced", 0)) > 0

    wait_until(replaced_in_a_burst, "frames replaced by newer ones")
    world.answer_to_one_of(GREEN, STAMPS.__next__)

    def settled() -> dict[str, int]:
        counts = {key: int(value) for key, value in world.counts().items() if value.isdigit()}
        return counts if counts["pending"] == 0 and counts["answered"] == len(world.front_answers) else {}

    counts = wait_until(settled, "as many answers as were counted")
    assert counts["received"] == counts["answered"] + counts["replaced"] + counts["too_old"] + counts["failed"]
    assert counts["replaced"] > 0
    values = world.diagnosis.values["model"]
    assert len(values["bundle_sha256"]) == 64 and values["backend"].startswith("ONNX Runtime")
    for stage in ("wait", "decode", "preprocess", "infer", "postprocess", "publish", "total", "age", "inject"):
        assert float(world.counts()[f"{stage}_p50_ms"]) <= float(world.counts()[f"{stage}_p99_ms"])


def test_it_ends_at_once(world: World) -> None:
    assert world.node.stop() == 0
    assert "Traceback" not in world.node.log
