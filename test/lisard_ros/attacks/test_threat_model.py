"""The attackers: SECURITY.md has the same table, and every technique has its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lisard_ros.attacks.threat_model import ATLAS, NOBODY, OBJECTIVES, PRINT, TECHNIQUES, pixels, threat_model

ROOT = Path(__file__).resolve().parents[3]
TECHNIQUE = re.compile(r"AML\.T\d{4}(?:\.\d{3})?")


def security_rows() -> list[list[str]]:
    """The cells of the table of attacks in SECURITY.md."""
    section = (ROOT / "SECURITY.md").read_text(encoding="utf-8").split("## Attacks on the answers")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_security_md_has_the_table_of_the_code() -> None:
    rows = security_rows()
    by_knowledge = {row[1].partition(" ")[0]: set(TECHNIQUE.findall(" ".join(row))) for row in rows}
    for knowledge in ATLAS:
        assert by_knowledge[knowledge] == set(threat_model(knowledge, "").atlas), knowledge
    assert by_knowledge["none"] == set(NOBODY.atlas)
    printed = {id_ for k in ("white-box", "gray-box") for id_ in threat_model(k, PRINT, printed=True).atlas}  # type: ignore[arg-type]
    assert by_knowledge["as"] == printed
    named = re.findall(rf"({TECHNIQUE.pattern}) ([A-Z][\w -]+\w)", "\n".join(" | ".join(row) for row in rows))
    assert dict(named) == {id_: name for id_, name in TECHNIQUES.items()}


def test_an_attacker_is_stated_in_full() -> None:
    query = threat_model("query", pixels(4))
    assert query.objective == "integrity violation: any other class" and query.access.startswith("scores")
    assert query.capability == "testing data control: each pixel by at most 4 of 255 grey levels; query access"
    patch = threat_model("gray-box", PRINT, "joint", printed=True)
    assert "printed patch" in patch.capability and patch.atlas[0] == "AML.T0041"
    assert threat_model("none", pixels(16)) == NOBODY


@pytest.mark.parametrize("loss", OBJECTIVES)
def test_every_loss_at_a_detector_has_its_own_words(loss: str) -> None:
    assert [threat_model("white-box", pixels(8), one).objective for one in OBJECTIVES].count(OBJECTIVES[loss]) == 1  # type: ignore[index]
