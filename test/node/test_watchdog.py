"""A backend that does not return: the node reports it, accounts for every frame, and ends or loads the model again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from bundles import write_detector, write_with_int8
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from peers import Diagnosis, NodeProcess, Peer, image, stamp_ns, wait_until
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification, Detection2DArray

NAME = "/hang/perception"
CAMERA = "camera h"
RED, GREEN = (200, 20, 20), (20, 200, 20)
StartHanging = Callable[..., tuple[NodeProcess, Path]]


def change(peer: Peer, transition: int, budget_s: float = 30.0) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return peer.call(ChangeState, f"{NAME}/change_state", request, budget_s).success


def counts(diagnosis: Diagnosis) -> dict[str, int]:
    return {key: int(value) for key, value in diagnosis.last_values.get(CAMERA, {}).items() if value.isdigit()}


def accounted(found: dict[str, int]) -> bool:
    """Every frame that came has an outcome."""
    return found["pending"] == 0 and found["received"] == sum(
        found[key] for key in ("answered", "replaced", "too_old", "failed")
    )


class Hanging:
    """A node with a camera, and the file that makes its backend hang."""

    def __init__(self, peer: Peer, start: StartHanging, **parameters: object) -> None:
        self.peer, self.diagnosis = peer, peer.diagnosis(NAME)
        settings = {"image_topics": ["/h/image_raw"], "diagnostics_period_s": 0.2, **parameters}
        self.node, self.flag = start("/hang", **settings)
        self.node.said("active: ")
        self.camera = peer.publisher(Image, "/h/image_raw")
        kind, topic = (
            (Detection2DArray, "detections") if "detector" in parameters else (Classification, "classification")
        )
        self.answers = peer.collect(kind, f"{NAME}/h/{topic}")
        self.stamp = 0

    def publish(self, colour: tuple[int, int, int] = RED) -> int:
        self.stamp += 1_000_000
        self.camera.publish(image(colour, self.stamp))
        return self.stamp

    def answered(self, stamp: int) -> bool:
        return stamp in [stamp_ns(answer) for answer in self.answers]

    def hang(self, frames: int = 3) -> list[int]:
        """Let the backend hang on the first of some frames."""
        sent: list[int] = []

        def one_answered() -> bool:
            """The subscription seen may be that of a node that was killed before; then the frame reached nobody."""
            sent.append(self.publish())
            with suppress(AssertionError):
                return bool(wait_until(lambda: self.answered(sent[-1]), "an answer", 4.0))
            return False

        wait_until(one_answered, "an answer before the backend hangs")
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


def test_a_backend_that_does_not_return_ends_the_process_for_a_respawn(hanging: Callable[..., Hanging]) -> None:
    world = hanging(backend_deadline_s=0.5)
    stamps = world.hang()
    assert world.node.wait(20) == 1, world.node.log
    assert "the backend has not returned for 0.5 s (backend_deadline_s): the process ends" in world.node.log
    assert "Traceback" not in world.node.log
    wait_until(lambda: "failed_stuck" in world.diagnosis.last_values[CAMERA], "the last diagnostics")
    found = counts(world.diagnosis)
    assert accounted(found) and found["failed_stuck"] == 1 and found["received"] == 1 + len(stamps), found
    assert world.diagnosis.levels["model"] == "ERROR" and world.diagnosis.levels[CAMERA] == "ERROR"
    assert "the backend has not returned" in world.diagnosis.messages["model"]


def test_a_detector_in_front_may_hang_as_well(hanging: Callable[..., Hanging], tmp_path: Path) -> None:
    world = hanging(backend_deadline_s=0.5, detector=write_detector(tmp_path / "street"))
    stamps = world.hang()
    assert world.node.wait(20) == 1, world.node.log
    assert "thread lisard_prepare is left behind" in world.node.log and "Traceback" not in world.node.log
    wait_until(lambda: "failed_stuck" in world.diagnosis.last_values[CAMERA], "the last diagnostics")
    found = counts(world.diagnosis)
    assert accounted(found) and found["failed_stuck"] == 1 and found["received"] == 1 + len(stamps), found


def test_the_model_is_loaded_again_once_and_the_second_time_the_process_ends(
    hanging: Callable[..., Hanging],
) -> None:
    world = hanging(backend_deadline_s=0.5, on_stuck="reload")
    stuck = world.hang()
    world.node.said("is left behind: the backend does not return")
    world.flag.unlink()  # the stuck call returns late, while the new model is loaded
    world.node.said("active again with a model that was loaded again")
    wait_until(lambda: world.camera.get_subscription_count() == 1, "the subscription to come back")
    after = world.publish(GREEN)
    wait_until(lambda: world.answered(after), "an answer of the new model")
    assert not world.answered(stuck[0]), "what the stuck thread gives is thrown away"
    wait_until(lambda: accounted(counts(world.diagnosis)), f"the frames: {counts(world.diagnosis)}")
    assert counts(world.diagnosis)["failed_stuck"] == 1
    assert world.diagnosis.levels["model"] == "WARN"
    assert "the next time the node exits" in world.diagnosis.messages["model"]

    world.hang()
    assert world.node.wait(20) == 1, world.node.log
    wait_until(lambda: counts(world.diagnosis)["failed_stuck"] == 2, "the last diagnostics")
    assert accounted(counts(world.diagnosis)) and "Traceback" not in world.node.log


def test_the_model_that_was_chosen_is_the_one_that_is_loaded_again(
    hanging: Callable[..., Hanging], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: `precision: auto` had chosen int8, and the watchdog loaded fp32."""
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path / "cache"))
    world = hanging(backend_deadline_s=0.5, on_stuck="reload", bundle=write_with_int8(tmp_path / "both"))
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
    world = hanging(backend_deadline_s=0.5, on_stuck="reload")
    world.hang()
    assert world.node.wait(20) == 1, world.node.log
    assert "the model cannot be loaded again: found not ready within 0.5 s" in world.node.log
    wait_until(lambda: accounted(counts(world.diagnosis)), "the last diagnostics")


def test_deactivate_and_cleanup_do_not_wait_for_ever(
    hanging: Callable[..., Hanging], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog is off, so only the transitions notice."""
    monkeypatch.setenv("LISARD_TEST_FINISH_S", "0.5")
    world = hanging(backend_deadline_s=0.0)
    world.hang()
    assert change(world.peer, Transition.TRANSITION_DEACTIVATE)
    wait_until(lambda: counts(world.diagnosis).get("failed_stuck") == 1, "the final counts")
    assert accounted(counts(world.diagnosis))
    assert change(world.peer, Transition.TRANSITION_CLEANUP)
    wait_until(lambda: world.diagnosis.values["model"]["threads_left_behind"] == "1", "the thread left behind")
    world.flag.unlink()
    wait_until(lambda: world.diagnosis.values["model"]["threads_left_behind"] == "0", "the thread to end")
    assert change(world.peer, Transition.TRANSITION_CONFIGURE) and change(world.peer, Transition.TRANSITION_ACTIVATE)
    wait_until(lambda: world.camera.get_subscription_count() == 1, "the subscription to come back")
    stamp = world.publish(GREEN)
    wait_until(lambda: world.answered(stamp), "an answer after all that")
    assert world.node.stop() == 0 and "Traceback" not in world.node.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_node_whose_backend_hangs(number: int, hanging: Callable[..., Hanging]) -> None:
    world = hanging(backend_deadline_s=60.0)
    world.hang()
    assert world.node.stop(number) == 0, world.node.log
    assert "Traceback" not in world.node.log
    wait_until(lambda: "failed_stuck" in world.diagnosis.last_values[CAMERA], "the last diagnostics")
    assert accounted(counts(world.diagnosis))


def test_a_process_that_was_stopped_is_not_taken_for_one_that_hangs(hanging: Callable[..., Hanging]) -> None:
    world = hanging(backend_deadline_s=3.0)
    world.hang(frames=1)
    world.node.process.send_signal(signal.SIGSTOP)
    time.sleep(4.0)
    world.node.process.send_signal(signal.SIGCONT)
    world.flag.unlink()
    stamp = world.publish(GREEN)
    wait_until(lambda: world.answered(stamp), "answers to go on")
    wait_until(lambda: accounted(counts(world.diagnosis)), "the frames")
    assert "failed_stuck" not in world.diagnosis.last_values[CAMERA]
    assert world.node.stop() == 0
