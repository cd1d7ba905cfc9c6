"""Pages of the built site in Chromium: nothing serious under the rules of axe-core. `make docs` runs this."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The home page, and one page of each kind.
PAGES = (
    "index.html",
    "tutorials/laptop.html",
    "node.html",
    "reference/parameters.html",
    "reference/commands.html",
    "reference/api.html",
    "results/shipped_models.html",
)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_serious_is_found(name: str, accessibility: Any) -> None:
    if "LISARD_SITE" not in os.environ:
        pytest.skip("`make docs` looks at the site that it has built")
    page = ROOT / os.environ["LISARD_SITE"] / name
    assert accessibility.findings_of_files(page) == {}
