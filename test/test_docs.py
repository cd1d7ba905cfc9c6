"""The documentation: links, anchors and recipe keys exist, commands need no PYTHONPATH, sentences are short."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import prose  # noqa: E402

PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("data/*.md"), *ROOT.glob("interfaces/**/README.md")]
)
CODE_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# What code, recipes and configuration name: docs/PAGE.md, with an anchor or without.
MENTION = re.compile(r"\bdocs/\w+\.md(?:#[\w-]+)?")
MOST_README_WORDS = 900
MOST_README_ROWS = 6


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: Counter[str] = Counter()
    names = set()
    for heading in re.findall(r"^#+ (.+)$", CODE_FENCE.sub("", page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return names


def broken(base: Path, link: str) -> bool:
    """Whether a relative link, from the folder BASE, leads to no file or to no heading of its page."""
    path, _, anchor = link.partition("#")
    target = base / path
    if not target.exists():
        return True
    return bool(anchor) and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8"))


def test_anchors_are_those_of_github() -> None:
    page = "# A `code` word, in %\n## Twice\n## Twice\n```\n# no heading\n```\n### See [a page](x.md)\n"
    assert anchors(page) == {"a-code-word-in-", "twice", "twice-1", "see-a-page"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = CODE_FENCE.sub("", page.read_text(encoding="utf-8"))
    links = [link for link in LINK.findall(text) if "://" not in link and not link.startswith("mailto:")]
    own = [link if not link.startswith("#") else page.name + link for link in links]
    assert [link for link in own if broken(page.parent, link)] == []


def test_every_page_that_code_and_recipes_name_exists() -> None:
    files = [
        path
        for folder in ("lisard_ros", "trainer", "engines", "demo", "bench", "scripts", "launch", "config", "docker")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".yaml", ".sh", ".xml", ".service") or path.name.startswith("Dockerfile")
    ]
    mentions = {
        (str(path.relative_to(ROOT)), mention)
        for path in [*files, ROOT / "package.xml", ROOT / "setup.py", ROOT / "Makefile"]
        for mention in MENTION.findall(path.read_text(encoding="utf-8"))
    }
    assert len(mentions) > 10
    assert [mention for mention in sorted(mentions) if broken(ROOT, mention[1])] == []


def test_no_command_of_readme_and_guides_sets_pythonpath() -> None:
    guides = prose.guides(ROOT)
    assert [page.name for page in guides if "PYTHONPATH" in page.read_text(encoding="utf-8")] == []


def test_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert prose.word_count(text) <= MOST_README_WORDS
    block = text.split("<!-- results:begin -->")[1].split("<!-- results:end -->")[0]
    rows = [line for line in block.splitlines() if line.startswith("|")]
    assert 1 <= len(rows) - 2 <= MOST_README_ROWS  # two lines are the head


def test_sentences_of_readme_and_guides_are_short() -> None:
    sentences = prose.read(ROOT, prose.guides(ROOT))
    assert prose.lengths([one for own in sentences.values() for one in own]).short_enough, "python3 scripts/prose.py"
    assert prose.lengths(sentences["README.md"]).short_enough


def leaves(recipe: Any, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every key of a recipe with its value, sections joined by dots."""
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def documented(task: str) -> dict[str, str]:
    """Key -> default, as the table of docs/recipes.md for TASK shows them."""
    text = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    table = text.split(f"<!-- keys: {task} -->")[1].split("<!-- end of keys -->")[0]
    keys = {}
    for line in table.strip().splitlines()[2:]:
        names, defaults = (cell.strip() for cell in line.split("|")[1:3])
        given = [name.strip(" `") for name in names.split(",")]
        values = [defaults] if len(given) == 1 else [value.strip() for value in defaults.split(",")]
        keys |= dict(zip(given, values if len(values) == len(given) else values * len(given), strict=True))
    return keys


def shown(value: object) -> str:
    """A default as the table writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    if isinstance(value, int | float):
        return f"{value:g}" if float(f"{value:g}") == value else str(value)
    return f"`{value}`" if value else "empty"


def test_every_recipe_key_is_documented_with_its_default() -> None:
    pytest.importorskip("torch")
    from lisard_trainer.recipes import Recipe
    from lisard_trainer.tasks.detection.recipe import DetectorRecipe

    keys = documented("classification")
    expected = {key: shown(value) for key, value in leaves(Recipe(name="x"))} | {"task": "`classification`"}
    assert {key: keys.get(key) for key in expected if key != "name"} == {
        k: v for k, v in expected.items() if k != "name"
    }
    assert keys.keys() == expected.keys()
    # The table of detectors has what differs from classifiers.
    own = documented("detection")
    detector = {key: shown(value) for key, value in leaves(DetectorRecipe(name="x"))}
    assert {key: own.get(key, expected.get(key)) for key in detector if key not in ("name", "task")} == {
        key: value for key, value in detector.items() if key not in ("name", "task")
    }
    assert own.keys() <= detector.keys()
