"""Pages in headless Chromium under the rules of axe-core; the fixture `accessibility` gives this module to tests."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser, browser

SERIOUS = ("serious", "critical")
# Colours are judged in both schemes, and tables in a window that is too narrow for them.
VIEWS = ((1280, "light"), (1280, "dark"), (420, "light"))
RUN = "axe.run(document, {resultTypes: ['violations']}).then(done => done.violations)"
WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth + 1"
SETTLED = "!document.getAnimations().some(one => one instanceof CSSTransition)"
LOADED = "document.readyState === 'complete' && document.title !== ''"


def need_chromium() -> None:
    """Skip the test where Chromium or axe-core is not installed."""
    if importlib.util.find_spec("axe_core_python") is None:
        pytest.skip("requirements/test.txt is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")


def axe_source() -> str:
    """The source of axe-core."""
    spec = importlib.util.find_spec("axe_core_python")
    assert spec is not None and spec.origin is not None
    return (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")


async def findings(page: Browser) -> list[str]:
    """What axe-core finds serious in the page that is open, in each view: the rule, what is wrong, and where.

    A page that as a whole is wider than its window is a finding as well.
    """
    found = []
    await page.evaluate(axe_source() + "; true")
    for width, scheme in VIEWS:
        await page.size(width, 900)
        await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        await page.until(SETTLED)
        if await page.evaluate(WIDER):
            found.append(f"{width}: the page is wider than the window")
        for rule in await page.evaluate(RUN):
            if rule["impact"] in SERIOUS:
                places = [f"{node['html'][:150]} {node['failureSummary']}" for node in rule["nodes"][:3]]
                found.append(f"{width} {scheme}: {rule['id']}: {rule['help']}: {places}")
    return found


def findings_of_files(*paths: Path) -> dict[str, list[str]]:
    """What axe-core finds serious in the pages of these files; pages without findings are left out."""

    async def main() -> dict[str, list[str]]:
        found: dict[str, Any] = {}
        async with browser() as page:
            for path in paths:
                await page.open(path.as_uri())
                await page.until(f"document.URL === {path.as_uri()!r} && {LOADED}")
                found[path.name] = await findings(page)
        return {name: wrong for name, wrong in found.items() if wrong}

    return asyncio.run(main())
