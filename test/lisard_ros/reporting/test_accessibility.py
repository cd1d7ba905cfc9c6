"""Reports and the page of `lisard watch` in headless Chromium under the rules of axe-core: nothing serious is found."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from lisard_ros import cli
from lisard_ros.watch.board import Board
from lisard_ros.watch.recorded import WatchedRecording

ROOT = Path(__file__).resolve().parents[3]
DRIVE = ROOT / "data/road_drive/road_drive.mcap"
TOKEN = "0123456789abcdef"


def test_a_page_with_faults_has_findings(accessibility: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<title>bad</title><img src='x.png'><p style='color: #ddd; background: #fff'>pale</p>")
    found = " ".join(accessibility.findings_of_files(bad)["bad.html"])
    assert "image-alt" in found and "color-contrast" in found


def test_the_page_of_a_replay(accessibility: Any, tiny: Any, tmp_path: Path) -> None:
    page = tmp_path / "replay.html"
    words = ["replay", str(DRIVE), "--bundle", str(tiny.classifier().path), "--limit", "6", "--injections", "noise"]
    assert cli.main([*words, "--limits", "failed=0", "--html", str(page)]) == 0
    assert accessibility.findings_of_files(page) == {}


def test_the_page_of_a_self_test(accessibility: Any, tmp_path: Path) -> None:
    words = ["attack", "run", "models/traffic_signs", "--suite", "clean,noise=0.1", "--count", "8"]
    assert cli.main([*words, "--report", str(tmp_path)]) == 0
    assert accessibility.findings_of_files(tmp_path / "self_test.html") == {}


def test_the_page_of_watch(accessibility: Any) -> None:
    from lisard_ros.watch.server import WatchServer

    board = Board(str(DRIVE), can_act=False)
    source = WatchedRecording(board, DRIVE, 20.0)

    async def main() -> list[str]:
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        server = asyncio.create_task(WatchServer(board, None, TOKEN, "127.0.0.1").serve(0, port.set_result))
        async with accessibility.browser() as page:
            await page.open(f"http://127.0.0.1:{await port}/?token={TOKEN}")
            await page.until("document.querySelectorAll('.camera').length === 1")
            found: list[str] = await accessibility.findings(page)
        server.cancel()
        return found

    try:
        assert asyncio.run(main()) == []
    finally:
        source.close()
