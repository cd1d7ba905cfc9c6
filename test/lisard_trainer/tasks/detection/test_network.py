"""The network: sizes of its output, where boxes lie, the rebuilt network, what it refuses."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from lisard_ros.bundle.manifest import Architecture
from lisard_ros.errors import BundleError, UsageError
from lisard_trainer import pytorch_model
from lisard_trainer.tasks.detection import network


def test_one_row_for_each_position(tiny):
    for height, width in ((64, 64), (32, 96)):
        parts = tiny(torch.rand(2, 3, height, width)), tiny.forward_parts(torch.rand(2, 3, height, width))
        positions = height * width * (1 / 64 + 1 / 256 + 1 / 1024)
        assert parts[0].shape == (2, positions, 5 + 3) == parts[1].output.shape
        assert [m.shape[2:] for m in parts[1].maps] == network.level_sizes(width, height)
        assert parts[1].class_features.shape == (2, positions, 16) == parts[1].box_features.shape


def test_boxes_of_zeros_are_one_stride_wide_around_their_positions(places):
    centres, strides = places
    boxes = network.decode(torch.zeros(1, len(centres), 4), network.level_sizes(64, 64))[0]
    assert torch.allclose((boxes[:, :2] + boxes[:, 2:]) / 2, centres)
    assert torch.allclose(boxes[:, 2:] - boxes[:, :2], strides[:, None].expand(-1, 2))
    assert centres[0].tolist() == [4, 4] and centres[1].tolist() == [12, 4] and centres[-1].tolist() == [48, 48]


def test_decoding_moves_and_scales_in_strides_and_never_overflows():
    raw = torch.zeros(1, 84, 4)
    raw[0, 0] = torch.tensor([1.0, -0.5, torch.log(torch.tensor(3.0)), 1e9])
    box = network.decode(raw, network.level_sizes(64, 64))[0, 0]
    assert box[:3:2].tolist() == pytest.approx([12 - 12, 12 + 12]) and torch.isfinite(box).all()


def test_boxes_begin_four_strides_wide(tiny, places):
    boxes = tiny.eval()(torch.rand(1, 3, 64, 64))[0, :, :4]
    width = (boxes[:, 2] - boxes[:, 0]) / places[1]
    assert 2 < width.median() < 8


def test_scores_begin_low(tiny):
    output = tiny.eval()(torch.rand(1, 3, 64, 64))
    assert output[..., 4:].sigmoid().max() < 0.05


def test_the_default_costs_what_a_vehicle_can_pay():
    from torch.utils.flop_counter import FlopCounterMode

    detector = network.create(network.DetectorSpec("resnet18q", 4)).eval()
    with FlopCounterMode(display=False) as counter:
        detector(torch.zeros(1, 3, 320, 320))
    assert 2e9 < counter.get_total_flops() < 3.2e9
    weights = sum(p.numel() * (2 if p.ndim > 1 else 4) for p in detector.parameters())
    onnx = sum(p.numel() * 4 for p in detector.parameters())
    assert weights + onnx < 18e6  # a bundle holds both in 20 MB: ONNX in 32 bit, the PyTorch weights in 16


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18q"])
def test_backbones_with_a_stage_at_every_stride(name):
    expected = (2, 4, 6) if name == "efficientnet_lite0" else (1, 2, 3)
    assert network.create(network.DetectorSpec(name, 2, 64, 64)).stages == expected


def test_a_backbone_for_small_images_is_refused():
    with pytest.raises(UsageError, match=r"resnet14w with strides \[1, 2, 4\].*use resnet18q"):
        network.create(network.DetectorSpec("resnet14w", 2))


def test_the_rebuilt_network_is_the_same(tiny):
    tiny.eval()
    built = pytorch_model.build(Architecture(name=network.NAME, arguments=dataclasses.asdict(tiny.spec)))
    built.load_state_dict(tiny.state_dict())
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(built(x), tiny(x)) and built.spec.activation == "relu"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"classes": 3}, "expected backbone"),
        ({"backbone": "resnet10q", "classes": "3"}, "found '3', expected int"),
        ({"backbone": "resnet10q", "classes": 3, "nek": 8}, "did you mean 'neck'"),
        ({"backbone": "resnet11", "classes": 3}, "unknown network"),
    ],
)
def test_arguments_that_make_no_network(given, words):
    with pytest.raises(BundleError, match=words):
        pytorch_model.build(Architecture(name=network.NAME, arguments=given))


def test_a_classifier_is_built_as_before():
    assert pytorch_model.build(Architecture(name="resnet8", arguments={"classes": 4}))(
        torch.rand(1, 3, 32, 32)
    ).shape == (1, 4)
