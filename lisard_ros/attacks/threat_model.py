"""What an attack assumes of an attacker, in the words of NIST AI 100-2 (2025), with the techniques of MITRE ATLAS.

The one source behind the registry, the reports and the table in SECURITY.md, which a test compares with it. Every
attack here is an evasion attack on a deployed model: the attacker changes what the camera shows and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lisard_ros.attacks.model import BoxLoss
from lisard_ros.bundle.manifest import Knowledge

NOTHING = "none"
EVASION = "AML.T0015"
PHYSICAL_ACCESS = "AML.T0041"  # to the scene, in place of the access to the model
# Access to the model, and how the image is crafted.
ATLAS: Mapping[Knowledge, tuple[str, str]] = {
    "white-box": ("AML.T0044", "AML.T0043.000"),
    "gray-box": ("AML.T0005", "AML.T0043.002"),
    "query": ("AML.T0040", "AML.T0043.001"),
}
TECHNIQUES: Mapping[str, str] = {
    "AML.T0005": "Create Proxy AI Model",
    "AML.T0015": "Evade AI Model",
    "AML.T0040": "AI Model Inference API Access",
    "AML.T0041": "Physical Environment Access",
    "AML.T0043.000": "White-Box Optimization",
    "AML.T0043.001": "Black-Box Optimization",
    "AML.T0043.002": "Black-Box Transfer",
    "AML.T0044": "Full AI Model Access",
}
ACCESS: Mapping[Knowledge, str] = {
    "white-box": "weights of the model, through gradients",
    "gray-box": "architecture and data, through gradients of a surrogate",
    "query": "scores that the running engine answers",
    "none": NOTHING,
}
PRINT = "a printed patch"
ANY_OTHER_CLASS = "integrity violation: any other class"
OBJECTIVES: Mapping[BoxLoss, str] = {
    "class": "integrity violation: objects lost or of another class",
    "location": "integrity violation: objects found elsewhere",
    "joint": "integrity violation: objects lost, moved or of another class",
    "vanish": "integrity violation: no object found",
    "fabricate": "integrity violation: objects found where there are none",
    "mislabel": "integrity violation: each object found as the next class",
}


@dataclass(frozen=True, slots=True)
class ThreatModel:
    """An attacker. objective: what is wanted; capability: what may be changed or asked; access: to what of the model.

    atlas: ids of MITRE ATLAS. All are `none` and empty of noise and corruptions, behind which there is nobody.
    """

    objective: str = NOTHING
    capability: str = NOTHING
    access: str = NOTHING
    atlas: tuple[str, ...] = ()


NOBODY = ThreatModel()


def pixels(eps_255: float) -> str:
    """Describe a change of each pixel by at most so many grey levels of 255 (Linf)."""
    return f"each pixel by at most {eps_255:g} of 255 grey levels"


def threat_model(
    knowledge: Knowledge, change: str, box_loss: BoxLoss | None = None, *, printed: bool = False
) -> ThreatModel:
    """Return the attacker of an attack.

    Args:
        knowledge: Of the model; `none`: nobody.
        change: What may be changed of the images, in words.
        box_loss: Of an attack on a detector; None: on a classifier.
        printed: What was made before is put where the camera looks, so that nobody needs access to the vehicle.
    """
    if knowledge == "none":
        return NOBODY
    access, crafting = ATLAS[knowledge]
    capability = f"testing data control: {change}" + ("; query access" if knowledge == "query" else "")
    objective = ANY_OTHER_CLASS if box_loss is None else OBJECTIVES[box_loss]
    atlas = (PHYSICAL_ACCESS if printed else access, crafting, EVASION)
    return ThreatModel(objective, capability, ACCESS[knowledge], atlas)
