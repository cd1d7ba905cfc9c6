"""Is the model as it is deployed still the model that was evaluated?"""

from __future__ import annotations

from .verify import (
    REFERENCES,
    EngineVerdict,
    ModelUnderTest,
    Reference,
    backend_of,
    engine_of,
    model_of,
    record,
    reference_of,
    verify,
)

__all__ = [
    "REFERENCES",
    "EngineVerdict",
    "ModelUnderTest",
    "Reference",
    "backend_of",
    "engine_of",
    "model_of",
    "record",
    "reference_of",
    "verify",
]
