"""The options of `lisard bundle` that describe a model, and what a user states with them."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import get_args

from lisard_ros.bundle.manifest import MAX_SIDE_PX, Layout
from lisard_ros.errors import UsageError
from lisard_ros.onnx_import.proposal import ZERO, Stated, Triple


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what describes the model; whatever is left out is read from the file or proposed."""
    add = parser.add_argument_group("the model (default: read from the file, else proposed and printed)").add_argument
    add("--task", choices=("classification", "detection"), help="what the model does")
    add("--labels", help="file with one label per line, or a comma-separated list")
    add("--input", metavar="WxH", help="input size in pixels, e.g. 224x224")
    add("--colour", choices=("rgb", "bgr"), help="order of the channels")
    add("--mean", help="per channel or one number, for pixels in 0..1; numbers for 0..255 are recognised and converted")
    add("--std", help="per channel or one number; for a model that takes 0..255: 0.00392156862745098 (1/255)")
    add("--resize", choices=("stretch", "letterbox"), help="letterbox keeps the aspect ratio and pads")
    add("--interpolation", choices=("area", "linear"), help="how images are scaled down: average of areas, or bilinear")
    add("--output", help="name of the ONNX output")
    add("--activation", choices=("softmax", "sigmoid", "none"), help="what turns outputs into scores")
    add("--layout", choices=get_args(Layout), help="layout of a detection output")
    add("--score-threshold", type=float, metavar="SCORE", help="lowest score of a box, 0 to 1")
    add(
        "--nms-iou",
        type=float,
        metavar="IOU",
        help="overlap from which the box with the lower score is dropped, 0 to 1",
    )
    add("--roi-classes", default="", help="classes of a detector that a second stage classifies, comma-separated")


def stated_of(args: argparse.Namespace) -> tuple[Stated, tuple[str, ...]]:
    """Read the options that describe the model, and notes on what was converted."""
    mean, std, notes = in_unit_range(_triple("--mean", args.mean), _triple("--std", args.std))
    if std is not None and min(std) <= 0:
        raise UsageError("--std is not positive", found=args.std, expected="numbers above 0", cure="1 changes nothing")
    for option, share in (("--score-threshold", args.score_threshold), ("--nms-iou", args.nms_iou)):
        if share is not None and not 0 <= share <= 1:
            raise UsageError(f"{option} out of range", found=share, expected="a number from 0 to 1")
    stated = Stated(
        name=readable(args.name or args.source.stem),
        task=args.task,
        labels=None if args.labels is None else _labels(args.labels),
        size_px=None if args.input is None else _size(args.input),
        colour=args.colour,
        mean=mean,
        std=std,
        resize=args.resize,
        interpolation=args.interpolation,
        output=args.output,
        activation=args.activation,
        layout=args.layout,
        score_threshold=args.score_threshold,
        nms_iou=args.nms_iou,
        roi_classes=tuple(readable(word) for word in map(str.strip, args.roi_classes.split(",")) if word),
    )
    return stated, notes


def in_unit_range(mean: Triple | None, std: Triple | None) -> tuple[Triple | None, Triple | None, tuple[str, ...]]:
    """Convert a mean and std for pixels in 0..255 into those for pixels in 0..1, and say so.

    No mean or std above 1 makes sense for pixels in 0..1, so one number above 1 tells the range of all.

    Args:
        mean: As stated, or None.
        std: As stated, or None.

    Returns:
        Mean, std, and what was converted.

    Raises:
        UsageError: One is for 0..255 and the other for 0..1 or not stated, or a number is for neither.
    """
    if max((*(mean or ()), *(std or ())), default=0.0) <= 1:
        return mean, std, ()
    means, stds = mean or ZERO, std or ()
    if not stds or min(stds) < 1 or max(*means, *stds) > 255 or min(means) < 0:
        raise UsageError(
            "--mean and --std are not of one range",
            found=f"mean {'not stated' if mean is None else _words(mean)}, std "
            f"{'not stated' if std is None else _words(std)}",
            expected="both for pixels in 0..1, such as mean 0.485 and std 0.229, or both for 0..255, such as 123.675 "
            "and 58.395",
            cure="a file that wants 0..255 less a mean has --std 1 beside a --mean of 0..255",
        )
    done = tuple(tuple(value / 255 for value in values) for values in (means, stds))
    note = f"mean {_words(means)} and std {_words(stds)} are for pixels in 0..255: stored as " + " and ".join(
        _words(values) for values in done
    )
    (m0, m1, m2), (s0, s1, s2) = done
    return (m0, m1, m2), (s0, s1, s2), (note,)


def _words(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{number:.6g}" for number in numbers)


def readable(word: str) -> str:
    """Return a word of the command line as text where the terminal's encoding could not: Python then keeps its bytes.

    Args:
        word: As Python gave it; a byte that it could not decode is a lone surrogate.

    Returns:
        The word, with such bytes read as UTF-8.

    Raises:
        UsageError: They are no UTF-8.
    """
    if not any("\ud800" <= letter <= "\udfff" for letter in word):
        return word
    try:
        return os.fsencode(word).decode("utf-8")
    except UnicodeError as error:
        raise UsageError(
            "cannot read a name or label", found=ascii(word), expected="UTF-8 text", cure="set LC_ALL=C.UTF-8"
        ) from error


def _labels(text: str) -> tuple[str, ...]:
    is_file = os.path.isfile(text)
    if not is_file and "," not in text and (os.sep in text or Path(text).suffix):
        raise UsageError(
            "cannot read the label file",
            found=f"no file {text}",
            expected="a file with one label per line",
            cure="give its path, or labels with commas",
        )
    try:
        words = Path(text).read_text(encoding="utf-8-sig").splitlines() if is_file else text.split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("cannot read the label file", found=f"{text}: {error}", expected="UTF-8 text") from error
    labels = tuple(readable(word.strip()) for word in words if word.strip())
    if not labels:
        raise UsageError("--labels is empty", found=f"nothing in {text!r}", expected="one label per class")
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise UsageError("--labels has duplicates", found=", ".join(repeated), expected="each label once")
    return labels


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = (int(side) for side in text.lower().split("x"))
    except ValueError as error:
        raise UsageError("cannot read --input", found=text, expected="WxH in pixels, such as 640x480") from error
    if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX):
        raise UsageError("--input out of range", found=text, expected=f"sides of 1..{MAX_SIDE_PX} px")
    return width, height


def _triple(option: str, text: str | None) -> Triple | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
        first, second, third = numbers * 3 if len(numbers) == 1 else numbers
    except ValueError as error:
        raise UsageError(f"cannot read {option}", found=text, expected="one or three numbers") from error
    if not all(map(math.isfinite, numbers)):
        raise UsageError(f"{option} is not finite", found=text, expected="finite numbers")
    return first, second, third
