"""This package in the protocols of MAITE: a bundle as `Model`, labelled images as `Dataset`, an injection as
`Augmentation`, accuracy and AP50 as `Metric`, for image classification and object detection.

The protocols are structural: nothing here imports `maite`, and neither it nor this module needs torch. Whoever calls
`maite.tasks.evaluate` installs it (`pip install 'lisard_ros[maite]'`). Images are [3, H, W] in RGB or [1, H, W] in
grey: uint8, or floats in [0, 1], which are rounded to the 256 levels of a camera.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lisard_ros import backends, bundle, injection
from lisard_ros.bags.reader import LabelOptions
from lisard_ros.bundle import model_choice
from lisard_ros.bundle.manifest import DETECTOR_PREFIX, InputSpec
from lisard_ros.errors import DataError, ImageError, UsageError
from lisard_ros.evaluation.average_precision import FAINTEST_SCORE, TrueBoxes, ap50s, match
from lisard_ros.evaluation.statistics import clustered, interval_of, resamples
from lisard_ros.frames import GREY_LEVELS, Frame, Pixels, Result
from lisard_ros.inference import preprocess
from lisard_ros.inference.pipeline import MAX_BATCH, Pipeline, Settings, open_pipeline
from lisard_ros.inference.postprocess import Boxes
from lisard_ros.interop import labelled_images
from lisard_ros.interop.labelled_images import BoxTarget, ImageMetadata, LabelledImages, LabelSet, OneHot

if TYPE_CHECKING:
    from maite.protocols import AugmentationMetadata, DatumMetadata, MetricMetadata, ModelMetadata
    from maite.protocols import image_classification as ic
    from maite.protocols import object_detection as od

BOOTSTRAP_DRAWS, BOOTSTRAP_SEED = 1000, 0
_ROUNDING = 1e-6  # what arithmetic in float32 may leave outside of [0, 1]


# --- models -----------------------------------------------------------------------------------------------------------


class _BundleModel:
    """What both kinds of model share. Use `load_model`."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Take an open pipeline, which `close` closes."""
        self.pipeline = pipeline
        self.labels = pipeline.labels
        name = f"{pipeline.bundle.manifest.name} {pipeline.bundle.sha256[:12]}"
        self.metadata: ModelMetadata = {"id": name, "index2label": dict(enumerate(self.labels))}

    def results(self, images: Sequence[ArrayLike]) -> list[Result]:
        """Answer images of any sizes.

        Raises:
            ImageError: One is no image.
            LisardError: The network gave no usable answer.
        """
        frames = [frame_of(image, number) for number, image in enumerate(images)]
        results = []
        for begin in range(0, len(frames), MAX_BATCH):
            for outcome in self.pipeline.run(frames[begin : begin + MAX_BATCH]):
                if not isinstance(outcome, Result):
                    raise outcome.error
                results.append(outcome)
        return results

    def close(self) -> None:
        """Free the model's memory."""
        self.pipeline.close()

    def __enter__(self) -> Any:
        """Return the model itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the model."""
        self.close()


class BundleClassifier(_BundleModel):
    """A MAITE `image_classification.Model`: the scores of all classes for each image."""

    def __call__(self, batch_input: Sequence[ArrayLike], /) -> Sequence[OneHot]:
        """Return float32 [classes] in [0, 1] for each image, in the order of `metadata["index2label"]`."""
        answers = []
        for result in self.results(batch_input):
            scores = np.zeros(len(self.labels), np.float32)
            for hypothesis in result.classification.hypotheses if result.classification else ():
                scores[hypothesis.index] = hypothesis.score
            answers.append(scores)
        return answers


class BundleDetector(_BundleModel):
    """A MAITE `object_detection.Model`: a detection bundle, or one whose boxes a classifier names."""

    def __call__(self, batch_input: Sequence[ArrayLike], /) -> Sequence[BoxTarget]:
        """Return the boxes of each image by falling score, in its pixels."""
        answers = []
        for result in self.results(batch_input):
            items = [item for item in (result.detections.items if result.detections else ()) if item.hypotheses]
            best = [item.hypotheses[0] for item in items]
            answers.append(
                BoxTarget(
                    np.array([item.box_xyxy_px for item in items], np.float32).reshape(-1, 4),
                    np.array([self.labels.index(one.label) for one in best], np.int64),
                    np.array([one.score for one in best], np.float32),
                )
            )
        return answers


BundleModel = BundleClassifier | BundleDetector


def load_model(
    path: str | os.PathLike[str],
    *,
    detector: str | os.PathLike[str] | None = None,
    backend: str = backends.AUTO,
    precision: str = model_choice.AUTO,
    threads: int = 0,
    min_score: float = FAINTEST_SCORE,
) -> BundleModel:
    """Load a bundle as a MAITE `Model` of its task.

    Args:
        path: Folder or .zip, as of `lisard_ros.load`.
        detector: Bundle of a detector, whose boxes the first bundle names; the model is then a detector.
        backend: As of `lisard_ros.load`.
        precision: As of `lisard_ros.load`.
        threads: As of `lisard_ros.load`.
        min_score: Lowest score of a box. Average precision ranks faint boxes too, so it is far below the bundle's own
            threshold; 0: that threshold, as the node answers. Classifiers always give all scores.

    Raises:
        BundleError: The bundle is missing or damaged.
        BackendError: The backend cannot run it.
    """
    source = bundle.read(bundle.locate(path))
    finds_boxes = detector is not None or source.manifest.runtime_task.finds_boxes
    settings = Settings(
        top_k=1 if finds_boxes else len(source.manifest.labels), min_score=min_score if finds_boxes else 0.0
    )
    pipeline = open_pipeline(
        source,
        backend=backend,
        precision=precision,
        threads=threads,
        settings=settings,
        detector=None if detector is None else bundle.locate(detector),
    )
    return BundleDetector(pipeline) if finds_boxes else BundleClassifier(pipeline)


def frame_of(image: ArrayLike, number: int = 0) -> Frame:
    """Read an image of MAITE's form.

    Args:
        image: uint8, other whole numbers of 0 to 255, or floats in [0, 1]; [3, H, W] in RGB or [1, H, W]. A tensor of
            torch is taken as it is, wherever it lies.
        number: Of the frame; nothing depends on it.

    Raises:
        ImageError: It has another shape or range.
    """
    plain: Any = image.detach().cpu() if hasattr(image, "detach") else image
    levels = np.asarray(plain)
    if levels.ndim != 3 or levels.shape[0] not in (1, 3) or 0 in levels.shape:
        raise ImageError(
            "not an image of MAITE's form",
            found=f"shape {list(levels.shape)}",
            expected="[3, H, W] in RGB or [1, H, W]",
            cure="bring the channels to the front: image.transpose(2, 0, 1)",
        )
    if levels.dtype != np.uint8:
        low, high = float(levels.min()), float(levels.max())
        whole = levels.dtype.kind in "ui"
        most = GREY_LEVELS if whole else 1.0 + _ROUNDING
        if levels.dtype.kind not in "uif" or low < -_ROUNDING or not high <= most:
            raise ImageError(
                "the image is out of range",
                found=f"{levels.dtype} from {low:g} to {high:g}",
                expected="whole numbers of 0 to 255, or floats in [0, 1]",
                cure="divide by 255, or convert it to uint8",
            )
        levels = (levels if whole else np.rint(np.clip(levels, 0, 1) * GREY_LEVELS)).astype(np.uint8)
    if levels.shape[0] == 1:
        return Frame(levels[0], "mono", number, "", "")
    return Frame(np.ascontiguousarray(levels.transpose(1, 2, 0)), "rgb", number, "", "")


# --- data -------------------------------------------------------------------------------------------------------------

Dataset = LabelledImages[OneHot] | LabelledImages[BoxTarget]


def load_folder(folder: str | os.PathLike[str], model: BundleModel) -> Dataset:
    """Open a folder of labelled images as a MAITE `Dataset`.

    Args:
        folder: For a classifier CLASS/image files, for a detector images with a COCO list (annotations.json).
        model: Whose classes the labels are.

    Raises:
        DataError: There are no such images, or labels that the model does not have.
    """
    if isinstance(model, BundleDetector):
        return labelled_images.read_coco_folder(Path(folder), _labels_of(model))
    return labelled_images.read_class_folders(Path(folder), _labels_of(model))


def load_bags(
    bags: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    model: BundleModel,
    *,
    topics: Sequence[str] = (),
    labels: LabelOptions | None = None,
) -> Dataset:
    """Open recordings as a MAITE `Dataset`: whole frames, or for a classifier the labelled boxes cut out of them.

    Args:
        bags: As of `lisard replay`: folders, files or patterns.
        model: Whose classes the labels are.
        topics: Image topics; empty: all.
        labels: Labels beside the recordings, and their names.

    Raises:
        DataError: They cannot be read, no image has a label, or labels are of unknown classes.
    """
    words = [os.fspath(one) for one in ([bags] if isinstance(bags, (str, os.PathLike)) else bags)]
    read = labelled_images.read_box_bags if isinstance(model, BundleDetector) else labelled_images.read_bags
    return read(words, _labels_of(model), topics, labels)


def _labels_of(model: BundleModel) -> LabelSet:
    manifest = model.pipeline.bundle.manifest
    if isinstance(model, BundleDetector):
        return LabelSet(manifest.name, model.labels)
    looked_at = tuple(sorted(model.pipeline.roi_classes))
    return LabelSet(manifest.name, model.labels, tuple(manifest.roi_groups), looked_at, manifest.roi_margin)


# --- injections -------------------------------------------------------------------------------------------------------


class _InjectedBatch:
    """What both kinds of augmentation share. Use `make_augmentation`."""

    def __init__(self, injected: injection.Injection, spec: InputSpec) -> None:
        """injected: made for images of this input."""
        self._injection, self._spec = injected, spec
        self.metadata: AugmentationMetadata = {"id": injected.name}

    def attacked(
        self, images: Sequence[Frame], about: Sequence[DatumMetadata]
    ) -> tuple[list[Pixels], list[ImageMetadata]]:
        """Return the images as the attacked network sees them, uint8 RGB [3, H, W] of its input, and their metadata."""
        x = preprocess.prepare([one.image for one in images], self._spec, [one.colour for one in images])
        keys = [one.sha256() for one in images] if self._injection.needs_keys else ()
        result = self._injection.apply(x, keys)
        levels = np.rint(result.x * np.float32(GREY_LEVELS)).astype(np.uint8)
        rgb = levels if self._spec.colour == "rgb" else levels[:, ::-1]
        noted: list[ImageMetadata] = []
        for entry, applied in zip(about, result.applied.tolist(), strict=True):
            copy: Any = {**entry, "injection": self._injection.name, "applied": applied}
            noted.append(copy)
        return [np.ascontiguousarray(one) for one in rgb], noted


class ClassifierInjection(_InjectedBatch):
    """A MAITE `image_classification.Augmentation`."""

    def __call__(
        self, batch: tuple[Sequence[ArrayLike], Sequence[ArrayLike], Sequence[DatumMetadata]], /
    ) -> tuple[Sequence[Pixels], Sequence[ArrayLike], Sequence[ImageMetadata]]:
        """Return the attacked batch. Images take the size of the network's input; targets stay.

        The metadata says whether the injection was made for an image (`applied`): others come back unattacked.
        """
        images, targets, about = batch
        attacked, noted = self.attacked([frame_of(one) for one in images], about)
        return attacked, targets, noted


class DetectorInjection(_InjectedBatch):
    """A MAITE `object_detection.Augmentation`."""

    def __call__(
        self, batch: tuple[Sequence[ArrayLike], Sequence[od.ObjectDetectionTarget], Sequence[DatumMetadata]], /
    ) -> tuple[Sequence[Pixels], Sequence[BoxTarget], Sequence[ImageMetadata]]:
        """Return the attacked batch. Images take the size of the network's input, with its padding, and boxes and
        ignored regions are moved to it. The metadata says whether the injection was made for an image (`applied`).
        """
        images, targets, about = batch
        frames = [frame_of(one) for one in images]
        attacked, noted = self.attacked(frames, about)
        moved = []
        for frame, target, entry in zip(frames, targets, noted, strict=True):
            fit = preprocess.fit(frame.width_px, frame.height_px, self._spec)
            corners = fit.to_input(np.asarray(target.boxes, np.float64).reshape(-1, 4))
            labels, scores = np.asarray(target.labels, np.int64), np.asarray(target.scores, np.float32)
            moved.append(BoxTarget(corners.astype(np.float32), labels, scores))
            if entry.get("ignored"):
                regions = fit.to_input(np.array(entry["ignored"], np.float64)).tolist()
                entry["ignored"] = [(x0, y0, x1, y1) for x0, y0, x1, y1 in regions]
        return attacked, moved, noted


def make_augmentation(
    name: str,
    model: BundleModel,
    *,
    sigma_255: float = injection.DEFAULT_NOISE_SIGMA_255,
    seed: int = 0,
    surrogate: str | os.PathLike[str] | None = None,
) -> ClassifierInjection | DetectorInjection:
    """Make an injection of a model's bundle as a MAITE `Augmentation`.

    Its images are those that the attacked network sees, so that the same model answers them as `lisard replay` does.
    Noise is rounded to whole grey levels.

    Args:
        name: A stored perturbation of the bundle, `noise`, `corruption/NAME/SEVERITY` or `attack/NAME/EPS`.
        model: The model under attack, of one stage.
        sigma_255: Standard deviation of `noise` in grey levels of 255.
        seed: Of noise, corruptions and attacks.
        surrogate: Another bundle, whose gradients are followed; None: the model's own.

    Raises:
        UsageError: The model has two stages: no image shows what the second one sees.
        AttackError: There is no such injection.
    """
    pipeline = model.pipeline
    if pipeline.detector is not None or name.startswith(DETECTOR_PREFIX):
        raise UsageError(
            "an injection into two stages is no change of the image",
            found=f"{name} for {pipeline.bundle.manifest.name} behind a detector",
            expected="a model of one bundle",
            cure="load the detector, or the classifier, alone",
        )
    other = None if surrogate is None else bundle.read(bundle.locate(surrogate))
    sources = injection.AttackSources(surrogate=other, engine=pipeline.choice.backend)
    made = injection.make(pipeline.bundle, name, sigma_255=sigma_255, seed=seed, sources=sources)
    kind = DetectorInjection if isinstance(model, BundleDetector) else ClassifierInjection
    return kind(made, pipeline.bundle.manifest.input)


# --- metrics ----------------------------------------------------------------------------------------------------------


class _JudgedImages:
    """The block of each judged image, and how many were not attacked."""

    def __init__(self, name: str) -> None:
        self.metadata: MetricMetadata = {"id": name}
        self._blocks: list[str] = []
        self._not_applicable = 0

    def reset(self) -> None:
        """Forget all images."""
        self._blocks.clear()
        self._not_applicable = 0

    def _takes(self, entry: DatumMetadata) -> bool:
        """Whether to judge an image: one that an injection was not made for is counted, and never as robust."""
        about: Any = entry
        if not about.get("applied", True):
            self._not_applicable += 1
            return False
        self._blocks.append(str(about.get("block", about["id"])))
        return True

    def _counts(self) -> dict[str, int]:
        return {"n": len(self._blocks), "blocks": len(set(self._blocks)), "not_applicable": self._not_applicable}


class AccuracyMetric(_JudgedImages):
    """A MAITE `image_classification.Metric`: the share of right classes with its 95 % interval.

    `compute` returns `accuracy`, `accuracy_low`, `accuracy_high` (all in [0, 1], NaN without images), `n`, `blocks` and
    `not_applicable` (images that the injection was not made for; they are not judged).
    """

    def __init__(self) -> None:
        """Start without images."""
        super().__init__("accuracy")
        self._right: list[bool] = []

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self._right.clear()

    def update(
        self,
        pred_batch: Sequence[ArrayLike],
        target_batch: Sequence[ArrayLike],
        metadata_batch: Sequence[DatumMetadata],
        /,
    ) -> None:
        """Judge a batch: scores and one-hot targets, [classes] each."""
        for answer, target, entry in zip(pred_batch, target_batch, metadata_batch, strict=True):
            scores, truth = np.asarray(answer), np.asarray(target)
            if scores.ndim != 1 or scores.shape != truth.shape:
                raise DataError(
                    "answer and target do not fit",
                    found=f"shapes {list(scores.shape)} and {list(truth.shape)}",
                    expected="[classes] each",
                    cure="open the data set with the model that answers",
                )
            if self._takes(entry):
                self._right.append(bool(scores.argmax() == truth.argmax()))

    def compute(self) -> dict[str, Any]:
        """Return the share of right answers."""
        share = clustered(self._right, self._blocks)
        return {
            "accuracy": share.share,
            "accuracy_low": share.low,
            "accuracy_high": share.high,
            **self._counts(),
        }


class Ap50Metric(_JudgedImages):
    """A MAITE `object_detection.Metric`: COCO's average precision at an IoU of 0.5, as `lisard evaluate` works it out.

    `compute` returns `ap50`, `ap50_low`, `ap50_high` (95 %, bootstrap over blocks; all in [0, 1], NaN without images),
    `n`, `blocks` and `not_applicable`.
    """

    def __init__(self) -> None:
        """Start without images."""
        super().__init__("ap50")
        self._found: list[Boxes] = []
        self._truths: list[TrueBoxes] = []

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self._found.clear()
        self._truths.clear()

    def update(
        self,
        pred_batch: Sequence[od.ObjectDetectionTarget],
        target_batch: Sequence[od.ObjectDetectionTarget],
        metadata_batch: Sequence[DatumMetadata],
        /,
    ) -> None:
        """Judge a batch of boxes."""
        for answer, target, entry in zip(pred_batch, target_batch, metadata_batch, strict=True):
            if not self._takes(entry):
                continue
            about: Any = entry
            scores = np.asarray(answer.scores, np.float32)
            best = scores.max(axis=1) if scores.ndim == 2 and scores.size else scores.reshape(-1)
            kinds = np.asarray(answer.labels, np.int64).reshape(-1)
            self._found.append(Boxes(_corners(answer.boxes), best, kinds))
            known = np.asarray(target.labels, np.int64).reshape(-1)
            ignored = _corners(about.get("ignored", ()))
            self._truths.append(TrueBoxes(_corners(target.boxes), known, ignored))

    def compute(self) -> dict[str, Any]:
        """Return AP50 over all images."""
        values = np.full(1, np.nan)
        if self._found:
            of_images = [one.classes for one in self._found] + [one.classes for one in self._truths]
            classes = 1 + max((int(one.max()) for one in of_images if one.size), default=0)
            drawn = resamples(self._blocks, BOOTSTRAP_DRAWS, BOOTSTRAP_SEED)
            values = ap50s(
                match(self._found, self._truths, classes), np.concatenate([np.ones((1, len(self._blocks))), drawn])
            )
        ap50 = interval_of(values)
        return {"ap50": ap50.value, "ap50_low": ap50.low, "ap50_high": ap50.high, **self._counts()}


def _corners(boxes: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(boxes, np.float64).reshape(-1, 4)


def make_metric(model: BundleModel) -> AccuracyMetric | Ap50Metric:
    """Return the metric of a model's task."""
    return Ap50Metric() if isinstance(model, BundleDetector) else AccuracyMetric()


if TYPE_CHECKING:

    def _protocols(
        classifier: BundleClassifier,
        detector: BundleDetector,
        classes: LabelledImages[OneHot],
        boxes: LabelledImages[BoxTarget],
        on_images: ClassifierInjection,
        on_scenes: DetectorInjection,
    ) -> None:
        """Mypy compares each class with its protocol."""
        models: tuple[ic.Model, od.Model] = (classifier, detector)
        data: tuple[ic.Dataset, od.Dataset] = (classes, boxes)
        augmentations: tuple[ic.Augmentation, od.Augmentation] = (on_images, on_scenes)
        metrics: tuple[ic.Metric, od.Metric] = (AccuracyMetric(), Ap50Metric())
        assert models and data and augmentations and metrics
