"""The lifecycle node `perception`: camera topics in, classifications and detections out, self test and injection.

It configures and activates itself unless `autostart` is false. Model, slots and worker are in their own modules; this
one owns the lifecycle, the parameters and the services.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from diagnostic_msgs.srv import SelfTest
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import LabelInfo

from lisard_ros import bundle as bundles
from lisard_ros import images, naming, needs
from lisard_ros import injection as stage
from lisard_ros.errors import LisardError, UsageError
from lisard_ros.inference import pipeline as pipelines
from lisard_ros.inference.pipeline import Pipeline
from lisard_ros.naming import CameraTopic
from lisard_ros.node import declare, diagnostics, messages, parameters, self_test_service
from lisard_ros.node.accounting import AgeGate, CameraBooks
from lisard_ros.node.diagnostics import ModelView, Status
from lisard_ros.node.outputs import Outputs
from lisard_ros.node.parameters import Settings
from lisard_ros.node.self_test_service import SelfTestRunner
from lisard_ros.node.session import Session
from lisard_ros.node.worker import InjectionState, Lane

UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED = "unconfigured", "inactive", "active", "finalized"
NODE_NAME = "perception"

# One log line for each kind of trouble in this time; the counters in /diagnostics miss nothing.
_REPEAT_LOG_AFTER_S = 5.0

_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@dataclass(frozen=True, slots=True)
class Loaded:
    """What configuring made: the model, the cameras and their outputs."""

    pipeline: Pipeline
    topics: tuple[CameraTopic, ...]
    lanes: dict[str, Lane]
    label_info: Any


class Perception(LifecycleNode):
    """See the module; `on_failure(message)` is called when the node cannot start by itself."""

    def __init__(self, argv: Sequence[str] = (), on_failure: Callable[[str], None] = lambda message: None) -> None:
        """Declare the parameters (UsageError when an override is wrong), offer the services, start the diagnostics."""
        super().__init__(NODE_NAME)
        self._settings = declare.declare(self, argv)
        self._on_failure = on_failure
        self._phase = UNCONFIGURED
        self._failure = ""
        self._loaded: Loaded | None = None
        self._session: Session | None = None
        self._injection = InjectionState()
        self._self_test = SelfTestRunner()
        self._said_at_s: dict[str, float] = {}
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._ticks = self.create_timer(self._settings.diagnostics_period_s, self._tick, clock=self._steady)
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1)), post_callback=self._on_time_jump
        )
        # A group of its own: a callback that waits keeps every other callback of its group from running.
        own_group = ReentrantCallbackGroup()
        self.create_service(SelfTest, "~/self_test", self._on_self_test, callback_group=own_group)
        self.create_service(Trigger, "~/cancel_self_test", self._on_cancel_self_test)
        self.create_service(SetBool, "~/injection", self._on_injection)

    # --- lifecycle --------------------------------------------------------------------------------------------

    def autostart(self) -> None:
        """Configure and activate, as far as nobody else has done it already; runs in the executor's thread."""
        if not self._settings.autostart:
            return
        if self._phase == UNCONFIGURED and self.trigger_configure() != _SUCCESS:
            self._on_failure(self._failure or "the node could not be configured")
            return
        if self._phase == INACTIVE and self.trigger_activate() != _SUCCESS:
            self._on_failure(self._failure or "the node could not be activated")

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the model, make the outputs."""
        return self._guarded("configure", self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start answering."""
        super().on_activate(state)
        return self._guarded("activate", self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and stop answering; the model stays loaded."""
        super().on_deactivate(state)
        self._deactivate()
        return _SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the outputs."""
        self._cleanup()
        return _SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from any state."""
        self.release()
        self._phase = FINALIZED
        return _SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, so that configuring can be tried again."""
        self.release()
        return _SUCCESS

    def release(self) -> None:
        """Stop answering and free everything; safe to call twice."""
        self._deactivate()
        self._cleanup()

    def _guarded(self, verb: str, work: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            work()
        except LisardError as error:
            self._failure = str(error)
        except ImportError as error:
            self._failure = str(needs.cannot_import(error))
        except Exception as error:  # noqa: BLE001  a broken model or middleware fails the transition, not the process
            self._failure = f"{type(error).__name__}: {error}"
            self.get_logger().error(traceback.format_exc())
        else:
            self._failure = ""
            return _SUCCESS
        self.get_logger().fatal(f"cannot {verb}: {self._failure}")
        self.release()
        return _FAILURE

    def _configure(self) -> None:
        settings = self._settings
        if not settings.bundle:
            raise UsageError(
                "parameter 'bundle'",
                found="no path",
                expected="a bundle folder or .zip",
                cure="set it, for example to models/traffic_signs",
            )
        topics = naming.camera_topics(settings.image_topics, settings.camera_names)
        for parameter, names in (("image_topics", settings.image_topics), ("boxes_topic", (settings.boxes_topic,))):
            self._refuse_invalid_topics(parameter, [name for name in names if name])
        detector = settings.detector if parameters.regions_mode(settings) == "detector" else None
        bundle_path = bundles.locate(settings.bundle)
        detector_path = bundles.locate(detector) if detector else None
        pipeline = pipelines.open_pipeline(
            bundle_path,
            backend=settings.backend,
            threads=settings.threads,
            settings=answer_settings(settings),
            detector=detector_path,
            precision=settings.precision,
            plan_policy=settings.plan_policy,
        )
        try:
            check_regions(pipeline, settings)
            self._injection.active = make_injections(pipeline, settings)
            warm_up(pipeline)
            self._loaded = self._load(pipeline, topics)
            self._offer_attacked()
        except BaseException:
            pipeline.close()
            raise
        self._phase = INACTIVE
        choice, bundle = pipeline.choice, pipeline.bundle
        self.get_logger().info(f"bundle {bundle.manifest.name} {bundle.sha256[:12]} from {bundle_path}")
        if pipeline.detector is not None:
            first = pipeline.detector.bundle
            self.get_logger().info(f"detector {first.manifest.name} {first.sha256[:12]} from {detector_path}")
        self.get_logger().info(f"backend {choice.backend.description} ({choice.reason})")
        self.get_logger().info(f"image conversion: {images.conversion_leg().name}")

    def _load(self, pipeline: Pipeline, topics: tuple[CameraTopic, ...]) -> Loaded:
        settings, manifest = self._settings, pipeline.bundle.manifest
        boxes = manifest.task == "detection" or parameters.regions_mode(settings) != "whole"
        lanes = {
            t.camera: Lane(t.camera, CameraBooks(), AgeGate(), Outputs(self, t.camera, boxes, settings.class_id_format))
            for t in topics
        }
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        label_info = self.create_publisher(LabelInfo, "~/label_info", latched)
        threshold = max(settings.min_score, manifest.decode.score_threshold if manifest.decode else 0.0)
        label_info.publish(messages.label_info(manifest.labels, threshold, self.get_clock().now().to_msg()))
        return Loaded(pipeline, topics, lanes, label_info)

    def _offer_attacked(self) -> None:
        """Make the topics of the injections that are on, before the first attacked answer."""
        for lane in self._loaded.lanes.values() if self._loaded is not None else ():
            lane.outputs.offer_attacked([injection.name for injection in self._injection.active])

    def _activate(self) -> None:
        if self._loaded is None:
            raise UsageError("the node is not configured", cure="configure it first")
        loaded = self._loaded
        self._session = Session(
            self, loaded.pipeline, loaded.lanes, loaded.topics, lambda: self._settings, self._injection, self._report
        )
        self._phase = ACTIVE
        names = ", ".join(f"{topic.topic} as {topic.camera}" for topic in loaded.topics)
        self.get_logger().info(f"active: {names}")

    def _deactivate(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
            self._phase = INACTIVE

    def _cleanup(self) -> None:
        self._self_test.stop()
        if self._loaded is not None:
            for lane in self._loaded.lanes.values():
                lane.outputs.close()
            self.destroy_publisher(self._loaded.label_info)
            self._loaded.pipeline.close()
            self._loaded = None
        self._injection.active = ()
        self._phase = UNCONFIGURED

    def _refuse_invalid_topics(self, parameter: str, topics: Sequence[str]) -> None:
        for topic in topics:
            try:
                self.resolve_topic_name(topic)
            except Exception as error:  # noqa: BLE001  rclpy has several classes for a name it does not like
                raise UsageError(
                    f"parameter '{parameter}'", found=repr(topic), expected="a ROS topic name", cure=_first_line(error)
                ) from error

    # --- parameters -------------------------------------------------------------------------------------------

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
        try:
            settings = parameters.updated(self._settings, ours)
            injections = make_injections(self._loaded.pipeline, settings) if self._loaded is not None else ()
            answer = answer_settings(settings)
        except LisardError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._settings = settings
        if self._loaded is not None:
            self._loaded.pipeline.settings = answer
        if any(name.startswith("injection.") for name in ours):
            self._injection.active = injections
            self._offer_attacked()
        return SetParametersResult(successful=True)

    # --- services ---------------------------------------------------------------------------------------------

    def _on_injection(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        change = Parameter("injection.enabled", Parameter.Type.BOOL, request.data)
        result = self.set_parameters([change])[0]
        response.success = result.successful
        words = ", ".join(self._settings.injection_attacks) if request.data else "off"
        response.message = f"injection: {words}" if result.successful else result.reason
        return response

    async def _on_self_test(self, request: SelfTest.Request, response: SelfTest.Response) -> SelfTest.Response:
        """Run the suite in a thread; the executor goes on with frames until it is done."""
        outcome = await self._self_test_outcome()
        identity = self_test_service.identity(self._loaded.pipeline) if self._loaded is not None else "no bundle"
        return self_test_service.fill(response, outcome, identity)

    async def _self_test_outcome(self) -> self_test_service.Outcome:
        if self._loaded is None:
            return self_test_service.Outcome(None, "no bundle is loaded: configure the node first")
        executor = self.executor
        if executor is None:
            return self_test_service.Outcome(None, "the node is not being spun")
        done: Future = Future(executor=executor)

        def on_done(outcome: self_test_service.Outcome) -> None:
            executor.create_task(done.set_result, outcome)  # wakes the executor, which set_result alone does not

        if not self._self_test.start(self._loaded.pipeline, self._settings, on_done):
            return self_test_service.Outcome(None, "a self test is under way: wait for it or call ~/cancel_self_test")
        outcome: Any = await done
        return outcome

    def _on_cancel_self_test(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._self_test.cancel()
        response.message = "cancelled" if response.success else "no self test is under way"
        return response

    # --- diagnostics ------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Once per period: look after the subscriptions, publish /diagnostics, log what is new."""
        if self._session is not None:
            self._session.review()
        statuses = [self._model_status(), *self._camera_statuses(), *self._other_statuses()]
        stamp = self.get_clock().now().to_msg()
        hardware = self._loaded.pipeline.bundle.manifest.name if self._loaded is not None else ""
        self._diagnostics.publish(diagnostics.to_message(statuses, self.get_fully_qualified_name(), hardware, stamp))
        for status in statuses:
            if status.findings and status.name != "injection":
                self._say(status.name, f"{status.name}: {status.message}")

    def _model_status(self) -> Status:
        stands = self._uses_sim_time() and self.get_clock().now().nanoseconds == 0
        if self._loaded is None:
            view = ModelView(self._phase, failure=self._failure, namesakes=self._namesakes(), clock_stands=stands)
            return diagnostics.model_status(view)
        pipeline = self._loaded.pipeline
        bundle, choice, first = pipeline.bundle, pipeline.choice, pipeline.detector
        view = ModelView(
            self._phase,
            bundle.manifest.name,
            bundle.sha256,
            choice.backend.description,
            choice.reason,
            images.conversion_leg().name,
            self._failure,
            self._namesakes(),
            stands,
            choice.backend.warnings + (first.choice.backend.warnings if first is not None else ()),
        )
        if first is not None:
            about = (first.bundle.manifest.name, first.bundle.sha256, first.choice.backend.description)
            view = replace(view, detector=about[0], detector_sha256=about[1], detector_backend=about[2])
        return diagnostics.model_status(view)

    def _camera_statuses(self) -> list[Status]:
        if self._session is None:
            return []
        return [diagnostics.camera_status(view) for view in self._session.views()]

    def _other_statuses(self) -> list[Status]:
        settings, state, last = self._settings, self._injection, self._self_test.last
        found = [
            diagnostics.injection_status(
                bool(state.active), settings.injection_attacks, state.answered, state.not_applicable, state.failed
            ),
            diagnostics.self_test_status(
                last.passed if last else None, self._self_test_words(), last.lines if last else ()
            ),
        ]
        if self._session is not None and parameters.regions_mode(settings) == "topic":
            boxes = (settings.boxes_topic, self._session.boxes_received, self._session.boxes_unmatched)
            found.append(diagnostics.boxes_status(*boxes))
        return found

    def _self_test_words(self) -> str:
        if self._self_test.running:
            return "under way"
        return self._self_test.last.summary if self._self_test.last is not None else "not run"

    def _namesakes(self) -> int:
        """How many other nodes have this name."""
        mine = (self.get_name(), self.get_namespace())
        return max(0, self.get_node_names_and_namespaces().count(mine) - 1)

    def _uses_sim_time(self) -> bool:
        return bool(self.get_parameter("use_sim_time").value)

    def _on_time_jump(self, jump: Any) -> None:
        if self._session is not None:
            self._session.time_jumped()

    def _report(self, camera: str, cause: str, message: str) -> None:
        """Log a frame that failed; called by the worker."""
        self._say(f"{camera} {cause}", f"{camera or 'worker'}: {cause}: {message}")

    def _say(self, topic: str, text: str) -> None:
        """Log `text` as a warning unless something was said about the same topic a moment ago."""
        now_s = time.monotonic()
        if now_s - self._said_at_s.get(topic, -_REPEAT_LOG_AFTER_S) >= _REPEAT_LOG_AFTER_S:
            self._said_at_s[topic] = now_s
            self.get_logger().warning(text)


def answer_settings(settings: Settings) -> pipelines.Settings:
    """Return the part of the settings that shapes answers; no roi_classes means: as the bundle says."""
    return pipelines.Settings(settings.top_k, settings.min_score, settings.max_detections, settings.roi_classes or None)


def make_injections(pipeline: Pipeline, settings: Settings) -> tuple[stage.Injection, ...]:
    """Return the injections that are switched on; AttackError for a name that the bundle does not offer, on or off."""
    first = pipeline.detector.bundle if pipeline.detector is not None else None
    noise, seed = settings.injection_noise_sigma_255, settings.injection_seed
    made = tuple(
        stage.make_staged(pipeline.bundle, first, name, sigma_255=noise, seed=seed)
        for name in settings.injection_attacks
    )
    return made if settings.injection_enabled else ()


def check_regions(pipeline: Pipeline, settings: Settings) -> None:
    """Refuse boxes for a detector: it looks at whole frames."""
    mode = parameters.regions_mode(settings)
    if pipeline.bundle.manifest.task == "detection" and mode != "whole":
        raise UsageError(
            "parameter 'regions'",
            found=f"{mode} with a detection bundle",
            expected="whole",
            cure="leave fixed_boxes, boxes_topic and detector empty, or use a classification bundle",
        )


def warm_up(pipeline: Pipeline) -> None:
    """Run the network once, so that the first frame is as fast as the others and a broken model fails early."""
    if pipeline.detector is not None:
        warm_up(pipeline.detector)
    spec = pipeline.bundle.manifest.input
    pipeline.choice.backend.infer(np.zeros((1, 3, spec.height, spec.width), np.float32))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
