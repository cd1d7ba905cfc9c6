"""Workers on a Ray cluster, to which code, bundles and labels travel, or on a Ray that is started on this machine.

Ray answers slices of dead workers and lost machines again. Needs the extra `[cluster]`.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import lisard_ros
from lisard_ros.distributed.plan import ReplayJob, ScanTask, Task, TaskResult
from lisard_ros.distributed.processes import MOST_DEATHS, workers_die
from lisard_ros.distributed.shipping import perform_shipped, ship
from lisard_ros.distributed.work import perform
from lisard_ros.errors import DataError, LisardError, UsageError, one_line

LOCAL = "local"
CONNECT_S = 10.0
_UNANSWERED_CURE = (
    "check the address (`ray start --head` prints it), the cluster (`ray status`), the firewall, and that this machine "
    "has the cluster's token (docs/scale.md)"
)
_PACKAGE = Path(lisard_ros.__file__).parent
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
# Of a Ray that serves one replay: nothing is reported to Ray's makers, nobody reads its metrics, and workers import
# what they need while Ray starts. Ray reads these when it starts its processes.
_LOCAL_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_preload_python_modules": "lisard_ros.distributed.work",
}


class RayPool:
    """Workers of Ray."""

    def __init__(self, address: str, count: int, threads: int) -> None:
        """Connect to a cluster, or begin to start one on this machine.

        Args:
            address: LOCAL, or HOST:PORT of a cluster's head, or `auto` for the cluster of this machine.
            count: Workers of a local cluster.
            threads: Processor threads of each worker.

        Raises:
            UsageError: Ray is not installed, or the address does not answer within CONNECT_S.
        """
        _require_ray()
        self._threads, self._is_local = threads, address == LOCAL
        if self._is_local:
            self._cluster = _Cluster(lambda: _start_here(count * threads))
            return
        _require_address(address)
        self._cluster = _Cluster(lambda: _connect(address))
        try:
            self._cluster.ray.result(CONNECT_S)  # the look-up of the name, the port, and Ray together
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"no Ray cluster at {address}",
                found=one_line(error) if self._cluster.ray.done() else f"no answer of Ray within {CONNECT_S:g} s",
                expected="HOST:PORT of a cluster's head, `auto`, or `local`",
                cure=_UNANSWERED_CURE,
            ) from error

    def results(self, job: ReplayJob, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        """See `processes.TaskPool`. While a Ray of this machine starts, this process scans.

        Raises:
            DataError: Ray does not start here.
        """
        left = list(tasks)
        while self._is_local and left and isinstance(left[0], ScanTask) and not self._cluster.ray.done():
            yield _successful(perform(job, left.pop(0)))
        if not left:
            return
        ray = self._cluster.ray.result()
        # What a worker of this machine needs is here: its files need not travel.
        content, work = (job, perform) if self._is_local else (ship(job), perform_shipped)
        given = ray.put(content)
        remote = ray.remote(num_cpus=self._threads, max_retries=MOST_DEATHS, enable_task_events=False)(work)
        waiting = [remote.remote(given, task) for task in left]
        try:
            while waiting:
                done, waiting = ray.wait(waiting, num_returns=1)
                yield _result(ray, done[0])
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self._cluster.leave()


class _Cluster:
    """A connection to Ray, in a thread of its own: a Ray that is started here ends with the thread that started it, and
    what answers at an address may never answer.
    """

    def __init__(self, begin: Callable[[], Any]) -> None:
        """begin: Returns the module ray, connected."""
        self.ray: Future[Any] = Future()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(begin,), name="ray_cluster", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Disconnect, once it is connected; what was started ends."""
        self._left.set()
        self._thread.join()

    def _hold(self, begin: Callable[[], Any]) -> None:
        try:
            ray = begin()
        except BaseException as error:  # raised again by whoever asks for the result
            self.ray.set_exception(error)
            return
        self.ray.set_result(ray)
        self._left.wait()
        ray.shutdown()


def _start_here(cores: int) -> Any:
    """Start Ray on this machine; returns the module ray.

    Workers have no environment of Ray's making, so that those which Ray starts beforehand can be used.
    """
    for name, value in _LOCAL_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    path = filter(None, [str(_PACKAGE.parent), os.environ.get("PYTHONPATH")])
    os.environ["PYTHONPATH"] = os.pathsep.join(path)  # workers import the package that runs here
    try:
        ray: Any = importlib.import_module("ray")
        ray.init(address=LOCAL, num_cpus=cores, include_dashboard=False, **_QUIET)
    except Exception as error:
        raise DataError(
            "Ray does not start on this machine",
            found=one_line(error),
            expected="its processes, within 30 s",
            cure="try again when the machine is less busy, or leave out --cluster: --workers N needs no Ray",
        ) from error
    return ray


def _connect(address: str) -> Any:
    """Connect to a cluster; returns the module ray."""
    _require_answer(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray: Any = importlib.import_module("ray")
    ray.init(address=address, runtime_env={"py_modules": [str(_PACKAGE)]}, **_QUIET)
    return ray


def _successful(result: TaskResult | LisardError) -> TaskResult:
    if isinstance(result, LisardError):
        raise result
    return result


def _result(ray: Any, reference: Any) -> TaskResult:
    errors = ray.exceptions
    try:
        return _successful(ray.get(reference))
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


def _require_ray() -> None:
    """Refuse where Ray is not installed; importing it takes a second, which a local Ray spends beside other work."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError(
            "--cluster needs the Python package ray",
            found="it is not installed",
            expected="it in this environment",
            cure="pip install 'lisard_ros[cluster]', or --workers N for processes of this machine",
        )


def _require_address(address: str) -> None:
    """Refuse what names no cluster."""
    host, port = _host_and_port(address)
    if address != "auto" and not (host and port.isdecimal()):
        raise UsageError(
            "--cluster is no address",
            found=repr(address),
            expected="local, auto, or HOST:PORT",
            cure=_UNANSWERED_CURE,
        )


def _require_answer(address: str) -> None:
    """Refuse an address at which nothing listens."""
    if address == "auto":
        return
    host, port = _host_and_port(address)
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"no Ray cluster at {address}",
            found=one_line(error),
            expected=f"an answer within {CONNECT_S:g} s",
            cure=_UNANSWERED_CURE,
        ) from error


def _host_and_port(address: str) -> tuple[str, str]:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    return host, port
