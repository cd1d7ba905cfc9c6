"""Tasks by name: each folder of lisard_trainer.tasks, and the entry points of the group lisard_ros.tasks.

A task is imported when it is asked for, so that lower layers can look one up without knowing it.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from importlib.metadata import entry_points
from typing import Any

PACKAGE, GROUP = "lisard_trainer.tasks", "lisard_ros.tasks"


def names() -> tuple[str, ...]:
    """Names that a recipe's key `task` can have, in alphabetical order."""
    own = {module.name for module in pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__) if module.ispkg}
    return tuple(sorted(own | {entry.name for entry in entry_points(group=GROUP)}))


@functools.cache
def find(name: str) -> Any:
    """The tasks.base.Task of this name; KeyError when there is none.

    It is the constant TASK of the module `task` in the task's folder, or what its entry point names.
    """
    for entry in entry_points(group=GROUP, name=name):
        return entry.load()
    if name not in names():
        raise KeyError(name)
    return importlib.import_module(f"{PACKAGE}.{name}.task").TASK


def of(recipe: Any) -> Any:
    """The tasks.base.Task of a recipe."""
    return find(recipe.task)
