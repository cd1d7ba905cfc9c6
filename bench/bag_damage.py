"""Random truncations and bit flips of three recordings: never a traceback, each lost image is counted or `unknown`.

Run: python bench/bag_damage.py [--rounds 1000] [--seed 0] [--out FILE]. The recordings are excerpts of data/road_drive
(an mcap folder) and data/road_signs (an SQLite folder), and the road drive as one mcap file with checksums. Each round
damages one of them anew and reads all of it. Exit status 1 if anything but a clear error was raised, an image was lost
without a word, or an image came out changed although its file has checksums. In a file without checksums a wrong bit
within an image cannot be known; such rounds are counted as `changed`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mcap.writer import CompressionType, Writer
from rosbags.highlevel import AnyReader

from lisard_ros.bags.messages import COMPRESSED_IMAGE, typestore
from lisard_ros.bags.reader import BagFrame, open_bag
from lisard_ros.bags.recordings import RecordingInfo
from lisard_ros.bags.writer import write_excerpt
from lisard_ros.errors import LisardError
from lisard_ros.provenance import made

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 24
TOPICS = {"road_drive": "/camera/image_raw/compressed", "road_signs": "/camera/image_raw/compressed"}
Images = dict[tuple[str, int], str]


@dataclass(slots=True)
class Damaged:
    """A recording that is damaged again and again. file: what is damaged; images: by topic and stamp their hashes."""

    name: str
    path: Path
    file: Path
    checksums: bool
    images: Images = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)


def excerpts(folder: Path) -> list[Damaged]:
    """Write the three recordings."""
    store, found = typestore(), []
    for name, mcap in (("road_drive", True), ("road_signs", False)):
        path = folder / name
        write_excerpt(path, store, ROOT / "data" / name, [TOPICS[name]], FRAMES, mcap=mcap)
        (file,) = path.glob("*.mcap" if mcap else "*.db3")
        found.append(Damaged(name, path, file, checksums=False))
    path = folder / "checked.mcap"
    with AnyReader([folder / "road_drive"]) as reader, path.open("wb") as file:
        writer = Writer(file, chunk_size=200_000, compression=CompressionType.ZSTD)
        writer.start("ros2", "test")
        text = store.generate_msgdef(COMPRESSED_IMAGE, ros_version=2)[0]
        schema = writer.register_schema(COMPRESSED_IMAGE, "ros2msg", text.encode())
        channel = writer.register_channel(TOPICS["road_drive"], "cdr", schema)
        for _, stamp_ns, raw in reader.messages():
            writer.add_message(channel, stamp_ns, bytes(raw), stamp_ns)
        writer.finish()
    return [*found, Damaged("checked.mcap", path, path, checksums=True)]


def read(path: Path) -> tuple[list[BagFrame], RecordingInfo]:
    """All frames, and what is said of the recording."""
    with open_bag(path) as bag:
        frames = list(bag.frames())
        (info,) = bag.info()
        return frames, info


def images_of(frames: list[BagFrame]) -> Images:
    """The hash of each image that was decoded."""
    return {(one.topic, one.stamp_ns): one.frame.sha256() for one in frames if one.frame is not None}


def damage(data: bytes, random: np.random.Generator) -> bytes:
    """Flip up to eight bits, cut the end off, or both."""
    content, kind = bytearray(data), random.integers(3)
    if kind != 0:
        for place in random.integers(0, len(content), random.integers(1, 9)).tolist():
            content[place] ^= 1 << int(random.integers(8))
    return bytes(content[: int(random.integers(len(content)))] if kind != 1 else content)


def outcome(one: Damaged) -> str:
    """Read the damaged recording and say what became of it."""
    try:
        frames, info = read(one.path)
    except LisardError as error:
        return "refused" if "found" in str(error) else f"ERROR without what was found: {error}"
    except Exception:  # what must never happen
        return f"TRACEBACK {traceback.format_exc()}"
    found = images_of(frames)
    failed = sum(item.frame is None for item in frames)
    missing = len(one.images) - len(found)
    if missing > 0 and info.lost is not None and info.lost + failed < missing:
        return f"SILENT {missing} missing, {info.lost} lost, {failed} undecodable, damage {info.damage}"
    changed = sum(one.images.get(key) != value for key, value in found.items())
    if changed and one.checksums and not info.damage:
        return f"CHANGED {changed} images of a file with checksums"
    if changed:
        return "changed"
    return "unharmed" if not missing else "unknown" if info.lost is None else "counted"


def main() -> int:
    """Damage, read, print; 1 on what must not happen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    random, bad, about = np.random.default_rng(options.seed), [], made()
    with tempfile.TemporaryDirectory() as folder:
        recordings = excerpts(Path(folder))
        for one in recordings:
            one.images = images_of(read(one.path)[0])
            shutil.copy(one.file, one.file.with_suffix(".good"))
        for number in range(options.rounds):
            one = recordings[number % len(recordings)]
            one.file.write_bytes(damage(one.file.with_suffix(".good").read_bytes(), random))
            said = outcome(one)
            one.outcomes[said.split()[0]] += 1
            if said.split()[0].isupper():
                bad.append(f"{one.name}, round {number}: {said}")
    content = {
        "commit": about.commit,
        "made_at": about.made_at,
        "rounds": options.rounds,
        "seed": options.seed,
        "outcomes": {one.name: dict(one.outcomes) for one in recordings},
        "bad": bad[:20],
    }
    print(json.dumps(content, indent=2))
    if options.out:
        options.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
