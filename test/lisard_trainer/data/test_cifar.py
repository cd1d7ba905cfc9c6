"""CIFAR-10 and CIFAR-100 in binary batches, pickles and class folders: the same images; what is wrong is named."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from lisard_ros.errors import DataError
from lisard_trainer import data
from lisard_trainer.data import cifar
from lisard_trainer.data.cifar import CIFAR10_CLASSES, CIFAR100_CLASSES, Cifar

SETTINGS = data.Data(kind="cifar10")


@pytest.fixture
def binary(layouts, tmp_path):
    return layouts.cifar10_binary(tmp_path / "cifar-10-batches-bin")


@pytest.fixture
def pickled(layouts, tmp_path):
    return layouts.cifar10_pickled(tmp_path / "cifar-10-batches-py")


def test_binary_batches_give_the_published_planes_and_labels(binary, layouts):
    dataset = Cifar(10).training(binary, SETTINGS)
    assert dataset.images.shape == (50, 3, 32, 32) and dataset.images.dtype == torch.uint8
    assert dataset.classes == CIFAR10_CLASSES and dataset.labels.bincount().tolist() == [5] * 10
    for frame in range(5):
        labels, pixels = layouts.cifar10_rows(frame)
        assert dataset.labels[10 * frame : 10 * frame + 10].tolist() == labels.tolist()
        assert np.array_equal(dataset.images[10 * frame : 10 * frame + 10].flatten(1).numpy(), pixels)
    assert dataset.paths[11] == "data_batch_2/00001" and len(set(dataset.tracks)) == 50
    test = Cifar(10).test(binary, SETTINGS)
    assert test is not None and np.array_equal(test.images.flatten(1).numpy(), layouts.cifar10_rows(5)[1])


@pytest.mark.parametrize("python", [2, 3])
def test_pickles_give_the_same_as_binary_batches(binary, layouts, tmp_path, python):
    folder = layouts.cifar10_pickled(tmp_path / "p", python)
    for part in (Cifar(10).training, Cifar(10).test):
        assert part(folder, SETTINGS).sha256() == part(binary, SETTINGS).sha256()


def test_class_folders_give_the_same_images(binary, layouts, tmp_path):
    root = layouts.cifar10_folders(tmp_path / "f", CIFAR10_CLASSES)
    assert Cifar(10).holds(root)
    found, expected = Cifar(10).training(root, SETTINGS), Cifar(10).training(binary, SETTINGS)
    for label in range(10):
        own, other = (p.images[p.labels == label].flatten(1).tolist() for p in (found, expected))
        assert sorted(own) == sorted(other)
    assert len(Cifar(10).test(root, SETTINGS)) == 10


def test_class_folders_without_a_test_part(layouts, tmp_path):
    root = layouts.cifar10_folders(tmp_path / "f", CIFAR10_CLASSES)
    shutil.rmtree(root / "test")
    assert Cifar(10).test(root, SETTINGS) is None


def test_the_usual_folder_name_may_be_left_out(binary):
    assert Cifar(10).holds(binary) and Cifar(10).holds(binary.parent)
    assert Cifar(10).training(binary.parent, SETTINGS).sha256() == Cifar(10).training(binary, SETTINGS).sha256()


def test_a_batch_that_is_a_copy_of_another_is_named(binary):
    shutil.copy(binary / "data_batch_2.bin", binary / "data_batch_4.bin")
    with pytest.raises(DataError, match="batch .*data_batch_4.bin: found the images of data_batch_2.bin"):
        Cifar(10).training(binary, SETTINGS)


def test_a_test_batch_that_is_one_of_the_training_is_named(binary):
    shutil.copy(binary / "data_batch_1.bin", binary / "test_batch.bin")
    for part in (Cifar(10).training, Cifar(10).test):
        with pytest.raises(DataError, match="batch .*test_batch.bin: found the images of data_batch_1.bin"):
            part(binary, SETTINGS)


def test_other_sizes_are_resized(binary):
    assert Cifar(10).training(binary, data.Data(size_px=24)).images.shape == (50, 3, 24, 24)


def test_cifar100_takes_the_fine_labels(layouts, tmp_path):
    binary = layouts.cifar100_binary(tmp_path / "b")
    pickled = layouts.cifar100_pickled(tmp_path / "p")
    settings = data.Data(kind="cifar100")
    dataset = Cifar(100).training(binary, settings)
    assert dataset.classes == CIFAR100_CLASSES and len(dataset) == 200
    assert dataset.labels.tolist() == [*range(99, -1, -1)] * 2
    assert np.array_equal(dataset.images[0].numpy(), layouts.signs[99 % 30, 0])
    for part in (Cifar(100).training, Cifar(100).test):
        assert part(pickled, settings).sha256() == part(binary, settings).sha256()


def test_there_are_100_names_in_order():
    assert len(set(CIFAR100_CLASSES)) == 100 and list(CIFAR100_CLASSES) == sorted(CIFAR100_CLASSES)


def cut(path, count):
    path.write_bytes(path.read_bytes()[:count])


def label_of(path, row, label, record=3073):
    raw = bytearray(path.read_bytes())
    raw[row * record] = label
    path.write_bytes(raw)


def spoil_binary(case, folder):
    """Makes one thing wrong with binary batches."""
    if case == "absent":
        (folder / "data_batch_3.bin").unlink()
    if case == "cut":
        cut(folder / "data_batch_3.bin", 9 * 3073 + 100)
    if case == "empty":
        cut(folder / "data_batch_3.bin", 0)
    if case == "cut at a record":
        cut(folder / "data_batch_3.bin", 9 * 3073)
    if case == "label":
        label_of(folder / "data_batch_3.bin", 4, 10)
    if case == "counts":
        label_of(folder / "data_batch_1.bin", 0, 5)
    if case == "names":
        (folder / "batches.meta.txt").write_text("\n".join(CIFAR10_CLASSES[:-1]) + "\nlorry\n\n")


BROKEN_BINARY = {
    "absent": "CIFAR-10 folder .*found no data_batch_3.bin, expected data_batch_1.bin, data_batch_2.bin",
    "cut": "CIFAR-10 batch .*data_batch_3.bin: found 27757 bytes, expected a multiple of 3073 bytes; .*cut short",
    "empty": "CIFAR-10 batch .*data_batch_3.bin: found 0 bytes",
    "cut at a record": "batch .*data_batch_3.bin: found 9 images, expected 10, as in the others; .*cut short",
    "label": "CIFAR-10 batch .*data_batch_3.bin: found label 10, expected 0 to 9; .*damaged or of another set",
    "counts": "found 4 images of class airplane and 6 of others, expected equally many.*publisher again",
    "names": "classes of .*batches.meta.txt: found without truck, with lorry, expected the 10 classes",
}


@pytest.mark.parametrize("case", BROKEN_BINARY)
def test_broken_binary_batches_are_named(binary, case):
    spoil_binary(case, binary)
    with pytest.raises(DataError, match=BROKEN_BINARY[case]):
        Cifar(10).training(binary, SETTINGS)


def test_a_missing_test_batch_is_not_passed_over(binary):
    (binary / "test_batch.bin").unlink()
    with pytest.raises(DataError, match="found no test_batch.bin"):
        Cifar(10).test(binary, SETTINGS)


def test_fine_labels_that_contradict_the_coarse_ones(layouts, tmp_path):
    folder = layouts.cifar100_binary(tmp_path / "b")
    label_of(folder / "train.bin", 3, 7, record=3074)
    with pytest.raises(DataError, match="fine label 96 under coarse label 7 and others, expected one coarse label"):
        Cifar(100).training(folder, data.Data(kind="cifar100"))


PIXELS = np.zeros((2, 3072), np.uint8)
BROKEN_PICKLE = {
    "labels_missing": ({"data": PIXELS}, "found no `labels` among data"),
    "labels_fewer": ({"data": PIXELS, "labels": [1]}, "found 1 labels for 2 images"),
    "labels_text": ({"data": PIXELS, "labels": ["1", "2"]}, "found labels is list"),
    "labels_negative": ({"data": PIXELS, "labels": [-1, 2]}, "found labels of which 1 are no byte"),
    "no_data": ({"labels": [1]}, "found data is NoneType"),
    "wide": ({"data": np.zeros((2, 12288), np.uint8), "labels": [1, 2]}, "found data is uint8 .2, 12288., expected"),
}


@pytest.mark.parametrize("case", BROKEN_PICKLE)
def test_broken_pickles_are_named(pickled, as_python2, case):
    content, found = BROKEN_PICKLE[case]
    (pickled / "data_batch_2").write_bytes(as_python2(content))
    with pytest.raises(DataError, match=f"CIFAR pickle .*data_batch_2: {found}"):
        Cifar(10).training(pickled, SETTINGS)


def test_names_in_a_pickle_are_checked(pickled, as_python2):
    (pickled / "batches.meta").write_bytes(as_python2({"label_names": list(CIFAR10_CLASSES)}))
    assert len(Cifar(10).training(pickled, SETTINGS)) == 50
    (pickled / "batches.meta").write_bytes(as_python2({"label_names": list(CIFAR10_CLASSES)[::-1]}))
    with pytest.raises(DataError, match="classes of .*batches.meta: found another order"):
        Cifar(10).training(pickled, SETTINGS)
    (pickled / "batches.meta").write_bytes(as_python2({"label_names": 3}))
    with pytest.raises(DataError, match="batches.meta: found label_names is int"):
        Cifar(10).training(pickled, SETTINGS)


def test_a_cut_pickle_is_named(pickled):
    cut(pickled / "data_batch_5", 20_000)
    with pytest.raises(DataError, match="pickle .*data_batch_5: found .*; take the file from its publisher again"):
        Cifar(10).training(pickled, SETTINGS)


def test_folders_with_other_classes(layouts, tmp_path):
    root = layouts.cifar10_folders(tmp_path / "f", ("aeroplane", *CIFAR10_CLASSES[1:]))
    assert not Cifar(10).holds(root)
    (root / "train" / "aeroplane").rename(root / "train" / "airplane")
    with pytest.raises(DataError, match="classes of .*test: found without airplane, with aeroplane"):
        Cifar(10).test(root, SETTINGS)


def test_every_stored_form_says_what_it_needs():
    for count in (10, 100):
        assert all(name in Cifar(count).expected for name in (cifar.Cifar(count).classes[0], "train/"))
