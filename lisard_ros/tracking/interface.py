"""What node and replay know of a tracker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lisard_ros.frames import Detection


@dataclass(frozen=True, slots=True)
class Tracked:
    """The boxes of one frame after tracking.

    reported: the reported boxes in their order, with the id of their track; '' for a box that is not part of one (yet).
    recovered: faint boxes that a track goes on with, with its id.
    """

    reported: tuple[Detection, ...]
    recovered: tuple[Detection, ...]


class Tracker(Protocol):
    """Follows the objects of one camera from frame to frame. An id is never given to two tracks."""

    def update(self, reported: Sequence[Detection], faint: Sequence[Detection], stamp_ns: int) -> Tracked:
        """Take the boxes of the next frame and return them with ids.

        Args:
            reported: The boxes of the answer.
            faint: Boxes whose score is too low for the answer.
            stamp_ns: Time of the frame in nanoseconds. Where it is before that of the last frame, tracks begin anew.
        """
