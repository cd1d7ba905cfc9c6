"""Models as Python objects: load a bundle, call it with an image, and read labels, scores and boxes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from lisard_ros import backends, bundle
from lisard_ros.bundle import model_choice, signature
from lisard_ros.errors import UsageError
from lisard_ros.frames import WHOLE_FRAME, BoxXyxyPx, Colour, Frame, Hypothesis, Region, Result
from lisard_ros.image_files.media import read_image
from lisard_ros.inference.pipeline import MAX_BATCH, Pipeline, Settings, open_pipeline
from lisard_ros.inference.preprocess import crop_bounds_px


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """One answer of a model.

    Attributes:
        label: Name of the class.
        score: From 0 to 1.
        box_xyxy: Left, top, right and bottom in pixels of the image; of the whole image where a classifier saw all of
            it.
        index: Number of the class in the model's labels; -1 for a label that only the detector in front knows.
        alternatives: Further classes of the same box, by falling score; those of a classifier are answers of their own
            instead.
    """

    label: str
    score: float
    box_xyxy: BoxXyxyPx
    index: int
    alternatives: tuple[Hypothesis, ...] = ()


class Model:
    """A loaded bundle that answers images. Made by `load`; closed by `close` or at the end of a `with` block."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Take an open pipeline, which `close` closes."""
        self._pipeline, self._closed = pipeline, False

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self._pipeline.bundle.manifest.name

    @property
    def task(self) -> str:
        """`classification` or `detection`."""
        return self._pipeline.bundle.manifest.task

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, by index."""
        return tuple(self._pipeline.bundle.manifest.labels)

    def __call__(
        self,
        image: np.ndarray[Any, Any] | str | os.PathLike[str] | Frame,
        *,
        boxes: Sequence[BoxXyxyPx] | None = None,
        rgb: bool = False,
    ) -> tuple[LabelledBox, ...]:
        """Answer one image.

        Args:
            image: uint8 [H, W, 3] in OpenCV's order BGR, uint8 [H, W] in shades of grey, the path of an image file, or
                a frame.
            boxes: Left, top, right and bottom in pixels of the parts to look at; None: the whole image.
            rgb: The array is in the order RGB.

        Returns:
            Of a detector, the objects by falling score. Of a classifier, the classes of the whole image, or of each
            box, by falling score. Of both, each box of the detector with its class. Empty where nothing was found.

        Raises:
            ImageError: The image cannot be read, is not 8-bit, or does not contain one of the boxes.
            UsageError: Neither array, path nor frame, `rgb` for a path or frame, or the model is closed.
            LisardError: The model gave no usable answer.

        Examples:
            >>> import lisard_ros
            >>> with lisard_ros.load("models/traffic_signs") as model:
            ...     best = model("data/gtsrb_tracks/00001/00005_00000.png")[0]
            >>> best.label, best.box_xyxy
            ('speed_limit_30', (0.0, 0.0, 32.0, 32.0))
        """
        if self._closed:
            raise UsageError("the model is closed", found=self.name, cure="load it again, or close it later")
        frame = _frame_of(image, rgb)
        regions = [WHOLE_FRAME] if boxes is None else [_region(frame, box) for box in boxes]
        answers: list[LabelledBox] = []
        for start in range(0, len(regions), MAX_BATCH):  # of more boxes than that the pipeline would leave some out
            outcome = self._pipeline.run([frame], [regions[start : start + MAX_BATCH]])[0]
            if not isinstance(outcome, Result):
                raise outcome.error
            answers += _answers(outcome, one_per_box=self._pipeline.finds_boxes and boxes is None)
        return tuple(answers)

    def close(self) -> None:
        """Free the model's memory. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self._pipeline.close()

    def __enter__(self) -> Model:
        """Return the model itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the model."""
        self.close()

    def __repr__(self) -> str:
        """Name, task and number of classes."""
        return f"<lisard_ros.Model {self.name}: {self.task}, {len(self.labels)} classes>"


def load(
    path: str | os.PathLike[str],
    *,
    detector: str | os.PathLike[str] | None = None,
    backend: str = backends.AUTO,
    precision: str = model_choice.AUTO,
    threads: int = 0,
    top_k: int = 5,
    min_score: float = 0.0,
    trusted_keys: Sequence[str | os.PathLike[str]] = (),
) -> Model:
    """Load a bundle.

    Args:
        path: Folder or .zip; a relative `models/NAME` is also looked for among the bundles that come with the package.
        detector: Bundle of a detector, whose boxes the first bundle classifies.
        backend: `auto`, `onnxruntime`, `openvino`, `tensorrt`, `tensorrt_rtx` or `torch`.
        precision: `auto`, `fp32`, `fp16` or `int8`: which of the bundle's models.
        threads: Processor threads for the model and for OpenCV, which has one setting per process; 0: chosen by the
            number of cores.
        top_k: How many classes a classifier gives at most, 1 or more.
        min_score: Lowest score that is reported, 0 to 1; a detector has its own threshold besides.
        trusted_keys: Public keys, PEM files or folders of them, one of which must have signed both bundles; empty:
            signatures are not looked at.

    Returns:
        The model, ready to be called.

    Raises:
        BundleError: The bundle is missing, damaged, of an unknown kind, or not signed by a trusted key.
        BackendError: The backend cannot run it.
        UsageError: A setting is out of range, or the two bundles do not belong together.

    Examples:
        >>> import lisard_ros
        >>> model = lisard_ros.load("models/traffic_signs")
        >>> model
        <lisard_ros.Model traffic_signs: classification, 43 classes>
        >>> model.close()
    """
    pipeline = open_pipeline(
        bundle.locate(path),
        backend=backend,
        precision=precision,
        threads=threads,
        settings=Settings(top_k, min_score),
        detector=None if detector is None else bundle.locate(detector),
        trusted_keys=signature.read_trusted_keys(trusted_keys) if trusted_keys else None,
    )
    return Model(pipeline)


def _frame_of(image: object, rgb: bool) -> Frame:
    if isinstance(image, np.ndarray):
        colour: Colour = "mono" if image.ndim == 2 else "rgb" if rgb else "bgr"
        return Frame(image, colour, 0, "", "")
    if rgb:
        raise UsageError("rgb is only for arrays", found=type(image).__name__, cure="leave rgb out")
    if isinstance(image, Frame):
        return image
    if isinstance(image, (str, os.PathLike)):
        return read_image(Path(image))
    raise UsageError(
        "not an image",
        found=type(image).__name__,
        expected="a NumPy array uint8 [H, W, 3], the path of an image file, or a Frame",
        cure="numpy.asarray(image) with rgb=True for a PIL image; image.permute(1, 2, 0).numpy() for a tensor",
    )


def _region(frame: Frame, box: BoxXyxyPx) -> Region:
    """Refuse a box that the frame does not contain: nothing would be looked at."""
    x0, y0, x1, y1 = (float(part) for part in box)
    region = Region((x0, y0, x1, y1))
    if x1 <= x0 or y1 <= y0:
        raise UsageError("a box without area", found=box, expected="left < right and top < bottom")
    crop_bounds_px(frame, region.box_xyxy_px, 0.0)
    return region


def _answers(result: Result, *, one_per_box: bool) -> list[LabelledBox]:
    whole: BoxXyxyPx = (0.0, 0.0, float(result.frame.width_px), float(result.frame.height_px))
    places = [] if result.classification is None else [(whole, result.classification.hypotheses)]
    places += [(item.box_xyxy_px, item.hypotheses) for item in (result.detections.items if result.detections else ())]
    if one_per_box:
        return [LabelledBox(h[0].label, h[0].score, box, h[0].index, h[1:]) for box, h in places if h]
    return [LabelledBox(h.label, h.score, box, h.index) for box, hypotheses in places for h in hypotheses]
