"""Tiny ImageNet in both layouts: the same images; its validation part is the test; lists that disagree."""

from __future__ import annotations

import shutil

import pytest

from lisard_ros.errors import DataError
from lisard_trainer import data
from lisard_trainer.data.tiny_imagenet import TinyImageNet

SETTINGS = data.Data(kind="tiny_imagenet", size_px=64)
READER = TinyImageNet()


@pytest.fixture
def root(layouts, tmp_path):
    return layouts.tiny_imagenet(tmp_path / "tiny-imagenet-200")


def test_published_layout(root, layouts):
    dataset, test = READER.training(root, SETTINGS), READER.test(root, SETTINGS)
    assert dataset.images.shape == (12, 3, 64, 64) and dataset.classes == ("n01443537", "n01629819", "n02124075")
    assert dataset.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and len(set(dataset.tracks)) == 12
    assert (dataset.images[0].numpy() == layouts.signs[0, 0].repeat(2, 1).repeat(2, 2)).all()
    assert test is not None and test.labels.tolist() == [0, 0, 1, 1, 2, 2] and test.paths[0] == "images/val_0.png"


def test_class_folders_hold_the_same(root, layouts, tmp_path):
    other = layouts.tiny_imagenet(tmp_path / "folders", as_folders=True)
    for part in (READER.training, READER.test):
        one, two = part(root, SETTINGS), part(other, SETTINGS)
        assert one.images.equal(two.images) and one.labels.equal(two.labels) and one.classes == two.classes


def test_the_folder_above_is_enough_and_val_may_lack(root):
    assert READER.holds(root) and READER.holds(root.parent) and not READER.holds(root / "train")
    assert len(READER.training(root.parent, SETTINGS)) == 12
    shutil.rmtree(root / "val")
    assert READER.test(root, SETTINGS) is None


def edit(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def test_a_validation_part_without_its_list_is_named(root):
    (root / "val" / "val_annotations.txt").unlink()
    with pytest.raises(DataError, match="val_annotations.txt: found no such file, expected the class of each image"):
        READER.test(root, SETTINGS)


def test_a_missing_image_of_one_class(root):
    next((root / "train" / "n01629819" / "images").iterdir()).unlink()
    with pytest.raises(DataError, match="found 3 images of class n01629819 and 4 of others, expected equally many"):
        READER.training(root, SETTINGS)


def test_a_missing_class(root):
    shutil.rmtree(root / "train" / "n01629819")
    with pytest.raises(DataError, match="classes of .*wnids.txt: found with n01629819, expected the 2 classes"):
        READER.training(root, SETTINGS)
    with pytest.raises(
        DataError, match="val_annotations.txt: found class n01629819 for val_2.png, expected a class of"
    ):
        READER.test(root, SETTINGS)


@pytest.mark.parametrize(
    "old, new, found",
    [
        ("val_3.png", "val_9.png", "found val_9.png, which is not there .1 such."),
        ("val_3.png", "val_2.png", "found line 4: 'val_2.png.*each file once"),
        ("val_3.png\tn01629819", "val_3.png", "found line 4: .*expected file name and class"),
        ("val_5.png\tn02124075\t0\t0\t62\t62\n", "", "found no line for val_5.png .1 such."),
        ("val_3.png\tn01629819", "val_3.png\tn02124075", "found 1 images of class n01629819 and 3 of others"),
    ],
)
def test_annotations_that_disagree(root, old, new, found):
    path = root / "val" / "val_annotations.txt"
    text = path.read_text().replace("val_3.png\tn01629819\t0\t0\t62\t62", "val_3.png\tn01629819")
    path.write_text(text)
    edit(path, old, new)
    with pytest.raises(DataError, match=found):
        READER.test(root, SETTINGS)


def test_class_folders_of_another_set(layouts, tmp_path):
    root = layouts.tiny_imagenet(tmp_path / "folders", as_folders=True)
    (root / "val" / "n02124075").rename(root / "val" / "n09999999")
    with pytest.raises(DataError, match="classes of .*val: found without n02124075, with n09999999"):
        READER.test(root, SETTINGS)
