"""The commands of a documentation page: its fenced blocks, with the heading above each and the mark in front.

Standard library only: bench/newcomers.py pastes the blocks before any environment exists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

RUN = ("bash", "python")
# The marks that docs/tutorials/index.md explains to readers.
SET_UP, OWN_FILES = "To set up", "With your own files"
MARKS = (SET_UP, "On the Jetson", "On the vehicle", "With a sourced ROS 2", OWN_FILES)
# In front of blocks, so that a node, which runs until Ctrl-C, ends once it is active; the block fails if it never is.
ENDING_NODES = """perception_node() {
    env perception_node "$@" > ended_node.log 2>&1 &
    timeout 100 bash -c 'until grep -q "active: " ended_node.log; do sleep 0.1; done'
    kill -INT $! && wait $!
}
"""
_HEADING_OR_BLOCK = re.compile(
    r"^#+ (?P<heading>[^\n]+)$|(?P<before>[^\n]*)\n+```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
_MARK = re.compile(r"\*\*(" + "|".join(MARKS) + r")\*\*")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, as a reader pastes it.

    Attributes:
        language: bash or python.
        text: What stands between the fences.
        mark: Where it runs if not here; '' for one that runs here.
        heading: The nearest heading above.
    """

    language: str
    text: str
    mark: str
    heading: str


def blocks(page: Path) -> list[Block]:
    """All blocks of a page that are commands or Python, in their order."""
    found, heading = [], ""
    for match in _HEADING_OR_BLOCK.finditer(page.read_text(encoding="utf-8")):
        if match["heading"]:
            heading = match["heading"]
        elif match["language"] in RUN:
            mark = _MARK.match(match["before"].strip())
            found.append(Block(match["language"], match["text"], mark[1] if mark else "", heading))
        elif match["language"] != "text":
            raise ValueError(
                f"{page.name}: found a block of language '{match['language']}', expected bash, python or text"
            )
    return found
