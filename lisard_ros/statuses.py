"""One status of /diagnostics as plain values, for those who read what a node tells about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StatusView:
    """One status of /diagnostics of a node, without the node's name in front. level: 0 ok, 1 warning, 2 error."""

    name: str
    level: int
    message: str
    values: tuple[tuple[str, str], ...] = ()

    def value(self, key: str) -> str:
        """Return the value of `key`, '' without it."""
        return dict(self.values).get(key, "")


def read(status: Any) -> tuple[str, StatusView]:
    """Return the name of the node and its status, from a DiagnosticStatus of rclpy or of a recording."""
    node, _, name = status.name.partition(": ")
    level = status.level[0] if isinstance(status.level, bytes) else int(status.level)
    return node, StatusView(name, level, status.message, tuple((pair.key, pair.value) for pair in status.values))
