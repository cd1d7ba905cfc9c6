"""Which kind of data a folder holds, what is loaded for training and evaluation, and a kind that does not fit."""

from __future__ import annotations

import pytest

from lisard_ros.errors import DataError, UsageError
from lisard_trainer import data, recipes
from lisard_trainer.data.cifar import CIFAR10_CLASSES
from lisard_trainer.data.kinds import READERS, find

LAYOUTS = {
    "cifar10 binary": ("cifar10", lambda layouts, root: layouts.cifar10_binary(root)),
    "cifar10 pickled": ("cifar10", lambda layouts, root: layouts.cifar10_pickled(root)),
    "cifar10 folders": ("cifar10", lambda layouts, root: layouts.cifar10_folders(root, CIFAR10_CLASSES)),
    "cifar100 binary": ("cifar100", lambda layouts, root: layouts.cifar100_binary(root)),
    "cifar100 pickled": ("cifar100", lambda layouts, root: layouts.cifar100_pickled(root)),
    "gtsrb published": ("gtsrb", lambda layouts, root: layouts.gtsrb_published(root)),
    "gtsrb rescaled": ("gtsrb", lambda layouts, root: layouts.gtsrb_rescaled(root)),
    "tiny published": ("tiny_imagenet", lambda layouts, root: layouts.tiny_imagenet(root)),
    "tiny folders": ("tiny_imagenet", lambda layouts, root: layouts.tiny_imagenet(root, as_folders=True)),
    "coco": ("coco", lambda layouts, root: layouts.coco(root / "train").parent),
}
TESTS = {
    "cifar10": "CIFAR-10, official test set",
    "cifar100": "CIFAR-100, official test set",
    "gtsrb": "GTSRB, official test set",
    "tiny_imagenet": "Tiny ImageNet, validation part (its official test)",
}


def pixels_of(dataset):
    return {image.numpy().tobytes() for image in dataset.images}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_recognised_loaded_and_evaluated(layouts, tmp_path, name):
    kind, write = LAYOUTS[name]
    root = write(layouts, tmp_path / "data")
    settings = data.Data(validation_share=0.25)
    assert find(settings, str(root)) == (root, READERS[kind])
    split = data.load(settings, str(root))
    assert split.train.classes == split.validation.classes
    classes = set(range(len(split.train.classes)))
    assert set(split.train.labels.tolist()) == set(split.validation.labels.tolist()) == classes
    assert not set(split.train.tracks) & set(split.validation.tracks)
    found = data.evaluation(settings, str(root))
    no_test = name in ("gtsrb rescaled", "coco")
    expected = f"{READERS[kind].title}, validation images" if no_test else TESTS[kind]
    assert found.name == ("CIFAR-10, test folder" if name == "cifar10 folders" else expected)
    assert (found.dataset.sha256() == split.validation.sha256()) == no_test
    assert not pixels_of(split.train) & pixels_of(found.dataset)


@pytest.mark.parametrize("name", LAYOUTS)
def test_another_kind_than_the_recipe_says_is_refused_with_the_right_one(layouts, tmp_path, name):
    kind, write = LAYOUTS[name]
    root = write(layouts, tmp_path / "data")
    for wanted in set(READERS) - {kind, "folder"}:
        with pytest.raises(
            DataError, match=f"{wanted} data .*found what looks like {kind}, .*set data.kind: {kind} in"
        ):
            data.load(data.Data(kind=wanted), str(root))


def test_nothing_known_is_answered_with_what_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(
        DataError, match="training data .*found only notes.txt, expected cifar10: data_batch_1.bin .*COCO"
    ):
        data.load(data.Data(), str(tmp_path))
    with pytest.raises(DataError, match="coco data .*found only notes.txt, expected train/annotations.json"):
        data.load(data.Data(kind="coco"), str(tmp_path))
    (tmp_path / "notes.txt").unlink()
    with pytest.raises(DataError, match="found an empty folder"):
        data.load(data.Data(kind="folder"), str(tmp_path))


def test_the_folder_comes_from_the_call_then_the_recipe_then_the_variable(layouts, tmp_path, monkeypatch):
    one, two, three = (layouts.gtsrb_rescaled(tmp_path / str(count), count) for count in (2, 3, 4))
    monkeypatch.setenv(data.DATA_VARIABLE, str(three))
    settings = data.Data(folder=str(two))
    assert len(data.load(settings, str(one)).train.classes) == 2
    assert len(data.load(settings, None).train.classes) == 3
    assert len(data.load(data.Data(), None).train.classes) == 4
    monkeypatch.delenv(data.DATA_VARIABLE)
    with pytest.raises(DataError, match="nothing given, expected train/n01443537.*use --data or set LISARD_DATA"):
        data.load(data.Data(kind="tiny_imagenet"), None)


def test_load_reads_class_folders_as_it_always_did(folder):
    split = data.load(data.Data(size_px=16), str(folder))
    before = data.split_by_track(data.read(folder, 16), 0.1, 0)
    assert split.train.sha256() == before.train.sha256() and split.validation.sha256() == before.validation.sha256()


@pytest.mark.parametrize(
    "section, found",
    [
        ({"kind": "cifar"}, "recipe key data.kind: found 'cifar', expected one of auto, folder, gtsrb, cifar10"),
        ({"kinds": "cifar10"}, "unknown recipe key.*did you mean 'kind'"),
        ({"size_px": 0}, "recipe key data.size_px: found 0, expected 1 or more, at most 8192"),
        ({"validation_share": 1}, "recipe key data.validation_share: found 1.0, expected above 0, below 1"),
        ({"crops": {"margin": -0.1}}, "recipe key data.crops.margin: found -0.1, expected 0 or more, at most 2"),
        ({"crops": {"min_px": 0}}, "recipe key data.crops.min_px: found 0, expected 1 or more"),
    ],
)
def test_impossible_settings(section, found):
    with pytest.raises(UsageError, match=found):
        recipes.from_mapping({"data": section})
