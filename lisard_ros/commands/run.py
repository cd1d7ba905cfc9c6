"""`lisard run`: answer picture files with a bundle, the way the node would."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lisard_ros import backends, variants
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE
from lisard_ros.commands.output import to_json
from lisard_ros.errors import ImageError, UsageError, one_line
from lisard_ros.frames import Frame, Region, Result
from lisard_ros.pipeline import Outcome, Settings, open_pipeline

HELP = """Answer picture files.

  lisard run models/traffic_signs sign.png
  lisard run models/traffic_signs *.png --top-k 3 --json
  lisard run models/traffic_signs street.jpg --box 100,40,180,120
  lisard run models/traffic_signs street.jpg --detector models/road_signs"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is printed for one file: lines for people, or an error."""

    file: str
    answers: tuple[str, ...]
    error: str | None


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("bundle", type=Path, help="model bundle (folder or .zip)")
    parser.add_argument("pictures", type=Path, nargs="+", help="picture files")
    parser.add_argument("--box", action="append", default=[], metavar="X0,Y0,X1,Y1", help="look here; repeatable")
    parser.add_argument("--detector", type=Path, help="detection bundle: classify the boxes that it finds")
    parser.add_argument("--top-k", type=int, default=1, help="classes per answer (default: %(default)s)")
    parser.add_argument("--min-score", type=float, default=0.0, help="lowest score shown (default: %(default)s)")
    parser.add_argument("--backend", choices=backends.POLICIES, default=backends.AUTO, help="(default: %(default)s)")
    parser.add_argument(
        "--precision",
        choices=variants.PRECISIONS,
        default=variants.AUTO,
        help="which of the bundle's models; auto: fp32 (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Answer each file; exit status 1 when any of them has no answer."""
    regions = tuple(_region(box) for box in args.box) or (Region(),)
    settings = Settings(args.top_k, args.min_score)
    pipeline = open_pipeline(
        args.bundle, backend=args.backend, settings=settings, detector=args.detector, precision=args.precision
    )
    answers = []
    for path in args.pictures:
        try:
            answers.append(_answer(path, pipeline.run([_read(path)], [regions])[0]))
        except ImageError as error:
            answers.append(Answer(str(path), (), str(error)))
    print(to_json(answers) if args.json else "\n".join(_line(a) for a in answers))
    return EXIT_CHECK_FAILED if any(answer.error for answer in answers) else EXIT_DONE


def _read(path: Path) -> Frame:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError("cannot read the picture", found=error.strerror) from error
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:  # such as a header that claims gigapixels
        raise ImageError("not a picture that OpenCV reads", found=one_line(error), expected="PNG, JPEG, ...") from error
    if pixels is None:
        raise ImageError("not a picture that OpenCV reads", found=f"{len(data)} bytes", expected="PNG, JPEG, ...")
    return Frame(np.asarray(pixels, np.uint8), "bgr", 0, "", path.stem)


def _region(text: str) -> Region:
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError("cannot read --box", found=text, expected="X0,Y0,X1,Y1 in pixels") from error
    return Region((x0, y0, x1, y1))


def _answer(path: Path, outcome: Outcome) -> Answer:
    if not isinstance(outcome, Result):
        return Answer(str(path), (), str(outcome.error))
    lines = []
    if outcome.classification:
        lines.append(", ".join(f"{h.label} {h.score:.3f}" for h in outcome.classification.hypotheses) or "nothing")
    for item in outcome.detections.items if outcome.detections else ():
        box = ",".join(f"{v:.0f}" for v in item.box_xyxy_px)
        lines.append(f"[{box}] " + (", ".join(f"{h.label} {h.score:.3f}" for h in item.hypotheses) or "nothing"))
    return Answer(str(path), tuple(lines) or ("nothing found",), None)


def _line(answer: Answer) -> str:
    return f"{answer.file}: {'; '.join(answer.answers) if answer.error is None else 'ERROR ' + answer.error}"
