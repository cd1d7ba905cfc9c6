"""Real rclpy processes over real DDS: a peer for the session, bundles, and nodes that end with their module."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lisard_ros.naming import CameraTopic
from lisard_ros.node.camera_publisher import CameraPublisher
from lisard_ros.node.channel import CameraChannel
from lisard_ros.node.frame_counters import FrameCounters
from lisard_ros.node.stale_frame_filter import StaleFrameFilter

sys.path.insert(0, str(Path(__file__).parent))
from bundles import write
from peers import NodeProcess, Peer, node_that_can_hang, serve_peer


@pytest.fixture(scope="session")
def peer() -> Iterator[Peer]:
    """The node of the test process."""
    yield from serve_peer()


@pytest.fixture(autouse=True)
def ends_go_with_their_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Close what a test has subscribed the peer to; what a fixture of its module made stays."""
    if "peer" not in request.fixturenames:
        yield
        return
    peer: Peer = request.getfixturevalue("peer")
    before = peer.ends()
    yield
    peer.close_ends(besides=before)


@pytest.fixture
def channel(peer: Peer) -> Iterator[Callable[[str], CameraChannel]]:
    """Make channels of cameras whose publishers belong to the peer."""
    made: list[CameraChannel] = []

    def make(camera: str) -> CameraChannel:
        topic = CameraTopic(f"/{camera}/image_raw", camera, compressed=False)
        publisher = CameraPublisher(peer.node, camera, boxes=False, id_format="name")
        made.append(CameraChannel(topic, FrameCounters(), StaleFrameFilter(), publisher))
        return made[-1]

    yield make
    for one in made:
        one.publisher.close()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that knows its colours."""
    return write(tmp_path_factory.mktemp("bundles") / "colours")


@pytest.fixture(scope="session")
def broken_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound bundle of a model that is always wrong."""
    return write(tmp_path_factory.mktemp("bundles") / "broken", sign=-1.0)


@pytest.fixture
def start() -> Iterator[Callable[..., NodeProcess]]:
    """Start nodes; whatever still runs at the end of the test is ended."""
    running: list[NodeProcess] = []

    def make(*words: str, **parameters: object) -> NodeProcess:
        running.append(NodeProcess(*words, **parameters))
        return running[-1]

    yield make
    _end(running)


@pytest.fixture
def start_hanging(tmp_path: Path) -> Iterator[Callable[..., tuple[NodeProcess, Path]]]:
    """Start nodes whose backend hangs while the file that is returned beside the node is there."""
    running: list[NodeProcess] = []

    def make(namespace: str, **parameters: object) -> tuple[NodeProcess, Path]:
        flag = tmp_path / "hang"
        running.append(node_that_can_hang(flag, namespace, **parameters))
        return running[-1], flag

    yield make
    _end(running)


def _end(running: list[NodeProcess]) -> None:
    for process in running:
        if process.process.poll() is None:
            process.process.kill()
        process.wait()
