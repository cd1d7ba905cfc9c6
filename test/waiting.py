"""Waits for what another process or thread does: for conditions, never for a number of seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait_until(condition: Callable[[], Any], what: str, budget_s: float = 60.0) -> Any:
    """Return the first true value of `condition`; AssertionError says what did not happen in time."""
    deadline_s = time.monotonic() + budget_s
    while time.monotonic() < deadline_s:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"within {budget_s:.0f} s: {what}")
