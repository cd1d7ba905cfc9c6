"""Networks that the trainer knows, by name. Each takes images [N,3,H,W] in [0,1] and gives (embedding, logits).

`create` makes one, `build` rebuilds that of a bundle, `start_from_imagenet` loads ImageNet weights if there are any.
"""

from .activations import ACTIVATIONS, NATIVE
from .base import PROJECTOR, Backbone, BackboneSpec, Classifier, Outputs
from .imagenet import IMAGENET, start_from_imagenet
from .registry import BACKBONES, RegisteredNetwork, arguments, build, create

__all__ = [
    "ACTIVATIONS", "BACKBONES", "IMAGENET", "NATIVE", "PROJECTOR", "Backbone", "BackboneSpec", "Classifier", "Outputs",
    "RegisteredNetwork", "arguments", "build", "create", "start_from_imagenet",
]  # fmt: skip
