"""Networks that the trainer knows, by name. Each takes images [N,3,H,W] in [0,1] and gives (embedding, logits).

`create` makes one, `build` rebuilds that of a bundle, `start_from_imagenet` loads ImageNet weights if there are any.
"""

from __future__ import annotations

from .activations import ACTIVATIONS, NATIVE
from .base import PROJECTOR, Backbone, Classifier, Outputs, Spec
from .imagenet import IMAGENET, start_from_imagenet
from .registry import BACKBONES, Entry, arguments, build, create

__all__ = [
    "ACTIVATIONS",
    "BACKBONES",
    "IMAGENET",
    "NATIVE",
    "PROJECTOR",
    "Backbone",
    "Classifier",
    "Entry",
    "Outputs",
    "Spec",
    "arguments",
    "build",
    "create",
    "start_from_imagenet",
]
