"""scripts/prose.py: what a sentence of a page is, how long, and where it begins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import prose  # noqa: E402

PAGE = """# A heading is no sentence

One two three. Four
five `six seven.eight` nine! See [the guide](docs/guide.md), e.g. its
end.

- An item of four.
- Another item
  over two lines.

      code in a list

| a | table |
|---|---|

    lisard train RECIPE --data FOLDER

```python
print("no sentence. None.")
```

> A quoted sentence of six words.

<!-- results:begin -->
Generated words are left out.
<!-- results:end -->
Version 2.13 of J. Smith et al. 2019 counts.
![an image](image.png)
"""


def found(text: str) -> list[tuple[int, int, str]]:
    return [(one.line, one.words, one.text) for one in prose.sentences_of(text, "page.md")]


def test_sentences_of_a_page_have_lines_and_words():
    assert [(line, words) for line, words, _ in found(PAGE)[:-1]] == [
        (3, 3),
        (3, 4),  # a code span is one word
        (4, 6),  # `e.g.` ends no sentence, a link is its text
        (7, 4),
        (8, 5),
        (22, 6),
    ]


def test_generated_blocks_tables_code_and_images_are_left_out():
    text = " ".join(text for _, _, text in found(PAGE))
    for absent in ("heading", "table", "code in a list", "RECIPE", "print", "Generated", "results"):
        assert absent not in text
    assert found(PAGE)[-1][1:] == (9, "Version 2.13 of J. Smith et al. 2019 counts.")


def test_a_page_that_says_it_is_generated_has_no_sentences():
    assert found("Some words here.\n\nThis page is generated.\n") == []


def test_a_sign_of_comparison_begins_no_quotation():
    assert found('Install `"cuda>=12"` with pip.\n') == [(1, 4, 'Install `"cuda>=12"` with pip.')]


def test_median_and_p90_are_those_of_the_words():
    sentences = [prose.Sentence("page.md", 1, words, "") for words in range(1, 11)]
    assert prose.lengths(sentences) == prose.Lengths(10, 5.5, 9)
    assert prose.lengths([]) == prose.Lengths(0, 0, 0)


@pytest.mark.parametrize(("words", "status"), [(18, 0), (19, 1)])
def test_exit_status_says_whether_sentences_are_short(tmp_path, capsys, words, status):
    page = tmp_path / "page.md"
    page.write_text(" ".join(["word"] * words) + ".\n", encoding="utf-8")
    assert prose.main([str(page), "--longest", "1"]) == status
    assert f"page.md:1: {words} words: word" in capsys.readouterr().out


def test_a_missing_file_is_a_usage_error(tmp_path, capsys):
    assert prose.main([str(tmp_path / "absent.md")]) == 2
    assert "absent.md" in capsys.readouterr().err
