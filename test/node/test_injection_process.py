"""Injection beside perception, over DDS: operational answers stay what they are, whatever becomes of the process."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peers import NodeProcess, Peer, image, stamp_ns, wait_until
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool
from vision_msgs.msg import Classification

NODES = itertools.count(1)
COUNTERS = ("offered", "replaced", "answered", "not_applicable", "no_regions", "failed", "pending")


def alive(pid: int) -> bool:
    """Whether a process runs, or has ended and nobody took note of it."""
    return Path(f"/proc/{pid}").exists()


class World:
    """A node that injects noise and the bundle's universal perturbation, and a camera.

    The middleware keeps a node that was killed for a while, so each node has names of its own.
    """

    def __init__(self, peer: Peer, start: Callable[..., NodeProcess], bundle: Path, **parameters: object) -> None:
        namespace = f"/beside{next(NODES)}"
        self.name, camera = f"{namespace}/perception", f"{namespace}/b"
        self.peer, self.diagnosis = peer, peer.diagnosis(self.name)
        given = {"injection__enabled": True, "injection__attacks": ["noise", "universal"], **parameters}
        self.node = start(
            namespace, bundle=bundle, image_topics=[f"{camera}/image_raw"], diagnostics_period_s=0.2, threads=1, **given
        )
        self.node.said("active: ")
        self.camera = peer.publisher(Image, f"{camera}/image_raw")
        self.answers = peer.collect(Classification, f"{self.name}{camera}/classification")
        self.camera_name = camera[1:]
        self.stamp = 0

    @property
    def values(self) -> dict[str, str]:
        return self.diagnosis.values.get("injection", {})

    @property
    def pid(self) -> int:
        """Process id of the injection process, once it runs."""
        return int(wait_until(lambda: self.values.get("process") == "running" and self.values["process_id"], "it"))

    def answer(self, pixels: np.ndarray | None = None) -> Any:
        """Publish one frame and return its operational answer."""
        self.stamp += 1_000_000
        self.camera.publish(image((200, 20, 20) if pixels is None else pixels, self.stamp))
        stamp = self.stamp
        return wait_until(lambda: next((a for a in self.answers if stamp_ns(a) == stamp), None), "an answer")

    def settled(self, offered: int = 0) -> dict[str, int]:
        """Wait until so many copies were offered and all have an outcome, and return the counters."""
        wait_until(
            lambda: self.values.get("pending") == "0" and int(self.values["offered"]) >= offered,
            f"the outcomes: {self.values}",
        )
        counts = {name: int(self.values[name]) for name in COUNTERS}
        assert counts["offered"] == sum(counts[name] for name in COUNTERS[1:])
        return counts

    def close(self) -> None:
        self.peer.node.destroy_publisher(self.camera)


@pytest.fixture
def beside(peer: Peer, start: Callable[..., NodeProcess], bundle: Path) -> Iterator[Callable[..., World]]:
    """Make worlds; their publishers go with the test."""
    made: list[World] = []

    def make(**parameters: object) -> World:
        made.append(World(peer, start, bundle, **parameters))
        return made[-1]

    yield make
    for world in made:
        world.close()


def played(world: World) -> list[Classification]:
    """The operational answers to some frames, played one at a time: equal means equal to the last bit of every score.

    Their serialised bytes would not do: on Jazzy the padding between fields is not zeroed.
    """
    random = np.random.default_rng(5)
    images = [random.integers(0, 250, (24, 32, 3), np.uint8) for _ in range(12)]
    messages = []
    for pixels in images:
        message = world.answer(pixels)
        message.header.stamp.sec = message.header.stamp.nanosec = 0
        messages.append(message)
    return messages


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def test_operational_answers_and_the_model_are_exactly_what_they_were(
    beside: Callable[..., World], bundle: Path
) -> None:
    files = hashes(bundle)
    world = beside(injection__enabled=False)
    sha256 = wait_until(lambda: world.diagnosis.values.get("model", {}).get("bundle_sha256"), "the diagnostics")
    assert world.values["process"] == "off" and world.values["process_id"] == ""
    clean = played(world)
    switched = world.peer.call(SetBool, f"{world.name}/injection", SetBool.Request(data=True))
    assert switched.success, switched.message
    pid = world.pid
    assert played(world) == clean, "while attacked copies are answered"
    assert world.settled(offered=2 * len(clean))["answered"] > 0
    assert world.peer.call(SetBool, f"{world.name}/injection", SetBool.Request(data=False)).success
    wait_until(lambda: not alive(pid), "the injection process to end")
    assert played(world) == clean, "and after it"
    assert hashes(bundle) == files and world.diagnosis.values["model"]["bundle_sha256"] == sha256
    assert int(world.values["operational_with_frames"]) > 0 and int(world.values["operational_without_frames"]) > 0
    assert world.node.stop() == 0


def test_a_node_without_injection_has_no_injection_object(
    beside: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it was switched on, and after: the chain of a frame is what it is without injection."""
    file, start = tmp_path / "objects", NodeProcess.start
    program = ("bench/counting_node.py", str(file))
    monkeypatch.setattr(NodeProcess, "start", lambda self, words: start(self, words, program=program))
    world = beside(injection__enabled=False)

    def objects() -> list[str]:
        file.unlink(missing_ok=True)
        world.node.process.send_signal(signal.SIGUSR1)
        wait_until(file.exists, "the node to count")
        return file.read_text().split()

    world.answer()
    assert objects() == []
    assert world.peer.call(SetBool, f"{world.name}/injection", SetBool.Request(data=True)).success
    assert world.pid and {"InjectionFeed", "InjectionProcess", "InjectionSupervisor"} <= set(objects())
    assert world.peer.call(SetBool, f"{world.name}/injection", SetBool.Request(data=False)).success
    wait_until(lambda: world.values["process"] == "off", "the end of the process")
    world.answer()
    assert objects() == []
    assert world.node.stop() == 0


def test_the_process_has_the_lowest_priority_and_no_ros(
    beside: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NodeProcess, "lifts_children", False)
    world = beside()
    pid = world.pid
    assert os.sched_getscheduler(pid) == os.SCHED_IDLE or os.getpriority(os.PRIO_PROCESS, pid) == 19
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert "onnxruntime" in maps and not any(word in maps for word in ("librcl", "rclpy", "fastdds", "fastrtps"))
    assert world.values["priority"] in ("SCHED_IDLE", "nice 19") and "threads=1" in world.values["backend"]


@pytest.mark.parametrize(("number", "cause"), [(signal.SIGKILL, "ended"), (signal.SIGSTOP, "hung")])
def test_perception_goes_on_when_the_process_dies_or_hangs(
    number: int, cause: str, beside: Callable[..., World]
) -> None:
    # Stopped for a moment it must not be taken for one that hangs before it is killed.
    world = beside(backend_deadline_s=1.5 if number == signal.SIGSTOP else 60.0)
    first = world.pid
    world.answer()
    world.settled(offered=2)
    os.kill(first, signal.SIGSTOP)
    world.answer()
    wait_until(lambda: world.values["pending"] == "2", f"an open frame: {world.values}")
    os.kill(first, number)
    with contextlib.suppress(ProcessLookupError):  # it may be gone already
        os.kill(first, signal.SIGCONT if number == signal.SIGKILL else signal.SIGSTOP)
    for _ in range(10):
        assert world.answer().results[0].class_id == "red"
    wait_until(lambda: world.values["process_starts"] == "2", f"another start: {world.values}")
    assert world.values["process_last_end"] and not alive(first)
    world.node.said("the injection process is started again in")
    counts = world.settled()  # the next process answers a frame that this one had not taken yet
    assert counts["failed"] in (0, 2) and int(world.values.get(f"failed_{cause}", 0)) == counts["failed"]
    before = counts["answered"]
    world.answer()
    wait_until(lambda: int(world.values["answered"]) >= before + 2, "attacked answers to come back")
    camera = world.diagnosis.values[f"camera {world.camera_name}"]
    assert camera["failed"] == "0" and camera["received"] == camera["answered"]
    assert world.node.stop() == 0 and "Traceback" not in world.node.log


def test_a_process_that_is_given_up_is_an_error_until_injection_is_set_again(
    beside: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_start, program = NodeProcess.start, (str(Path(__file__).parent / "hanging_node.py"), str(tmp_path / "never"))
    monkeypatch.setattr(NodeProcess, "start", lambda self, words: plain_start(self, words, program=program))
    monkeypatch.setenv("LISARD_TEST_FIRST_WAIT_S", "0.1")
    world = beside(injection__max_memory_mb=64)
    wait_until(lambda: world.values.get("process") == "given up", f"it to be given up: {world.values}", 100)
    assert world.diagnosis.levels["injection"] == "ERROR"
    assert "injection.max_memory_mb" in world.diagnosis.messages["injection"]
    assert world.answer().results[0].class_id == "red", "perception goes on"
    starts = world.values["process_starts"]
    wait_until(
        lambda: world.peer.call(SetBool, f"{world.name}/injection", SetBool.Request(data=True)).success, "it to be set"
    )
    wait_until(lambda: world.values["process"] != "given up", "another try")
    assert starts == "5" and world.node.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_the_process_after_the_node(number: int, beside: Callable[..., World]) -> None:
    world = beside()
    pid = world.pid
    for _ in range(3):
        world.answer()
    world.node.process.send_signal(number)
    world.node.wait()
    wait_until(lambda: not alive(pid), "the injection process to end")


def test_the_budget_can_change_while_it_runs(beside: Callable[..., World]) -> None:
    world = beside()

    def change(name: str, value: ParameterValue) -> Any:
        request = SetParameters.Request(parameters=[Parameter(name=f"injection.{name}", value=value)])
        return world.peer.call(SetParameters, f"{world.name}/set_parameters", request).results[0]

    def number(value: float) -> ParameterValue:
        return ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)

    def words(*value: str) -> ParameterValue:
        return ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=list(value))

    pid = world.pid
    assert change("max_share", number(0.25)).successful and change("fraction", number(0.5)).successful
    assert not change("max_share", number(0.0)).successful and not change("fraction", number(1.5)).successful
    refused = change("cameras", words(world.camera_name + "b"))
    assert not refused.successful and f"did you mean '{world.camera_name}'?" in refused.reason
    before = world.settled()["offered"]
    for _ in range(4):
        world.answer()
    wait_until(lambda: int(world.values["offered"]) == before + 4, "two of four frames, for two injections each")
    assert change("cameras", words(world.camera_name)).successful and world.pid == pid
    assert world.node.stop() == 0
