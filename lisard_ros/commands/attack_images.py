"""The images that `lisard attack run` attacks instead of the bundle's own: files, a recording, or a live topic.

Images with labels are judged by accuracy: files below a folder that is named after a class, files of a COCO list, and
frames of a recording that has labels. Of others the model's clean answer stands for the truth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lisard_ros import needs
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import TrueBox
from lisard_ros.commands.output import progress
from lisard_ros.errors import DataError, UsageError
from lisard_ros.evaluation import references
from lisard_ros.evaluation.average_precision import TrueBoxes
from lisard_ros.evaluation.limits import DEFAULT_BLOCK_S
from lisard_ros.evaluation.live_images import LiveFrame, evidence_s, in_blocks
from lisard_ros.evaluation.references import TrueGroup, Truth
from lisard_ros.evaluation.self_test_report import Source
from lisard_ros.frames import WHOLE_FRAME, Frame, Region
from lisard_ros.image_files import coco_images, media
from lisard_ros.image_files.folders import UNKNOWN, class_of, is_numbered, track_of
from lisard_ros.inference.pipeline import Pipeline

if TYPE_CHECKING:
    from lisard_ros.bags.reader import BagFrame

# Where the part that needs rclpy is found: this package is imported without ROS.
ROS_GROUP = "lisard_ros.live_frames"
USUAL_COUNT = 100  # frames of a recording or topic
MOST_BYTES = 4 << 30  # of the pixels of all images, which are held at once


@dataclass(frozen=True, slots=True, eq=False)
class GivenImages:
    """Images to attack. origin: their files, recording or topic; unreadable: how many could not be read.

    notes: what was left out.
    """

    frames: tuple[LiveFrame, ...]
    source: Source
    origin: str
    unreadable: int = 0
    notes: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether some of them have a truth."""
        return any(one.truth is not None for one in self.frames)


@dataclass(frozen=True, slots=True, eq=False)
class _File:
    """An image file or video. truth: what it shows, None where nobody says."""

    path: Path
    truth: Truth | None = None

    @property
    def track(self) -> str:
        """Its track, or the file itself."""
        return track_of(self.path) if is_numbered(self.path.stem) else str(self.path)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what chooses the images."""
    parser.add_argument(
        "inputs",
        type=Path,
        nargs="*",
        metavar="IMAGE",
        help="image files, videos, and folders of them, instead of the bundle's reference images; folders named after "
        "classes and COCO lists are labels",
    )
    add = parser.add_argument_group("images of a camera or recording").add_argument
    add("--topic", metavar="TOPIC", help="frames of this camera topic of the running ROS 2 system")
    add("--wait-s", type=float, default=60.0, metavar="S", help="how long frames are awaited (default: %(default)g)")
    add("--bag", nargs="+", default=[], metavar="BAG", help="frames of recordings, spread evenly over them")
    add("--topics", default="", help="image topics of the recordings, comma-separated (default: all)")
    add("--labels", type=Path, metavar="FILE", help="labels beside the recording: a COCO list or CSV file")
    add("--label-map", default="", metavar="RECORDED=NAME,...", help="recorded classes under names of the bundle")
    add(
        "--block-s",
        type=float,
        default=DEFAULT_BLOCK_S,
        metavar="S",
        help="recorded or live frames of so many seconds are one block of evidence (default: %(default)g; 0: each is "
        "one); with a limit live frames are collected over 5 blocks",
    )


def given(args: argparse.Namespace, pipeline: Pipeline, limited: Sequence[str]) -> GivenImages | None:
    """Return the images that the user names; None for the bundle's own.

    limited: metrics that have a limit of the user's, which needs evidence.

    Raises:
        UsageError: Several sources are named, or no frame comes.
        DataError: A recording or list cannot be used, or no image can be read.
    """
    named = {"images": bool(args.inputs), "--bag": bool(args.bag), "--topic": args.topic is not None}
    if sum(named.values()) > 1:
        found = ", ".join(name for name, asked in named.items() if asked)
        raise UsageError("images of several sources", found=found, expected="one of images, --bag and --topic")
    if (args.topics or args.labels or args.label_map) and not args.bag:
        raise UsageError("--topics, --labels and --label-map", found="no --bag", expected="--bag BAG with them")
    if args.count < 0:
        raise UsageError("--count is negative", found=args.count, expected="0 (the usual number) or more")
    if not 0 <= args.block_s < float("inf"):
        raise UsageError("--block-s out of range", found=args.block_s, expected="seconds above 0, or 0")
    if args.inputs:
        return of_files(args.inputs, pipeline, args.count)
    if args.bag:
        return of_bag(args, pipeline)
    return None if args.topic is None else of_topic(args, pipeline, evidence_s(limited, args.block_s))


# --- files --------------------------------------------------------------------------------------------------------


def of_files(paths: Sequence[Path], pipeline: Pipeline, count: int) -> GivenImages:
    """Read image files, videos and folders of them; what cannot be read is told on stderr and counted.

    count: how many files, spread evenly over the sorted ones; 0: all.
    """
    files = [file for path in paths for file in _files(path, (pipeline.detector or pipeline).bundle)]
    labelled = [file for file in files if file.truth is not None]
    notes: tuple[str, ...] = ()
    if labelled and len(labelled) < len(files):
        notes = (f"{len(files) - len(labelled)} images are left out, because nobody says what they show",)
    wanted = labelled or files
    chosen = [wanted[row] for row in references.spread(np.arange(len(wanted)), count or len(wanted))]
    tracks = {track: number for number, track in enumerate(dict.fromkeys(file.track for file in chosen))}
    frames, unreadable, room = [], 0, _Room()
    with progress(len(chosen), "read", "image") as step:
        for file in chosen:
            for found in media.frames_of(file.path):
                if found.frame is None:
                    unreadable += 1
                    print(f"lisard: error: {file.path}: {found.error}", file=sys.stderr)
                    continue
                room.take(found.frame)
                frames.append(_whole(found.frame, pipeline, file.truth, tracks[file.track]))
            step()
    if not frames:
        raise DataError(
            "no image can be read",
            found=f"{unreadable} files, none of them an image",
            expected="PNG, JPEG, ... or a video",
            cure="the messages above name each file",
        )
    return GivenImages(tuple(frames), "images", ", ".join(map(str, paths)), unreadable, notes)


def _files(path: Path, bundle: Bundle) -> list[_File]:
    """The files that a path stands for, with what they show: by a COCO list for a detector, else by their folders."""
    if not path.is_dir():
        return [_File(path)]
    labels = bundle.manifest.labels
    if bundle.manifest.runtime_task.finds_boxes:
        listed = coco_images.find_list(path)
        if listed is not None:
            plain = (one for one in coco_images.read(listed, labels) if not len(one.boxes.ignored_xyxy_px))
            return [_File(one.path, _true_boxes(one.boxes)) for one in plain]
    files = media.expand([path])
    if bundle.manifest.runtime_task.finds_boxes:
        return [_File(file) for file in files]
    classes = [UNKNOWN if file.parent == path else class_of(file, labels) for file in files]
    return [_File(file, None if one == UNKNOWN else one) for file, one in zip(files, classes, strict=True)]


def _true_boxes(boxes: TrueBoxes) -> tuple[TrueBox, ...]:
    corners = zip(boxes.classes.tolist(), boxes.boxes_xyxy_px.tolist(), strict=True)
    return tuple(TrueBox(label=label, box_xyxy_px=(x0, y0, x1, y1)) for label, (x0, y0, x1, y1) in corners)


def _whole(frame: Frame, pipeline: Pipeline, truth: Truth | None, block: int | None) -> LiveFrame:
    """A frame that is looked at as a whole, or where the detector in front finds something."""
    regions = pipeline.prepare([frame]).regions[0] if pipeline.detector is not None else (WHOLE_FRAME,)
    return LiveFrame(frame, regions, truth, block)


class _Room:
    """Refuses more pixels than MOST_BYTES."""

    def __init__(self) -> None:
        """Nothing is held yet."""
        self._bytes = 0

    def take(self, frame: Frame) -> None:
        """Count a frame that is kept; UsageError when there are too many."""
        self._bytes += frame.image.nbytes
        if self._bytes > MOST_BYTES:
            raise UsageError(
                "these images take too much memory",
                found=f"more than {MOST_BYTES >> 30} GiB of pixels",
                expected=f"at most {MOST_BYTES >> 30} GiB",
                cure="--count N takes fewer of them",
            )


# --- recordings -----------------------------------------------------------------------------------------------------


def of_bag(args: argparse.Namespace, pipeline: Pipeline) -> GivenImages:
    """Read frames of recordings, spread evenly over them, with the labels that they have."""
    from lisard_ros.bags import label_files  # here: they need rosbags, which other images do without
    from lisard_ros.bags.blocks import FRAME, TIME, BlockRule, FrameLog, fingerprint, settle
    from lisard_ros.bags.matrix import check_labels
    from lisard_ros.bags.reader import LabelOptions, open_bag

    names = label_files.read_map(args.label_map) if args.label_map else {}
    topics = tuple(filter(None, map(str.strip, args.topics.split(","))))
    rule = BlockRule(TIME, args.block_s) if args.block_s else BlockRule(FRAME)
    unreadable, first_error, log, found, room = 0, "", FrameLog(), list[tuple[LiveFrame, ...]](), _Room()
    with open_bag(args.bag, topics, label_options=LabelOptions(args.labels, names)) as bag:
        check_labels(bag, [pipeline])
        total, count = bag.count(), args.count or USUAL_COUNT
        for item in _spread(bag.frames(), total, count):
            if item.frame is None:
                unreadable, first_error = unreadable + 1, first_error or str(item.error)
                continue
            room.take(item.frame)
            log.add(item.stamp_ns, item.recording, fingerprint(item.frame), 0, ())
            found.append(_recorded(item, item.frame, pipeline))
        origin = bag.name
    if not found:
        raise DataError(
            f"no image of recording {origin} can be read",
            found=first_error or "no image",
            expected="images",
            cure="`lisard bag info` lists what is damaged",
        )
    settled = settle(rule, [log])[0].blocks.tolist()
    frames = [
        LiveFrame(one.frame, one.regions, one.truth, block)
        for of_frame, block in zip(found, settled, strict=True)
        for one in of_frame
    ]
    notes: tuple[str, ...] = ()
    if unreadable:
        notes = (f"{unreadable} frames cannot be read, the first: {first_error}",)
    unknown = sum(one.truth is None for one in frames)
    if 0 < unknown < len(frames):
        notes += (f"{unknown} images without a label are left out",)
    return GivenImages(tuple(frames), "recording", origin, unreadable, notes)


def _spread(frames: Iterator[BagFrame], total: int, count: int) -> Iterator[BagFrame]:
    """Yield `count` of the frames, evenly over `total`; the first ones where the total is unknown (0)."""
    wanted = set(references.spread(np.arange(total), count).tolist()) if total else set(range(count))
    last = max(wanted, default=-1)
    for number, item in enumerate(frames):
        if number in wanted:
            yield item
        if number >= last:
            return


def _recorded(item: BagFrame, frame: Frame, pipeline: Pipeline) -> tuple[LiveFrame, ...]:
    """What is attacked of a recorded frame: the whole, or for a classifier each recorded box by itself."""
    bundle = pipeline.bundle
    if pipeline.finds_boxes:
        first = (pipeline.detector or pipeline).bundle
        groups = bundle.manifest.roi_groups
        return (_whole(frame, pipeline, _boxes(item.regions, first.manifest.labels, groups), None),)
    if item.regions is None:
        return (_whole(frame, pipeline, _class(item.label, bundle), None),)
    crops = pipeline.prepare([frame], [item.regions]).crops
    made = []
    for crop in crops:
        pixels = np.ascontiguousarray(crop.pixels)
        alone = Frame(pixels, crop.colour, frame.stamp_ns, frame.frame_id, frame.camera)
        made.append(LiveFrame(alone, (WHOLE_FRAME,), _class(item.regions[crop.region].label, bundle)))
    return tuple(made)


def _class(name: str | None, bundle: Bundle) -> Truth | None:
    """The class of that name, or all those of a group; None where the bundle has neither."""
    labels, groups = bundle.manifest.labels, bundle.manifest.roi_groups
    if name in groups and name is not None:
        return TrueGroup(name, frozenset(labels.index(one) for one in groups[name]))
    return labels.index(name) if name in labels and name is not None else None


def _boxes(
    regions: Sequence[Region] | None, labels: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> Truth | None:
    """Recorded boxes as a detector's truth; None where one has no class of the detector. groups: coarse -> finer."""
    coarse = {fine: name for name, finer in groups.items() if name in labels for fine in finer}
    boxes = []
    for region in regions or ():
        name = coarse.get(region.label or "", region.label)
        if name not in labels or region.box_xyxy_px is None:
            return None
        boxes.append(TrueBox(label=labels.index(name), box_xyxy_px=region.box_xyxy_px))
    return None if regions is None else tuple(boxes)


# --- live frames ----------------------------------------------------------------------------------------------------


def of_topic(args: argparse.Namespace, pipeline: Pipeline, over_s: float) -> GivenImages:
    """Collect frames of a camera topic of the running ROS 2 system, spread over `over_s` seconds.

    Raises:
        UsageError: None comes within --wait-s.
    """
    if not 0 < args.wait_s < float("inf"):
        raise UsageError("--wait-s out of range", found=args.wait_s, expected="seconds above 0")
    collect, count, room = _collector(), args.count or USUAL_COUNT, _Room()
    with progress(count, f"collect from {args.topic}", "frame") as step:
        frames = []
        for frame in collect(args.topic, count, args.wait_s, over_s):
            room.take(frame)
            frames.append(frame)
            step()
    live = [_whole(frame, pipeline, None, None) for frame in frames]
    return GivenImages(in_blocks(live, args.block_s), "live", args.topic)


def _collector() -> Callable[[str, int, float, float], Iterator[Frame]]:
    """Find what needs rclpy, through its entry point."""
    try:
        for entry in entry_points(group=ROS_GROUP):
            collect: Callable[[str, int, float, float], Iterator[Frame]] = entry.load()
            return collect
    except ImportError as error:
        raise needs.cannot_import(error) from error
    raise UsageError(
        "`lisard attack run --topic` is not installed",
        found="no such entry point",
        expected=f"the group {ROS_GROUP}",
        cure="run `make setup`, or `pip install -e .` in the checkout",
    )
