"""Which frames are too old to be answered (parameter `max_age_ms`). Pure."""

from __future__ import annotations


class StaleFrameFilter:
    """Decides whether a frame is too old, and survives time that jumps back.

    After a backward jump the stamps of the frames and the node's clock may disagree for a moment (a looping bag: /clock
    comes before or after the first frame). So the limit is lifted until one frame is within it again, at most for
    `GRACE_S` of a steady clock.
    """

    GRACE_S = 1.0

    def __init__(self) -> None:
        """Start with the limit in force."""
        self._last_stamp_ns: int | None = None
        self._lifted_until_s: float | None = None

    def saw(self, stamp_ns: int, now_steady_s: float) -> bool:
        """Note the stamp of an arriving frame; return True when time jumped back (an equal stamp is no jump)."""
        jumped = self._last_stamp_ns is not None and stamp_ns < self._last_stamp_ns
        self._last_stamp_ns = stamp_ns
        if jumped:
            self.lift(now_steady_s)
        return jumped

    def lift(self, now_steady_s: float) -> None:
        """Lift the limit for a moment, because a clock jumped back."""
        self._lifted_until_s = now_steady_s + self.GRACE_S

    def too_old(self, age_ms: float, max_age_ms: float, now_steady_s: float) -> bool:
        """Say whether a frame of `age_ms` is over the limit; `max_age_ms` 0 means no limit."""
        if max_age_ms <= 0.0:
            return False
        if self._lifted_until_s is not None and (age_ms <= max_age_ms or now_steady_s >= self._lifted_until_s):
            self._lifted_until_s = None
        return self._lifted_until_s is None and age_ms > max_age_ms
