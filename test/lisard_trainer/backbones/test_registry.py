"""The registry of networks: sizes, activations, arguments of bundles, and what is refused."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.bundle.manifest import Architecture
from lisard_ros.errors import BundleError, UsageError
from lisard_trainer import backbones

# Parameters at 10 classes and width of the embedding. The published nets' are those measured on the published code.
SIZES = {
    "resnet8": (78_042, 64),
    "resnet14n": (175_258, 64),
    "resnet14w": (696_618, 128),
    "resnet20": (272_474, 64),
    "resnet18": (11_173_962, 512),
    "resnet10q": (892_186, 192),
    "resnet18q": (1_944_474, 192),
    "resnet50": (23_520_842, 2048),
    "resnet101": (42_512_970, 2048),
    "wrn28_10": (36_479_194, 640),
    "wrn28_10_published": (38_119_866, 640),
    "vgg19_bn": (20_035_018, 512),
    "vgg19_bn_published": (20_040_522, 512),
    "mobilenet_v2": (2_236_682, 1280),
    "mobilenet_v2_published": (2_296_922, 1280),
    "efficientnet_b2": (7_715_084, 1408),
    "efficientnet_b2_fine": (7_715_084, 1408),
    "efficientnet_b2_published": (2_158_528, 320),
    "efficientnet_lite0": (3_383_818, 1280),
    "efficientnet_lite0_fine": (3_383_818, 1280),
}
# Heights after each stage for images of 64 rows. "fine" nets end at an eighth, the ImageNet ones at a 32nd.
RESNET, RESNET_4, EIGHTH = (64, 32, 16), (64, 32, 16, 8), (64, 64, 32, 16, 16, 8, 8)
HEIGHTS = {
    **dict.fromkeys(("resnet8", "resnet14n", "resnet14w", "resnet20", "wrn28_10"), RESNET),
    **dict.fromkeys(("resnet18", "resnet50", "resnet101"), RESNET_4),
    **dict.fromkeys(("mobilenet_v2", "efficientnet_b2_fine", "efficientnet_lite0_fine"), EIGHTH),
    **dict.fromkeys(("resnet10q", "resnet18q"), (16, 8, 4, 2)),
    "vgg19_bn": (32, 16, 8, 4, 2),
    "efficientnet_lite0": (32, 16, 8, 4, 4, 2, 2),
    "efficientnet_b2": (32, 16, 8, 4, 4, 2, 2),
    "efficientnet_b2_published": (16, 16, 8, 8, 8, 4, 4),
}
HEIGHTS |= {f"{name}_published": HEIGHTS[name] for name in ("wrn28_10", "vgg19_bn", "mobilenet_v2")}
# The table of the method's specification: millions of parameters, two decimals.
SPECIFIED = {
    "resnet18": 11.17,
    "resnet50": 23.52,
    "resnet101": 42.51,
    "mobilenet_v2_published": 2.30,
    "wrn28_10_published": 38.12,
    "vgg19_bn": 20.04,
    "vgg19_bn_published": 20.04,
    "efficientnet_b2_published": 2.16,
}
# With ImageNet's 1,000 classes: the counts that the implementations by the papers' authors and others agree on.
IMAGENET = {"efficientnet_b2": 9_109_994, "efficientnet_lite0": 4_652_008, "mobilenet_v2": 3_504_872}
NAMES = sorted(backbones.BACKBONES)
MODULES = {"relu": "ReLU", "relu6": "ReLU6", "silu": "SiLU", "gelu": "GELU", "softplus": "Softplus"}


@cache
def shapes_only(name: str, classes: int = 10, size_px: int = 32, activation: str = "native") -> backbones.Backbone:
    """A network without numbers: shapes and counts at no cost."""
    with torch.device("meta"):
        return backbones.create(name, classes, size_px, activation).eval()


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def kinds(network: torch.nn.Module) -> set[str]:
    """Names of the activation modules in use."""
    return {type(module).__name__ for module in network.modules()} & set(MODULES.values())


def test_every_network_is_pinned():
    assert sorted(SIZES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_shapes(name):
    network = shapes_only(name)
    assert (parameters(network), network.width) == SIZES[name]
    assert network.classes == network.spec.classes == 10
    outputs = network.forward_stages(torch.empty(3, 3, 64, 48, device="meta"))
    assert outputs.embedding.shape == (3, network.width) and outputs.logits.shape == (3, 10)
    assert tuple(stage.shape[1] for stage in outputs.stages) == network.stage_widths
    assert tuple(stage.shape[2] for stage in outputs.stages) == HEIGHTS[name]


@pytest.mark.parametrize("name", sorted(SPECIFIED))
def test_parameters_of_the_specification(name):
    assert round(SIZES[name][0] / 1e6, 2) == SPECIFIED[name]


@pytest.mark.parametrize("name", sorted(IMAGENET))
def test_parameters_with_the_classes_of_imagenet(name):
    assert parameters(shapes_only(name, classes=1000)) == IMAGENET[name]


def test_weights_keep_their_names():
    """Checkpoints and bundles hold these names."""
    expected = {"stem.0.weight", "stages.2.1.norm2.running_mean", "stages.1.0.shortcut.0.weight", "head.bias"}
    for name, count in (("resnet14n", 92), ("resnet14w", 92), ("resnet18", 122)):
        keys = shapes_only(name).state_dict().keys()
        assert expected <= keys and len(keys) == count


@pytest.mark.parametrize("name", NAMES)
def test_every_activation_in_every_network(name):
    for activation in ("relu", "silu", "gelu", "softplus"):
        network = shapes_only(name, activation=activation)
        assert kinds(network) == {MODULES[activation]} and network.spec.activation == activation
        assert network.state_dict().keys() == shapes_only(name).state_dict().keys()


def test_native_activations():
    native = {name: shapes_only(name).spec.activation for name in NAMES}
    assert {name for name in NAMES if native[name] == "relu6"} == {
        "mobilenet_v2",
        "efficientnet_lite0",
        "efficientnet_lite0_fine",
    }
    assert {name for name in NAMES if native[name] == "silu"} == {
        "efficientnet_b2",
        "efficientnet_b2_fine",
        "efficientnet_b2_published",
    }
    assert all(kinds(shapes_only(name)) == {MODULES[native[name]]} for name in NAMES)


def test_softplus_is_close_to_relu():
    x = torch.linspace(-5, 5, 1001, dtype=torch.float64)
    gap = backbones.ACTIVATIONS["softplus"]()(x) - x.relu()
    assert gap.min() >= 0 and gap.max() < 0.07


def test_forward_is_the_end_of_forward_stages():
    network = backbones.create("resnet8", 4).eval()
    x = torch.rand(2, 3, 24, 40)
    stages, embedding, logits = network.forward_stages(x)
    assert all(torch.equal(a, b) for a, b in zip(network(x), (embedding, logits), strict=True))
    assert torch.equal(stages[-1].mean(dim=(2, 3)), embedding) and torch.equal(network.head(embedding), logits)
    assert (embedding >= 0).all()  # mean of a rectified map


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("resnet99", 2), "unknown network: found 'resnet99', expected one of .*did you mean 'resnet.*'"),
        (("wrn28-10", 2), "did you mean 'wrn28_10'"),
        (("resnet8", 0), "classes of resnet8: found 0, expected a whole number from 1"),
        (("resnet8", True), "classes of resnet8: found True"),
        (("resnet8", 2, 7), "size_px of resnet8: found 7, expected a whole number from 8"),
        (("vgg19_bn", 2, 31), "size_px of vgg19_bn: found 31, expected a whole number from 32"),
        (("resnet8", 2, 32, "rleu"), "unknown activation: found 'rleu'.*did you mean 'relu'"),
    ],
)
def test_what_cannot_be_made_is_named(words, message):
    with pytest.raises(UsageError, match=message):
        backbones.create(*words)


def test_the_built_network_gives_logits_in_eval_mode():
    built = backbones.build(Architecture(name="resnet14n", arguments={"classes": 7}))
    assert not built.training and built(torch.rand(1, 3, 32, 32)).shape == (1, 7)
    assert built.backbone.spec == backbones.Spec("resnet14n", 7, 32, "relu")  # what old bundles mean


@pytest.mark.parametrize("activation", ["native", "gelu"])
def test_arguments_rebuild_the_network(activation):
    network = shapes_only("mobilenet_v2", 3, 48, activation)
    arguments = backbones.arguments(network)
    assert arguments["activation"] == ("relu6" if activation == "native" else "gelu")
    with torch.device("meta"):
        built = backbones.build(Architecture(name="mobilenet_v2", arguments=arguments))
    assert built.backbone.spec == network.spec


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "arguments of resnet14n: found none, expected classes"),
        ({"size_px": 32}, "arguments of resnet14n: found size_px, expected classes"),
        ({"classes": 2, "activaton": "relu"}, "unknown argument of resnet14n.*did you mean 'activation'"),
        ({"classes": 2.0}, "classes of resnet14n: found 2.0"),
        ({"classes": 10**9}, "classes of resnet14n: found 1000000000"),
        ({"classes": 2, "activation": 3}, "unknown activation"),
    ],
)
def test_broken_architecture_is_a_bundle_error(arguments, message):
    with pytest.raises(BundleError, match=message):
        backbones.build(Architecture(name="resnet14n", arguments=arguments))


def test_unknown_network_of_a_bundle_is_a_bundle_error():
    with pytest.raises(BundleError, match="architecture of the bundle: unknown network: found 'alexnet'"):
        backbones.build(Architecture(name="alexnet", arguments={"classes": 2}))


VALUES = st.one_of(st.integers(-2, 40), st.floats(), st.booleans(), st.sampled_from(["relu", "native", "", "x"]))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["resnet8", "vgg19_bn", "nothing"]),
    st.dictionaries(st.sampled_from(["classes", "size_px", "activation", "width"]), VALUES),
)
def test_any_arguments_build_or_are_refused(name, arguments):
    with torch.device("meta"):
        try:
            built = backbones.build(Architecture(name=name, arguments=arguments))
        except BundleError:
            return
    assert built.backbone.spec.name == name and built.backbone.classes == arguments["classes"]
