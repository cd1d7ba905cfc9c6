"""Where the node stands; services and diagnostics read it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from lisard_ros.backends import Backend
from lisard_ros.injection_process.counters import InjectionCounters
from lisard_ros.node.configuration import Configuration
from lisard_ros.node.operational_load import OperationalLoad
from lisard_ros.node.parameters import NodeSettings
from lisard_ros.node.self_test_service import SelfTestRunner
from lisard_ros.node.session import Session

UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED = "unconfigured", "inactive", "active", "finalized"


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """A thread that did not come back from a backend when it was stopped."""

    thread: threading.Thread
    backend: Backend


@dataclass(slots=True)
class NodeState:
    """Written by the node alone, in the executor's thread.

    failure: why the last transition failed, '' after one that succeeded. configuration: None while unconfigured.
    session: None unless active. reloaded: the model was loaded again because the backend did not return.
    """

    settings: NodeSettings
    phase: str = UNCONFIGURED
    failure: str = ""
    configuration: Configuration | None = None
    session: Session | None = None
    injection_counters: InjectionCounters = field(default_factory=InjectionCounters)
    operational_load: OperationalLoad = field(default_factory=OperationalLoad)
    self_test: SelfTestRunner = field(default_factory=SelfTestRunner)
    reloaded: bool = False
    _left_behind: tuple[LeftBehind, ...] = ()

    @property
    def left_behind(self) -> tuple[LeftBehind, ...]:
        """The threads that are still away."""
        return tuple(left for left in self._left_behind if left.thread.is_alive())

    def leave_behind(self, threads: Sequence[threading.Thread]) -> None:
        """Note threads that did not come back from the backend of this configuration."""
        if self.configuration is not None:
            backend = self.configuration.snapshot.pipeline.choice.backend
            self._left_behind = (*self.left_behind, *(LeftBehind(thread, backend) for thread in threads))
