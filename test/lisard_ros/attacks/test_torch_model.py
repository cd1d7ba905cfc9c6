"""The public way to attack a torch network: NumPy and torch alike, the network left as it was, bad input refused."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lisard_ros import attacks
from lisard_ros.errors import AttackError

ROOT = Path(__file__).resolve().parents[3]
EPS = 8 / 255
LABELS = np.array([0, 1, 2, 3, 4, 0])
EVERY: dict[str, Callable[..., Any]] = {
    "fgsm": attacks.FGSM(EPS),
    "pgd": attacks.PGD(EPS, steps=3),
    "mi": attacks.MIFGSM(EPS, steps=3),
    "ni": attacks.MIFGSM(EPS, steps=3, nesterov=True),
    "di": attacks.MIFGSM(EPS, steps=3, diversity=attacks.InputDiversity(1.0, 0.5)),
    "ti": attacks.MIFGSM(EPS, steps=3, smoothing=attacks.GradientSmoothing(2)),
    "apgd": attacks.APGD(EPS, steps=5),
    "square": attacks.Square(EPS, queries=20),
    "suite": attacks.AttackSuite(EPS, steps=4, queries=10),
}


@pytest.fixture
def net() -> nn.Module:
    """A small network in training mode, with batch norm, dropout and gradients of its own."""
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(4 * 8 * 8, 5),
    )
    made(torch.rand(2, 3, 8, 8)).sum().backward()
    return made


@pytest.fixture
def images() -> np.ndarray:
    """Six images [6, 3, 8, 8] in [0, 1]."""
    return np.random.default_rng(1).random((6, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("name", EVERY)
def test_numpy_and_torch_give_the_same_attack(net: nn.Module, images: np.ndarray, name: str) -> None:
    model, before = attacks.from_torch(net), images.copy()
    made = EVERY[name](model, images, attacks.Untargeted(LABELS))
    other = EVERY[name](model, torch.from_numpy(images), attacks.Untargeted(torch.from_numpy(LABELS)))
    assert isinstance(made, np.ndarray) and made.dtype == np.float32 and made.shape == images.shape
    assert isinstance(other, torch.Tensor) and np.array_equal(made, other.numpy())
    assert np.array_equal(images, before), "the caller's images stay"
    assert np.abs(made - images).max() <= EPS + 1e-6 and made.min() >= 0 and made.max() <= 1
    assert not np.array_equal(made, images)


@pytest.mark.parametrize("name", EVERY)
def test_the_network_is_left_as_it_was(net: nn.Module, images: np.ndarray, name: str) -> None:
    state, grads = copy.deepcopy(net.state_dict()), [p.grad.clone() for p in net.parameters() if p.grad is not None]
    strides = [p.stride() for p in net.parameters()]
    EVERY[name](attacks.from_torch(net), images, attacks.Untargeted(LABELS))
    assert net.training and all(module.training for module in net.modules())
    assert all(p.requires_grad for p in net.parameters()) and strides == [p.stride() for p in net.parameters()]
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    left = [p.grad for p in net.parameters() if p.grad is not None]
    assert len(left) == len(grads) and all(torch.equal(a, b) for a, b in zip(left, grads, strict=True))


def test_the_answer_is_that_of_the_network_in_eval_mode(net: nn.Module, images: np.ndarray) -> None:
    answer = attacks.from_torch(net).evaluate(images, attacks.Untargeted(LABELS))
    with torch.no_grad():
        logits = copy.deepcopy(net).eval()(torch.from_numpy(images))
    expected = nn.functional.cross_entropy(logits, torch.from_numpy(LABELS), reduction="none")
    assert np.allclose(answer.loss, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert np.allclose(answer.scores, logits.softmax(1).numpy(), rtol=1e-5, atol=1e-6)
    assert all(isinstance(part, np.ndarray) for part in (answer.loss, answer.scores, answer.gradient))


def test_double_images_keep_their_kind(net: nn.Module, images: np.ndarray) -> None:
    made = attacks.PGD(EPS, steps=2)(attacks.from_torch(net), images.astype(np.float64), attacks.Untargeted(LABELS))
    assert made.dtype == np.float64
    double = attacks.from_torch(copy.deepcopy(net).double())
    assert attacks.FGSM(EPS)(double, images, attacks.Untargeted(LABELS)).dtype == np.float32


def test_attacks_run_where_gradients_are_off(net: nn.Module, images: np.ndarray) -> None:
    attack, criterion = attacks.PGD(EPS, steps=2), attacks.Untargeted(LABELS)
    expected = attack(attacks.from_torch(net), images, criterion)
    with torch.no_grad():
        assert np.array_equal(attack(attacks.from_torch(net), images, criterion), expected)


def test_targets_and_random_sources(net: nn.Module, images: np.ndarray) -> None:
    model, aim = attacks.from_torch(net), attacks.Targeted([1] * 6)
    pgd = attacks.PGD(EPS, steps=5)
    made = [pgd(model, images, aim), pgd(model, images, aim), pgd(model, images, aim, np.random.default_rng(1))]
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])
    clean, attacked = (model.evaluate(x, aim, gradient=False).loss.mean() for x in (images, made[0]))
    assert attacked > clean + 1e-3, "the loss of a target is minus its cross entropy"
    with pytest.raises(AttackError, match="an attack suite has no target: found Targeted"):
        EVERY["suite"](model, images, aim)


def spoilt(change: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
    """A change of a copy."""
    return lambda x: change(x.copy())


def with_value(value: float) -> Callable[[np.ndarray], Any]:
    """One pixel of another value."""

    def change(x: np.ndarray) -> np.ndarray:
        x[2, 1, 3, 3] = value
        return x

    return spoilt(change)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (with_value(1.01), "out of range: found .* to 1.01, expected 0 to 1; divide 8-bit"),
        (with_value(-0.01), "out of range: found -0.01"),
        (with_value(float("nan")), "out of range: found nan"),
        (lambda x: x * 255, "out of range"),
        (
            lambda x: (x * 255).astype(np.uint8),
            "not floating-point numbers: found .*uint8.*; divide 8-bit images by 255",
        ),
        (lambda x: x[0], r"a batch of images: found shape \(3, 8, 8\), expected an array or tensor \[N, C, H, W\]"),
    ],
    ids=["above", "below", "nan", "255", "uint8", "one image"],
)
def test_what_is_no_image_in_0_to_1_is_refused(
    net: nn.Module, images: np.ndarray, library: str, name: str, change: Any, text: str
) -> None:
    bad = change(images)
    with pytest.raises(AttackError, match=text):
        EVERY[name](
            attacks.from_torch(net), bad if library == "numpy" else torch.from_numpy(bad), attacks.Untargeted(LABELS)
        )


def test_lists_and_scores_are_refused(net: nn.Module, images: np.ndarray) -> None:
    model = attacks.from_torch(net)
    with pytest.raises(AttackError, match="a batch of images: found list"):
        attacks.PGD()(model, images.tolist(), attacks.Untargeted(LABELS))
    with pytest.raises(AttackError, match="the labels of a criterion are not classes: found float64"):
        attacks.Untargeted(np.eye(3))
    with pytest.raises(AttackError, match="the targets of a criterion are not classes: found float32"):
        attacks.Targeted(torch.rand(3))
    with pytest.raises(AttackError, match="one class for each image"):
        attacks.PGD()(model, images, attacks.Untargeted(LABELS[:3]))
    with pytest.raises(AttackError, match="a class that the network does not have: found classes 0 to 9"):
        attacks.PGD()(model, images, attacks.Untargeted([0, 9, 0, 0, 0, 0]))
    boxes = attacks.BoxCriterion(torch.zeros(6, 1, 4), torch.zeros(6, 1, dtype=torch.long))
    assert isinstance(boxes.boxes_xyxy_px, np.ndarray) and boxes.labels.dtype == np.int64
    with pytest.raises(AttackError, match="a box criterion for a classifier"):
        attacks.PGD()(model, images, boxes)


class TwoOutputs(nn.Module):
    """Gives more than logits."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """A dictionary, as detectors give."""
        return {"logits": x.flatten(1)}


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda: TwoOutputs(), "does not give logits: found dict"),
        (lambda: nn.Conv2d(3, 5, 3), r"does not give logits: found shape \(6, 5, 6, 6\)"),
        (lambda: len, "not a torch network: found builtin_function_or_method"),
    ],
)
def test_what_is_no_classifier_is_refused(images: np.ndarray, made: Any, text: str) -> None:
    with pytest.raises(AttackError, match=text):
        attacks.FGSM()(attacks.from_torch(made()), images, attacks.Untargeted(LABELS))


def test_a_model_of_ones_own_is_attacked_without_torch() -> None:
    """Any object with `evaluate` will do, and then torch is not even imported."""
    code = """
import sys
import numpy as np
from lisard_ros import attacks

class Bright:
    def evaluate(self, x, criterion, transform=None, *, gradient=True):
        light = x.mean((1, 2, 3))
        return attacks.ModelAnswer(light, np.stack([1 - light, light], 1), np.full_like(x, 1 / x[0].size))

x = np.full((2, 3, 4, 4), 0.5, np.float32)
for attack in (attacks.FGSM(0.02), attacks.PGD(0.02), attacks.APGD(0.02), attacks.MIFGSM(0.02)):
    assert np.allclose(attack(Bright(), x, attacks.Untargeted([0, 0])), 0.52), attack
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
