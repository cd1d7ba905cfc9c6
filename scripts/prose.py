"""How long the sentences of the README and the guides are: `python3 scripts/prose.py [FILE ...] [--longest N]`.

Counts running text and items of lists. Code, tables, headings, images and blocks between `<!-- NAME: begin -->` and
`<!-- NAME: end -->` (or in a page that says it is generated) are left out. A link counts as its text, a code span
as one word.
Exit status: 0 the sentences are short enough, 1 they are not, 2 usage error. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_MEDIAN, MOST_P90 = 18, 32  # words
GUIDES = ("README.md", "docs/*.md", "docs/tutorials/*.md", "docs/explanation/*.md", "examples/*.md")
GENERATED_PAGE = re.compile(r"\bthis (page|file) is generated\b", re.IGNORECASE)
BEGIN, END = re.compile(r"<!--.*\b(?:begin|generated)\b.*-->"), re.compile(r"<!--.*\bend\b.*-->")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
FENCE = re.compile(r"\s*(```|~~~)")
ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+")
QUOTE = re.compile(r"^\s*>\s?")
CODE_SPAN = re.compile(r"(`+)(.+?)\1", re.DOTALL)
IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
LINK = re.compile(r"\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])")
TAG = re.compile(r"</?[a-zA-Z][^>]*>")
# A point after these ends no sentence, nor does one after a single capital letter (an initial).
ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|et al|vs|cf|etc|approx|Fig|Eq|Sec|No|resp)|\b[A-Z])\.$")
SENTENCE_END = re.compile(r"[.!?][)\"'*_]*(?=\s|$)")
WORD = re.compile(r"\S*\w\S*")
CODE_INDENT = 4
CODE_WORD = "code"  # stands for a code span


@dataclass(frozen=True)
class Sentence:
    """A sentence with the line it begins on (from 1) and its number of words."""

    file: str
    line: int
    words: int
    text: str


@dataclass(frozen=True)
class Lengths:
    """Words a sentence: how many sentences, the median, and the 90th percentile (nearest rank)."""

    sentences: int
    median: float
    p90: int

    @property
    def short_enough(self) -> bool:
        """Whether both limits hold."""
        return self.median <= MOST_MEDIAN and self.p90 <= MOST_P90


def lengths(sentences: Sequence[Sentence]) -> Lengths:
    """Median and 90th percentile; zeros without sentences."""
    words = sorted(one.words for one in sentences)
    if not words:
        return Lengths(0, 0, 0)
    return Lengths(len(words), statistics.median(words), words[-(-9 * len(words) // 10) - 1])


def sentences_of(text: str, file: str) -> list[Sentence]:
    """The sentences of a Markdown page."""
    if GENERATED_PAGE.search(text):
        return []
    return [one for block in _blocks(text) for one in _sentences(block, file)]


Block = list[tuple[int, str]]  # lines with their numbers


def _blocks(text: str) -> Iterator[Block]:
    """Paragraphs and items of lists, without what is no running text."""
    block: Block = []
    for number, line in _running_text(text):
        item = ITEM.match(line)
        if block and (item or not line):
            yield block
            block = []
        if line:
            block.append((number, line[item.end() :] if item else line))
    if block:
        yield block


def _running_text(text: str) -> Iterator[tuple[int, str]]:
    """All lines with their numbers; those that are no running text as empty ones."""
    blanked = COMMENT.sub(lambda found: found[0] if _marks(found[0]) else re.sub(r"[^\n]", " ", found[0]), text)
    fence, generated, before = "", False, ""
    indent = 0  # of the text of the list item that a line may belong to
    for number, line in enumerate(blanked.splitlines(), 1):
        opened = FENCE.match(line)
        line = QUOTE.sub("", line)
        shown = ""
        if fence or opened:
            fence = "" if fence and opened and opened[1] == fence else fence or (opened[1] if opened else "")
        elif BEGIN.search(line) or END.search(line):
            generated = not END.search(line)
        elif not (generated or line.lstrip().startswith(("|", "#")) or not WORD.search(line)):
            lead = len(line) - len(line.lstrip())
            if not before and lead < indent:
                indent = 0
            is_code = not before and lead >= indent + CODE_INDENT
            shown = "" if is_code else line
            item = ITEM.match(shown)
            indent = item.end() if item else indent
        elif line.startswith(("|", "#")):
            indent = 0
        before = shown
        yield number, shown


def _marks(comment: str) -> bool:
    return bool(BEGIN.search(comment) or END.search(comment))


def _sentences(block: Block, file: str) -> Iterator[Sentence]:
    """The sentences of one block, each with the line of its first word."""
    text = "\n".join(line for _, line in block)
    begin = 0
    for end in [*_ends(text), len(text)]:
        part = text[begin:end]
        words = len(WORD.findall(_plain(part)))
        if words:
            first = begin + len(part) - len(part.lstrip())
            yield Sentence(file, block[text.count("\n", 0, first)][0], words, " ".join(part.split()))
        begin = end


def _ends(text: str) -> Iterator[int]:
    """Where sentences end: after a point that belongs to no code, address or abbreviation."""
    hidden = text
    for pattern in (CODE_SPAN, LINK):
        hidden = pattern.sub(lambda found: re.sub(r"[.!?]", "_", found[0]), hidden)
    for found in SENTENCE_END.finditer(hidden):
        following = text[found.end() :].lstrip()
        if not ABBREVIATION.search(hidden[: found.start() + 1]) and not following[:1].islower():
            yield found.end()


def _plain(text: str) -> str:
    """The text as it is read."""
    return TAG.sub(" ", LINK.sub(r"\1", IMAGE.sub(" ", CODE_SPAN.sub(CODE_WORD, text))))


def word_count(text: str) -> int:
    """All words of a page, those of tables and code included."""
    return len(text.split())


def guides(root: Path) -> list[Path]:
    """README and guides of a checkout."""
    return [file for pattern in GUIDES for file in sorted(root.glob(pattern))]


def read(root: Path, files: Iterable[Path]) -> dict[str, list[Sentence]]:
    """File name from ROOT -> its sentences."""
    names = {file: file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file) for file in files}
    return {name: sentences_of(file.read_text(encoding="utf-8"), name) for file, name in names.items()}


def main(words: Sequence[str] | None = None) -> int:
    """Prints the lengths by file, and the longest sentences; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="Markdown files (default: README.md and the guides)")
    parser.add_argument("--longest", type=int, default=0, metavar="N", help="list the N longest sentences")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the lengths here")
    args = parser.parse_args(words)
    if args.longest < 0:
        parser.error(f"--longest: found {args.longest}, expected 0 or more")
    try:
        found = read(ROOT, [file.resolve() for file in args.files] or guides(ROOT))
    except (OSError, UnicodeDecodeError) as error:
        print(f"prose: error: {error}; give Markdown files", file=sys.stderr)
        return 2
    everything = [one for sentences in found.values() for one in sentences]
    by_file = {name: lengths(sentences) for name, sentences in found.items()} | {"all": lengths(everything)}
    print(f"{'file':<28} sentences  median  p90")
    for name, one in by_file.items():
        print(f"{name:<28} {one.sentences:9}  {one.median:6g}  {one.p90:3}{'' if one.short_enough else '  too long'}")
    for sentence in sorted(everything, key=lambda one: -one.words)[: args.longest]:
        print(f"{sentence.file}:{sentence.line}: {sentence.words} words: {sentence.text}")
    if args.json:
        content = {name: vars(one) for name, one in by_file.items()}
        args.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if by_file["all"].short_enough else 1


if __name__ == "__main__":
    sys.exit(main())
