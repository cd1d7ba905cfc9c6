"""Workers on a Ray cluster, or on a Ray that is started on this machine. Code, bundles and labels travel to them.

Ray answers slices of dead workers and lost machines again. Needs the extra `[cluster]`.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lisard_ros
from lisard_ros.distributed.plan import ReplayJob, Task, TaskResult
from lisard_ros.distributed.processes import MOST_DEATHS, workers_die
from lisard_ros.distributed.shipping import perform_shipped, ship
from lisard_ros.errors import DataError, LisardError, UsageError, one_line

LOCAL = "local"
CONNECT_S = 10.0
_UNANSWERED_CURE = (
    "check the address (`ray start --head` prints it), the cluster (`ray status`), the firewall, and that this machine "
    "has the cluster's token (docs/scale.md)"
)


class RayPool:
    """Workers of Ray."""

    def __init__(self, address: str, count: int, threads: int) -> None:
        """Connect to a cluster, or start one on this machine.

        Args:
            address: LOCAL, or HOST:PORT of a cluster's head, or `auto` for the cluster of this machine.
            count: Workers of a local cluster.
            threads: Processor threads of each worker.

        Raises:
            UsageError: Ray is not installed, or the address does not answer within CONNECT_S.
        """
        self._ray, self._threads = _require_ray(), threads
        # Nothing is reported to Ray's makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options: dict[str, Any] = {
            "runtime_env": {"py_modules": [str(Path(lisard_ros.__file__).parent)]},
            "log_to_driver": False,
            "logging_level": logging.ERROR,
        }
        if address == LOCAL:
            self._ray.init(num_cpus=count * threads, include_dashboard=False, **options)
        else:
            _require_answer(address)
            self._connect(address, options)

    def results(self, job: ReplayJob, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        """See `processes.TaskPool`."""
        ray = self._ray
        shipped = ray.put(ship(job))
        remote = ray.remote(num_cpus=self._threads, max_retries=MOST_DEATHS)(perform_shipped)
        waiting = [remote.remote(shipped, task) for task in tasks]
        try:
            while waiting:
                done, waiting = ray.wait(waiting, num_returns=1)
                yield self._result(done[0])
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self._ray.shutdown()

    def _result(self, reference: Any) -> TaskResult:
        errors = self._ray.exceptions
        try:
            result: TaskResult | LisardError = self._ray.get(reference)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError) as error:
            raise workers_die(MOST_DEATHS + 1) from error
        except errors.OutOfDiskError as error:
            raise DataError(
                "a disk of the cluster is full",
                found=one_line(error),
                expected="room for the results of slices",
                cure="make room in Ray's temporary folder there (ray start --temp-dir)",
            ) from error
        except errors.RayError as error:
            raise DataError(
                "a worker of the cluster cannot do its task",
                found=one_line(getattr(error, "cause", None) or error),
                expected="the packages of this machine on every node",
                cure="install the same releases there: pip install 'lisard_ros[cluster]', same Python and Ray",
            ) from error
        if isinstance(result, LisardError):
            raise result
        return result

    def _connect(self, address: str, options: dict[str, Any]) -> None:
        """Connect within CONNECT_S: what answers at the address may be no Ray."""
        failed: list[BaseException] = []

        def connect() -> None:
            try:
                self._ray.init(address=address, **options)
            except BaseException as error:  # raised again below
                failed.append(error)

        thread = threading.Thread(target=connect, name="ray_connect", daemon=True)
        thread.start()
        thread.join(CONNECT_S)
        if thread.is_alive() or failed:
            raise UsageError(
                f"no Ray cluster at {address}",
                found=one_line(failed[0]) if failed else f"no answer of Ray within {CONNECT_S:g} s",
                expected="HOST:PORT of a cluster's head, `auto`, or `local`",
                cure=_UNANSWERED_CURE,
            )


def _require_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UsageError(
            "--cluster needs the Python package ray",
            found=one_line(error),
            expected="it in this environment",
            cure="pip install 'lisard_ros[cluster]', or --workers N for processes of this machine",
        ) from error
    return ray


def _require_answer(address: str) -> None:
    """Refuse an address at which nothing listens, within CONNECT_S."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(
            "--cluster is no address",
            found=repr(address),
            expected="local, auto, or HOST:PORT",
            cure=_UNANSWERED_CURE,
        )
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"no Ray cluster at {address}",
            found=one_line(error),
            expected=f"an answer within {CONNECT_S:g} s",
            cure=_UNANSWERED_CURE,
        ) from error
