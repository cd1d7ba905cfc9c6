"""The images that the page of a self test shows, chosen while the cases run (reporting/album.py)."""

from __future__ import annotations

from lisard_ros.bundle.manifest import DETECTOR_PREFIX
from lisard_ros.evaluation.case_run import CaseImage
from lisard_ros.evaluation.pairs import Label, Pair, answered, compared
from lisard_ros.evaluation.references import Truth
from lisard_ros.frames import Result
from lisard_ros.inference.pipeline import Outcome, Pipeline
from lisard_ros.injection import CLEAN
from lisard_ros.reporting.album import Album, AnsweredImage, Example
from lisard_ros.reporting.display import AttackedView, attacked_view


class SelfTestAlbum:
    """Sees every image under every case (self_test.run) and keeps the examples alone."""

    def __init__(self) -> None:
        """Start empty."""
        self._album = Album()

    def watch(self, image: CaseImage) -> None:
        """Look at one image."""
        attacked = image.attacked
        if image.case.removeprefix(DETECTOR_PREFIX) == CLEAN or not attacked.applied:
            return

        def view() -> AttackedView:
            clean = image.pipeline.prepare([image.frame]).x[0]
            return attacked_view(image.frame, attacked.seen[0], clean, image.pipeline.bundle.manifest.input)

        before = _pairs(image.clean, image.truth, image.pipeline)
        after = _pairs(attacked.outcome, image.truth, image.pipeline)
        self._album.offer(
            "",
            AnsweredImage(image.frame, CLEAN, before),
            AnsweredImage(image.frame, image.case, after, view),
        )

    def examples(self) -> tuple[Example, ...]:
        """Return what was kept: a few images of each case."""
        return self._album.examples()


def _pairs(outcome: Outcome, truth: Truth, pipeline: Pipeline) -> tuple[Pair, ...]:
    """The answers to an image beside what it shows; nothing for an image without an answer."""
    if not isinstance(outcome, Result):
        return ()
    labels = pipeline.bundle.manifest.labels
    if isinstance(truth, tuple):
        known = [Label(0, box.box_xyxy_px, labels[box.label]) for box in truth]
    else:
        known = [Label(0, None, labels[truth] if isinstance(truth, int) else truth.name)]
    return compared(known, answered(outcome, pipeline.finds_boxes), pipeline)
