"""Ids of objects that stay the same from frame to frame, for each camera: `Detection.id`.

This file has the names alone, so that launch files can read them without NumPy; `stage` is what node and replay use.
"""

from __future__ import annotations

NONE, BYTETRACK = "none", "bytetrack"
TRACKERS = (NONE, BYTETRACK)
