"""Splits by track, batches, and moving images to a device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.errors import DataError
from lisard_trainer import data
from lisard_trainer.data.splitting import split as split_any

SIZE_PX = 16


def test_class_with_one_track_cannot_be_split(tmp_path, make_folder):
    dataset = data.read(make_folder(tmp_path / "p", tracks=1), SIZE_PX)
    with pytest.raises(DataError, match="class 00000: found 1 track, expected at least 2"):
        data.split_by_track(dataset, 0.5, 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(1, 4), st.floats(0.01, 0.99), st.integers(0, 1000))
def test_no_track_is_on_both_sides_and_every_class_on_each(tracks, frames, share, seed):
    names = [f"{label}/{track}" for label in range(3) for track in range(tracks) for _ in range(frames)]
    labels = torch.tensor([int(name[0]) for name in names])
    images = torch.zeros(len(names), 3, 2, 2, dtype=torch.uint8)
    dataset = data.ImageDataset(images, labels, tuple(names), tuple(names), ("0", "1", "2"))
    split = data.split_by_track(dataset, share, seed)
    assert not set(split.train.tracks) & set(split.validation.tracks)
    assert len(split.train) + len(split.validation) == len(names)
    for part in (split.train, split.validation):
        assert set(part.labels.tolist()) == {0, 1, 2}
    again = data.split_by_track(dataset, share, seed)
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


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 50), st.integers(2, 50), st.booleans(), st.booleans())
def test_batches_in_every_form(count, batch, shuffle, drop_last):
    generator = torch.Generator().manual_seed(1)
    parts = list(data.batches(count, batch, generator, shuffle, drop_last))
    positions = torch.cat(parts).tolist() if parts else []
    assert len(set(positions)) == len(positions) and set(positions) <= set(range(count))
    assert all(len(part) == batch for part in parts[: len(parts) if drop_last else -1])
    rest = count % batch
    left_out = rest if drop_last else rest == 1
    assert len(positions) == count - left_out
    if not shuffle:
        again = data.batches(count, batch, torch.Generator().manual_seed(2), shuffle, drop_last)
        assert positions == [row for part in again for row in part.tolist()]
        assert torch.equal(generator.get_state(), torch.Generator().manual_seed(1).get_state())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.floats(0.0, 1.0), st.integers(0, 99))
def test_images_come_as_often_as_their_shares_say(sizes, balance, seed):
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    count, shares = len(labels), torch.tensor(sizes).double()[labels] ** -balance
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat(list(data.batches(count, 1, generator, shares=shares)))
    assert len(order) == count
    expected = shares * count / shares.sum()
    seen = order.bincount(minlength=count)
    assert ((seen >= (expected - 1e-9).floor()) & (seen <= (expected + 1e-9).ceil())).all()


def test_data_stored_class_by_class_are_mixed_without_shuffling_too():
    labels = torch.arange(10).repeat_interleave(100)
    parts = data.batches(1000, 100, torch.Generator(), shuffle=False)
    assert all(len(labels[part].unique()) > 5 for part in parts)


def test_the_order_of_an_epoch_is_the_one_it_always_was():
    parts = list(data.batches(50, 8, torch.Generator().manual_seed(1)))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.cat(parts), order[:48])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 3), min_size=1), min_size=8, max_size=30), st.floats(0.05, 0.6), st.integers(0, 99)
)
def test_images_of_several_classes_stay_whole(classes_of, share, seed):
    classes_of = [{0, 1, 2, 3}, {0, 1, 2, 3}, *classes_of]
    rows = [(f"image {number}", label) for number, own in enumerate(classes_of) for label in sorted(own)]
    names, labels = tuple(name for name, _ in rows), torch.tensor([label for _, label in rows])
    images = torch.zeros(len(rows), 3, 2, 2, dtype=torch.uint8)
    dataset = data.ImageDataset(images, labels, names, names, ("0", "1", "2", "3"))
    split = split_any(dataset, share, seed)
    assert not set(split.train.tracks) & set(split.validation.tracks)
    assert len(split.train) + len(split.validation) == len(rows)
    for part in (split.train, split.validation):
        assert set(part.labels.tolist()) == {0, 1, 2, 3}
    assert split_any(dataset, share, seed).validation.tracks == split.validation.tracks


def test_classes_that_cannot_be_on_both_sides():
    names = ("x", "x", "y", "y")
    images = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    dataset = data.ImageDataset(images, torch.tensor([0, 1, 1, 0]), names, names, ("a", "b"))
    split = split_any(dataset, 0.5, 0)
    assert {split.train.tracks, split.validation.tracks} == {("x", "x"), ("y", "y")}
    names = ("x", "y", "x", "z", "y", "z")
    dataset = data.ImageDataset(
        torch.zeros(6, 3, 2, 2), torch.tensor([0, 0, 1, 1, 2, 2]), names, names, ("a", "b", "c")
    )
    seen = set()
    for seed in range(20):
        try:
            split_any(dataset, 0.5, seed)
            seen.add("split")
        except DataError as error:
            assert "images that other classes need on one side" in str(error) and "data.split_seed" in str(error)
            seen.add("refused")
    assert "refused" in seen


def test_images_move_to_a_device(split):
    moved = split.to("meta")
    for part, before in ((moved.train, split.train), (moved.validation, split.validation)):
        assert part.images.device.type == part.labels.device.type == "meta"
        assert part.images.dtype == torch.uint8 and part.tracks == before.tracks
    assert split.to("cpu").train.sha256() == split.train.sha256()


def test_few_images_are_told(split):
    with pytest.raises(DataError, match="batch size: found 2, expected two training images or more, of which there"):
        data.check_batch(2, 1)


def test_unit_range():
    levels = torch.arange(256, dtype=torch.uint8)
    assert np.array_equal(data.to_unit(levels).numpy(), (np.arange(256, dtype=np.float32) / np.float32(255)))
