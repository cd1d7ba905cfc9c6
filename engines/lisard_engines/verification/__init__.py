"""Is the model as it is deployed still the model that was evaluated?"""

from __future__ import annotations

from .verify import (
    REFERENCES,
    EngineVerdict,
    Reference,
    Subject,
    engine_of,
    model_of,
    record,
    reference_of,
    subject_of,
    verify,
)

__all__ = [
    "REFERENCES",
    "EngineVerdict",
    "Reference",
    "Subject",
    "engine_of",
    "model_of",
    "record",
    "reference_of",
    "subject_of",
    "verify",
]
