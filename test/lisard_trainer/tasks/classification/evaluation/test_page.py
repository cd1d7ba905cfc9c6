"""The page of a classifier's report: complete, self-contained, well-formed, and honest about what does not count."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from lisard_ros.commands.output import to_json
from lisard_trainer.evaluation.page import html, markdown
from lisard_trainer.tasks.classification.evaluation import page, samples, tables


@pytest.fixture(scope="module")
def found(evaluate):
    wanted = [
        "gray_fgsm@*",
        "white_fgsm",
        "white_pgd10",
        "sweep_pgd50_eps1",
        "sweep_pgd50_eps32",
        "noise_64",
        "corruption_f*",
        "certified_*",
    ]
    return evaluate(suite="standard", surrogates=("s2", "s3"), only=wanted)


@pytest.fixture(scope="module")
def written(found):
    galleries = samples.attacked(found.context, found.measured)
    return html(page.page_of(found.report, galleries, samples.corrupted(found.context, found.measured)))


def test_the_page_is_one_well_formed_file(written, balanced):
    parsed = balanced(written)
    assert parsed.links and all(link.startswith("data:image/png;base64,") for link in parsed.links)
    assert not re.search(r"https?://(?!www\.w3\.org)", written) and "<script" not in written


def test_the_page_shows_every_part(written, found):
    for heading in (
        "Flags",
        "Accuracy in %",
        "Gray-box, by surrogate",
        "Over budget, noise and radius",
        "Common corruptions",
        "Images",
        "What the figures rest on",
        "Glossary",
    ):
        assert f"<h2>{heading}" in written
    assert written.index("<h2>Flags") < written.index("<h2>Accuracy") and written.count('class="chart"') == 3
    shown = written.replace("&#39;", "'").replace("<wbr>", "")
    assert all(flag.text in shown for flag in found.report.flags)


def test_a_title_of_ones_own(found, balanced):
    named = replace(found.report, title="Signs & <attacks>")
    assert markdown(page.page_of(named)).startswith("# Signs & <attacks>\n")
    text = html(page.page_of(named))
    assert "<h1>Signs &amp; &lt;attacks&gt;</h1>" in text and balanced(text)
    assert found.report.title == "Robustness of tiny"


def test_conditions_that_do_not_count_are_in_brackets(found):
    grid = tables.gray_box(found.report)[0]
    weak = [cell for _, cells in grid.rows for cell in cells if cell.weak]
    assert weak and all(f"({cell.text})" in markdown(page.page_of(found.report)) for cell in weak)


def test_json_and_markdown_tell_the_same(found):
    report = json.loads(to_json(found.report))
    text = markdown(page.page_of(found.report))
    line = next(x for x in report["lines"] if (x["model"], x["condition"]) == ("tiny", "white_pgd10"))
    assert report["schema"] == 3 and f"{100 * line['accuracy']['share']:.1f} [" in text
    assert {a["knowledge"] for a in report["attacks"]} == {"gray-box", "white-box"}
    for attack in report["attacks"]:
        assert {"eps_255", "steps", "restarts", "seed", "surrogate", "draws", "queries"} <= set(attack)
    assert len(report["commit"]) >= 7 and report["device"] and report["data_sha256"]


def test_one_white_box_attack_is_not_called_every_one(evaluate):
    tiles = page.tiles(evaluate(only=("white_*",)).report)
    assert [(tile.name, tile.note) for tile in tiles if "white" in tile.name] == [("white-box", "PGD-10")]
