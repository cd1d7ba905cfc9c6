"""Attacks on image models, written once over the array API: NumPy and torch run the same code.

An attack is a frozen set of settings that is called with a model, images and a criterion:

    >>> adversarial = PGD(eps=8 / 255, steps=10)(model, images, Untargeted(labels))

Images are [N, C, H, W] in [0, 1]; budgets are Linf in the same unit; random numbers come from a generator that the
caller may pass, else from one of seed 0. The model is `from_torch(network)`, `from_bundle(path)` or any object with the
method `evaluate` of `AttackModel`. In the examples of this package, `model` is such a model, and `images` and `labels`
are four images and their classes.

    attacks    FGSM, PGD, MIFGSM (MI, NI, DI, TI), APGD, Square, AttackSuite; for transfer take MIFGSM
    criteria   Untargeted(labels, loss), Targeted(targets, loss, labels); for detectors BoxCriterion
    models     from_torch, from_bundle (without torch), Ensemble, EOT with GaussianNoise

What is exported here is public and stays (docs/api.md). The modules below it are used by the trainer and the node and
may change: each attack is also a function that takes its settings, such as `apgd.apgd(model, x, criterion, APGD(),
random)`, which returns losses and costs; patches, universal and stored perturbations lie beside them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lisard_ros.attacks.apgd import APGD
from lisard_ros.attacks.attack_suite import AttackSuite, SuiteResult
from lisard_ros.attacks.attacked import AttackResult
from lisard_ros.attacks.ensemble import EOT, Ensemble, GaussianNoise
from lisard_ros.attacks.gradient import FGSM, PGD
from lisard_ros.attacks.mifgsm import MIFGSM, GradientSmoothing, InputDiversity
from lisard_ros.attacks.model import (
    AttackModel,
    BoxCriterion,
    Criterion,
    ModelAnswer,
    Targeted,
    Untargeted,
)
from lisard_ros.attacks.square import Square
from lisard_ros.attacks.torch_model import TorchAttackModel, from_torch

if TYPE_CHECKING:
    from lisard_ros.attacks.onnx_model import OnnxAttackModel, from_bundle

__all__ = [
    "APGD",
    "EOT",
    "FGSM",
    "MIFGSM",
    "PGD",
    "AttackModel",
    "AttackResult",
    "AttackSuite",
    "BoxCriterion",
    "Criterion",
    "Ensemble",
    "GaussianNoise",
    "GradientSmoothing",
    "InputDiversity",
    "ModelAnswer",
    "OnnxAttackModel",
    "Square",
    "SuiteResult",
    "Targeted",
    "TorchAttackModel",
    "Untargeted",
    "from_bundle",
    "from_torch",
]

_OF_BUNDLES = ("OnnxAttackModel", "from_bundle")  # they bring ONNX Runtime, which attacks on other models do without


def __getattr__(name: str) -> object:
    """Load what attacks bundles when it is first used (PEP 562)."""
    if name not in _OF_BUNDLES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module("lisard_ros.attacks.onnx_model"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
