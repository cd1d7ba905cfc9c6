"""lisard_ros: perception for ROS 2 whose models resist adversarial perturbations, and which proves it on the vehicle.

This package is the runtime. Importing it needs neither ROS, nor torch, nor TensorRT; what it exports is loaded when it
is first used. docs/api.md lists what is public and stays:

    load       a bundle folder or .zip -> Model, which answers images
    attacks    attacks on any image model, NumPy or torch
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lisard_ros import attacks
    from lisard_ros.api import LabelledBox, Model, load
    from lisard_ros.errors import LisardError
    from lisard_ros.frames import Frame

__version__ = "0.1.0"
__all__ = ["Frame", "LabelledBox", "LisardError", "Model", "__version__", "attacks", "load"]

# Since 1.29 ONNX Runtime reports to its maker which models are loaded and on what machine, unless this is set before it
# is first imported. Who wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "Frame": "lisard_ros.frames",
    "LabelledBox": "lisard_ros.api",
    "LisardError": "lisard_ros.errors",
    "Model": "lisard_ros.api",
    "load": "lisard_ros.api",
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used (PEP 562), so that importing the package costs next to nothing."""
    if name == "attacks":
        return importlib.import_module("lisard_ros.attacks")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
