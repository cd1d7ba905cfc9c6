"""What configuring the node makes, and how: the loaded model, one channel per camera, the labels."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from vision_msgs.msg import LabelInfo

from lisard_ros import backends, images, naming
from lisard_ros import bundle as bundles
from lisard_ros.attacks import onnx_model
from lisard_ros.backends import engine_cache
from lisard_ros.bundle import Bundle, model_choice, signature
from lisard_ros.bundle.signature import TrustedKeys
from lisard_ros.errors import BackendError, UsageError, one_line
from lisard_ros.evaluation import precision_choice
from lisard_ros.inference import batching
from lisard_ros.inference import pipeline as pipelines
from lisard_ros.inference.pipeline import Pipeline
from lisard_ros.naming import CameraTopic
from lisard_ros.node import messages, parameters
from lisard_ros.node.camera_publisher import CameraPublisher
from lisard_ros.node.channel import CameraChannel
from lisard_ros.node.frame_counters import FrameCounters
from lisard_ros.node.parameters import NodeSettings
from lisard_ros.node.snapshot import Snapshot, answer_settings, injection_plan, require_injections
from lisard_ros.node.stale_frame_filter import StaleFrameFilter
from lisard_ros.tracking import stage as tracking


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """A configured node: the snapshot in force, the cameras in the order of image_topics, the publisher of the labels.

    A change of parameters replaces the snapshot; all snapshots share one loaded model.
    """

    snapshot: Snapshot
    channels: tuple[CameraChannel, ...]
    labels: Publisher[LabelInfo]

    def offer_attacked(self) -> None:
        """Make the topics of the injections that are on, before the first attacked answer."""
        for channel in self.channels:
            channel.publisher.offer_attacked(self.snapshot.injection_names)

    def publish_labels(self, stamp: Time) -> None:
        """Publish the labels of all stages and the threshold in force, for whoever asks later too."""
        pipeline = self.snapshot.pipeline
        self.labels.publish(messages.label_info(pipeline.labels, pipeline.threshold, stamp))

    def reloaded(self, limit_s: float) -> Configuration:
        """Load the model again, from the bundle in memory, because a thread does not return from this one.

        This one is left as it is; counters and publishers are shared.

        Raises:
            LisardError: the model was not ready within `limit_s`, or cannot be loaded any more.
        """
        settings = self.snapshot.settings
        policy = "fallback" if settings.plan_policy == "fallback" else "require"  # what was to be built is in the cache
        loaded: list[Snapshot] = []
        failures: list[Exception] = []

        def load() -> None:
            try:
                pipeline = self.snapshot.pipeline.reopened(settings.backend, settings.threads, policy)
                _warm_up(pipeline)
                batch = batching.choose(pipeline, len(self.channels))
                loaded.append(replace(self.snapshot, pipeline=pipeline, batch=batch))
            except Exception as error:  # whatever the runtime raises, the caller is told
                failures.append(error)

        thread = threading.Thread(target=load, name="lisard_reload", daemon=True)
        thread.start()
        thread.join(limit_s)
        if not loaded:
            reason = one_line(failures[0]) if failures else f"not ready within {limit_s:g} s"
            raise BackendError("the model cannot be loaded again", found=reason)
        return replace(self, snapshot=loaded[0])

    def close(self, node: Node, *, in_use: bool) -> None:
        """Destroy the publishers and free the model. in_use: a thread is still in it, so it is left alone."""
        for channel in self.channels:
            channel.publisher.close()
        node.destroy_publisher(self.labels)
        if not in_use:
            self.snapshot.pipeline.close()


def configure(node: Node, settings: NodeSettings) -> Configuration:
    """Load and warm up the model, make the publishers of every camera.

    Raises:
        LisardError: the settings do not go together, or the bundle cannot be used.
    """
    if not settings.bundle:
        raise UsageError(
            "parameter 'bundle'",
            found="no path",
            expected="a bundle folder or .zip",
            cure="set it, for example to models/traffic_signs",
        )
    topics = naming.camera_topics(settings.image_topics, settings.camera_names)
    for parameter, names in (("image_topics", settings.image_topics), ("boxes_topic", (settings.boxes_topic,))):
        _refuse_invalid_topics(node, parameter, [name for name in names if name])
    detector = settings.detector if parameters.regions_mode(settings) == "detector" else None
    bundle_path = bundles.locate(settings.bundle)
    detector_path = bundles.locate(detector) if detector else None
    trusted_keys = signature.read_trusted_keys(settings.trusted_keys) if settings.require_signature else None
    first = _open(detector_path, settings, None, trusted_keys) if detector_path is not None else None
    pipeline = _open(bundle_path, settings, first, trusted_keys)
    try:
        _check_regions(pipeline, settings)
        tracking.require_boxes(
            settings.tracking,
            _gives_boxes(pipeline, settings),
            "parameter 'tracking'",
            "set detector or boxes_topic, use a detection bundle, or leave tracking at none",
        )
        surrogate = _read_surrogate(pipeline.bundle, settings, trusted_keys)
        require_injections(pipeline, settings, surrogate)
        _warm_up(pipeline)
        batch = batching.choose(pipeline, len(topics))
        snapshot = Snapshot(settings, pipeline, batch, injection_plan(settings), surrogate)
        configuration = Configuration(snapshot, _make_channels(node, snapshot, topics), _labels_publisher(node))
        configuration.publish_labels(node.get_clock().now().to_msg())
    except BaseException:
        pipeline.close()
        raise
    choice, bundle = pipeline.choice, pipeline.bundle
    node.get_logger().info(f"bundle {bundle.manifest.name} {bundle.sha256[:12]} from {bundle_path}")
    if pipeline.detector is not None:
        front = pipeline.detector.bundle
        node.get_logger().info(f"detector {front.manifest.name} {front.sha256[:12]} from {detector_path}")
    if surrogate is not None:
        node.get_logger().info(f"surrogate {surrogate.manifest.name} {surrogate.sha256[:12]} from {surrogate.path}")
    if trusted_keys is not None:
        node.get_logger().info(f"signed by key {trusted_keys.require_signed(bundle)}")
    node.get_logger().info(f"backend {choice.backend.description} ({choice.reason})")
    node.get_logger().info(f"cameras: {batch.reason}")
    leg = images.conversion_leg()
    node.get_logger().info(f"image conversion: {leg.name}")
    if leg.warning:
        node.get_logger().warning(leg.warning)
    return configuration


def _open(path: Path, settings: NodeSettings, detector: Pipeline | None, trusted_keys: TrustedKeys | None) -> Pipeline:
    """Load a bundle; `precision: auto` takes its int8 file only where that was checked on this CPU."""
    precision, chosen = settings.precision, None
    try:
        bundle = bundles.read(path)
        if trusted_keys is not None:
            trusted_keys.require_signed(bundle)
        on_cpu = settings.backend == "onnxruntime" or (
            settings.backend == backends.AUTO and not engine_cache.has_any(bundle)
        )
        if precision == model_choice.AUTO and on_cpu:
            chosen = precision_choice.choose(bundle, settings.threads or backends.default_threads())
            precision = chosen.precision
        pipeline = pipelines.open_pipeline(
            bundle,
            backend=settings.backend,
            threads=settings.threads,
            settings=answer_settings(settings),
            detector=detector,
            precision=precision,
            plan_policy=settings.plan_policy,
        )
    except BaseException:
        if detector is not None:
            detector.close()
        raise
    if chosen is not None:
        choice = pipeline.choice
        pipeline.choice = replace(choice, reason=f"{choice.reason}; {chosen.reason}")
        if chosen.warning:
            choice.backend.warnings = (*choice.backend.warnings, chosen.warning)
    return pipeline


def _read_surrogate(bundle: Bundle, settings: NodeSettings, trusted_keys: TrustedKeys | None) -> Bundle | None:
    """Read the bundle whose gradients attacks follow; what does not fit is refused now, not when an attack needs it."""
    if not settings.injection_surrogate:
        return None
    surrogate = bundles.read(bundles.locate(settings.injection_surrogate))
    if trusted_keys is not None:
        trusted_keys.require_signed(surrogate)
    onnx_model.require_surrogate(bundle, surrogate)
    onnx_model.from_bundle(surrogate, threads=1)  # its gradient is there, and is its own
    return surrogate


def _make_channels(node: Node, snapshot: Snapshot, topics: Sequence[CameraTopic]) -> tuple[CameraChannel, ...]:
    settings = snapshot.settings
    boxes = _gives_boxes(snapshot.pipeline, settings)
    return tuple(
        CameraChannel(
            topic,
            FrameCounters(),
            StaleFrameFilter(),
            CameraPublisher(node, topic.camera, boxes, settings.class_id_format),
            tracking.make(settings.tracking),
        )
        for topic in topics
    )


def _gives_boxes(pipeline: Pipeline, settings: NodeSettings) -> bool:
    """Whether answers are boxes: of a detection bundle, or those that a classifier looks at."""
    return pipeline.bundle.manifest.runtime_task.finds_boxes or parameters.regions_mode(settings) != "whole"


def _labels_publisher(node: Node) -> Publisher[LabelInfo]:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    return node.create_publisher(LabelInfo, "~/label_info", latched)


def _refuse_invalid_topics(node: Node, parameter: str, topics: Sequence[str]) -> None:
    for topic in topics:
        try:
            node.resolve_topic_name(topic)
        except Exception as error:  # rclpy has several classes for a name it does not like
            raise UsageError(
                f"parameter '{parameter}'", found=repr(topic), expected="a ROS topic name", cure=one_line(error)
            ) from error


def _check_regions(pipeline: Pipeline, settings: NodeSettings) -> None:
    """Refuse boxes for a detector: it looks at whole frames."""
    mode = parameters.regions_mode(settings)
    if pipeline.bundle.manifest.runtime_task.finds_boxes and mode != "whole":
        raise UsageError(
            "parameter 'regions'",
            found=f"{mode} with a detection bundle",
            expected="whole",
            cure="leave fixed_boxes, boxes_topic and detector empty, or use a classification bundle",
        )


def _warm_up(pipeline: Pipeline) -> None:
    """Run the network once, so that the first frame is as fast as the others and a broken model fails early."""
    if pipeline.detector is not None:
        _warm_up(pipeline.detector)
    spec = pipeline.bundle.manifest.input
    pipeline.choice.backend.infer(np.zeros((1, 3, spec.height, spec.width), np.float32))
