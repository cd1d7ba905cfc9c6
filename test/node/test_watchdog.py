"""A backend that does not return: the node reports it, accounts for every frame, and ends or loads the model again."""

from __future__ import annotations

import itertools
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bundles import write_detector, write_with_int8
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from peers import NodeProcess, Peer, image, stamp_ns, wait_until
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification, Detection2DArray

NODES = itertools.count(1)
DEADLINE_S = 2.0  # a thread that computes may wait for a processor
RED, GREEN = (200, 20, 20), (20, 200, 20)
StartHanging = Callable[..., tuple[NodeProcess, Path]]


def accounted(found: dict[str, int]) -> bool:
    """Every frame that came has an outcome."""
    return found["pending"] == 0 and found["received"] == sum(
        found[key] for key in ("answered", "replaced", "too_old", "failed")
    )


class Hanging:
    """A node with a camera, and the file that makes its backend hang.

    The middleware keeps a node that was killed for a while, so each node has names of its own. Its network has one
    thread, so that one frame is in the backend at a time.
    """

    def __init__(self, peer: Peer, start: StartHanging, **parameters: object) -> None:
        namespace = f"/hang{next(NODES)}"
        self.name = f"{namespace}/perception"
        self.peer, self.diagnosis = peer, peer.diagnosis(self.name)
        topics = [f"{namespace}/h/image_raw"]
        settings = {"image_topics": topics, "diagnostics_period_s": 0.2, "threads": 1, **parameters}
        self.node, self.flag = start(namespace, **settings)
        self.node.said("active: ")
        self.camera = peer.publisher(Image, f"{namespace}/h/image_raw")
        kind, topic = (
            (Detection2DArray, "detections") if "detector" in parameters else (Classification, "classification")
        )
        self.first_subscriber = peer.subscribers(self.camera.topic_name)
        self.answers = peer.collect(kind, f"{self.name}{namespace}/h/{topic}")
        self.status = f"camera {namespace[1:]}/h"
        self.stamp = 0

    def wait_for_another_subscription(self) -> None:
        """The node was deactivated and is active again."""
        self.peer.wait_for_subscriber(self.camera, self.first_subscriber)

    def change(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.peer.call(ChangeState, f"{self.name}/change_state", request).success)

    def counts(self) -> dict[str, int]:
        values = self.diagnosis.last_values.get(self.status, {})
        return {key: int(value) for key, value in values.items() if value.isdigit()}

    def publish(self, colour: tuple[int, int, int] = RED) -> int:
        self.stamp += 1_000_000
        self.camera.publish(image(colour, self.stamp))
        return self.stamp

    def answered(self, stamp: int) -> bool:
        return stamp in [stamp_ns(answer) for answer in self.answers]

    def hang(self, frames: int = 3) -> list[int]:
        """Let the backend hang on the first of some frames."""
        first = self.publish()
        wait_until(lambda: self.answered(first), "an answer before the backend hangs")
        self.flag.touch()
        stamps = []
        for _ in range(frames):
            stamps.append(self.publish())
            time.sleep(0.1)
        return stamps

    def close(self) -> None:
        self.peer.node.destroy_publisher(self.camera)


@pytest.fixture
def hanging(peer: Peer, start_hanging: StartHanging, bundle: Path) -> Iterator[Callable[..., Hanging]]:
    """Make a world; its publisher goes with the test, so that a failure disturbs no other test."""
    made: list[Hanging] = []

    def make(**parameters: object) -> Hanging:
        made.append(Hanging(peer, start_hanging, **{"bundle": bundle, **parameters}))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_backend_that_does_not_return_ends_the_process_for_a_respawn(
    threads: int, hanging: Callable[..., Hanging]
) -> None:
    """With two threads, two frames may be in the backend side by side."""
    world = hanging(backend_deadline_s=DEADLINE_S, threads=threads)
    stamps = world.hang()
    assert world.node.wait() == 1, world.node.log
    assert f"the backend has not returned for {DEADLINE_S:g} s (backend_deadline_s): the process ends" in world.node.log
    assert "Traceback" not in world.node.log
    wait_until(lambda: "failed_stuck" in world.counts(), "the last diagnostics")
    found = world.counts()
    assert accounted(found) and found["received"] == 1 + len(stamps), found
    assert 1 <= found["failed_stuck"] <= threads, found
    assert world.diagnosis.levels["model"] == "ERROR" and world.diagnosis.levels[world.status] == "ERROR"
    assert "the backend has not returned" in world.diagnosis.messages["model"]


def test_a_detector_in_front_may_hang_as_well(hanging: Callable[..., Hanging], tmp_path: Path) -> None:
    world = hanging(backend_deadline_s=DEADLINE_S, detector=write_detector(tmp_path / "street"))
    stamps = world.hang()
    assert world.node.wait() == 1, world.node.log
    assert re.search(r"thread lisard_answer_\d is left behind", world.node.log), world.node.log
    assert "Traceback" not in world.node.log
    wait_until(lambda: "failed_stuck" in world.counts(), "the last diagnostics")
    found = world.counts()
    assert accounted(found) and found["failed_stuck"] == 1 and found["received"] == 1 + len(stamps), found


def test_the_model_is_loaded_again_once_and_the_second_time_the_process_ends(
    hanging: Callable[..., Hanging],
) -> None:
    world = hanging(backend_deadline_s=DEADLINE_S, on_stuck="reload")
    stuck = world.hang()
    world.node.said("is left behind: the backend does not return")
    world.flag.unlink()  # the stuck call returns late, while the new model is loaded
    world.node.said("active again with a model that was loaded again")
    world.wait_for_another_subscription()
    after = world.publish(GREEN)
    wait_until(lambda: world.answered(after), "an answer of the new model")
    assert not world.answered(stuck[0]), "what the stuck thread gives is thrown away"
    wait_until(lambda: accounted(world.counts()), f"the frames: {world.counts()}")
    assert world.counts()["failed_stuck"] == 1
    assert world.diagnosis.levels["model"] == "WARN"
    assert "the next time the node exits" in world.diagnosis.messages["model"]

    world.hang()
    assert world.node.wait() == 1, world.node.log
    wait_until(lambda: world.counts()["failed_stuck"] == 2, "the last diagnostics")
    assert accounted(world.counts()) and "Traceback" not in world.node.log


def test_the_model_that_was_chosen_is_the_one_that_is_loaded_again(
    hanging: Callable[..., Hanging], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: `precision: auto` had chosen int8, and the watchdog loaded fp32."""
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path / "cache"))
    world = hanging(backend_deadline_s=DEADLINE_S, on_stuck="reload", bundle=write_with_int8(tmp_path / "both"))
    wait_until(lambda: "model" in world.diagnosis.values, "diagnostics")
    before = dict(world.diagnosis.values["model"])
    assert "int8/u8s8" in before["backend"], before
    world.hang()
    world.node.said("is left behind: the backend does not return")
    world.flag.unlink()
    world.node.said("active again with a model that was loaded again")
    wait_until(lambda: "loaded again" in world.diagnosis.messages["model"], "diagnostics of the new model")
    after = world.diagnosis.values["model"]
    for key in ("backend", "backend_reason"):
        assert after[key] == before[key]


def test_a_model_that_hangs_while_it_is_loaded_again_ends_the_process(
    hanging: Callable[..., Hanging], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISARD_TEST_RELOAD_S", "0.5")
    world = hanging(backend_deadline_s=DEADLINE_S, on_stuck="reload")
    world.hang()
    assert world.node.wait() == 1, world.node.log
    assert "the model cannot be loaded again: found not ready within 0.5 s" in world.node.log
    wait_until(lambda: accounted(world.counts()), "the last diagnostics")


def test_deactivate_and_cleanup_do_not_wait_for_ever(
    hanging: Callable[..., Hanging], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog is off, so only the transitions notice."""
    monkeypatch.setenv("LISARD_TEST_FINISH_S", "0.5")
    world = hanging(backend_deadline_s=0.0)
    world.hang()
    assert world.change(Transition.TRANSITION_DEACTIVATE)
    wait_until(lambda: world.counts().get("failed_stuck") == 1, "the final counts")
    assert accounted(world.counts())
    assert world.change(Transition.TRANSITION_CLEANUP)
    wait_until(lambda: world.diagnosis.values["model"]["threads_left_behind"] == "1", "the thread left behind")
    world.flag.unlink()
    wait_until(lambda: world.diagnosis.values["model"]["threads_left_behind"] == "0", "the thread to end")
    assert world.change(Transition.TRANSITION_CONFIGURE) and world.change(Transition.TRANSITION_ACTIVATE)
    world.wait_for_another_subscription()
    stamp = world.publish(GREEN)
    wait_until(lambda: world.answered(stamp), "an answer after all that")
    assert world.node.stop() == 0 and "Traceback" not in world.node.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_node_whose_backend_hangs(number: int, hanging: Callable[..., Hanging]) -> None:
    world = hanging(backend_deadline_s=60.0)
    world.hang()
    assert world.node.stop(number) == 0, world.node.log
    assert "Traceback" not in world.node.log
    wait_until(lambda: "failed_stuck" in world.counts(), "the last diagnostics")
    assert accounted(world.counts())


def test_a_process_that_was_stopped_is_not_taken_for_one_that_hangs(hanging: Callable[..., Hanging]) -> None:
    world = hanging(backend_deadline_s=3.0)
    world.hang(frames=1)
    world.node.process.send_signal(signal.SIGSTOP)
    time.sleep(4.0)
    world.node.process.send_signal(signal.SIGCONT)
    world.flag.unlink()
    stamp = world.publish(GREEN)
    wait_until(lambda: world.answered(stamp), "answers to go on")
    wait_until(lambda: accounted(world.counts()), "the frames")
    assert "failed_stuck" not in world.counts()
    assert world.node.stop() == 0
