"""Publishes /diagnostics from the state of the node, and logs what is new in it."""

from __future__ import annotations

from dataclasses import replace

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.node import Node

from lisard_ros import images
from lisard_ros.injection_process.supervisor import InjectionStatus
from lisard_ros.node import diagnostics
from lisard_ros.node.diagnostics import InjectionView, ModelView, Status
from lisard_ros.node.state import NodeState
from lisard_ros.node.throttled_log import ThrottledLog

DELIVERY_S = 0.2  # what the final counts may need to arrive, as long as a subscriber is slow


class DiagnosticsPublisher:
    """Describes a node once per period; called in the executor's thread."""

    def __init__(self, node: Node, state: NodeState, log: ThrottledLog) -> None:
        """Make the publisher."""
        self._node, self._state, self._log = node, state, log
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self) -> None:
        """Publish the state of this moment."""
        state = self._state
        statuses = [self._model_status()]
        if state.session is not None:
            views = state.session.views(state.settings.no_image_warn_s)
            statuses += [diagnostics.camera_status(view) for view in views]
        statuses += self._other_statuses()
        stamp = self._node.get_clock().now().to_msg()
        bundle = state.configuration.snapshot.pipeline.bundle if state.configuration is not None else None
        hardware_id = bundle.manifest.name if bundle is not None else ""
        name = self._node.get_fully_qualified_name()
        self._publisher.publish(diagnostics.to_message(statuses, name, hardware_id, stamp))
        for status in statuses:
            if status.remarks and status.name != "injection":
                self._log.warn(status.name, f"{status.name}: {status.message}")

    def publish_last(self) -> None:
        """Publish the final counts and wait shortly until those who listen have them: the process may end now."""
        self.publish()
        self._publisher.wait_for_all_acked(Duration(seconds=DELIVERY_S))

    def _model_status(self) -> Status:
        node, state = self._node, self._state
        simulated = bool(node.get_parameter("use_sim_time").value)
        same_name = node.get_node_names_and_namespaces().count((node.get_name(), node.get_namespace()))
        view = ModelView(
            state.phase,
            failure=state.failure,
            namesakes=max(0, same_name - 1),
            clock_stands=simulated and node.get_clock().now().nanoseconds == 0,
            reloaded=state.reloaded,
            threads_left_behind=len(state.left_behind),
        )
        if state.configuration is None:
            return diagnostics.model_status(view)
        snapshot = state.configuration.snapshot
        pipeline = snapshot.pipeline
        bundle, choice, first = pipeline.bundle, pipeline.choice, pipeline.detector
        view = replace(
            view,
            bundle=bundle.manifest.name,
            sha256=bundle.sha256,
            backend=choice.backend.description,
            reason=choice.reason,
            batch=f"{snapshot.batch.images}: {snapshot.batch.reason}",
            paused=snapshot.paused,
            conversion=images.conversion_leg().name,
            backend_warnings=choice.backend.warnings,
        )
        if first is not None:
            view = replace(
                view,
                detector=first.bundle.manifest.name,
                detector_sha256=first.bundle.sha256,
                detector_backend=first.choice.backend.description,
                backend_warnings=choice.backend.warnings + first.choice.backend.warnings,
            )
        return diagnostics.model_status(view)

    def _other_statuses(self) -> list[Status]:
        """Return the states of injection, self test and, where boxes come from a topic, of that topic."""
        state, settings = self._state, self._state.settings
        injects = state.configuration is not None and state.configuration.snapshot.plan is not None
        feed = state.session.feed if state.session is not None else None
        surrogate = state.configuration.snapshot.surrogate if state.configuration is not None else None
        injection = InjectionView(
            injects,
            settings.injection_attacks,
            InjectionStatus() if feed is None else feed.status,
            state.injection_counters.counts(),
            state.operational_load.load(attacked=True),
            state.operational_load.load(attacked=False),
            "" if surrogate is None else f"{surrogate.manifest.name} {surrogate.sha256}",
        )
        last, running = state.self_test.last, state.self_test.view
        passed, summary, lines = (None, "not run", ()) if last is None else (last.passed, last.summary, last.lines)
        unwritten = last is not None and bool(last.unwritten)
        statuses = [
            diagnostics.injection_status(injection),
            diagnostics.self_test_status(passed, summary, lines, running, unwritten=unwritten),
        ]
        if state.session is not None and state.session.boxes is not None:
            boxes = state.session.boxes
            statuses.append(diagnostics.boxes_status(settings.boxes_topic, boxes.received, boxes.unmatched))
        return statuses
