"""`lisard bag info`, `make` and `repair`: recordings as files; none of them needs ROS."""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lisard_ros.bags import making
from lisard_ros.bags.reader import found_paths
from lisard_ros.bags.recordings import RecordingInfo, open_recording
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE
from lisard_ros.commands.output import OutputPath, table, to_json, try_outputs
from lisard_ros.errors import DataError, UsageError, one_line
from lisard_ros.message_fields import NS_PER_S

INFO = "list the topics of recordings, and what is lost of them"
MAKE = "make a labelled recording of a COCO list or of folders of classes (GTSRB)"
REPAIR = "copy what can be read of a damaged recording into a new one"


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic of a recording. messages: that could be read."""

    topic: str
    kind: str
    messages: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What a recording holds. begins_ns, ends_ns: when its first and last message were recorded; 0: it has none."""

    recording: RecordingInfo
    begins_ns: int
    ends_ns: int
    topics: tuple[TopicInfo, ...]


def configure_info(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `info`."""
    parser.add_argument("bag", nargs="+", help="recordings, or patterns")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run_info(args: argparse.Namespace) -> int:
    """Read the recordings and list what they hold; exit status 1 where something is damaged."""
    found = [contents(path) for path in found_paths(args.bag)]
    print(to_json(found) if args.json else "\n\n".join(map(_text, found)))
    whole = all(not one.recording.damage and one.recording.lost == 0 for one in found)
    return EXIT_DONE if whole else EXIT_CHECK_FAILED


def contents(path: Path) -> Contents:
    """Read a whole recording; DataError where it cannot be opened."""
    recording = open_recording(path)
    try:
        kinds, counts = recording.kinds, Counter[str]()
        begins_ns, ends_ns = 0, 0
        for message in recording.messages(tuple(kinds)):
            begins_ns = min(begins_ns, message.log_ns) if counts else message.log_ns
            ends_ns = max(ends_ns, message.log_ns)
            counts[message.topic.name] += 1
        topics = tuple(TopicInfo(name, kind, counts[name]) for name, kind in sorted(kinds.items()))
        return Contents(recording.info(tuple(kinds)), begins_ns, ends_ns, topics)
    finally:
        recording.close()


def _text(found: Contents) -> str:
    rows = [(one.topic, one.kind, one.messages) for one in found.topics]
    seconds = (found.ends_ns - found.begins_ns) / NS_PER_S
    head = f"{found.recording}\nsha256 {found.recording.sha256}, {found.recording.bytes} bytes, {seconds:.1f} s"
    return f"{head}\n\n{table(('topic', 'type', 'messages'), rows)}"


def configure_make(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `make`."""
    parser.add_argument("out", type=Path, help="the rosbag2 folder to write (mcap)")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--coco", type=Path, metavar="FILE", help="COCO list beside its images: boxes")
    source.add_argument(
        "--classes", type=Path, metavar="FOLDER", help="CLASS/image files, or GTSRB's numbered folders: whole frames"
    )
    parser.add_argument(
        "--names", type=Path, metavar="FILE", help="names of numbered folders, one a line, or a bundle's bundle.json"
    )
    parser.add_argument("--hz", type=float, default=10.0, help="images a second; stamps are made up (default: 10)")


def run_make(args: argparse.Namespace) -> int:
    """Write the recording and count its labels."""
    if not 0 < args.hz < math.inf:
        raise UsageError("--hz out of range", found=args.hz, expected="a number above 0")
    if args.names is not None and args.classes is None:
        raise UsageError("--names", found="a COCO list, which has names", expected="--classes")
    try_outputs(OutputPath("OUT", args.out, "bundle"))
    if args.coco is not None:
        made = making.from_coco(args.coco, args.out, args.hz)
    else:
        made = making.from_class_folders(args.classes, args.out, args.hz, _names(args.names) if args.names else ())
    print(
        f"{args.out}: {made.images} images, labels: {', '.join(f'{n} {c}' for n, c in made.labels.items()) or 'none'}"
    )
    return EXIT_DONE


def _names(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8")
        names = json.loads(text)["labels"] if path.suffix == ".json" else text.split("\n")
        return tuple(name.strip() for name in names if name.strip())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"names {path}", found=one_line(error), expected="a name a line, or a bundle.json") from error


def configure_repair(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `repair`."""
    parser.add_argument("bag", type=Path, help="the damaged recording")
    parser.add_argument("out", type=Path, help="the rosbag2 folder to write (mcap)")


def run_repair(args: argparse.Namespace) -> int:
    """Write the copy, and say what is lost."""
    try_outputs(OutputPath("OUT", args.out, "bundle"))
    repaired = making.repair(args.bag, args.out)
    print(repaired.source)
    rows = list(repaired.copied.items())
    print(f"\n{args.out}\n\n{table(('topic', 'messages'), rows)}")
    if repaired.left_out:
        print(f"\nleft out, of unknown types: {', '.join(repaired.left_out)}")
    return EXIT_DONE
