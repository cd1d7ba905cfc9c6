"""Build the documentation site: `make docs`, or `python3 scripts/in_env.py python scripts/docs_site.py`.

Gathers the pages in out/site/pages, builds out/site/html with Zensical in strict mode (mkdocs.yml), and checks what was
built: every link leads to a page and a heading, and no page loads anything from the network. Exit status: 0 done,
1 something is wrong with the pages, 2 usage error.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import machine
import reference_pages
import tool_environment

ROOT = machine.ROOT
PLACE = ROOT / "out/site"
PAGES, HTML = PLACE / "pages", PLACE / "html"
# The checkout's path of a page -> its path in the site; pages of docs/ keep theirs.
OTHER_PAGES = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "data/README.md": "project/data.md",
    "examples/README.md": "examples.md",
}
# What a link to these of the checkout leads to in the site.
STANDS_FOR = {"README.md": "index.md", "docs/results": "results/index.md", "examples": "examples.md"}
# GitHub draws these; the site shows the drawing, so that no page needs a library for it (CONTRIBUTING.md, Site).
DRAWINGS = {"ARCHITECTURE.md": "docs/images/architecture.svg"}
FENCE = re.compile(r"^([ ]*)(```|~~~)[^\n]*\n.*?^\1\2[ ]*$", re.DOTALL | re.MULTILINE)
MERMAID = re.compile(r"^```mermaid\n.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FILE_NAME = re.compile(r"[\w/]+\.md")
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)


class SiteError(Exception):
    """Pages that cannot be built; the text says which, and why."""


def main() -> int:
    """Gather, build and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gather", action="store_true", help="gather the pages only")
    options = parser.parse_args()
    began = time.monotonic()
    try:
        count = gather(PAGES)
        if options.gather:
            return 0
        build()
        wrong = [*problems(HTML)]
    except SiteError as error:
        print(f"docs: error: {error}", file=sys.stderr)
        return 1
    for line in wrong:
        print(f"docs: {line}", file=sys.stderr)
    if not wrong:
        index = (HTML / "index.html").relative_to(ROOT)
        print(f"docs: {count} pages in {time.monotonic() - began:.0f} s; open {index}")
        print(f"docs: the search needs a server: python3 -m http.server -d {HTML.relative_to(ROOT)}")
    return 1 if wrong else 0


# --- pages ------------------------------------------------------------------------------------------------------------


def sources() -> dict[str, str]:
    """The checkout's path of each page that is written by hand -> its path in the site."""
    own = {path.relative_to(ROOT).as_posix(): path.relative_to(ROOT / "docs").as_posix() for path in docs("*.md")}
    return own | {source: target for source, target in OTHER_PAGES.items() if (ROOT / source).is_file()}


def docs(pattern: str) -> list[Path]:
    """Files below docs/ by name."""
    return sorted((ROOT / "docs").rglob(pattern))


def gather(folder: Path) -> int:
    """Write all pages of the site and the files that they link to into FOLDER; the number of pages.

    Raises:
        SiteError: A link leads to no file of the checkout, or out of it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("*.md", "*.json", "*.csv"))
    pages = sources()
    for source, target in pages.items():
        text, linked = for_the_site(source, pages)
        write(folder / target, text)
        for file, copy in linked.items():
            (folder / copy).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, folder / copy)
    write(folder / "results/index.md", results_index())
    generated = reference_pages.pages()
    for name, text in generated.items():
        write(folder / "reference" / name, text)
    return len(pages) + 1 + len(generated)


def write(path: Path, text: str) -> None:
    """Write a page, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def for_the_site(source: str, pages: dict[str, str]) -> tuple[str, dict[str, str]]:
    """A page of the checkout with links that fit the site, and the files to copy: path in the checkout -> the site."""
    text = (ROOT / source).read_text(encoding="utf-8")
    here = PurePosixPath(pages[source]).parent
    linked: dict[str, str] = {}

    def relink(match: re.Match[str]) -> str:
        sign, shown, link = match.groups()
        if "://" in link or link.startswith(("#", "mailto:")):
            return match[0]
        path, hash_sign, anchor = link.partition("#")
        target = os.path.normpath(PurePosixPath(source).parent / path)
        place = pages.get(target) or STANDS_FOR.get(target)
        if place is None:
            if not (ROOT / target).is_file():
                raise SiteError(f"{source}: found a link to {link}, expected a file of the checkout; correct the link")
            place = file_place(target)
            linked[target] = place
        if target in pages and FILE_NAME.fullmatch(shown):  # the file's name says little to who reads the site
            shown = title_of(ROOT / target)
        return f"{sign}[{shown}]({os.path.relpath(place, here)}{hash_sign}{anchor})"

    text = outside_fences(text, lambda part: LINK.sub(relink, part))
    if source in DRAWINGS:
        drawing = os.path.relpath(file_place(DRAWINGS[source]), here)
        text = MERMAID.sub(f"[![The parts and what passes between them]({drawing}){{.drawing}}]({drawing})", text)
    return text, linked


def file_place(target: str) -> str:
    """Where a file lies that is not a page: images of docs/ keep their place."""
    is_image = target.startswith("docs/") and not target.endswith((".json", ".csv"))
    return target.removeprefix("docs/") if is_image else f"files/{target}"


def outside_fences(text: str, change: Callable[[str], str]) -> str:
    """TEXT with CHANGE applied outside fenced code; fences of list items are indented as Markdown wants."""
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[end : fence.start()]), deeper(fence)]
        end = fence.end()
    return "".join([*parts, change(text[end:])])


def deeper(fence: re.Match[str]) -> str:
    """A fence in a list item, indented by two on GitHub, with the four that the site's Markdown needs."""
    return re.sub(r"^", " " * (4 - len(fence[1])), fence[0], flags=re.MULTILINE) if fence[1] else fence[0]


def results_index() -> str:
    """The list of the pages with results, in the order of the navigation."""
    lines = [
        "# Results",
        "",
        "Every figure comes from a JSON file under `docs/results`; the pages are generated from them.",
        "",
    ]
    for path in docs("*.md"):
        if path.parent.name == "results":
            lines.append(f"- [{title_of(path)}]({path.name})")
    return "\n".join(lines) + "\n"


def title_of(page: Path) -> str:
    """The first heading of a page."""
    title = TITLE.search(page.read_text(encoding="utf-8"))
    return title[1] if title else page.stem


# --- building and checking --------------------------------------------------------------------------------------------


def build() -> None:
    """Run the site generator; SiteError when it warns or fails."""
    tools = tool_environment.commands("docs.txt", ROOT / ".venv-docs")
    shutil.rmtree(HTML, ignore_errors=True)
    command = [str(tools / "zensical"), "build", "--strict", "--clean", "--config-file", str(ROOT / "mkdocs.yml")]
    if subprocess.run(command, cwd=ROOT, env=tool_environment.own_variables(), check=False).returncode:
        raise SiteError("the site generator stopped; see above")


@dataclass
class HtmlPage:
    """What matters of a built page: addresses that it links to or loads, and the ids that it has."""

    links: list[str]
    loaded: list[str]
    ids: set[str]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = HtmlPage([], [], set())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect addresses and ids."""
        values = {name: value or "" for name, value in attrs}
        self.page.ids |= {values[name] for name in ("id", "name") if name in values}
        if "src" in values:
            self.page.loaded.append(values["src"])
        if "href" in values and tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.page.loaded.append(values["href"])
        elif "href" in values and tag == "a":
            self.page.links.append(values["href"])


def problems(folder: Path) -> Iterator[str]:
    """Whatever is wrong with the built pages, one line for each."""
    pages = {path.resolve(): read_html(path) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(folder.resolve())
        if name.name == "404.html":  # its links are those of the server's root
            continue
        for address in page.loaded:
            if urlsplit(address).netloc:
                yield f"{name}: found {address} loaded from the network, expected a file of the site"
        for address in [*page.links, *page.loaded]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{name}: found a link to {address}, expected a file of the site"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{name}: found a link to {address}, expected a heading of that name"
    for sheet in sorted(folder.rglob("*.css")):
        for address in re.findall(r"url\(\s*['\"]?((?:https?:)?//[^'\")]+)", sheet.read_text(encoding="utf-8")):
            yield f"{sheet.relative_to(folder)}: found {address}, expected a file of the site"


def read_html(path: Path) -> HtmlPage:
    """Links, loaded files and ids of a built page."""
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


if __name__ == "__main__":
    sys.exit(main())
