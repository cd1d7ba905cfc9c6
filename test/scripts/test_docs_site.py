"""`make docs` without its build: the pages that are gathered, navigation, links, and the checks of what is built."""

from __future__ import annotations

import html
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NEEDS_TORCH = "the reference pages show every recipe"


class _Loader(yaml.SafeLoader):
    """YAML whose Python tags, which only the site generator resolves, are taken for nothing."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


@pytest.fixture(scope="module")
def docs_site() -> Any:
    """The script, which imports others that lie beside it."""
    pytest.importorskip("torch", reason=NEEDS_TORCH)
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        return importlib.import_module("docs_site")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def pages(docs_site: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages of the site."""
    folder = tmp_path_factory.mktemp("site") / "pages"
    assert docs_site.gather(folder) > 70
    return folder


def in_navigation(entries: list[Any]) -> Iterator[str]:
    """The pages that a navigation lists."""
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from in_navigation(value) if isinstance(value, list) else [value]


def test_the_navigation_has_every_page_once(pages: Path) -> None:
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)  # noqa: S506  a SafeLoader
    listed = list(in_navigation(config["nav"]))
    there = {path.relative_to(pages).as_posix() for path in pages.rglob("*.md")}
    assert set(listed) == there, "mkdocs.yml: a new page has its place in `nav`"
    assert len(listed) == len(set(listed))


def test_every_link_leads_to_a_file_of_the_site(pages: Path, docs_site: Any) -> None:
    count = 0
    for page in pages.rglob("*.md"):
        text = docs_site.FENCE.sub("", page.read_text(encoding="utf-8"))
        for _, _, link in docs_site.LINK.findall(text):
            if "://" not in link and not link.startswith(("#", "mailto:")):
                count += 1
                assert (page.parent / link.partition("#")[0]).is_file(), (page, link)
    assert count > 300


def test_the_reference_has_what_the_code_has(pages: Path) -> None:
    from lisard_ros import attacks
    from lisard_ros.node.parameters import TABLE

    def text(name: str) -> str:
        return (pages / "reference" / name).read_text(encoding="utf-8")

    assert all(f"`{spec.name}`" in text("parameters.md") for spec in TABLE)
    assert "| `~/self_test` | `diagnostic_msgs/srv/SelfTest` |" in text("topics.md")
    assert "| `~/CAMERA/detections` | `vision_msgs/msg/Detection2DArray` |" in text("topics.md")
    assert all(
        f"## lisard {name}\n" in text("commands.md") for name in ("predict", "replay", "bag record", "attack make")
    )
    assert all(f"### {path.stem}\n" in text("recipes.md") for path in (ROOT / "trainer/recipes").glob("*.yaml"))
    assert "`optimizer.epochs`" in text("recipes.md")
    assert all(f".{name}\n" in text("api.md") for name in attacks.__all__)


@pytest.mark.parametrize(
    ("page", "drawing"),
    [("README.md", "docs/images/flow.svg"), ("ARCHITECTURE.md", "docs/images/architecture.svg")],
)
def test_a_drawing_shows_what_the_page_draws(page: str, drawing: str) -> None:
    """The site has no library for Mermaid: who changes a diagram draws it again (CONTRIBUTING.md)."""
    (diagram,) = re.findall(r"```mermaid\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    labels = {label.strip('"') for label in re.findall(r"[(\[|]+\"?([^()\[\]|\"]+)\"?[)\]|]+", diagram)}
    shown = " ".join(re.sub(r"<[^>]+>", " ", html.unescape((ROOT / drawing).read_text(encoding="utf-8"))).split())
    assert len(labels) > 10
    assert {label for label in labels if label not in shown} == set()


def test_a_link_to_nothing_is_named(docs_site: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("[a](b.md)", encoding="utf-8")
    monkeypatch.setattr(docs_site, "ROOT", tmp_path)
    with pytest.raises(docs_site.SiteError, match=r"page\.md: found a link to b\.md, expected a file of the checkout"):
        docs_site.for_the_site("page.md", {"page.md": "page.md"})


def test_a_link_that_names_a_file_shows_the_title_of_the_page(docs_site: Any) -> None:
    text, copied = docs_site.for_the_site("docs/launch.md", docs_site.sources())
    assert "[The node `perception`](node.md#installation)" in text and copied == {}
    assert "\n    ```\n" in text  # the fence in a list item


BUILT = """<html><head><link rel="stylesheet" href="a.css">{head}</head>
<body><h1 id="top">x</h1><a href="other.html#there">x</a>{body}</body></html>"""


def built(folder: Path, head: str = "", body: str = "") -> Path:
    """A built site of two pages."""
    (folder / "a.css").write_text("p { background: url(data:image/png;base64,AA) }", encoding="utf-8")
    (folder / "other.html").write_text("<p id='there'>x</p>", encoding="utf-8")
    (folder / "index.html").write_text(BUILT.format(head=head, body=body), encoding="utf-8")
    return folder


def test_a_sound_site_has_no_problems(docs_site: Any, tmp_path: Path) -> None:
    assert list(docs_site.problems(built(tmp_path, body='<a href="https://example.org">x</a>'))) == []


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"body": '<a href="gone.html">x</a>'}, "found a link to gone.html, expected a file"),
        ({"body": '<a href="other.html#gone">x</a>'}, "found a link to other.html#gone, expected a heading"),
        ({"body": '<img src="https://example.org/a.png">'}, "loaded from the network"),
        ({"head": '<script src="//example.org/a.js"></script>'}, "loaded from the network"),
        ({"head": '<link rel="stylesheet" href="https://example.org/a.css">'}, "loaded from the network"),
    ],
)
def test_what_is_wrong_with_a_built_page_is_named(
    docs_site: Any, tmp_path: Path, part: dict[str, str], expected: str
) -> None:
    (line,) = docs_site.problems(built(tmp_path, **part))
    assert line.startswith("index.html: ") and expected in line


def test_a_style_sheet_that_loads_from_the_network_is_named(docs_site: Any, tmp_path: Path) -> None:
    built(tmp_path)
    (tmp_path / "b.css").write_text("@font-face { src: url('https://example.org/a.woff2') }", encoding="utf-8")
    assert list(docs_site.problems(tmp_path)) == [
        "b.css: found https://example.org/a.woff2, expected a file of the site"
    ]
