"""Weights into a network, all of them or none: what is missing, left over or of another shape is listed by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from lisard_ros.errors import DataError

SHOWN = 6
OTHERS_WEIGHTS = "the checkpoint was changed, or written by another version: train again"


def load(network: nn.Module, given: Mapping[str, Tensor], source: str, cure: str, optional: Iterable[str] = ()) -> None:
    """Puts tensors into a network; DataError lists what does not fit. optional: names that may be missing."""
    wanted, allowed = network.state_dict(), set(optional)
    missing = [key for key in wanted if key not in given and key not in allowed]
    unexpected = [key for key in given if key not in wanted]
    misshapen = [key for key in wanted if key in given and wanted[key].shape != given[key].shape]
    odd = [key for key in wanted if key in given and not _is_usable(given[key], wanted[key])]
    infinite = [key for key in wanted if key in given and key not in odd and not given[key].isfinite().all()]
    if missing or unexpected or misshapen or odd or infinite:
        shapes = [f"{key} {list(given[key].shape)} for {list(wanted[key].shape)}" for key in misshapen]
        parts = [
            listed("missing", missing),
            listed("unexpected", unexpected),
            listed("wrong shape:", shapes),
            listed("wrong kind:", [f"{key} ({_kind(given[key])})" for key in odd]),
            listed("not finite:", infinite),
        ]
        raise DataError(
            source,
            found="; ".join(part for part in parts if part),
            expected=f"the {len(wanted)} weights of this network",
            cure=cure,
        )
    network.load_state_dict({**wanted, **given}, strict=True)


def _is_usable(given: Tensor, wanted: Tensor) -> bool:
    """Plain numbers of the same sort; a copy into the network would drop imaginary parts and take codes for values."""
    plain = given.layout == torch.strided and not given.is_quantized and not given.is_meta
    return plain and given.is_floating_point() == wanted.is_floating_point() and not given.is_complex()


def _kind(given: Tensor) -> str:
    state = "quantised " if given.is_quantized else "without values " if given.is_meta else ""
    sparse = "" if given.layout == torch.strided else "sparse "
    return f"{state}{sparse}{str(given.dtype).removeprefix('torch.')}"


def listed(kind: str, names: list[str]) -> str:
    """`2 missing a, b`, the first of many; empty without names."""
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {kind} {', '.join(names[:SHOWN])}{more}"
