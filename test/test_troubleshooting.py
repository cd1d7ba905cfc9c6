"""docs/troubleshooting.md has every message of the node, its launch files and `lisard doctor`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))
from messages import Message, errors, log_lines, sentences  # noqa: E402

PAGE = ROOT / "docs/troubleshooting.md"
# All that these show is for users of the node: every sentence counts.
OWN = (
    *(path for path in sorted((ROOT / "lisard_ros/node").glob("*.py")) if path.name != "parameter_docs.py"),
    *sorted((ROOT / "launch").glob("*.py")),
    ROOT / "lisard_ros/tools/running_system.py",
    ROOT / "lisard_ros/tools/system_observer.py",
    ROOT / "lisard_ros/tools/start.py",
    ROOT / "lisard_ros/commands/doctor.py",
)
# What the node uses: errors count, and warnings that /diagnostics shows.
USED = (
    *(ROOT / "lisard_ros" / f"{name}.py" for name in ("images", "naming", "decoding", "frames", "needs", "injection")),
    *(ROOT / "lisard_ros" / f"{name}.py" for name in ("cuda_driver", "tensorrt_api", "evaluation/self_test")),
    *(ROOT / "lisard_ros" / f"evaluation/{name}.py" for name in ("case_run", "live_images", "precision_choice")),
    *(ROOT / "lisard_ros" / f"tools/{name}.py" for name in ("ask", "live_frames", "playback")),
    *sorted((ROOT / "engines/lisard_engines/gradient").glob("*.py")),
    *(ROOT / "lisard_ros" / f"attacks/{name}.py" for name in ("store", "patch_store", "registry")),
    *(ROOT / "lisard_ros" / f"attacks/{name}.py" for name in ("gradient_file", "aims")),
    *(
        path
        for name in ("bundle", "backends", "inference", "injection_process", "tracking")
        for path in sorted((ROOT / "lisard_ros" / name).glob("*.py"))
    ),
)
WARNINGS = (ROOT / "lisard_ros/bundle/model_choice.py", ROOT / "lisard_ros/backends/engine_cache.py")
# Words that stand behind `expected` or inside a message above, and are handed over as arguments.
WITHIN = re.compile(
    r"true or false|a (list|value|number|YAML file|rosbag2 recording)\b.*|did you mean '\.\.\.'\?| \(.*\)|"
    r" in \[.*\]|; pip install |: pip install .*|; for .*| of a subscription to "
)
LONGEST_INSERT = 150


def page() -> str:
    """The page with single spaces and without the marks of code."""
    return " ".join(PAGE.read_text(encoding="utf-8").replace("`", "").split())


def documented(message: Message, text: str) -> bool:
    """Whether the fixed parts of a message stand in the page one after the other, with little between them."""
    parts = [" ".join(part.replace("`", "").split()) for part in message.parts]
    pattern = f".{{0,{LONGEST_INSERT}}}?".join(re.escape(part) for part in parts if re.search(r"\w", part))
    return re.search(pattern, text) is not None


def collected() -> list[Message]:
    """All messages, those without words of their own left out."""
    own = [
        m for path in OWN for kind in (sentences, errors, log_lines) for m in kind(path, str(path.relative_to(ROOT)))
    ]
    used = [m for path in USED for m in errors(path, str(path.relative_to(ROOT)))]
    warned = [m for path in WARNINGS for m in sentences(path, str(path.relative_to(ROOT)), within="warnings")]
    worded = [m for m in (*own, *used, *warned) if re.search(r"\w{2}", m.words.replace("...", ""))]
    return [m for m in worded if not WITHIN.fullmatch(m.words)]


def test_every_message_is_in_the_page() -> None:
    text = page()
    absent = [f"{message.place}: {message.words}" for message in collected() if not documented(message, text)]
    assert absent == [], "add them to docs/troubleshooting.md with cause and cure:\n" + "\n".join(absent)


def test_every_row_has_a_cause_and_a_cure() -> None:
    rows = [
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "---" not in line
    ]
    assert len(rows) > 80
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 3 and all(cells), row


@pytest.mark.parametrize(
    "words",
    [
        "no image on ... for ... s: ",
        "the self test broke: ...: ",
        "cannot ...: ",
        "TensorRT failed on a batch",
        " is not universal",
        "unknown class",
        "unknown launch argument '...': did you mean '...'? (--show-args lists all)",
        "; installed by force",
    ],
)
def test_messages_of_every_kind_are_collected(words: str) -> None:
    assert any(words in message.words for message in collected())
