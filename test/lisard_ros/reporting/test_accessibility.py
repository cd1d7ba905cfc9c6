"""Reports and the page of `lisard watch` in headless Chromium under the rules of axe-core: nothing serious is found."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lisard_ros import cli
from lisard_ros.watch.board import Board
from lisard_ros.watch.recorded import WatchedRecording

ROOT = Path(__file__).resolve().parents[3]
DRIVE = ROOT / "data/road_drive/road_drive.mcap"
TOKEN = "0123456789abcdef"
SERIOUS = ("serious", "critical")
# Colours are judged in both schemes, and tables in a window that is too narrow for them.
VIEWS = ((1280, "light"), (1280, "dark"), (420, "light"))
RUN = "axe.run(document, {resultTypes: ['violations']}).then(done => done.violations)"


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core."""
    spec = importlib.util.find_spec("axe_core_python")
    if spec is None or spec.origin is None:
        pytest.skip("requirements/test.txt is not installed")
    return (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Callable[[], Any]:
    """Starts Chromium."""
    pytest.importorskip("aiohttp", reason="requirements/watch.txt is not installed")
    sys.path.insert(0, str(ROOT / "test/lisard_ros/watch"))
    try:
        from browser import CHROMIUM, browser
    finally:
        sys.path.remove(str(ROOT / "test/lisard_ros/watch"))
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    return browser


async def findings(page: Any, axe: str) -> list[str]:
    """What axe-core finds serious in the page that is open, in each view: the rule, what is wrong, and where."""
    found = []
    await page.evaluate(axe + "; true")
    for width, scheme in VIEWS:
        await page.size(width, 900)
        await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        for rule in await page.evaluate(RUN):
            if rule["impact"] in SERIOUS:
                places = [f"{node['html'][:150]} {node['failureSummary']}" for node in rule["nodes"][:3]]
                found.append(f"{width} {scheme}: {rule['id']}: {rule['help']}: {places}")
    return found


def findings_of_file(path: Path, browser: Callable[[], Any], axe: str) -> list[str]:
    """The findings of a report."""

    async def main() -> list[str]:
        async with browser() as page:
            await page.open(path.as_uri())
            await page.until("document.readyState === 'complete' && document.title !== ''")
            return await findings(page, axe)

    return asyncio.run(main())


def test_a_page_with_faults_has_findings(browser: Callable[[], Any], axe: str, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text(
        "<title>bad</title><img src='x.png'><p style='color: #ddd; background: #fff'>pale</p>"
    )
    found = " ".join(findings_of_file(tmp_path / "bad.html", browser, axe))
    assert "image-alt" in found and "color-contrast" in found


def test_the_page_of_a_replay(browser: Callable[[], Any], axe: str, tiny: Any, tmp_path: Path) -> None:
    page = tmp_path / "replay.html"
    words = ["replay", str(DRIVE), "--bundle", str(tiny.classifier().path), "--limit", "6", "--injections", "noise"]
    assert cli.main([*words, "--limits", "failed=0", "--html", str(page)]) == 0
    assert findings_of_file(page, browser, axe) == []


def test_the_page_of_a_self_test(browser: Callable[[], Any], axe: str, tmp_path: Path) -> None:
    words = ["attack", "run", "models/traffic_signs", "--suite", "clean,noise=0.1", "--count", "8"]
    assert cli.main([*words, "--report", str(tmp_path)]) == 0
    assert findings_of_file(tmp_path / "self_test.html", browser, axe) == []


def test_the_page_of_watch(browser: Callable[[], Any], axe: str) -> None:
    from lisard_ros.watch.server import WatchServer

    board = Board(str(DRIVE), can_act=False)
    source = WatchedRecording(board, DRIVE, 20.0)

    async def main() -> list[str]:
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        server = asyncio.create_task(WatchServer(board, None, TOKEN, "127.0.0.1").serve(0, port.set_result))
        async with browser() as page:
            await page.open(f"http://127.0.0.1:{await port}/?token={TOKEN}")
            await page.until("document.querySelectorAll('.camera').length === 1")
            found = await findings(page, axe)
        server.cancel()
        return found

    try:
        assert asyncio.run(main()) == []
    finally:
        source.close()
