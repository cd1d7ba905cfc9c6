"""Class folders: what is read, which parts and tracks there are, and what is said when something is wrong."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest
import torch

from lisard_ros.errors import DataError
from lisard_trainer import data
from lisard_trainer.data import files, folders

SIZE_PX = 16


def test_reads_rgb_labels_and_tracks(folder):
    dataset = data.read(folder, SIZE_PX)
    assert dataset.images.shape == (60, 3, SIZE_PX, SIZE_PX) and dataset.images.dtype == torch.uint8
    assert dataset.classes == ("00000", "00001", "00002")
    means = dataset.images[dataset.labels == 0].float().mean((0, 2, 3))
    assert means[0] > 150 and means[1] < 80 and means[2] < 80  # class 0 is red
    assert dataset.paths[0] == "00000/00000_00000.png" and dataset.tracks[0] == "00000/00000"
    assert dataset.labels.tolist() == [0] * 20 + [1] * 20 + [2] * 20


def test_other_sizes_are_resized(tmp_path, make_folder):
    assert data.read(make_folder(tmp_path / "large", size_px=40), SIZE_PX).images.shape[2:] == (SIZE_PX, SIZE_PX)


def test_a_folder_with_train_stands_for_it(tmp_path, monkeypatch, make_folder):
    inner = make_folder(tmp_path / "train")
    assert folders.training_folder(folders.find_root(tmp_path)) == inner
    monkeypatch.setenv(data.DATA_VARIABLE, str(tmp_path))
    assert folders.find_root(None) == tmp_path


def test_hash_follows_the_pixels(folder, make_image):
    before = data.read(folder, SIZE_PX).sha256()
    assert data.read(folder, SIZE_PX).sha256() == before
    make_image(folder / "00000" / "00000_00000.png", (1, 2, 3), 9)
    assert data.read(folder, SIZE_PX).sha256() != before


def test_an_image_of_a_kind_that_is_not_read_is_named(folder):
    (folder / "00001" / "more.GIF").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"image .*more.GIF: found a kind that is not read, expected one of .png"):
        data.read(folder, SIZE_PX)
    (folder / "00001" / "more.GIF").rename(folder / "00001" / "notes.csv")
    assert len(data.read(folder, SIZE_PX)) == 60


def test_a_link_in_a_loop_is_named(folder):
    (folder / "loop").symlink_to("loop")
    with pytest.raises(DataError, match=r"class folder .*loop: found Too many levels of symbolic links.*remove it"):
        data.read(folder, SIZE_PX)


def test_missing_folder_and_nothing_given(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no folder .*absent.*expected a folder of images for each class"):
        folders.find_root(tmp_path / "absent")
    monkeypatch.delenv(data.DATA_VARIABLE, raising=False)
    with pytest.raises(DataError, match="use --data or set LISARD_DATA"):
        folders.find_root(None)


def test_empty_class_is_named(folder):
    (folder / "00003").mkdir()
    with pytest.raises(DataError, match="class folder 00003: found no images"):
        data.read(folder, SIZE_PX)


def test_one_class_is_no_classification(tmp_path, make_image):
    make_image(tmp_path / "only" / "00000_00000.png", (1, 2, 3), 0)
    with pytest.raises(DataError, match="found 1 class folders"):
        data.read(tmp_path, SIZE_PX)


@pytest.mark.parametrize("content", [b"", b"not an image"], ids=["empty", "text"])
def test_unreadable_image_is_named(folder, content):
    (folder / "00001" / "00000_00002.png").write_bytes(content)
    with pytest.raises(DataError, match="00001/00000_00002.png: found a file that is not an image"):
        data.read(folder, SIZE_PX)


def test_name_without_track_is_refused(folder, make_image):
    make_image(folder / "00001" / "loose.png", (1, 2, 3), 0)
    with pytest.raises(DataError, match="loose.png, expected <track>_<frame>.png"):
        data.read(folder, SIZE_PX)


def test_any_names_are_images_of_their_own(tmp_path, make_image):
    for name in ("a", "b"):
        for number in range(4):
            make_image(tmp_path / name / f"IMG_{number}{'ab'[number % 2]}.PNG", (9 * number, 0, 0), number)
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    (tmp_path / ".git").mkdir()
    split = data.load(data.Data(size_px=SIZE_PX, validation_share=0.25), str(tmp_path))
    assert len(split.train) == 6 and len(split.validation) == 2 and split.train.classes == ("a", "b")
    assert sorted(split.validation.labels.tolist()) == [0, 1]


def test_tracks_by_name_can_be_asked_for(tmp_path, make_image):
    for name in ("a", "b"):
        for number in range(6):
            make_image(tmp_path / name / f"drive{number // 2}_{number}.png", (9 * number, 0, 0), number)
    by_image, by_track = (data.load(data.Data(tracks=tracks), str(tmp_path)).validation for tracks in ("none", "name"))
    assert len(by_image) == 2 and len(by_track) == 4
    assert len(set(by_track.tracks)) == 2 and by_track.tracks[0].startswith("a/drive")


def test_two_numbers_are_a_track_unless_the_recipe_says_no(folder):
    by_track = data.load(data.Data(kind="folder", size_px=SIZE_PX), str(folder))
    assert len(set(by_track.train.tracks)) == 9
    by_image = data.load(data.Data(kind="folder", size_px=SIZE_PX, tracks="none"), str(folder))
    assert len(set(by_image.train.tracks)) == len(by_image.train) == 54


def test_parts_of_a_folder_are_used_for_what_they_are(tmp_path, make_folder):
    make_folder(tmp_path / "training", tracks=3)
    make_folder(tmp_path / "val", tracks=2)
    settings = data.Data(kind="folder", size_px=SIZE_PX)
    split = data.load(settings, str(tmp_path))
    assert len(split.train) == 45 and len(split.validation) == 30
    found = data.evaluation(settings, str(tmp_path))
    assert found.name == "image folder, validation images" and len(found.dataset) == 30
    make_folder(tmp_path / "test", tracks=1)
    found = data.evaluation(settings, str(tmp_path))
    assert found.name == "image folder, test folder" and len(found.dataset) == 15
    assert data.load(settings, str(tmp_path)).validation.sha256() == split.validation.sha256()


def test_parts_with_other_classes_are_refused(tmp_path, make_folder):
    make_folder(tmp_path / "train")
    make_folder(tmp_path / "test")
    (tmp_path / "test" / "00002").rename(tmp_path / "test" / "00004")
    settings = data.Data(kind="folder", size_px=SIZE_PX)
    with pytest.raises(DataError, match="classes of .*test: found without 00002, with 00004, expected the 3 classes"):
        data.evaluation(settings, str(tmp_path))


def test_a_cut_jpeg_is_named(tmp_path):
    texture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for name in ("a", "b"):
        for number in range(2):
            path = tmp_path / name / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            assert cv2.imwrite(str(path), texture)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="b/1.jpg: found a file that is not an image, expected a whole PNG or JPEG"):
        data.load(data.Data(), str(tmp_path))


def jpeg(quality: int = 95) -> bytes:
    """An image with texture, 64 x 64."""
    texture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    return cv2.imencode(".jpg", texture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def with_thumbnail(whole: bytes) -> bytes:
    """A JPEG whose header holds a small one."""
    small = b"Exif\0\0" + jpeg(20)
    return whole[:2] + b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small + whole[2:]


@pytest.mark.parametrize("change", [lambda whole: whole, with_thumbnail], ids=["plain", "thumbnail"])
def test_a_film_behind_a_jpeg_is_no_harm_and_a_cut_one_is_named_all_the_same(tmp_path, change):
    content = change(jpeg())
    for name in ("a.jpg", "b.jpeg", "c.jfif", "d.jpe"):
        (tmp_path / name).write_bytes(content + bytes(5000))
        entry = files.ListedImage(name, 0, name)
        assert files.decode_one(str(tmp_path / name), entry).shape == (64, 64, 3)
    (tmp_path / "a.jpg").write_bytes(content[:-2000])
    with pytest.raises(DataError, match="a file that is not an image"):
        files.decode_one(str(tmp_path / "a.jpg"), entry)


def test_class_folders_that_are_numbers_are_in_their_order(folder):
    for old, new in (("00000", "10"), ("00001", "9"), ("00002", "2")):
        (folder / old).rename(folder / new)
    assert data.read(folder, SIZE_PX).classes == ("2", "9", "10")


def test_images_below_a_class_are_not_passed_over(folder):
    more = folder / "00001" / "more"
    more.mkdir()
    assert len(data.read(folder, SIZE_PX)) == 60
    (folder / "00001" / "00000_00000.png").rename(more / "00000_00000.png")
    with pytest.raises(DataError, match="class folder .*00001: found images in more/ too"):
        data.read(folder, SIZE_PX)


def test_parts_are_found_in_any_letters_and_a_class_may_be_a_train(tmp_path, make_folder, make_image):
    make_folder(tmp_path / "parts" / "Train")
    make_folder(tmp_path / "parts" / "VAL", tracks=1)
    split = data.load(data.Data(kind="folder", size_px=SIZE_PX), str(tmp_path / "parts"))
    assert (len(split.train), len(split.validation)) == (60, 15)
    for name in ("train", "car"):
        for number in range(4):
            make_image(tmp_path / "classes" / name / f"{number}.png", (200, 9, 9), number)
    assert data.load(data.Data(size_px=SIZE_PX), str(tmp_path / "classes")).train.classes == ("car", "train")


@pytest.mark.parametrize(
    ("name", "kept_together"),
    [
        ("crossing{scene}_{frame:03d}", True),
        ("00007_{scene:05d}_{frame:05d}", True),
        ("{scene:05d}_{frame:05d}", True),
        ("red_{both}", False),
        ("{both}", False),
        ("{scene}_{frame:03d}b", False),
        ("pic_{both}_0", False),
    ],
)
def test_names_tell_whether_frames_of_a_scene_stay_together(tmp_path, make_image, name, kept_together):
    for label in ("green", "red"):
        for scene in range(4):
            for frame in range(5):
                stem = name.format(scene=scene, frame=frame, both=10 * scene + frame)
                make_image(tmp_path / label / f"{stem}.png", (200, 9, 9), 10 * scene + frame)
    split = data.load(data.Data(kind="folder", size_px=SIZE_PX, validation_share=0.25), str(tmp_path))
    tracks = set(split.train.tracks) | set(split.validation.tracks)
    assert (len(tracks) < 40) == kept_together and not set(split.train.tracks) & set(split.validation.tracks)


def test_an_image_that_may_not_be_read_is_named(folder):
    path = folder / "00001" / "00000_00002.png"
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match="00001/00000_00002.png: found a file that is not an image"):
        data.read(folder, SIZE_PX)


def test_an_archive_is_to_be_unpacked(tmp_path):
    (tmp_path / "cifar.tar.gz").write_bytes(b"x")
    with pytest.raises(DataError, match="found a file, .*cifar.tar.gz.*unpack it"):
        data.load(data.Data(), str(tmp_path / "cifar.tar.gz"))


@pytest.mark.parametrize("name", [b"caf\xe9", b"stop/00000_caf\xe9.png"])
def test_a_name_that_is_no_utf_8_is_refused_before_any_training(tmp_path, name):
    """As old archives unpack: such a name can neither be hashed nor shown."""
    for class_name in ("stop", "yield"):
        (tmp_path / class_name).mkdir()
        (tmp_path / class_name / "00000_00000.png").touch()
    odd = os.fsencode(tmp_path) + b"/" + name
    os.mkdir(odd) if b"/" not in name else open(odd, "wb").close()
    with pytest.raises(DataError, match=r"found the name b'.*caf\\xe9.*', expected names in UTF-8; rename it"):
        data.read(tmp_path, SIZE_PX)
