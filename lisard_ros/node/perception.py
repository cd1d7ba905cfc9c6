"""The lifecycle node `perception`: camera topics in, classifications and detections out, self test and injection.

It configures and activates itself unless `autostart` is false. This module owns the lifecycle and the changes of
parameters; what happens to a frame while the node is active begins in `session`.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Sequence
from dataclasses import replace

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from lisard_ros import needs
from lisard_ros.errors import LisardError, UsageError
from lisard_ros.node import compat, declare, parameters
from lisard_ros.node.backend_watch import LONGEST_STEP_S, BackendStuckError
from lisard_ros.node.configuration import Configuration, configure
from lisard_ros.node.diagnostics_publisher import DiagnosticsPublisher
from lisard_ros.node.services import Services
from lisard_ros.node.session import Session
from lisard_ros.node.state import ACTIVE, FINALIZED, INACTIVE, UNCONFIGURED, NodeState
from lisard_ros.node.throttled_log import ThrottledLog

NODE_NAME = "perception"

# How long a deactivation waits for the last batch where `backend_deadline_s` is off.
FINISH_S = 10.0
# What healthy threads need to end while another one is stuck, and what a model may need to be loaded again.
STOP_BESIDE_STUCK_S = 0.5
RELOAD_S = 60.0

# Parameters that decide which injections are made; the others decide how many frames they get.
INJECTION_PARAMETERS = ("injection.enabled", "injection.attacks", "injection.noise_sigma_255", "injection.seed")

_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class Perception(LifecycleNode):
    """See the module. All methods but the constructor are called in the executor's thread."""

    def __init__(self, argv: Sequence[str] = ()) -> None:
        """Declare the parameters (UsageError when an override is wrong), offer the services, start the diagnostics."""
        super().__init__(NODE_NAME)
        compat.guard_transitions(self)
        self._state = NodeState(declare.declare(self, argv))
        self._log = ThrottledLog(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._diagnostics = DiagnosticsPublisher(self, self._state, self._log)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._period = self.create_timer(self._state.settings.diagnostics_period_s, self._on_period, clock=self._steady)
        if self._state.settings.backend_deadline_s:
            check_s = min(self._state.settings.backend_deadline_s, LONGEST_STEP_S) / 4
            self._watchdog = self.create_timer(check_s, self._check_backend, clock=self._steady)
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1)), post_callback=self._on_time_jump
        )
        self._offered_services = Services(self, self._state)

    # --- lifecycle --------------------------------------------------------------------------------------------

    def autostart(self) -> bool:
        """Configure and activate, as far as that has not been done already; False if that failed."""
        if not self._state.settings.autostart:
            return True
        if self._state.phase == UNCONFIGURED and self.trigger_configure() != _SUCCESS:
            return False
        return self._state.phase != INACTIVE or self.trigger_activate() == _SUCCESS

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the model, make the publishers."""
        try:
            self._state.configuration = configure(self, self._state.settings)
            self._state.configuration.offer_attacked()
        except Exception as error:  # a broken model or middleware fails the transition, not the process
            return self._failed("configure", error)
        self._state.phase, self._state.failure = INACTIVE, ""
        return _SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start answering."""
        super().on_activate(state)
        try:
            configuration = self._state.configuration
            if configuration is None:
                raise UsageError("the node is not configured", cure="configure it first")
            if self._state.settings.self_test_on_start == "require":
                self._require_self_test(configuration)
            self._state.session = self._session(configuration)
        except Exception as error:  # see on_configure
            return self._failed("activate", error)
        self._state.phase, self._state.failure = ACTIVE, ""
        names = ", ".join(f"{channel.topic.topic} as {channel.name}" for channel in configuration.channels)
        self.get_logger().info(f"active: {names}")
        if self._state.settings.self_test_on_start == "warn" and self.executor is not None:
            self._state.self_test.start(configuration.snapshot, self.executor, self._state.operational_load)
        return _SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and stop answering; the model stays loaded."""
        super().on_deactivate(state)
        self._deactivate(self._finish_s)
        return _SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        self._cleanup(self._finish_s)
        return _SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from any state."""
        self.release()
        self._state.phase = FINALIZED
        return _SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, so that configuring can be tried again."""
        self.release()
        return _SUCCESS

    def release(self, limit_s: float | None = None) -> None:
        """Stop answering and free everything; safe to call twice.

        limit_s: how long to wait for a batch and for a self test under way; None: as a transition does.
        """
        limit_s = self._finish_s if limit_s is None else limit_s
        self._deactivate(limit_s)
        self._cleanup(limit_s)

    @property
    def _finish_s(self) -> float:
        return self._state.settings.backend_deadline_s or FINISH_S

    def _require_self_test(self, configuration: Configuration) -> None:
        """Refuse to answer with a model of which a case of the self test fails."""
        outcome = self._state.self_test.run_now(configuration.snapshot)
        if outcome.report is None or outcome.report.failed:
            raise UsageError(
                "the self test failed and self_test.on_start is require",
                found=outcome.summary,
                expected="no case that fails",
                cure="restore the bundle, or look at the report",
            )
        self.get_logger().info(f"self test {outcome.summary}")

    def _session(self, configuration: Configuration) -> Session:
        state = self._state
        return Session(self, configuration, state.injection_counters, state.operational_load, self._log)

    def _failed(self, verb: str, error: Exception) -> TransitionCallbackReturn:
        """Log why a transition failed, and free everything."""
        if isinstance(error, LisardError):
            self._state.failure = str(error)
        elif isinstance(error, ImportError):
            self._state.failure = str(needs.cannot_import(error))
        else:
            self._state.failure = f"{type(error).__name__}: {error}"
            self.get_logger().error(traceback.format_exc())
        self.get_logger().fatal(f"cannot {verb}: {self._state.failure}")
        self.release()
        return _FAILURE

    def _deactivate(self, limit_s: float) -> None:
        """Close the session within `limit_s` and publish the final counts: every frame has an outcome now."""
        if self._state.session is None:
            return
        self._leave_behind((*self._state.self_test.stop(limit_s), *self._state.session.close(limit_s)))
        self._state.phase = INACTIVE
        if self.context.ok():
            self._diagnostics.publish_last()
        self._state.session = None

    def _cleanup(self, limit_s: float) -> None:
        self._leave_behind(self._state.self_test.stop(limit_s))
        configuration = self._state.configuration
        if configuration is not None:
            backend = configuration.snapshot.pipeline.choice.backend
            configuration.close(self, in_use=any(left.backend is backend for left in self._state.left_behind))
            self._state.configuration = None
        self._state.phase = UNCONFIGURED

    def _leave_behind(self, threads: Sequence[threading.Thread]) -> None:
        self._state.leave_behind(threads)
        for thread in threads:
            self.get_logger().error(f"thread {thread.name} is left behind: the backend does not return")

    # --- a backend that does not return -----------------------------------------------------------------------

    def _check_backend(self) -> None:
        """When the backend does not return in time, load the model again if that is allowed, else end the process."""
        state, deadline_s = self._state, self._state.settings.backend_deadline_s
        if state.session is None or not state.session.give_up_overdue(deadline_s):
            return
        reload = state.settings.on_stuck == "reload" and not state.reloaded
        consequence = "the model is loaded again" if reload else "the process ends"
        state.failure = f"the backend has not returned for {deadline_s:g} s (backend_deadline_s): {consequence}"
        self.get_logger().fatal(state.failure)
        self._deactivate(STOP_BESIDE_STUCK_S)
        if not reload:
            raise BackendStuckError(state.failure)
        self._reload()

    def _reload(self) -> None:
        """Answer with a model loaded again; the stuck thread keeps the old one."""
        state = self._state
        if state.configuration is None:
            return
        try:
            state.configuration = state.configuration.reloaded(RELOAD_S)
        except LisardError as error:
            self.get_logger().fatal(str(error))
            raise BackendStuckError(str(error)) from error
        state.session = self._session(state.configuration)
        state.reloaded, state.phase, state.failure = True, ACTIVE, ""
        self.get_logger().warning("active again with a model that was loaded again")

    # --- parameters and time ----------------------------------------------------------------------------------

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """Set parameters as rclpy does, with values in the declared types where that is safe; the services call it."""
        try:
            changes = [declare.converted(change) for change in parameter_list]
        except UsageError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return super().set_parameters_atomically(changes)

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        """Check and apply changes at run time; a refused change leaves everything as it was."""
        ours = {change.name: change.value for change in changes if change.name in parameters.BY_NAME}
        if not ours:
            return SetParametersResult(successful=True)
        new_injections = not ours.keys().isdisjoint(INJECTION_PARAMETERS)
        try:
            settings = parameters.updated(self._state.settings, ours)
            configuration = self._state.configuration
            if configuration is not None:
                snapshot = configuration.snapshot.updated(settings, new_injections=new_injections)
                configuration = replace(configuration, snapshot=snapshot)
        except LisardError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._state.settings, self._state.configuration = settings, configuration
        if configuration is not None:
            configuration.offer_attacked()
            if "min_score" in ours:
                configuration.publish_labels(self.get_clock().now().to_msg())
            if self._state.session is not None:
                self._state.session.use(configuration.snapshot)
        return SetParametersResult(successful=True)

    def _on_period(self) -> None:
        """Look after the subscriptions, then publish /diagnostics."""
        if self._state.session is not None:
            self._state.session.review()
        self._diagnostics.publish()

    def _on_time_jump(self, jump: TimeJump) -> None:
        if self._state.session is not None:
            self._state.session.time_jumped()
