"""Recipes: everything that decides a training, typed, frozen, read from YAML."""

from .schema import MOST_SEED, Arithmetic, BaseRecipe, Init, Optimizer, Precision, Recipe, from_mapping, read

__all__ = [
    "MOST_SEED", "Arithmetic", "BaseRecipe", "Init", "Optimizer", "Precision", "Recipe", "from_mapping", "read",
]  # fmt: skip
