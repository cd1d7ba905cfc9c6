"""The page and the tables: complete, self-contained, well-formed, and honest about what does not count."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from lisard_ros.commands.output import to_json
from lisard_trainer.evaluation import charts
from lisard_trainer.tasks.classification.evaluation import markdown, page, samples, tables
from lisard_trainer.tasks.classification.evaluation.tables import Cell

VOID = {"meta", "img", "br", "wbr"}


class Balanced(HTMLParser):
    """Fails on a tag that is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links = [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


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
def html(found):
    galleries = samples.attacked(found.context, found.measured)
    return page.render(found.report, galleries, samples.corrupted(found.context, found.measured))


def test_the_page_is_one_well_formed_file(html):
    parsed = Balanced(html)
    assert parsed.links and all(link.startswith("data:image/png;base64,") for link in parsed.links)
    assert not re.search(r"https?://(?!www\.w3\.org)", html) and "<script" not in html


def test_the_page_shows_every_part(html, found):
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
        assert f"<h2>{heading}" in html
    assert html.index("<h2>Flags") < html.index("<h2>Accuracy") and html.count('class="chart"') == 3
    assert all(flag.text in html.replace("&#39;", "'") for flag in found.report.flags)


def test_a_title_of_ones_own(found):
    named = replace(found.report, title="Signs & <attacks>")
    assert markdown.page(named).startswith("# Signs & <attacks>\n")
    html = page.render(named, (), None)
    assert "<h1>Signs &amp; &lt;attacks&gt;</h1>" in html and Balanced(html)
    assert found.report.title == "Robustness of tiny"


def test_long_names_can_be_broken_and_stay_escaped():
    assert page.wrapped("no_<entry>") == "no_<wbr>&lt;entry&gt;"


def test_columns_that_do_not_count_are_in_brackets(found):
    grid = tables.gray_box(found.report)[0]
    weak = [cell for _, cells in grid.rows for cell in cells if cell.weak]
    assert weak and all(f"({cell.text})" in markdown.page(found.report) for cell in weak)


def test_json_and_markdown_tell_the_same(found):
    report = json.loads(to_json(found.report))
    text = markdown.page(found.report)
    line = next(x for x in report["lines"] if (x["model"], x["condition"]) == ("lisard", "white_pgd10"))
    assert report["schema"] == 2 and f"{100 * line['accuracy']['share']:.1f} [" in text
    assert {a["knowledge"] for a in report["attacks"]} == {"gray-box", "white-box"}
    for attack in report["attacks"]:
        assert {"eps_255", "steps", "restarts", "seed", "surrogate", "draws", "queries"} <= set(attack)
    assert len(report["commit"]) >= 7 and report["device"] and report["data_sha256"]


def test_heat_runs_from_red_to_green_and_is_faint_where_nothing_counts():
    red, green, weak = (page.heat(Cell("", share, faint)) for share, faint in ((0.0, False), (1.0, False), (1.0, True)))
    assert "190, 50, 40" in red and "35, 135, 85" in green and "0.12" in weak and page.heat(Cell("not run")) == ""


def test_a_curve_stays_within_its_drawing():
    points = tuple(charts.Point(at, share, share, share) for at, share in ((0.0, 1.0), (1.0, 0.0)))
    drawing = charts.curves("a & b", "eps", [charts.Tick(0.5, "8")], [charts.Curve("m<1>", points)])
    places = [float(v) for v in re.findall(r'c[xy]="([\d.]+)"', drawing)]
    assert places == [charts.LEFT, charts.TOP, charts.WIDTH - charts.RIGHT, charts.HEIGHT - charts.BOTTOM]
    assert "m&lt;1&gt;" in drawing and "a &amp; b" in drawing


def test_one_white_box_attack_is_not_called_every_one(evaluate):
    tiles = page.tiles(evaluate(only=("white_*",)).report)
    assert [(tile.name, tile.note) for tile in tiles if "white" in tile.name] == [("white-box", "PGD-10")]
