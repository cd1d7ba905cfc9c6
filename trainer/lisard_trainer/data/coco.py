"""Crops of the boxes of a detection data set with COCO instances in JSON; crops of one image are one track.

Found are <part>/annotations.json with the images beside it or in <part>/images, and the published layout of COCO:
annotations/instances_<part>.json with <part>/. Parts are train, val and test, also with the year of a COCO release.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lisard_ros.errors import DataError, unknown_name
from lisard_ros.image_files.coco import BESIDE, Image, Instances, list_in, read_instances

from . import checks, files
from .dataset import ImageDataset
from .files import ListedImage, Listing
from .folders import LISTED_PARTS
from .reader import Reader
from .settings import Crops, Data

FEWEST_IMAGES = 2


@dataclass(frozen=True)
class Part:
    """A list of instances and the folders in which its images may lie."""

    path: Path
    places: tuple[Path, ...]


class CocoCrops(Reader):
    """Crops of any COCO-style detection data set."""

    title = "COCO crops"
    expected = "train/annotations.json (COCO instances) with train/images, or annotations/instances_train2017.json"
    test_title = "crops of the test part"

    def holds(self, root: Path) -> bool:
        """Whether there is a list of training boxes."""
        return find_part(root, LISTED_PARTS["train"]) is not None

    def training(self, root: Path, settings: Data) -> ImageDataset:
        """Crops of the training part."""
        part = find_part(root, LISTED_PARTS["train"]) or Part(root / "train" / BESIDE[0], (root,))
        instances = read_list(part)
        listing = _list_crops(part, instances, _chosen(instances, settings.crops, part.path), settings.crops)
        # A class needs images on both sides of the split.
        counts = Counter(label for label, _ in {(entry.label, entry.track) for entry in listing.entries})
        few = [name for label, name in enumerate(listing.classes) if counts[label] < FEWEST_IMAGES]
        if few or len(listing.classes) < 2:
            raise DataError(
                f"list {part.path}",
                found=f"too few boxes of {', '.join(few[:5])}" if few else f"{len(listing.classes)} class",
                expected=f"two classes or more, each in {FEWEST_IMAGES} images or more",
                cure="name classes in data.crops.classes, or lower data.crops.min_px",
            )
        return files.decode(listing, settings.size_px)

    def validation(self, root: Path, settings: Data) -> ImageDataset | None:
        """Crops of the validation part."""
        return self._other(root, LISTED_PARTS["val"], settings)

    def test(self, root: Path, settings: Data) -> ImageDataset | None:
        """Crops of a test part with labels."""
        return self._other(root, LISTED_PARTS["test"], settings)

    def _other(self, root: Path, names: tuple[str, ...], settings: Data) -> ImageDataset | None:
        part, training = find_part(root, names), find_part(root, LISTED_PARTS["train"])
        if part is None or training is None:
            return None
        classes = _chosen(read_list(training), settings.crops, training.path)
        listing = _list_crops(part, read_list(part), classes, settings.crops)
        return checks.every_class(files.decode(listing, settings.size_px), part.path)


def find_part(root: Path, names: tuple[str, ...]) -> Part | None:
    """The first of these parts that has a list."""
    for name in names:
        folder = root / name
        path = list_in(folder) or root / "annotations" / f"instances_{name}.json"
        if path.is_file():
            return Part(path, (folder / "images", folder, root / "images" / name, root))
    return None


def read_list(part: Part) -> Instances:
    """The list of a part; DataError names every number that repeats or leads nowhere."""
    instances = read_instances(part.path)
    faults = list(_faults(instances))
    if faults:
        cure = "mend the list, or take another"
        raise checks.refuse(f"list {part.path}", faults, "each number once, each named", cure)
    return instances


def _faults(instances: Instances) -> Iterator[str]:
    yield from (f"image number {n} twice" for n in checks.repeated(image.id for image in instances.images))
    yield from (f"annotation number {n} twice" for n in checks.repeated(a.id for a in instances.annotations))
    yield from (f"category number {n} twice" for n in checks.repeated(c.id for c in instances.categories))
    yield from (f"category {n} twice" for n in checks.repeated(c.name for c in instances.categories))
    images = {image.id for image in instances.images}
    categories = {category.id for category in instances.categories}
    for a in instances.annotations:
        if a.image_id not in images:
            yield f"annotation {a.id} is in image number {a.image_id}, which is not listed"
        if a.category_id not in categories:
            yield f"annotation {a.id} is of the unknown class number {a.category_id}"


def _chosen(instances: Instances, crops: Crops, path: Path) -> tuple[str, ...]:
    """The named categories in the recipe's order, else all that have boxes in the order of their numbers."""
    known = {category.id: category.name for category in sorted(instances.categories, key=lambda c: c.id)}
    wanted = tuple(name.strip() for name in crops.classes.split(",") if name.strip())
    for name in wanted:
        if name not in known.values():
            raise unknown_name("category in recipe key data.crops.classes", name, known.values(), DataError)
    used = {annotation.category_id for annotation in instances.annotations}
    return wanted or tuple(name for number, name in known.items() if number in used)


def _list_crops(part: Part, instances: Instances, classes: tuple[str, ...], crops: Crops) -> Listing:
    """One entry for each box of these classes that is large enough, image by image."""
    labels = {c.id: classes.index(c.name) for c in instances.categories if c.name in classes}
    images = {image.id: image for image in instances.images}
    place = _place(part, instances.images)
    entries = []
    for box in sorted(instances.annotations, key=lambda a: (a.image_id, a.id)):
        if min(box.bbox[2:]) < 0:
            raise _wrong(part, f"width and height {box.bbox[2:]} of annotation {box.id}", "0 or more")
        if box.category_id in labels and not box.iscrowd and min(box.bbox[2:]) >= crops.min_px:
            image, (left, top, width, height) = images[box.image_id], box.bbox
            wide, high = width * crops.margin, height * crops.margin  # as the runtime widens a detector's box
            corners = (left - wide, top - high, left + width + wide, top + height + high)
            size_px, label = (image.width, image.height), labels[box.category_id]
            entries.append(ListedImage(image.file_name, label, image.file_name, corners, size_px, f"#{box.id}"))
    return Listing(place, classes, tuple(entries))


def _place(part: Part, images: list[Image]) -> Path:
    """The folder that holds every listed image."""
    for name in (PurePosixPath(image.file_name) for image in images):
        if not checks.is_below(name):
            raise _wrong(part, f"the file name {name}", "names below the folder of the images")
    absent = {place: [i.file_name for i in images if not (place / i.file_name).is_file()] for place in part.places}
    best = min(part.places, key=lambda place: len(absent[place]))
    if absent[best]:
        raise _wrong(part, f"{absent[best][0]}, which is not there ({len(absent[best])} such)", f"images of {best}")
    return best


def _wrong(part: Part, found: str, expected: str) -> DataError:
    return DataError(f"list {part.path}", found=found, expected=expected, cure="take list and images from one release")
