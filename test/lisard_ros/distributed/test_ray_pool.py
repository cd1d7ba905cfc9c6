"""A replay on a real local Ray of two workers, one of which is killed; addresses at which no Ray is."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from lisard_ros.distributed.ray_pool import RayPool
from lisard_ros.errors import UsageError

pytest.importorskip("ray", reason="requirements/cluster.txt is not installed")


def is_ray_worker(process: psutil.Process) -> bool:
    """Whether it is a process of Ray that answers slices."""
    try:
        return process.name().startswith("ray::perform_shipped")
    except psutil.Error:
        return False


@pytest.mark.timeout(500)
def test_a_ray_worker_that_is_killed_in_mid_run_changes_nothing(whole: Any, killed_replay: Callable[..., Any]) -> None:
    assert killed_replay(["--workers", "2", "--cluster", "local"], is_ray_worker) == whole


@pytest.mark.parametrize("address", ["nowhere", "host:port", "", ":6379"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="--cluster is no address"):
        RayPool(address, 1, 1)


def test_an_address_that_does_not_answer_is_refused_with_the_cure() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(UsageError, match="no Ray cluster at 127.0.0.1:.*ray start --head"):
        RayPool(f"127.0.0.1:{port}", 1, 1)
