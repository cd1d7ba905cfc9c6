"""How large the page of a replay is, and how long a browser takes to open it: 200 frames of a detector, five attacks.

Run: python bench/replay_page.py [--page FILE] [--screenshot FILE] [--save]. It needs Chromium, and aiohttp of
requirements/watch.txt.

The recording repeats the images of data/road_signs with their boxes, each round a little darker. `lisard replay --html`
replays it as users do; `--page` keeps that page, or opens one that is there already. Chromium opens it as a file, as
often as --rounds says, freshly started each time. A time is that from the begin of navigation until one frame is drawn
after the `load` event. To reach: 5 MB, 2 s. `--save` writes docs/results/replay_page.json;
bench/replay_figures.py then fills docs/replay.md. `--screenshot docs/replay.png` takes the picture of that page.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2

from lisard_ros.bags.messages import typestore
from lisard_ros.bags.reader import open_bag
from lisard_ros.bags.writer import START_NS, JpegImage, LabelledBox, write_jpeg_bag
from lisard_ros.frames import Region
from lisard_ros.message_fields import NS_PER_S
from lisard_ros.provenance import made

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results/replay_page.json"
SOURCE, BUNDLE = ROOT / "data/road_signs", ROOT / "models/road_signs"
FRAMES, HZ, DARKER = 200, 10, 0.1
INJECTIONS = "noise,universal,corruption/fog/3,corruption/motion_blur/3,corruption/brightness/3"
MOST_MB, MOST_S = 5.0, 2.0
WIDTH_PX, HEIGHT_PX = 1100, 1640
# After `load`, one frame is drawn.
OPENED = """new Promise(done => {
  const drawn = () => requestAnimationFrame(() => setTimeout(() => done(performance.now() / 1000)));
  document.readyState == "complete" ? drawn() : addEventListener("load", drawn);
})"""


def images() -> Iterator[JpegImage]:
    """Yield the labelled images of the recording."""
    with open_bag(SOURCE) as bag:
        source = list(bag.frames())
    for number in range(FRAMES):
        round_number, place = divmod(number, len(source))
        frame, regions = source[place].frame, source[place].regions
        assert frame is not None and regions is not None
        pixels = cv2.cvtColor(frame.rgb(), cv2.COLOR_RGB2BGR) * (1 - DARKER * round_number)
        _, jpeg = cv2.imencode(".jpg", pixels.astype("uint8"))
        boxes = tuple(boxed(one) for one in regions)
        yield JpegImage(START_NS + number * NS_PER_S // HZ, "camera", jpeg.tobytes(), boxes)


def boxed(region: Region) -> LabelledBox:
    """Return a recorded box as the writer takes it."""
    assert region.box_xyxy_px is not None and region.label is not None
    x0, y0, x1, y1 = region.box_xyxy_px
    return LabelledBox(region.id, region.label, x0, y0, x1 - x0, y1 - y0)


def replay(page: Path) -> None:
    """Write the recording and replay it with the command that users start."""
    with tempfile.TemporaryDirectory() as folder:
        drive = Path(folder) / "road_signs"
        write_jpeg_bag(drive, typestore(), images(), "/camera/image_raw/compressed", "/camera/boxes", mcap=True)
        words = ["replay", drive, "--bundle", BUNDLE, "--injections", INJECTIONS, "--html", page]
        subprocess.run([sys.executable, "-m", "lisard_ros", *map(str, words)], cwd=ROOT, check=True)


async def opened_s(page: Path, rounds: int, screenshot: Path | None) -> list[float]:
    """Open the page in a fresh Chromium each time; returns the seconds, and takes a picture of the last."""
    sys.path.insert(0, str(ROOT / "test"))
    from browser import browser

    times = []
    for number in range(rounds):
        async with browser() as window:
            await window.size(WIDTH_PX, HEIGHT_PX)
            await window.open(page.resolve().as_uri())
            await window.until(f"location.href == {json.dumps(page.resolve().as_uri())}")
            times.append(float(await window.evaluate(OPENED)))
            if screenshot and number == rounds - 1:
                await window.call("Emulation.setScrollbarsHidden", hidden=True)
                top = {"x": 0, "y": 0, "width": WIDTH_PX, "height": HEIGHT_PX, "scale": 1}
                shown = await window.call("Page.captureScreenshot", format="png", clip=top)
                screenshot.write_bytes(base64.b64decode(shown["data"]))
            if window.errors:
                raise SystemExit(f"the page has errors: {window.errors}")
    return times


def main() -> int:
    """Measure, print, write; 1 where a figure is not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--screenshot", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = options.page or Path(folder) / "replay.html"
        if not page.is_file():
            replay(page)
        times = asyncio.run(opened_s(page, options.rounds, options.screenshot))
        size_mb = page.stat().st_size / 1e6
    about = made()
    content = {
        "cpu": about.cpu,
        "cpus": about.cpus,
        "commit": about.commit,
        "made_at": about.made_at,
        "bundle": BUNDLE.name,
        "frames": FRAMES,
        "injections": INJECTIONS,
        "size_mb": round(size_mb, 2),
        "opened_s": [round(one, 3) for one in times],
        "opened_median_s": round(statistics.median(times), 3),
    }
    print(json.dumps(content, indent=2))
    if options.save:
        RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0 if size_mb <= MOST_MB and max(times) < MOST_S else 1


if __name__ == "__main__":
    sys.exit(main())
