"""GTSRB as published (PPM and lists) and rescaled (class folders): tracks, regions, and lists that disagree."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from lisard_ros.errors import DataError
from lisard_trainer import data
from lisard_trainer.data.gtsrb import Gtsrb

SETTINGS = data.Data(kind="gtsrb")
ROI = data.Data(kind="gtsrb", gtsrb_roi=True)
READER = Gtsrb()


@pytest.fixture
def published(layouts, tmp_path):
    return layouts.gtsrb_published(tmp_path / "GTSRB")


@pytest.fixture
def rescaled(layouts, tmp_path):
    return layouts.gtsrb_rescaled(tmp_path / "gtsrb32")


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def list_of(root, label=1):
    return root / "Final_Training" / "Images" / f"{label:05d}" / f"GT-{label:05d}.csv"


def test_published_images_have_tracks_of_their_class(published):
    dataset = READER.training(published, SETTINGS)
    assert len(dataset) == 18 and dataset.classes == ("00000", "00001", "00002")
    assert dataset.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert dataset.tracks[:4] == ("00000/00000", "00000/00000", "00000/00001", "00000/00001")
    assert dataset.paths[0] == "00000/00000_00000.ppm" and dataset.images.shape == (18, 3, 32, 32)


def test_the_region_is_the_sign_without_its_border(published, layouts):
    dataset = READER.training(published, ROI)
    for position, path in enumerate(dataset.paths):
        label, track, frame = int(path[:5]), int(path[6:11]), int(path[12:17])
        assert np.array_equal(dataset.images[position].numpy(), layouts.signs[label, 2 * track + frame])


def test_the_test_part_takes_classes_from_its_list(published, layouts):
    dataset = READER.test(published, ROI)
    assert dataset is not None and dataset.labels.tolist() == [0, 1, 2] * 2
    assert dataset.classes == ("00000", "00001", "00002") and len(set(dataset.tracks)) == 6
    for number in range(6):
        assert np.array_equal(dataset.images[number].numpy(), layouts.signs[number % 3, 6 + number // 3])


def test_the_folder_above_is_enough(published):
    assert READER.holds(published) and READER.holds(published.parent)
    assert len(READER.training(published.parent, SETTINGS)) == 18
    assert len(READER.test(published.parent, SETTINGS)) == 6


def test_without_test_images_there_is_no_test_part(published, rescaled):
    shutil.rmtree(published / "Final_Test")
    assert READER.test(published, SETTINGS) is None and READER.test(rescaled, SETTINGS) is None


def test_test_images_without_classes_are_refused(published):
    (published / "GT-final_test.csv").unlink()
    with pytest.raises(
        DataError, match="found no GT-final_test.csv, expected the list with the column ClassId; unpack"
    ):
        READER.test(published, SETTINGS)


def test_rescaled_images_have_the_same_tracks(rescaled):
    dataset = READER.training(rescaled, SETTINGS)
    assert len(dataset) == 18 and len(set(dataset.tracks)) == 6 and dataset.tracks[0] == "00000/00000"
    (rescaled / "train.csv").unlink()
    assert READER.training(rescaled, SETTINGS).sha256() == dataset.sha256()
    assert READER.training(rescaled / "train", SETTINGS).sha256() == dataset.sha256()


def test_tracks_are_not_divided(published, rescaled):
    for root in (published, rescaled):
        split = data.load(data.Data(validation_share=0.4), str(root))
        assert not set(split.train.tracks) & set(split.validation.tracks)
        assert set(split.validation.labels.tolist()) == set(split.train.labels.tolist()) == {0, 1, 2}


def spoil(case, root):
    """Makes one thing wrong with the published data."""
    folder, path = list_of(root).parent, list_of(root)
    if case == "absent":
        (folder / "00001_00001.ppm").unlink()
    if case == "unlisted":
        shutil.copy(folder / "00001_00001.ppm", folder / "00001_00002.ppm")
    if case == "class":
        edit(path, "36;36;1", "36;36;2")
    if case == "twice":
        edit(path, "00001_00001.ppm", "00001_00000.ppm")
    if case == "region":
        edit(path, "40;40;4;4;36;36", "40;40;4;4;44;36")
    if case == "word":
        edit(path, "40;40;4;4;36;36", "40;40;4;four;36;36")
    if case == "short line":
        edit(path, ";4;4;36;36;1\n", "\n")
    if case == "column":
        edit(path, "ClassId", "Class")
    if case == "no list":
        path.unlink()
    if case == "binary list":
        path.write_bytes(b"\xff\xfe\x00")
    if case == "size":
        edit(path, "40;40;4;4;36;36", "41;40;4;4;36;36")
    if case == "picture":
        (folder / "00001_00001.ppm").write_bytes((folder / "00001_00001.ppm").read_bytes()[:1000])
    if case == "name":
        folder.rename(folder.parent / "stop")
        path = folder.parent / "stop"
        (path / "GT-00001.csv").rename(path / "GT-stop.csv")


BROKEN = {
    "absent": "GT-00001.csv: found 00001_00001.ppm, which is not in .*00001 .1 such., expected images that are there",
    "unlisted": "GT-00001.csv: found no line for 00001_00002.ppm .1 such., expected every image of .*00001",
    "class": "GT-00001.csv: found class 2 for 00000_00000.ppm, expected class 1, that of its folder",
    "twice": "GT-00001.csv: found 00001_00000.ppm twice",
    "region": "found sign 4,4 to 44,36 of 40x40 pixels in line 2, expected a sign within its image",
    "word": "found .*four.* in line 2, expected whole numbers after the file name",
    "short line": "found no Roi.X1 in line 2",
    "column": "found no column ClassId, expected Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId",
    "no list": "list .*GT-00001.csv: found no readable text, expected a CSV file",
    "binary list": "list .*GT-00001.csv: found no readable text",
    "size": "image .*00000_00000.ppm: found 40x40 pixels, expected 41x40, as its list says; .*from one place",
    "picture": "image .*00001_00001.ppm: found a file that is not an image",
    "name": "class folder stop: found a name that is no number, expected 00000 to 00042",
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_data_is_named(published, case):
    spoil(case, published)
    with pytest.raises(DataError, match=BROKEN[case]):
        READER.training(published, SETTINGS)


def test_a_test_list_with_a_strange_class_or_an_absent_image(published):
    edit(published / "GT-final_test.csv", "36;36;2", "36;36;7")
    with pytest.raises(DataError, match="found class 7 for 00002.ppm, expected a class of the training part"):
        READER.test(published, SETTINGS)
    edit(published / "GT-final_test.csv", "00002.ppm", "99999.ppm")
    with pytest.raises(DataError, match="found 99999.ppm, which is not in .*Images"):
        READER.test(published, SETTINGS)


@pytest.mark.parametrize(
    "old, new, found",
    [
        (
            "00001/00000_00000.png,1,00000",
            "00001/00000_00000.png,2,00000",
            "found class 2, track 00000 for train/00001",
        ),
        ("00001/00000_00000.png,1,00000", "00001/00000_00000.png,1,00001", "expected class 1, track 00000"),
        (
            "train/00001/00000_00000.png",
            "train/00001/00007_00000.png",
            "found train/00001/00007_00000.png, which is not",
        ),
        ("train/00001/00000_00000.png", "train/00000/00000_00000.png", "found train/00000/00000_00000.png twice, in"),
        ("00001/00000_00000.png,1,00000,40,40", "00001/00000_00000.png", "found no class_id in line"),
        ("00001/00000_00000.png,1,00000,40,40", '00001/00000_00000.png,"' + 200_000 * "x", "found field larger than"),
        ("class_id", "class", "found no column class_id"),
    ],
)
def test_a_shared_list_that_disagrees(rescaled, old, new, found):
    edit(rescaled / "train.csv", old, new)
    with pytest.raises(DataError, match=f"list .*train.csv: .*{found}"):
        READER.training(rescaled, SETTINGS)
