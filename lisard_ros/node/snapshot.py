"""What a batch is answered with. A change of parameters makes a new snapshot; one that is in use never changes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lisard_ros import injection as stage
from lisard_ros.inference import pipeline as pipelines
from lisard_ros.inference.batching import BatchChoice
from lisard_ros.inference.pipeline import Pipeline
from lisard_ros.injection import Injection
from lisard_ros.node.parameters import NodeSettings


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The settings at one moment, the pipeline that answers by them, and the injections that are switched on.

    batch: how many cameras share a batch. paused: frames are counted and not answered.
    """

    settings: NodeSettings
    pipeline: Pipeline
    batch: BatchChoice
    injections: tuple[Injection, ...]
    paused: bool = False

    @property
    def injection_names(self) -> tuple[str, ...]:
        """Names of the injections that are switched on."""
        return tuple(injection.name for injection in self.injections)

    def updated(self, settings: NodeSettings, *, new_injections: bool) -> Snapshot:
        """Return a snapshot with other settings; both share the loaded model.

        Args:
            settings: the new values.
            new_injections: whether injections start anew; kept ones go on with their random numbers.

        Raises:
            UsageError: `classes` has a name that no stage knows.
            AttackError: `injection.attacks` has a name that the bundle does not offer.
        """
        pipeline = self.pipeline.with_settings(answer_settings(settings))
        # Made only where they change: stored attacks are unpacked in the executor's thread.
        injections = make_injections(pipeline, settings) if new_injections else self.injections
        return replace(self, settings=settings, pipeline=pipeline, injections=injections)


def answer_settings(settings: NodeSettings) -> pipelines.Settings:
    """Return the part of the settings that shapes answers; no roi_classes means: as the bundle says."""
    return pipelines.Settings(
        top_k=settings.top_k,
        min_score=settings.min_score,
        max_detections=settings.max_detections,
        roi_classes=settings.roi_classes or None,
        nms_iou=settings.nms_iou,
        classes=settings.classes,
    )


def make_injections(pipeline: Pipeline, settings: NodeSettings) -> tuple[Injection, ...]:
    """Return the injections that are switched on; AttackError for a name that the bundle does not offer, on or off."""
    first = pipeline.detector.bundle if pipeline.detector is not None else None
    noise, seed = settings.injection_noise_sigma_255, settings.injection_seed
    made = tuple(
        stage.make_staged(pipeline.bundle, first, name, sigma_255=noise, seed=seed)
        for name in settings.injection_attacks
    )
    return made if settings.injection_enabled else ()
