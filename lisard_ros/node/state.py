"""Where the node stands; services and diagnostics read it."""

from __future__ import annotations

from dataclasses import dataclass, field

from lisard_ros.node.configuration import Configuration
from lisard_ros.node.inference_worker import InjectionCounters
from lisard_ros.node.parameters import NodeSettings
from lisard_ros.node.self_test_service import SelfTestRunner
from lisard_ros.node.session import Session

UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED = "unconfigured", "inactive", "active", "finalized"


@dataclass(slots=True)
class NodeState:
    """Written by the node alone, in the executor's thread.

    failure: why the last transition failed, '' after one that succeeded. configuration: None while unconfigured.
    session: None unless active.
    """

    settings: NodeSettings
    phase: str = UNCONFIGURED
    failure: str = ""
    configuration: Configuration | None = None
    session: Session | None = None
    injection_counters: InjectionCounters = field(default_factory=InjectionCounters)
    self_test: SelfTestRunner = field(default_factory=SelfTestRunner)
