"""What a batch is answered with. A change of parameters makes a new snapshot; one that is in use never changes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lisard_ros import injection as stage
from lisard_ros.bundle import Bundle
from lisard_ros.inference import pipeline as pipelines
from lisard_ros.inference.batching import BatchChoice
from lisard_ros.inference.pipeline import Pipeline
from lisard_ros.injection_process.wire import InjectionPlan
from lisard_ros.node.parameters import NodeSettings


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The settings at one moment, the pipeline that answers by them, and what is injected.

    batch: how many cameras share a batch. plan: None while injection is off. surrogate: whose gradients attacks follow;
    None: the bundle's own. paused: frames are counted and not answered.
    """

    settings: NodeSettings
    pipeline: Pipeline
    batch: BatchChoice
    plan: InjectionPlan | None
    surrogate: Bundle | None = None
    paused: bool = False

    @property
    def injection_names(self) -> tuple[str, ...]:
        """Names of the injections that are switched on."""
        return self.plan.names if self.plan is not None else ()

    def updated(self, settings: NodeSettings, *, new_injections: bool) -> Snapshot:
        """Return a snapshot with other settings; both share the loaded model.

        Args:
            settings: the new values.
            new_injections: whether other injections may have been chosen.

        Raises:
            UsageError: `classes` has a name that no stage knows.
            AttackError: `injection.attacks` has a name that the bundle does not offer.
        """
        pipeline = self.pipeline.with_settings(answer_settings(settings))
        if new_injections:  # stored attacks are unpacked in the executor's thread
            require_injections(pipeline, settings, self.surrogate)
        return replace(self, settings=settings, pipeline=pipeline, plan=injection_plan(settings))


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


def injection_plan(settings: NodeSettings) -> InjectionPlan | None:
    """Return what is injected by these settings; None while injection is off."""
    if not settings.injection_enabled:
        return None
    return InjectionPlan(
        tuple(dict.fromkeys(settings.injection_attacks)),
        settings.injection_noise_sigma_255,
        settings.injection_seed,
        settings.injection_max_share,
        settings.injection_fraction,
        settings.injection_cameras,
        answer_settings(settings),
    )


def require_injections(pipeline: Pipeline, settings: NodeSettings, surrogate: Bundle | None) -> None:
    """Refuse injections that cannot be made of this pipeline's bundles, on or off.

    Raises:
        AttackError: a name that the bundle does not offer.
        BundleError: a perturbation's file is damaged.
    """
    first = pipeline.detector.bundle if pipeline.detector is not None else None
    noise, seed = settings.injection_noise_sigma_255, settings.injection_seed
    sources = stage.AttackSources(surrogate, engine=pipeline.choice.backend, threads=1)  # nothing is asked here
    for name in settings.injection_attacks:
        stage.make_staged(pipeline.bundle, first, name, sigma_255=noise, seed=seed, sources=sources)
