"""Former names of recipe keys and values. Recipes, checkpoints and cards of bundles that have them are read.

What is written (`--print`, checkpoints, cards) has the names of today alone.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Mapping
from typing import Any

from lisard_ros.errors import UsageError

# Former key -> key of today, dotted. The name of a section is replaced before its keys are looked up.
KEYS = {
    "start": "init",
    "init.without": "init.exclude",
    "select": "checkpoint_selection",
    "overlay": "detail_mixing",
    "detail_mixing.least_share": "detail_mixing.min_share",
    "gradient.reach_255": "gradient.target_eps_255",
    "optimiser": "optimizer",
    "optimizer.batch": "optimizer.batch_size",
    "optimizer.peak_rate": "optimizer.max_lr",
    "optimizer.warm_up_share": "optimizer.warmup_fraction",
    "optimizer.second_cycle": "optimizer.restart_epochs",
    "optimizer.official_warm_up": "optimizer.official_warmup_epochs",
    "optimizer.decay_one_dim": "optimizer.decay_norm_and_bias",
    "augment.plain_share": "augment.no_mosaic_share",
    "augment.least_visible": "augment.min_visible",
    "augment.least_px": "augment.min_px",
    "loss.focus": "loss.focal_gamma",
    "balance.memory": "balance.ema_decay",
}
# Key of today -> former value -> value of today.
VALUES = {"gradient.form": {"linear": "logit_extrapolation"}}


def former_names(section: str, names: Collection[str]) -> dict[str, str]:
    """Former name -> name of today, for the keys of one section.

    Args:
        section: Dotted name of today; empty: the recipe itself.
        names: The keys that the section has. A task that has no such key, or uses the former name, is left alone.
    """
    pairs = [(old.rpartition("."), new.rpartition(".")[2]) for old, new in KEYS.items()]
    return {name: new for (where, _, name), new in pairs if where == section and new in names and name not in names}


def with_current_names(given: Mapping[Any, Any], kind: type, section: str = "") -> dict[Any, Any]:
    """A mapping of recipe keys with the names of today, in the same order. Unknown keys stay.

    Args:
        given: Parsed YAML or JSON.
        kind: Type of the recipe, or of the section.
        section: Dotted name of today of that section; empty: the recipe itself.

    Raises:
        UsageError: A key stands under its former and under its present name.
    """
    hints = typing.get_type_hints(kind)
    former = former_names(section, hints)
    found: dict[Any, Any] = {}
    for key, value in given.items():
        name = former.get(key, key)
        dotted = f"{section}.{name}" if section else str(name)
        if name in found:
            old = next(old for old, new in former.items() if new == name and old in given)
            raise UsageError(
                f"recipe key {dotted}",
                found=f"{old} too, its former name",
                expected="the key once",
                cure=f"take {old} out",
            )
        found[name] = _current_value(value, hints.get(name), dotted)
    return found


def _current_value(value: Any, hint: Any, key: str) -> Any:
    if isinstance(value, Mapping) and isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return with_current_names(value, hint, key)
    return VALUES.get(key, {}).get(value, value) if isinstance(value, str) else value
