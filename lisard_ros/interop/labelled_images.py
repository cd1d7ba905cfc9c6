"""Labelled images of a folder or of recordings as a MAITE `Dataset`: read when they are asked for.

MAITE's protocols are structural, so nothing here imports the package. An image is uint8 RGB [3, H, W].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from lisard_ros.bags.blocks import BlockRule, FrameLog, fingerprint, settle
from lisard_ros.bags.labels import require_known
from lisard_ros.bags.reader import Bag, BagFrame, LabelOptions, open_bag
from lisard_ros.errors import DataError
from lisard_ros.frames import WHOLE_FRAME, Frame, Pixels, Region
from lisard_ros.image_files import coco_images, folders
from lisard_ros.inference.preprocess import crop

if TYPE_CHECKING:
    from maite.protocols import DatasetMetadata

Target = TypeVar("Target")
OneHot = NDArray[np.float32]
UNLABELLED, UNREADABLE = "without a label", "unreadable"
COARSE, NOT_LOOKED_AT = "of a group of classes", "of a class that is not looked at"


@dataclass(frozen=True, slots=True)
class LabelSet:
    """What labels may say for a bundle. names: its classes. groups: names that stand for several of them.

    looked_at: of recorded boxes, those that are cut out, empty for all; margin: share of a box added on each side.
    """

    bundle: str
    names: tuple[str, ...]
    groups: tuple[str, ...] = ()
    looked_at: tuple[str, ...] = ()
    margin: float = 0.0


class _Id(TypedDict):
    id: str


class ImageMetadata(_Id, total=False):
    """What is known of an image beside its target.

    block: images of one block resemble each other, so that intervals count them as one piece of evidence. ignored:
    regions (left, top, right, bottom in pixels) in which answers count neither way. injection, applied: what was
    injected, and whether it was made for this image.
    """

    block: str
    ignored: list[tuple[float, float, float, float]]
    injection: str
    applied: bool


@dataclass(frozen=True, slots=True, eq=False)
class BoxTarget:
    """Boxes of one image. boxes: float32 [N, 4], corners in its pixels; labels: int64 [N]; scores: float32 [N]."""

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]


class ImageSource(Protocol):
    """Where the pixels of a data set are."""

    def image(self, number: int) -> Pixels:
        """Return an image as uint8 RGB [H, W, 3]."""

    def close(self) -> None:
        """Close what is open."""


class LabelledImages(Generic[Target]):
    """A MAITE `Dataset`: image, target and metadata by number.

    Attributes:
        metadata: `id` and `index2label`.
        left_out: How many images or boxes have no place in it, by reason.
    """

    def __init__(
        self,
        name: str,
        labels: Sequence[str],
        source: ImageSource,
        targets: Sequence[Target],
        about: Sequence[ImageMetadata],
        left_out: Mapping[str, int],
    ) -> None:
        """Take what `read_folder` or `read_bags` found; targets and about: of each image of the source."""
        self.metadata: DatasetMetadata = {"id": name, "index2label": dict(enumerate(labels))}
        self.left_out = {reason: count for reason, count in left_out.items() if count}
        self._source, self._targets, self._about = source, targets, about

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._targets)

    def __getitem__(self, ind: int, /) -> tuple[Pixels, Target, ImageMetadata]:
        """Return an image uint8 RGB [3, H, W], what it shows, and its metadata.

        Raises:
            IndexError: There is no such image.
            DataError: The file of the image has become unreadable.
        """
        number = range(len(self))[ind]
        pixels = np.ascontiguousarray(self._source.image(number).transpose(2, 0, 1))
        return pixels, self._targets[number], self._about[number].copy()

    def close(self) -> None:
        """Close recordings that are open."""
        self._source.close()

    def __enter__(self) -> LabelledImages[Target]:
        """Return the data set itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


# --- folders ----------------------------------------------------------------------------------------------------------


class _Files:
    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def image(self, number: int) -> Pixels:
        return folders.read_rgb(self._paths[number])

    def close(self) -> None:
        pass


def read_class_folders(folder: Path, labels: LabelSet) -> LabelledImages[OneHot]:
    """Read CLASS/image files; CLASS is a label or the number of one. Blocks are tracks where all files name theirs.

    Raises:
        DataError: There are no images, or a folder is no class of the labels.
    """
    files = folders.image_files(folder)
    classes = [folders.class_of(path, labels.names) for path in files]
    unknown = Counter(path.parent.name for path, kind in zip(files, classes, strict=True) if kind == folders.UNKNOWN)
    require_known(unknown, labels.names, labels.bundle)
    tracked = all(folders.is_numbered(path.stem) for path in files)
    about = [_about_file(folder, path, folders.track_of(path) if tracked else "") for path in files]
    targets = [one_hot(kind, len(labels.names)) for kind in classes]
    return LabelledImages(str(folder), labels.names, _Files(files), targets, about, {})


def read_coco_folder(folder: Path, labels: LabelSet) -> LabelledImages[BoxTarget]:
    """Read the images of a COCO list with their boxes; crowds are ignored regions.

    Raises:
        DataError: There is no list, or it does not fit images and labels.
    """
    path = coco_images.find_list(folder)
    if path is None:
        raise DataError(
            "no boxes in the folder",
            found=str(folder),
            expected="a COCO list (annotations.json) beside its images",
            cure="export the labels as COCO JSON, or give a recording",
        )
    listed = coco_images.read(path, labels.names)
    about, targets = [], []
    for one in listed:
        entry = _about_file(folder, one.path, "")
        entry["ignored"] = [(x0, y0, x1, y1) for x0, y0, x1, y1 in one.boxes.ignored_xyxy_px.tolist()]
        about.append(entry)
        targets.append(box_target(one.boxes.boxes_xyxy_px, one.boxes.classes))
    return LabelledImages(str(folder), labels.names, _Files([one.path for one in listed]), targets, about, {})


def _about_file(folder: Path, path: Path, track: str) -> ImageMetadata:
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
    return {"id": name, "block": track or name}


# --- recordings -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an image is: the nth frame that the recordings yield, and the part of it that is looked at."""

    frame: int
    region: Region


class _BagImages:
    """Frames of recordings in their order; a step back reads them again from the beginning."""

    def __init__(self, bag: Bag, margin: float, close: Callable[[], None]) -> None:
        self.bag, self._margin, self.close = bag, margin, close
        self.places: list[_Place] = []
        self._frames: Iterator[tuple[int, BagFrame]] = iter(())
        self._last: tuple[int, Frame] | None = None

    def image(self, number: int) -> Pixels:
        place = self.places[number]
        return crop(self._frame(place.frame), place.region, self._margin)

    def _frame(self, number: int) -> Frame:
        if self._last is None or number < self._last[0]:
            self._frames, self._last = enumerate(self.bag.frames()), None
        while self._last is None or self._last[0] < number:
            place, item = next(self._frames, (number, None))
            if item is not None and item.frame is not None:
                self._last = (place, item.frame)
            elif place >= number:
                raise DataError("the recording has changed while it was read", found=self.bag.name)
        return self._last[1]


def read_bags(
    words: Sequence[str | Path], labels: LabelSet, topics: Sequence[str] = (), options: LabelOptions | None = None
) -> LabelledImages[OneHot]:
    """Read the labelled frames of recordings for a classifier: whole frames, or the boxes cut out of them.

    It takes a first pass that decodes all frames. After it images are read in their order; a step back starts over.

    Args:
        words: Recordings, as `open_bag` takes them.
        labels: Of the bundle. Images of a group and boxes that are not looked at are left out and counted.
        topics: Image topics; empty: all.
        options: Labels beside the recording.

    Raises:
        DataError: No image has a label, or labels are of unknown classes.
    """
    numbers = {name: number for number, name in enumerate(labels.names)}

    def of_frame(item: BagFrame) -> Iterator[tuple[Region, OneHot] | str]:
        whole = [(WHOLE_FRAME, item.label)]
        for region, name in whole if item.regions is None else [(one, one.label) for one in item.regions]:
            if item.regions is not None and labels.looked_at and name is not None and name not in labels.looked_at:
                yield NOT_LOOKED_AT
            elif name in numbers:
                yield region, one_hot(numbers[name], len(labels.names))
            else:
                yield UNLABELLED if name is None else COARSE

    return _read(words, labels, topics, options, of_frame)


def read_box_bags(
    words: Sequence[str | Path], labels: LabelSet, topics: Sequence[str] = (), options: LabelOptions | None = None
) -> LabelledImages[BoxTarget]:
    """Read the frames of recordings that have boxes, for a detector. Arguments and errors: as of `read_bags`."""
    numbers = {name: number for number, name in enumerate(labels.names)}

    def of_frame(item: BagFrame) -> Iterator[tuple[Region, BoxTarget] | str]:
        if item.regions is None:
            yield UNLABELLED
            return
        known = [(one.box_xyxy_px, numbers[one.label]) for one in item.regions if one.label is not None]
        corners = np.array([box for box, _ in known], np.float64).reshape(-1, 4)
        yield WHOLE_FRAME, box_target(corners, np.array([kind for _, kind in known], np.int64))

    return _read(words, labels, topics, options, of_frame)


def _read(
    words: Sequence[str | Path],
    labels: LabelSet,
    topics: Sequence[str],
    options: LabelOptions | None,
    of_frame: Callable[[BagFrame], Iterable[tuple[Region, Target] | str]],
) -> LabelledImages[Target]:
    """Give each image its place. of_frame: yields the images of a frame with their targets, or why there is none."""
    opened = ExitStack()
    with ExitStack() as unless_returned:
        unless_returned.callback(opened.close)
        bag = opened.enter_context(open_bag(words, topics, label_options=options))
        recorded = bag.label_names()
        if labels.looked_at and bag.has_boxes():
            recorded = Counter({name: recorded[name] for name in recorded if name in labels.looked_at})
        require_known(recorded, (*labels.names, *labels.groups), labels.bundle)
        source, blocks, left_out = _BagImages(bag, labels.margin, opened.close), FrameLog(), Counter[str]()
        targets: list[Target] = []
        about: list[ImageMetadata] = []
        numbers: list[int] = []
        for place, item in enumerate(bag.frames()):
            if item.frame is None:
                left_out[UNREADABLE] += 1
                continue
            blocks.add(item.stamp_ns, item.recording, fingerprint(item.frame), truth=0, tracks=())
            for part, found in enumerate(of_frame(item)):
                if isinstance(found, str):
                    left_out[found] += 1
                    continue
                region, target = found
                source.places.append(_Place(place, region))
                targets.append(target)
                numbers.append(len(blocks) - 1)
                name = f"{item.recording}{item.topic}/{item.stamp_ns}"
                about.append({"id": name if region is WHOLE_FRAME else f"{name}/{part}"})
        if not targets:
            raise DataError(
                f"no image of {bag.name} has a label of the bundle",
                found=", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no images",
                expected="labels in topics or in a file",
                cure="give LabelOptions(file=...), or use recordings with labels",
            )
        settled = settle(BlockRule(), [blocks])[0].blocks
        for entry, number in zip(about, numbers, strict=True):
            entry["block"] = str(settled[number])
        unless_returned.pop_all()
        return LabelledImages(bag.name, labels.names, source, targets, about, left_out)


# --- targets ----------------------------------------------------------------------------------------------------------


def one_hot(index: int, classes: int) -> OneHot:
    """Return the target of a class: float32 [classes] with a 1 at its index."""
    target = np.zeros(classes, np.float32)
    target[index] = 1.0
    return target


def box_target(corners: NDArray[np.floating], classes: NDArray[np.integer]) -> BoxTarget:
    """Return true boxes as a target; their scores are 1. corners: [N, 4]; classes: [N]."""
    boxes = np.asarray(corners, np.float32).reshape(-1, 4)
    return BoxTarget(boxes, np.asarray(classes, np.int64), np.ones(len(boxes), np.float32))
