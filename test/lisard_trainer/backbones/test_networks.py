"""What the networks compute: layers against their definitions, oddities of published nets, gradients, ONNX."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from lisard_trainer import backbones
from lisard_trainer.backbones import layers, mobile, wide_resnet
from lisard_trainer.tasks import exporting
from lisard_trainer.tasks.classification import export

RELU, SILU = backbones.ACTIVATIONS["relu"], backbones.ACTIVATIONS["silu"]


@pytest.mark.parametrize(("size", "kernel"), [(8, 3), (8, 5), (7, 3), (9, 5), (2, 5)])
def test_same_padding_puts_the_odd_row_last(size, kernel):
    """TensorFlow's rule: ceil(size/2) outputs, of the zeros needed the smaller half first."""
    conv = layers.SameConv2d(1, 1, kernel, 2, bias=False).requires_grad_(False)
    x = torch.rand(1, 1, size, size)
    first = max((math.ceil(size / 2) - 1) * 2 + kernel - size, 0) // 2
    padded = functional.pad(x, (first, kernel, first, kernel))
    expected = functional.conv2d(padded, conv.weight, stride=2)[..., : math.ceil(size / 2), : math.ceil(size / 2)]
    assert torch.allclose(conv(x), expected, atol=1e-6)


def test_dropped_paths_keep_the_mean_and_drop_whole_images():
    torch.manual_seed(0)
    drop = layers.DropPath(0.25)
    y = drop(torch.ones(4000, 2, 3, 3))
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert y.mean().item() == pytest.approx(1, abs=0.03)
    assert ((y == 0).flatten(1).all(1) | (y > 0).flatten(1).all(1)).all()
    x = torch.rand(3, 2, 1, 1)
    assert drop.eval()(x) is x and layers.DropPath(0.0)(x) is x


def test_squeeze_excite_scales_channels_alone():
    squeeze = layers.SqueezeExcite(4, 2, SILU).requires_grad_(False)
    x = torch.rand(2, 4, 3, 5) + 0.1
    gates = squeeze(x) / x
    assert torch.allclose(gates, gates[..., :1, :1].expand_as(gates)) and ((gates > 0) & (gates < 1)).all()


def test_widths_are_rounded_as_in_the_papers():
    scaled = [mobile.rounded(width * 1.1) for width in (32, 16, 24, 40, 80, 112, 192, 320, 1280)]
    assert scaled == [32, 16, 24, 48, 88, 120, 208, 352, 1408]
    assert mobile.rounded(11) == 16  # 8 would be less than 90 %


def test_blocks_of_the_efficientnets():
    with torch.device("meta"):
        true, published = (backbones.create(name, 10) for name in ("efficientnet_b2", "efficientnet_b2_published"))
    assert [len(stage) for stage in true.stages] == [2, 3, 3, 4, 4, 5, 2]
    assert [len(stage) for stage in published.stages] == [2, 2, 3, 4, 1, 2, 1]
    rates = [block.drop.rate for stage in true.stages for block in stage]
    assert rates[0] == 0 and rates == sorted(rates) and rates[-1] == pytest.approx(0.2 * 22 / 23)
    assert not any(block.drop.rate for stage in published.stages for block in stage)


def test_pooling_of_vgg_is_the_published_flattening_at_32_px():
    network = backbones.create("vgg19_bn", 3).eval()
    with torch.no_grad():
        stages, embedding, _ = network.forward_stages(torch.rand(1, 3, 32, 32))
    assert torch.equal(embedding, stages[-1].flatten(1)) and embedding.shape == (1, 512)


def test_unused_stage_changes_nothing_and_gets_no_gradient():
    torch.manual_seed(0)
    plain = wide_resnet.wide_resnet(3, RELU, depth=10, factor=1).eval()
    published = wide_resnet.wide_resnet(3, RELU, depth=10, factor=1, unused_stage=True).eval()
    unused = published.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert unused and all(key.startswith("unused_stage.") for key in unused)
    x = torch.rand(2, 3, 16, 16)
    logits = published(x)[1]
    assert torch.equal(logits, plain(x)[1])
    logits.sum().backward()
    idle = {key for key, p in published.named_parameters() if p.grad is None}
    assert idle == {key for key in unused if "running" not in key and "batches" not in key}


def test_wide_resnet_starts_as_in_its_paper():
    torch.manual_seed(0)
    network = wide_resnet.wide_resnet(3, RELU, depth=10, factor=4)
    weight = network.stages[2][0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01) and not network.head.bias.any()


SMALL = ("resnet8", "mobilenet_v2_published", "efficientnet_b2_published", "efficientnet_lite0_fine")


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_learns(name):
    torch.manual_seed(0)
    network = backbones.create(name, 4, 16)
    _, logits = network(torch.rand(4, 3, 16, 16))
    functional.cross_entropy(logits, torch.arange(4)).backward()
    grads = {key: p.grad for key, p in network.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in grads.values())
    assert sum(bool(g.any()) for g in grads.values()) >= 0.9 * len(grads)


@pytest.mark.parametrize("activation", sorted(backbones.ACTIVATIONS))
def test_input_gradient_can_be_trained(activation):
    """Double backward: the L1 norm of the input gradient has gradients for the weights."""
    torch.manual_seed(0)
    network = backbones.create("resnet8", 3, 16, activation)
    x = torch.rand(4, 3, 16, 16, requires_grad=True)
    loss = functional.cross_entropy(network(x)[1], torch.tensor([0, 1, 2, 0]))
    (slope,) = torch.autograd.grad(loss, x, create_graph=True)
    slope.abs().sum().backward()
    grad = network.stem[0].weight.grad
    assert grad is not None and grad.isfinite().all() and grad.any()


@pytest.mark.parametrize("name", ["resnet8", "mobilenet_v2", "efficientnet_b2_published", "efficientnet_lite0"])
def test_the_graph_can_be_traced(name):
    """No branch depends on the data: what folds batch norms or rewrites layers can follow every network."""
    network = backbones.create(name, 3).eval()
    x = torch.rand(1, 3, 24, 32)
    with torch.no_grad():
        assert torch.equal(torch.fx.symbolic_trace(network)(x)[1], network(x)[1])


@pytest.mark.parametrize(("name", "activation"), [("resnet8", "softplus"), ("efficientnet_lite0", "native")])
def test_onnx_gives_the_same_logits(name, activation):
    torch.manual_seed(0)
    network = backbones.create(name, 5, 32, activation)
    with torch.no_grad():
        network(torch.rand(8, 3, 32, 32))  # moves the batch statistics
    classifier = backbones.Classifier(network).eval().requires_grad_(False)
    model = exporting.to_onnx(classifier, 32, export.OUTPUT)
    assert export.check_parity(classifier, model, torch.rand(3, 3, 32, 32)) < 1e-5
