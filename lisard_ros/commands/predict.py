"""`lisard predict`: answer images, folders of them and videos with a bundle, the way the node would."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from lisard_ros import backends
from lisard_ros.bundle import model_choice
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE, EXIT_WRONG_USE
from lisard_ros.commands import bundle_signing
from lisard_ros.commands.output import OutputPath, progress, to_json, try_outputs
from lisard_ros.errors import ImageError, UsageError
from lisard_ros.frames import WHOLE_FRAME, BoxXyxyPx, Hypothesis, Region, Result
from lisard_ros.image_files import media
from lisard_ros.image_files.media import MediaFrame
from lisard_ros.inference.pipeline import Pipeline, Settings, open_pipeline
from lisard_ros.inference.preprocess import crop_bounds_px
from lisard_ros.reporting import drawing

SUMMARY = "answer images, folders and videos with a bundle"
HELP = """Answer images, folders of images and videos.

  lisard predict models/traffic_signs sign.png
  lisard predict models/traffic_signs folder --top-k 3 --json
  lisard predict models/traffic_signs street.jpg --box 100,40,180,120
  lisard predict models/traffic_signs street.jpg --detector models/road_signs --save annotated
  lisard predict models/road_signs drive.mp4 --json

A folder stands for all images and videos below it, in the order of their sorted paths.

--json prints a list with one entry for each image or video frame:
  file        path as it was given, or below the folder that was given
  frame       number of the frame in a video, from 0; null for an image
  time_s      time of the frame in seconds from the start of the video; null for an image
  width_px, height_px      size of the image; null if it could not be read
  objects     list, empty if nothing was found, a detector's best first; each object has
    label, index             the class, and its place in the bundle's labels (-1: a class that only --detector has)
    score                    0 to 1
    box                      [x0, y0, x1, y1] in pixels of the image, not rounded; null: the whole image
    alternatives             list of {label, index, score}: further classes (--top-k), and the class of --detector
  saved       the annotated image that --save wrote, or null
  error       why there is no answer, or null

Exit status 2 if an input cannot be read or a --box lies outside an image; 1 if the model gives no valid answer for an
image. The other inputs are answered all the same."""

SAVED_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


@dataclass(frozen=True, slots=True)
class Alternative:
    """A further class of an object."""

    label: str
    index: int
    score: float


@dataclass(frozen=True, slots=True)
class Object:
    """One object: its class, score in [0, 1] and box in pixels of the image; box None: the image as a whole."""

    label: str
    index: int
    score: float
    box: BoxXyxyPx | None
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is printed for one image or video frame; the fields of `--json`, see HELP."""

    file: str
    frame: int | None
    time_s: float | None
    width_px: int | None = None
    height_px: int | None = None
    objects: tuple[Object, ...] = ()
    saved: str | None = None
    error: str | None = None


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("bundle", type=Path, help="model bundle (folder or .zip)")
    parser.add_argument("inputs", type=Path, nargs="+", metavar="INPUT", help="image files, folders, videos")
    parser.add_argument(
        "--box", action="append", default=[], metavar="X0,Y0,X1,Y1", help="classify what is in this box; repeatable"
    )
    parser.add_argument("--detector", type=Path, help="detection bundle: classify the boxes that it finds")
    parser.add_argument("--top-k", type=int, default=1, help="classes shown for each object (default: %(default)s)")
    parser.add_argument("--min-score", type=float, default=0.0, help="lowest score shown (default: %(default)s)")
    parser.add_argument(
        "--backend", choices=backends.POLICIES, default=backends.AUTO, help="what runs the model (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        choices=model_choice.PRECISIONS,
        default=model_choice.AUTO,
        help="precision of the model; auto: fp32 (default: %(default)s)",
    )
    bundle_signing.add_trusted_keys(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, as described above")
    parser.add_argument(
        "--save",
        type=Path,
        metavar="DIR",
        help="write each image with its answer into this folder as NAME_predicted.SUFFIX (video frames as "
        "NAME_FRAME_predicted.jpg); an input is never overwritten",
    )


def run(args: argparse.Namespace) -> int:
    """Answer each input; the exit status says whether all could be read and answered."""
    regions = tuple(read_box(box) for box in args.box) or (WHOLE_FRAME,)
    try_outputs(OutputPath("--save", args.save, "folder") if args.save else None)
    files = media.expand(args.inputs, args.save)
    settings = Settings(args.top_k, args.min_score)
    pipeline = open_pipeline(
        args.bundle,
        backend=args.backend,
        settings=settings,
        detector=args.detector,
        precision=args.precision,
        trusted_keys=bundle_signing.trusted_keys(args),
    )
    saver = Saver(args.save, files) if args.save else None
    predictions, status = [], EXIT_DONE
    total = sum(media.frame_count(path) for path in files)
    # On a terminal the lines of the answers show the progress.
    shown = progress(total, "predict", "image") if args.json or not sys.stdout.isatty() else nullcontext(lambda: None)
    with shown as step:
        for source in (frame for path in files for frame in media.frames_of(path)):
            prediction, its_status = predict(pipeline, source, regions, saver)
            status = max(status, its_status)
            if prediction.error is not None:
                print(f"lisard: error: {_place(prediction)}: {prediction.error}", file=sys.stderr)
            elif not args.json:
                print(_line(prediction), flush=True)
            if args.json:
                predictions.append(prediction)
            step()
    pipeline.close()
    if args.json:
        print(to_json(predictions))
    return status


def predict(
    pipeline: Pipeline, source: MediaFrame, regions: Sequence[Region], saver: Saver | None = None
) -> tuple[Prediction, int]:
    """Answer one image or video frame.

    Args:
        pipeline: What answers.
        source: The image, or why there is none.
        regions: Where to look.
        saver: Writes the annotated image; None: nothing is written.

    Returns:
        The prediction, and the exit status that it asks for.
    """
    blank = Prediction(str(source.file), source.index, source.time_s)
    frame = source.frame
    if frame is None:
        return replace(blank, error=str(source.error)), EXIT_WRONG_USE
    blank = replace(blank, width_px=frame.width_px, height_px=frame.height_px)
    try:
        for region in regions:
            crop_bounds_px(frame, region.box_xyxy_px, 0.0)
    except ImageError as error:
        return replace(blank, error=str(error)), EXIT_WRONG_USE
    outcome = pipeline.run([frame], [regions])[0]
    if not isinstance(outcome, Result):
        return replace(blank, error=str(outcome.error)), EXIT_CHECK_FAILED
    objects = objects_of(outcome)
    saved = None if saver is None else str(saver.save(source, objects))
    return replace(blank, objects=objects, saved=saved), EXIT_DONE


def objects_of(result: Result) -> tuple[Object, ...]:
    """List what an answer holds; places without any class are left out."""
    places: list[tuple[BoxXyxyPx | None, tuple[Hypothesis, ...]]] = []
    if result.classification is not None:
        places.append((None, result.classification.hypotheses))
    places += [(item.box_xyxy_px, item.hypotheses) for item in (result.detections.items if result.detections else ())]
    return tuple(
        Object(
            hypotheses[0].label,
            hypotheses[0].index,
            hypotheses[0].score,
            box,
            tuple(Alternative(h.label, h.index, h.score) for h in hypotheses[1:]),
        )
        for box, hypotheses in places
        if hypotheses
    )


def read_box(text: str) -> Region:
    """Read X0,Y0,X1,Y1; UsageError unless these are the corners of a box."""
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError("cannot read --box", found=text, expected="X0,Y0,X1,Y1 in pixels") from error
    region = Region((x0, y0, x1, y1))
    if x1 <= x0 or y1 <= y0:
        raise UsageError("--box has no area", found=text, expected="X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1")
    return region


class Saver:
    """Writes annotated images into a folder, each under a name of its own that is none of the inputs."""

    def __init__(self, folder: Path, inputs: Sequence[Path]) -> None:
        """Make the folder. inputs: files that must not be written to."""
        self._folder = folder
        self._taken = {os.path.realpath(path) for path in inputs}
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, source: MediaFrame, objects: Sequence[Object]) -> Path:
        """Write one image and return its path; UsageError when it cannot be written."""
        assert source.frame is not None
        captions = [drawing.Caption(f"{o.label} {o.score:.2f}", o.index, o.box) for o in objects]
        path = self._free_path(source)
        done, data = cv2.imencode(path.suffix, drawing.draw(source.frame, captions))
        assert done
        try:
            path.write_bytes(data.tobytes())
        except OSError as error:
            raise UsageError(
                "cannot write to --save", found=f"{path}: {error.strerror}", cure="choose another folder or make room"
            ) from error
        return path

    def _free_path(self, source: MediaFrame) -> Path:
        stem, suffix = source.file.stem, source.file.suffix
        if source.index is not None:
            stem, suffix = f"{stem}_{source.index:06d}", ".jpg"
        elif suffix.lower() not in SAVED_SUFFIXES:
            suffix = ".png"
        name, number = f"{stem}_predicted", 1
        path = self._folder / f"{name}{suffix}"
        while os.path.realpath(path) in self._taken:
            number += 1
            path = self._folder / f"{name}_{number}{suffix}"
        self._taken.add(os.path.realpath(path))
        return path


def _place(prediction: Prediction) -> str:
    if prediction.frame is None or prediction.time_s is None:
        return prediction.file
    return f"{prediction.file} frame {prediction.frame} ({prediction.time_s:.3f} s)"


def _line(prediction: Prediction) -> str:
    shown = []
    for one in prediction.objects:
        classes = ", ".join([f"{one.label} {one.score:.3f}", *(f"{c.label} {c.score:.3f}" for c in one.alternatives)])
        box = "" if one.box is None else "[" + ",".join(f"{v:.0f}" for v in one.box) + "] "
        shown.append(box + classes)
    return f"{_place(prediction)}: {'; '.join(shown) or 'nothing found'}"
