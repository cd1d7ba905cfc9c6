"""The data of bench/golden.py, made from the excerpts under data/: small, equal on every machine, for every commit.

DATA/signs/train/CLASS/TRACK_FRAME.png    all 43 classes of the shipped classifier; two tracks of two frames each
DATA/images/CLASS/TRACK_FRAME.png         what the classifier is evaluated on: four tracks as they ship
DATA/boxes/{train,val}/                   COCO lists made from the bag data/road_signs
DATA/bags/{road_signs,road_drive}, gtsrb_tracks    the bags of the demonstration
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

BUNDLES = ("traffic_signs", "road_signs")  # classifier and detector, under models/
SIZE_PX = 32
FRAMES, TRACKS = 2, 2  # of each class that is trained on
MADE_CELLS = 4  # classes without an excerpt show coloured squares, so many in a row
EVALUATED = ("00001", "00010", "00017", "00038")  # classes; the excerpt has one track of each
EVALUATED_FRAMES = 5
# Road images by their place in the bag; every class is in both parts.
TRAINED_ON, HELD_BACK = (0, 2, 3, 6, 12, 13, 15, 20, 24, 32, 35, 37), (1, 10, 18, 21, 23)
PERIOD_NS = 100_000_000
ROSBAG2_VERSION: Literal[9] = 9
MESSAGES = Path(__file__).resolve().parent.parent / "interfaces" / "vision_msgs" / "msg"


def make(tree: Path, folder: Path) -> None:
    """Writes everything below FOLDER. tree: a checkout of the older commit, whose data/ is the source."""
    make_signs(tree / "data" / "gtsrb_tracks", folder / "signs" / "train", len(labels(tree, "traffic_signs")))
    for name in EVALUATED:
        files = sorted((tree / "data" / "gtsrb_tracks" / name).glob("*.png"))[:EVALUATED_FRAMES]
        (folder / "images" / name).mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder / "images" / name)
    make_boxes(tree / "data" / "road_signs", folder / "boxes", labels(tree, "road_signs"))
    for name in ("road_signs", "road_drive"):
        shutil.copytree(tree / "data" / name, folder / "bags" / name)
    make_bag(tree / "data" / "gtsrb_tracks", folder / "bags" / "gtsrb_tracks", labels(tree, "traffic_signs"))


def labels(tree: Path, bundle: str) -> list[str]:
    """The labels of a shipped bundle."""
    return json.loads((tree / "models" / bundle / "bundle.json").read_text(encoding="utf-8"))["labels"]


def make_signs(source: Path, target: Path, classes: int) -> None:
    """Two tracks of each class: the frames of the excerpt's only track in turn, or made-up squares."""
    for number in range(classes):
        own = source / f"{number:05d}"
        files = sorted(own.glob("*.png")) if own.is_dir() else []
        (target / own.name).mkdir(parents=True)
        for place in range(FRAMES * TRACKS):
            file = target / own.name / f"{place % TRACKS:05d}_{place // TRACKS:05d}.png"
            if place < len(files):
                shutil.copy(files[place], file)
            else:
                cv2.imwrite(str(file), _squares(number, place))


def _squares(number: int, place: int) -> np.ndarray:
    """An image of the made-up class NUMBER: its squares, a little brighter or darker in each frame."""
    cells = np.random.default_rng(number).integers(0, 200, (MADE_CELLS, MADE_CELLS, 3), dtype=np.uint8)
    return cv2.resize(cells + np.uint8(8 * place), (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_NEAREST)


def make_boxes(bag: Path, target: Path, classes: list[str]) -> None:
    """COCO lists from a bag with JPEG images and boxes under equal stamps."""
    found = list(_labelled_images(bag))
    for part, places in (("train", TRAINED_ON), ("val", HELD_BACK)):
        (target / part / "images").mkdir(parents=True)
        images: list[dict[str, object]] = []
        boxes: list[dict[str, object]] = []
        for place in places:
            jpeg, detections = found[place]
            height, width = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)).shape[:2]
            name = f"{place:03d}.jpg"
            (target / part / "images" / name).write_bytes(jpeg)
            images.append({"id": place, "file_name": name, "width": width, "height": height})
            for label, box in detections:
                boxes.append(
                    {
                        "id": len(boxes) + 1,
                        "image_id": place,
                        "category_id": classes.index(label) + 1,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (target / part / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


def _labelled_images(bag: Path) -> Iterator[tuple[bytes, list[tuple[str, list[float]]]]]:
    """JPEG and boxes (label; x, y, width, height in pixels) of each image, in the order of the stamps."""
    images: dict[int, bytes] = {}
    boxes: dict[int, list[tuple[str, list[float]]]] = {}
    with AnyReader([bag], default_typestore=_typestore()) as reader:
        for connection, stamp_ns, data in reader.messages():
            message: Any = reader.deserialize(data, connection.msgtype)
            if connection.msgtype.endswith("CompressedImage"):
                images[stamp_ns] = message.data.tobytes()
            elif connection.msgtype.endswith("Detection2DArray"):
                boxes[stamp_ns] = [_box(detection) for detection in message.detections]
    yield from ((images[stamp_ns], boxes.get(stamp_ns, [])) for stamp_ns in sorted(images))


def _box(detection: Any) -> tuple[str, list[float]]:
    box, centre = detection.bbox, detection.bbox.center.position
    corner = [centre.x - box.size_x / 2, centre.y - box.size_y / 2]
    return detection.results[0].hypothesis.class_id, [*corner, box.size_x, box.size_y]


def make_bag(source: Path, target: Path, classes: list[str]) -> None:
    """The excerpt of tracks as raw rgb8 images with their labels, as the demonstration plays it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    store = _typestore()
    types: Mapping[str, Any] = store.types
    image_type, label_type = "sensor_msgs/msg/Image", "vision_msgs/msg/Classification"
    with Writer(target, version=ROSBAG2_VERSION, storage_plugin=StoragePlugin.MCAP) as writer:
        images = writer.add_connection("/gtsrb/image_raw", image_type, typestore=store)
        truths = writer.add_connection("/gtsrb/labels", label_type, typestore=store)
        for place, file in enumerate(sorted(source.glob("*/*.png"))):
            stamp_ns = (place + 1) * PERIOD_NS
            stamp = types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
            top = types["std_msgs/msg/Header"](stamp=stamp, frame_id="gtsrb")
            rgb = cv2.cvtColor(np.asarray(cv2.imread(str(file), cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)
            height, width = rgb.shape[:2]
            image = types[image_type](
                header=top,
                height=height,
                width=width,
                encoding="rgb8",
                is_bigendian=0,
                step=3 * width,
                data=rgb.reshape(-1),
            )
            truth = types["vision_msgs/msg/ObjectHypothesis"](class_id=classes[int(file.parent.name)], score=1.0)
            label = types[label_type](header=top, results=[truth])
            writer.write(truths, stamp_ns, store.serialize_cdr(label, label_type))
            writer.write(images, stamp_ns, store.serialize_cdr(image, image_type))


def _typestore() -> Any:
    """The messages of ROS 2 and those of vision_msgs."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    for file in sorted(MESSAGES.glob("*.msg")):
        store.register(get_types_from_msg(file.read_text(encoding="utf-8"), f"vision_msgs/msg/{file.stem}"))
    return store
