"""Crops of COCO boxes: which boxes, how wide, how they are split, and lists that do not fit their images."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from lisard_ros.errors import DataError
from lisard_trainer import data
from lisard_trainer.data.coco import CocoCrops

READER = CocoCrops()
TIGHT = data.Data(kind="coco", crops=data.Crops(margin=0.0))


@pytest.fixture
def root(layouts, tmp_path):
    layouts.coco(tmp_path / "set" / "train")
    return tmp_path / "set"


def change(root, work):
    """Applies `work` to the parsed list and writes it back."""
    path = root / "train" / "annotations.json"
    content = json.loads(path.read_text())
    work(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("category_id", 99, "annotation .* is of the unknown class number 99"),
        ("bbox", [1.0, 1.0, -4.0, 6.0], r"found width and height \(-4.0, 6.0\) of annotation"),
        ("id", None, "annotation number .* twice"),
    ],
)
def test_a_box_that_would_be_passed_over_in_silence_is_named(root, key, value, message):
    def work(content):
        first, second = content["annotations"][:2]
        second[key] = first["id"] if key == "id" else value

    change(root, work)
    with pytest.raises(DataError, match=message):
        READER.training(root, TIGHT)


def test_crops_are_the_boxes_of_every_class(root, layouts):
    dataset = READER.training(root, TIGHT)
    assert dataset.classes == ("person", "car", "traffic light") and len(dataset) == 12
    assert dataset.labels.tolist() == [0, 1, 1, 2, 2, 0] * 2
    for position, label in enumerate(dataset.labels.tolist()):
        assert np.array_equal(dataset.images[position].numpy(), layouts.signs[label, position // 2])
    assert dataset.tracks[:2] == ("000000000000.png",) * 2 and len(set(dataset.paths)) == 12


def test_the_margin_is_a_share_of_the_box_and_ends_at_the_border(root):
    settings = data.Data(size_px=64, crops=data.Crops(classes="person", margin=0.5))
    with pytest.raises(DataError, match="found 1 class, expected two classes or more"):
        READER.training(root, settings)
    settings = data.Data(size_px=64, crops=data.Crops(classes="person, car", margin=0.5))
    wide = READER.training(root, settings)
    tight = READER.training(root, data.Data(crops=data.Crops(classes="person, car", margin=0.0)))
    assert wide.classes == ("person", "car") and wide.images.shape[2:] == (64, 64)
    assert (wide.images[1, :, 16:48, 16:48] == tight.images[1]).all() and (wide.images[1, :, :16] == 100).all()
    assert wide.images[0, :, 30, 0].tolist() == [100] * 3  # 8 of the 16 pixels on the left are there: stretched


def test_small_boxes_and_crowds_are_left_out(root):
    change(root, lambda content: content["annotations"][0].update(iscrowd=1))
    assert len(READER.training(root, TIGHT)) == 11
    with pytest.raises(DataError, match="found too few boxes of person, car, traffic light.*lower data.crops.min_px"):
        READER.training(root, data.Data(crops=data.Crops(min_px=40)))


def test_classes_keep_the_order_of_the_recipe(root):
    dataset = READER.training(root, data.Data(crops=data.Crops(classes="traffic light,person")))
    assert dataset.classes == ("traffic light", "person")


def test_an_unknown_class_is_answered_with_the_nearest(root):
    with pytest.raises(DataError, match="'trafic light', expected one of car, person.*did you mean 'traffic light'"):
        READER.training(root, data.Data(crops=data.Crops(classes="trafic light, car")))


def test_the_published_layout_and_its_parts(root, layouts, tmp_path):
    home = tmp_path / "coco"
    (home / "annotations").mkdir(parents=True)
    for part in ("train2017", "val2017"):
        shutil.copytree(root / "train" / "images", home / part)
        shutil.copy(root / "train" / "annotations.json", home / "annotations" / f"instances_{part}.json")
    assert READER.training(home, TIGHT).sha256() == READER.training(root, TIGHT).sha256()
    assert READER.validation(home, TIGHT).sha256() == READER.training(root, TIGHT).sha256()
    assert READER.test(home, TIGHT) is None and READER.validation(root, TIGHT) is None
    split = data.load(TIGHT, str(home))
    assert len(split.train) == len(split.validation) == 12
    assert data.evaluation(TIGHT, str(home)).name == "COCO crops, validation images"


def test_crops_of_one_image_stay_together(root):
    split = data.load(data.Data(kind="coco", validation_share=0.3), str(root))
    assert not set(split.train.tracks) & set(split.validation.tracks)
    assert set(split.train.labels.tolist()) == set(split.validation.labels.tolist()) == {0, 1, 2}


def spoil(case, root):
    """Makes one thing wrong with the list or its images."""
    path = root / "train" / "annotations.json"
    if case == "text":
        path.write_text("{'images'")
    if case == "no images":
        change(root, lambda c: c.pop("images"))
    if case == "bbox":
        change(root, lambda c: c["annotations"][4].update(bbox=[1, 2, 3]))
    if case == "image number":
        change(root, lambda c: c["annotations"][4].update(image_id=5))
    if case == "absent":
        (root / "train" / "images" / "000000000002.png").unlink()
    if case == "outside":
        change(root, lambda c: c["images"][2].update(file_name="../../secret.png"))
    if case == "absolute":
        change(root, lambda c: c["images"][2].update(file_name="/etc/passwd"))
    if case == "size":
        change(root, lambda c: c["images"][2].update(width=320))
    if case == "box":
        change(root, lambda c: c["annotations"][3].update(bbox=[500, 500, 32, 32]))
    if case == "picture":
        (root / "train" / "images" / "000000000002.png").write_bytes(b"")
    if case == "twice":
        change(root, lambda c: c["images"][2].update(id=101))
    if case == "category":
        change(root, lambda c: c["categories"].append({"id": 12, "name": "car"}))


BROKEN = {
    "text": "list .*annotations.json: found JSON is malformed.*expected COCO instances: images, annotations",
    "no images": "found Object missing required field `images`",
    "bbox": "found Expected `array` of length 4.*annotations",
    "image number": "annotation 4 is in image number 5, which is not listed",
    "absent": "found 000000000002.png, which is not there .1 such., expected images of .*images",
    "outside": "found the file name ../../secret.png, expected names below",
    "absolute": "found the file name /etc/passwd, expected names below",
    "size": "image .*000000000002.png: found 160x96 pixels, expected 320x96, as its list says",
    "box": "box in 000000000001.png: found .*, expected x0 < x1",
    "picture": "image .*000000000002.png: found a file that is not an image",
    "twice": "image number .* twice.*, expected each number once",
    "category": "category .* twice",
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_lists_are_named(root, case):
    spoil(case, root)
    with pytest.raises(DataError, match=BROKEN[case]):
        READER.training(root, TIGHT)
