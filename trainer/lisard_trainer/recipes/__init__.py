"""Recipes: everything that decides a training, typed, frozen, read from YAML."""

from __future__ import annotations

from .schema import (
    MOST_SEED,
    Adversarial,
    Arithmetic,
    Consistency,
    Gradient,
    Init,
    Loss,
    Optimizer,
    Precision,
    Recipe,
    Similarity,
    as_json,
    as_yaml,
    check_identity,
    from_mapping,
    read,
)

__all__ = [
    "MOST_SEED",
    "Adversarial",
    "Arithmetic",
    "Consistency",
    "Gradient",
    "Init",
    "Loss",
    "Optimizer",
    "Precision",
    "Recipe",
    "Similarity",
    "as_json",
    "as_yaml",
    "check_identity",
    "from_mapping",
    "read",
]
