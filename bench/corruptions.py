"""Measure the common corruptions, draw their contact sheet, and compare their distances with `imagecorruptions`.

Writes docs/results/corruptions.json, docs/corruptions.png and the tables of docs/corruptions.md. The comparison needs
requirements/crosscheck.txt (imagecorruptions and its dependencies, best in an environment of its own).

  python3 bench/corruptions.py measure sheet tables
  python3 bench/corruptions.py peers tables
"""

from __future__ import annotations

import argparse
import json
import platform
import struct
import subprocess
import time
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lisard_ros import corruptions
from lisard_ros.bags.reader import open_bag
from lisard_ros.inference.preprocess import crop

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs/results/corruptions.json"
DOCUMENT = ROOT / "docs/corruptions.md"
SHEET = ROOT / "docs/corruptions.png"
ROADS, SIGNS = 6, 30
PEER_ROADS = 2  # the other package takes a second for some images
SIZES = {"32": (32, 32), "224": (224, 224), "640x480": (640, 480)}

Batch = NDArray[np.uint8]


def main() -> None:
    """Do the steps that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="+", choices=("measure", "peers", "sheet", "tables"))
    steps = parser.parse_args().steps
    cv2.setNumThreads(1)
    for step in ("measure", "peers"):
        if step in steps:
            keep(step, {"measure": measure, "peers": peers}[step]())
    if "sheet" in steps:
        SHEET.write_bytes(palette_png(sheet()))
        print(f"{SHEET.name}: {SHEET.stat().st_size} bytes")
    if "tables" in steps:
        results = json.loads(RESULTS.read_text(encoding="utf-8"))
        text = DOCUMENT.read_text(encoding="utf-8")
        for name, table in (("measure", measured_table), ("peers", peers_table)):
            text = filled(text, name, "\n".join(table(results))) if name in results else text
        DOCUMENT.write_text(text, encoding="utf-8")


# --- images -------------------------------------------------------------------------------------------------------


def roads(count: int = ROADS) -> list[Batch]:
    """The first road images of data/road_signs (CC0), RGB."""
    with open_bag(ROOT / "data/road_signs") as bag:
        frames = [item.frame.rgb() for item in bag.frames() if item.frame is not None]
    return frames[:count]


def signs(count: int = SIGNS) -> Batch:
    """One sign crop of each track, 32 x 32 RGB."""
    folders = sorted(folder for folder in (ROOT / "data/gtsrb_tracks").iterdir() if folder.is_dir())
    return np.stack([cv2.imread(str(sorted(f.glob("*.png"))[0]))[..., ::-1] for f in folders[:count]])


def sized(size: str) -> Batch:
    """The images that are measured at a size: sign crops at 32, road images at the others."""
    if size == "32":
        return signs()
    return np.stack([cv2.resize(road, SIZES[size], interpolation=cv2.INTER_AREA) for road in roads()])


# --- distances ------------------------------------------------------------------------------------------------------


def rms(x: Batch, y: Batch) -> float:
    """Root mean squared difference in grey levels, mean over images."""
    return float(np.sqrt(((x.astype(np.float32) - y) ** 2).mean((1, 2, 3))).mean())


def dissimilarity(x: Batch, y: Batch) -> float:
    """1 - structural similarity of the grey images (Wang et al. 2004, Gaussian window of 1.5 px)."""
    return 1 - float(np.mean([_similarity(a, b) for a, b in zip(x, y, strict=True)]))


def _similarity(a: Batch, b: Batch) -> float:
    p, q = (image.astype(np.float32).mean(2) for image in (a, b))
    mean_p, mean_q, pp, qq, pq = (cv2.GaussianBlur(z, (0, 0), 1.5) for z in (p, q, p * p, q * q, p * q))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    light = (2 * mean_p * mean_q + c1) / (mean_p**2 + mean_q**2 + c1)
    spread = (2 * (pq - mean_p * mean_q) + c2) / (pp - mean_p**2 + qq - mean_q**2 + c2)
    return float((light * spread).mean())


# --- steps ----------------------------------------------------------------------------------------------------------


def measure() -> list[dict[str, Any]]:
    """Distances and CPU time of every corruption at every size."""
    rows = []
    for size in SIZES:
        x = sized(size)
        for name in corruptions.NAMES:
            corruptions.prepare(name)
            changed, cpu_ms = zip(*(_timed(x, name, severity) for severity in corruptions.SEVERITIES), strict=True)
            rows.append(
                {
                    "name": name,
                    "size": size,
                    "pictures": len(x),
                    "cpu_ms": [round(t, 3) for t in cpu_ms],
                    **_distances(x, changed),
                }
            )
            print(rows[-1], flush=True)
    return rows


def _timed(x: Batch, name: str, severity: int) -> tuple[Batch, float]:
    start = time.process_time()
    changed = corruptions.corrupt(x, name, severity)
    return changed, (time.process_time() - start) * 1e3 / len(x)


def peers() -> list[dict[str, Any]]:
    """Distances of ours and of `imagecorruptions` (the published ImageNet-C code as a package) at 224 px."""
    x, theirs = sized("224")[:PEER_ROADS], _imagecorruptions()
    np.random.seed(0)
    rows = []
    for name in corruptions.NAMES:
        sides = {
            "ours": [corruptions.corrupt(x, name, s) for s in corruptions.SEVERITIES],
            "imagecorruptions": [
                np.stack([theirs(p, corruption_name=name, severity=s) for p in x]) for s in corruptions.SEVERITIES
            ],
        }
        rows.append({"name": name, "pictures": len(x), **{k: _distances(x, changed) for k, changed in sides.items()}})
        print(rows[-1], flush=True)
    return rows


def _distances(x: Batch, changed: Sequence[Batch]) -> dict[str, list[float]]:
    return {
        "rms": [round(rms(x, y), 2) for y in changed],
        "dissimilarity": [round(dissimilarity(x, y), 4) for y in changed],
    }


def _imagecorruptions() -> Any:
    """Its `corrupt`, with two names put back that NumPy 2 and scikit-image dropped after its last release."""
    np.float_ = np.float64
    import imagecorruptions
    from imagecorruptions import corruptions as module

    newer = module.gaussian

    def gaussian(x: Any, sigma: float = 1, multichannel: bool = False, **others: Any) -> Any:
        return newer(x, sigma, channel_axis=-1 if multichannel else None, **others)

    module.gaussian = gaussian
    return imagecorruptions.corrupt


def keep(step: str, rows: list[dict[str, Any]]) -> None:
    """Put the rows and where they come from into the results file; other steps' results stay."""
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"schema": 1}
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    results[step] = {
        "command": f"python3 bench/corruptions.py {step}",
        "commit": commit.stdout.strip(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "machine": platform.machine(),
        "threads": 1,
        "seed": 0,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


# --- tables ---------------------------------------------------------------------------------------------------------


def measured_table(results: dict[str, Any]) -> Iterator[str]:
    """CPU time and distances of ours."""
    yield "| corruption | CPU per VGA frame, ms | per 32 px crop, ms | distance at 32 px | at 224 px | at VGA |"
    yield "|---|---|---|---|---|---|"
    by = {(row["name"], row["size"]): row for row in results["measure"]["rows"]}
    for name in corruptions.NAMES:
        times = [float(np.mean(by[name, size]["cpu_ms"])) for size in ("640x480", "32")]
        distances = [" ".join(f"{v:.2f}" for v in by[name, size]["dissimilarity"]) for size in SIZES]
        yield f"| {name} | {times[0]:.0f} | {times[1]:.2f} | " + " | ".join(distances) + " |"


def peers_table(results: dict[str, Any]) -> Iterator[str]:
    """Distances of ours beside those of imagecorruptions, at 224 px."""
    yield "| corruption | ours: 1 - SSIM | imagecorruptions: 1 - SSIM | ours: rms | imagecorruptions: rms |"
    yield "|---|---|---|---|---|"
    for row in results["peers"]["rows"]:
        cells = [
            " ".join(f"{v:.{digits}f}" for v in row[side][key])
            for key, digits in (("dissimilarity", 2), ("rms", 0))
            for side in ("ours", "imagecorruptions")
        ]
        yield f"| {row['name']} | " + " | ".join(cells) + " |"


def filled(text: str, name: str, block: str) -> str:
    """Replace what stands between the two marks of a table."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n{block}\n{end}{rest.split(end, 1)[1]}"


# --- contact sheet --------------------------------------------------------------------------------------------------

ROAD_NUMBER, ROAD_PX, ROAD_CUT = 4, (160, 120), (slice(16, 98), slice(52, 160))  # round the stop sign
SIGN_NUMBER, SIGN_MARGIN, SIGN_ZOOM = 34, 0.15, 2  # a speed limit of 50
SHOWN = (1, 3, 5)
UNCHANGED = "unchanged"
NAME_PX, GAP_PX, HEAD_PX = 118, 4, 18


def sheet() -> Batch:
    """Severities 1, 3 and 5 of every corruption on a road image and on a sign crop, in two columns; RGB."""
    road = cv2.resize(roads()[ROAD_NUMBER], ROAD_PX, interpolation=cv2.INTER_AREA)[None]
    sign = sign_crop()[None]
    rows = [_row(name, road, sign) for name in (*corruptions.NAMES, UNCHANGED)]
    return np.hstack([np.vstack([_header(), *rows[:8]]), np.vstack([_header(), *rows[8:]])])


def sign_crop() -> Batch:
    """A sign of data/road_signs (CC0) as the classifier sees it, 32 x 32 RGB."""
    with open_bag(ROOT / "data/road_signs") as bag:
        item = next(item for number, item in enumerate(bag.frames()) if number == SIGN_NUMBER)
    if item.frame is None or not item.regions:
        raise SystemExit(f"image {SIGN_NUMBER} of data/road_signs has no sign")
    cut = crop(item.frame, item.regions[0], SIGN_MARGIN)
    return np.asarray(cv2.resize(cut, SIZES["32"], interpolation=cv2.INTER_AREA), np.uint8)


def _row(name: str, road: Batch, sign: Batch) -> Batch:
    cells = [_shown(road, name, severity)[ROAD_CUT] for severity in SHOWN]
    zoomed = [_shown(sign, name, severity).repeat(SIGN_ZOOM, 0).repeat(SIGN_ZOOM, 1) for severity in SHOWN]
    height = len(cells[0])
    margin = height - len(zoomed[0])
    zoomed = [np.pad(z, ((margin // 2, margin - margin // 2), (0, 0), (0, 0)), constant_values=255) for z in zoomed]
    label = np.full((height, NAME_PX, 3), 255, np.uint8)
    _write(label, name.replace("_", " "), 2, height // 2 + 4)
    return _joined([label, *cells, *zoomed])


def _shown(x: Batch, name: str, severity: int) -> Batch:
    return x[0] if name == UNCHANGED else corruptions.corrupt(x, name, severity)[0]


def _header() -> Batch:
    widths = [NAME_PX, *[ROAD_CUT[1].stop - ROAD_CUT[1].start] * 3, *[32 * SIGN_ZOOM] * 3]
    words = ["severity", *map(str, SHOWN), *map(str, SHOWN)]
    cells = []
    for width, word in zip(widths, words, strict=True):
        cell = np.full((HEAD_PX, width, 3), 255, np.uint8)
        _write(cell, word, 2 if word == "severity" else width // 2 - 4, 13)
        cells.append(cell)
    return _joined(cells)


def _joined(cells: list[Batch]) -> Batch:
    """Cells in a row with white between and below them."""
    return np.hstack([np.pad(c, ((0, GAP_PX), (0, GAP_PX), (0, 0)), constant_values=255) for c in cells])


def _write(image: Batch, word: str, left: int, baseline: int) -> None:
    cv2.putText(image, word, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)


def palette_png(rgb: Batch) -> bytes:
    """Encode with 256 colours chosen by k-means (PNG, colour type 3): a third of the bytes."""
    pixels = rgb.reshape(-1, 3).astype(np.float32)
    some = pixels[np.random.default_rng(0).integers(0, len(pixels), 20_000)]
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 12, 0.5)
    _, _, centres = cv2.kmeans(some, 255, None, stop, 1, cv2.KMEANS_PP_CENTERS)
    palette = np.vstack([np.rint(centres), [[255, 255, 255]]]).astype(np.uint8)
    norms = (palette.astype(np.float32) ** 2).sum(1)
    nearest = [(norms - 2 * part @ palette.T.astype(np.float32)).argmin(1) for part in np.array_split(pixels, 64)]
    indices = np.concatenate(nearest).astype(np.uint8).reshape(rgb.shape[:2])
    rows = np.pad(indices, ((0, 0), (1, 0))).tobytes()  # filter 0 before each row
    head = struct.pack(">IIBBBBB", rgb.shape[1], rgb.shape[0], 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"PLTE", palette.tobytes()), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


if __name__ == "__main__":
    main()
