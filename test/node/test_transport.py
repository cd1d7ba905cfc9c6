"""A real camera process with frames larger than the default shared-memory segment: loss is counted and explained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from peers import ROOT, NodeProcess, Peer, wait_until

NAME = "/transport/perception"
PROFILE = str(ROOT / "config/fastdds_shm.xml")
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
FRAMES = 45


def publish(topic: str, reliability: str, profile: bool) -> int:
    """Publish from a process of its own; return how many frames it sent."""
    environment = {k: v for k, v in os.environ.items() if k not in PROFILE_VARIABLES} | {"PYTHONPATH": str(ROOT)}
    if profile:
        environment |= dict.fromkeys(PROFILE_VARIABLES, PROFILE)
    words = ["--topic", topic, "--frames", FRAMES, "--reliability", reliability, "--linger", 2]
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench/synthetic_camera.py"), *map(str, words)],
        env=environment,
        text=True,
        capture_output=True,
        timeout=200,
        check=True,
    )
    return int(json.loads(done.stdout.splitlines()[-1])["published"])


@pytest.mark.parametrize(
    ("camera", "reliability", "profile", "loses"),
    [
        ("be_profile", "best_effort", True, False),
        ("rel_plain", "reliable", False, False),
        ("be_plain", "best_effort", False, True),
    ],
)
def test_published_is_received_plus_lost(
    camera: str,
    reliability: str,
    profile: bool,
    loses: bool,
    peer: Peer,
    bundle: Path,
    start: Callable[..., NodeProcess],
) -> None:
    diagnosis = peer.diagnosis(NAME)
    node = start("/transport", bundle=bundle, image_topics=[f"/x/{camera}/image_raw"], diagnostics_period_s=0.2)
    node.said("active: ")
    sent = publish(f"/x/{camera}/image_raw", reliability, profile)
    status = f"camera x/{camera}"

    def counts() -> dict[str, int]:
        return {k: int(v) for k, v in diagnosis.values[status].items() if v.isdigit()}

    wait_until(lambda: counts()["received"] + counts()["lost_in_transport"] == sent, f"{sent} frames: {counts()}")
    books = counts()
    assert books["received"] == books["answered"] + books["replaced"]
    if loses:
        assert books["lost_in_transport"] > 0
        node.said(f"/x/{camera}/image_raw: ")
        assert "lost in transport; start the process that PUBLISHES" in node.log
        assert "config/fastdds_shm.xml" in node.log
    else:
        assert books["lost_in_transport"] == 0 and "lost in transport" not in node.log
    assert node.stop() == 0
