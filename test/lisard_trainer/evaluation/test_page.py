"""Pages and tables that every task fills: complete in Markdown, well-formed in HTML, honest in their colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lisard_trainer.evaluation.page import (
    CaptionedImage,
    Gallery,
    ImageCard,
    ReportPage,
    Section,
    html,
    markdown,
    wrapped,
)
from lisard_trainer.evaluation.tables import Cell, Table, holds, mean, texts

FIRST = Table(
    "First", "What it shows.", ("model", "share", "holds"), (("a_b", (Cell("9.0 [1.0, 9.5]", 0.09), holds(False))),)
)
SECOND = Table("Second", "", ("model", "n"), (("<b>", texts(3)),))
URI = "data:image/png;base64,AAAA"
CARD = ImageCard((CaptionedImage(URI, "clean"), CaptionedImage(URI, "changed")), "before", "after", False)
PAGE = ReportPage(
    title="A & B",
    lead="3 images",
    notes=("A note.",),
    command="lisard evaluate X",
    facts=(("Suite", "quick"), ("Commit", "abc")),
    passed=False,
    sections=(
        Section("Part", "Of the page alone.", (FIRST,), folded=(SECOND,), galleries=(Gallery("Some", (CARD,)),)),
        Section("Nothing here"),
    ),
)


def test_markdown_has_every_table_and_no_section_of_the_page() -> None:
    assert markdown(PAGE) == (
        "# A & B\n\n3 images (suite quick; commit abc).\n\nA note.\n\n"
        "Made with `lisard evaluate X`. This page is generated.\n\n"
        "## First\n\nWhat it shows.\n\n"
        "| model | share | holds |\n| --- | --- | --- |\n| a_b | 9.0 [1.0, 9.5] | NO |\n\n"
        "## Second\n\n| model | n |\n| --- | --- |\n| <b> | 3 |\n"
    )


def test_a_bar_in_a_name_ends_no_cell_of_markdown() -> None:
    page = replace(PAGE, sections=(Section("Part", tables=(replace(SECOND, rows=(("a|b", texts(3)),)),)),))
    assert markdown(page).endswith("| a\\|b | 3 |\n")


def test_the_page_is_well_formed_and_escaped(balanced) -> None:
    text = html(PAGE)
    assert balanced(text).links == [URI, URI]
    assert "<h1>A &amp; B</h1>" in text and "&lt;b&gt;" in text and "a_<wbr>b" in text
    assert "a check failed" in text and "Of the page alone." in text and "Nothing here" not in text
    assert '<b class="bad-ink">after</b>' in text and '<span class="badge bad">NO</span>' in text


def test_images_badges_and_cells_of_every_colour_pass_the_rules_of_axe_core(accessibility: Any, tmp_path: Path) -> None:
    """The interval of an attack that does not count was too pale on the colour of its cell."""
    cells = [Cell("9.0 [1.0, 9.5]", share, weak) for share in (0.0, 0.5, 1.0) for weak in (False, True)]
    colours = Table("Third", "", ("model", *"abcdef", "g"), (("m", (*cells, Cell("not run"))),))
    page = replace(PAGE, sections=(*PAGE.sections, Section("Colours", "", (colours,))))
    (tmp_path / "page.html").write_text(html(page), encoding="utf-8")
    assert accessibility.findings_of_files(tmp_path / "page.html") == {}


def test_a_mean_is_over_what_was_measured() -> None:
    assert mean([Cell("x", 0.5), Cell("not run"), Cell("y", 0.25)]) == Cell("37.5", 0.375)
    assert mean([Cell("not run")]) == Cell("not run")


def test_long_names_can_be_broken_and_stay_escaped():
    assert wrapped("no_<entry>") == "no_<wbr>&lt;entry&gt;"


def test_heat_runs_from_red_to_green_and_is_faint_where_nothing_counts():
    red, green, weak = (Cell("", share, faint).heat for share, faint in ((0.0, False), (1.0, False), (1.0, True)))
    assert "190, 50, 40" in red and "35, 135, 85" in green and "0.12" in weak and Cell("not run").heat == ""
