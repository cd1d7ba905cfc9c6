"""The services of the node: ~/self_test, ~/cancel_self_test, ~/injection and ~/enable."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from diagnostic_msgs.srv import SelfTest
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from lisard_ros.node import self_test_service
from lisard_ros.node.self_test_service import SelfTestOutcome
from lisard_ros.node.state import NodeState

# Switching injection on takes about 0.1 s with the stored attacks of a shipped bundle, in which no image is taken.
SWITCH_ON_INTERVAL_S = 1.0


class Services:
    """Offers the services of a node from its start to its end."""

    def __init__(self, node: Node, state: NodeState) -> None:
        """Offer them at once."""
        self._node, self._state = node, state
        self._switched_on_s = -math.inf  # time.monotonic
        # A group of its own: a callback that waits keeps every other callback of its group from running.
        own_group = ReentrantCallbackGroup()
        node.create_service(SelfTest, "~/self_test", self._on_self_test, callback_group=own_group)
        node.create_service(Trigger, "~/cancel_self_test", self._on_cancel_self_test)
        node.create_service(SetBool, "~/injection", self._on_injection)
        node.create_service(SetBool, "~/enable", self._on_enable)

    def _on_injection(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Switch injection on or off; on only once in a while, see SWITCH_ON_INTERVAL_S."""
        wait_s = self._switched_on_s + SWITCH_ON_INTERVAL_S - time.monotonic()
        if request.data and wait_s > 0:
            response.message = f"injection has just been switched on: call again in {wait_s:.1f} s"
            return response
        if request.data:
            self._switched_on_s = time.monotonic()
        change = Parameter("injection.enabled", Parameter.Type.BOOL, request.data)
        result = self._node.set_parameters([change])[0]
        response.success = result.successful
        words = ", ".join(self._state.settings.injection_attacks) if request.data else "off"
        response.message = f"injection: {words}" if result.successful else result.reason
        return response

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Pause or resume answers; the model stays loaded and the subscriptions stay open."""
        configuration = self._state.configuration
        if configuration is None:
            response.message = "no bundle is loaded: configure the node first"
            return response
        configuration = replace(configuration, snapshot=replace(configuration.snapshot, paused=not request.data))
        self._state.configuration = configuration
        if self._state.session is not None:
            self._state.session.use(configuration.snapshot)
        response.success, response.message = True, "answering" if request.data else "paused"
        return response

    async def _on_self_test(self, request: SelfTest.Request, response: SelfTest.Response) -> SelfTest.Response:
        """Run the suite in a thread; the executor goes on with frames until it is done."""
        outcome = await self._run_self_test()
        configuration = self._state.configuration
        tested = "no bundle" if configuration is None else self_test_service.identity(configuration.snapshot.pipeline)
        return self_test_service.fill(response, outcome, tested)

    async def _run_self_test(self) -> SelfTestOutcome:
        configuration, executor = self._state.configuration, self._node.executor
        if configuration is None:
            return SelfTestOutcome(None, "no bundle is loaded: configure the node first")
        if executor is None:
            return SelfTestOutcome(None, "the node is not being spun")
        settings, session, collector = configuration.snapshot.settings, self._state.session, None
        if settings.self_test_source == "live":
            if session is None:
                return SelfTestOutcome(None, "the node is not active: there are no live frames to test")
            collector = self_test_service.collector_for(settings)
        done = self._state.self_test.start(configuration.snapshot, executor, self._state.operational_load, collector)
        if isinstance(done, str):
            return SelfTestOutcome(None, done)
        if session is not None and collector is not None:  # a refused call must not take another test's frames
            session.collect(collector)
        outcome: SelfTestOutcome | None = await done
        return outcome or SelfTestOutcome(None, "the node is going down")

    def _on_cancel_self_test(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._state.self_test.cancel()
        response.message = "cancelled" if response.success else "no self test is under way"
        return response
