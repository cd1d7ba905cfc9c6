"""Reading a picture folder, splitting it by track, and what is said when it is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.errors import DataError
from lisard_trainer import data

SIZE_PX = 16


def test_reads_rgb_labels_and_tracks(folder):
    pictures = data.read(folder, SIZE_PX)
    assert pictures.images.shape == (60, 3, SIZE_PX, SIZE_PX) and pictures.images.dtype == torch.uint8
    assert pictures.classes == ("00000", "00001", "00002")
    means = pictures.images[pictures.labels == 0].float().mean((0, 2, 3))
    assert means[0] > 150 and means[1] < 80 and means[2] < 80  # class 0 is red
    assert pictures.paths[0] == "00000/00000_00000.png" and pictures.tracks[0] == "00000/00000"
    assert pictures.labels.tolist() == [0] * 20 + [1] * 20 + [2] * 20


def test_other_sizes_are_resized(tmp_path, make_folder):
    assert data.read(make_folder(tmp_path / "large", size_px=40), SIZE_PX).images.shape[2:] == (SIZE_PX, SIZE_PX)


def test_a_folder_with_train_stands_for_it(tmp_path, monkeypatch, make_folder):
    inner = make_folder(tmp_path / "train")
    assert data.find_folder(tmp_path) == inner
    monkeypatch.setenv(data.DATA_VARIABLE, str(tmp_path))
    assert data.find_folder(None) == inner


def test_hash_follows_the_pixels(folder, make_picture):
    before = data.read(folder, SIZE_PX).sha256()
    assert data.read(folder, SIZE_PX).sha256() == before
    make_picture(folder / "00000" / "00000_00000.png", (1, 2, 3), 9)
    assert data.read(folder, SIZE_PX).sha256() != before


def test_missing_folder_and_nothing_given(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no folder .*absent.*expected <folder>/<class>/<track>_<frame>.png"):
        data.find_folder(tmp_path / "absent")
    monkeypatch.delenv(data.DATA_VARIABLE, raising=False)
    with pytest.raises(DataError, match="use --data or set LISARD_DATA"):
        data.find_folder(None)


def test_empty_class_is_named(folder):
    (folder / "00003").mkdir()
    with pytest.raises(DataError, match="class folder 00003: found no pictures"):
        data.read(folder, SIZE_PX)


def test_one_class_is_no_classification(tmp_path, make_picture):
    make_picture(tmp_path / "only" / "00000_00000.png", (1, 2, 3), 0)
    with pytest.raises(DataError, match="found 1 class folders"):
        data.read(tmp_path, SIZE_PX)


@pytest.mark.parametrize("content", [b"", b"not a picture"], ids=["empty", "text"])
def test_unreadable_picture_is_named(folder, content):
    (folder / "00001" / "00000_00002.png").write_bytes(content)
    with pytest.raises(DataError, match="00001/00000_00002.png: found a file that is not a picture"):
        data.read(folder, SIZE_PX)


def test_name_without_track_is_refused(folder, make_picture):
    make_picture(folder / "00001" / "loose.png", (1, 2, 3), 0)
    with pytest.raises(DataError, match="loose.png, expected <track>_<frame>.png"):
        data.read(folder, SIZE_PX)


def test_class_with_one_track_cannot_be_split(tmp_path, make_folder):
    pictures = data.read(make_folder(tmp_path / "p", tracks=1), SIZE_PX)
    with pytest.raises(DataError, match="class 00000: found 1 track, expected at least 2"):
        data.split_by_track(pictures, 0.5, 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(1, 4), st.floats(0.01, 0.99), st.integers(0, 1000))
def test_no_track_is_on_both_sides_and_every_class_on_each(tracks, frames, share, seed):
    names = [f"{label}/{track}" for label in range(3) for track in range(tracks) for _ in range(frames)]
    labels = torch.tensor([int(name[0]) for name in names])
    images = torch.zeros(len(names), 3, 2, 2, dtype=torch.uint8)
    pictures = data.Pictures(images, labels, tuple(names), tuple(names), ("0", "1", "2"))
    split = data.split_by_track(pictures, share, seed)
    assert not set(split.train.tracks) & set(split.validation.tracks)
    assert len(split.train) + len(split.validation) == len(names)
    for part in (split.train, split.validation):
        assert set(part.labels.tolist()) == {0, 1, 2}
    again = data.split_by_track(pictures, share, seed)
    assert again.validation.tracks == split.validation.tracks


@pytest.mark.parametrize("batch", [0, 1, 61])
def test_impossible_batch(batch):
    with pytest.raises(DataError, match="batch size"):
        data.check_batch(batch, 60)


def test_batches_are_shuffled_seeded_and_whole():
    first, again, other = (
        torch.cat(list(data.batches(50, 8, torch.Generator().manual_seed(seed)))) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(first) == 48 and len(set(first.tolist())) == 48
    assert not torch.equal(first, torch.arange(48))


def test_unit_range():
    levels = torch.arange(256, dtype=torch.uint8)
    assert np.array_equal(data.to_unit(levels).numpy(), (np.arange(256, dtype=np.float32) / np.float32(255)))
