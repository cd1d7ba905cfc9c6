"""A replay as one MCAP file: the images, the answers clean and attacked, drawings of them for Foxglove, and the report.

Topics of a camera CAMERA, with the stamps of the recording:

  /CAMERA/image/compressed                          the image, as JPEG
  /perception/CAMERA/detections, classification     the clean answer (vision_msgs)
  /perception/CAMERA/annotations                    its drawing: right green, wrong red, missed yellow, else white
  /perception/CAMERA/attacked/NAME/...              the same of each injection

With several models the answers of each are below /perception/MODEL/CAMERA; MODEL is its place and name, such as
0_traffic_signs.
The report is the attachment replay.json.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from rosbags.typesys import get_types_from_msg
from rosbags.typesys.store import Typestore

from lisard_ros import __version__
from lisard_ros.bags.messages import CLASSIFICATION, COMPRESSED_IMAGE, DETECTIONS, typestore
from lisard_ros.bags.seen import Seen
from lisard_ros.errors import UsageError
from lisard_ros.evaluation.pairs import Pair
from lisard_ros.frames import Classification, Detection, Detections, Frame, Hypothesis, Result
from lisard_ros.injection import CLEAN
from lisard_ros.message_fields import from_ns

ANNOTATIONS = "foxglove_msgs/msg/ImageAnnotations"
REPORT_NAME = "replay.json"
_TEXT_PX, _LINE_PX, _JPEG_QUALITY = 14.0, 2.0, 90
_LINE_LOOP = 2
_NO_TOKEN = re.compile("[^A-Za-z0-9_]+")  # no part of a topic's name
# Field names and order are those of foxglove_msgs.
_DEFINITIONS = {
    "Color": "float64 r\nfloat64 g\nfloat64 b\nfloat64 a",
    "Point2": "float64 x\nfloat64 y",
    "CircleAnnotation": "builtin_interfaces/Time timestamp\nfoxglove_msgs/Point2 position\nfloat64 diameter\n"
    "float64 thickness\nfoxglove_msgs/Color fill_color\nfoxglove_msgs/Color outline_color",
    "PointsAnnotation": "uint8 UNKNOWN=0\nuint8 POINTS=1\nuint8 LINE_LOOP=2\nuint8 LINE_STRIP=3\nuint8 LINE_LIST=4\n"
    "builtin_interfaces/Time timestamp\nuint8 type\nfoxglove_msgs/Point2[] points\nfoxglove_msgs/Color outline_color\n"
    "foxglove_msgs/Color[] outline_colors\nfoxglove_msgs/Color fill_color\nfloat64 thickness",
    "TextAnnotation": "builtin_interfaces/Time timestamp\nfoxglove_msgs/Point2 position\nstring text\n"
    "float64 font_size\nfoxglove_msgs/Color text_color\nfoxglove_msgs/Color background_color",
    "ImageAnnotations": "foxglove_msgs/CircleAnnotation[] circles\nfoxglove_msgs/PointsAnnotation[] points\n"
    "foxglove_msgs/TextAnnotation[] texts",
}
_GREEN, _RED, _YELLOW, _WHITE = (0.2, 0.85, 0.5, 1.0), (1.0, 0.36, 0.29, 1.0), (1.0, 0.8, 0.1, 1.0), (1.0,) * 4


def require_mcap() -> None:
    """Refuse to write MCAP files where the package that does so is missing."""
    try:
        import mcap.writer  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "--mcap needs the Python package mcap",
            found=str(error),
            expected="it in this environment",
            cure="pip install 'lisard_ros[mcap]'",
        ) from error


@contextmanager
def open_mcap(path: Path) -> Iterator[McapOutput]:
    """Write a file that is complete when the block ends; what an error leaves unfinished is removed."""
    from mcap.writer import Writer

    with path.open("wb") as file:
        writer = Writer(file)
        output = McapOutput(writer, file, path)
        try:
            with output.writing():
                writer.start("ros2", f"lisard_ros {__version__}")
            yield output
            with output.writing():
                writer.finish()
                file.flush()
        except BaseException:
            with suppress(OSError):  # of a full disk, once more
                file.close()
            if path.is_file():  # not /dev/full or a pipe
                path.unlink()
            raise


class McapOutput:
    """Takes every answer (evaluation.evaluate) and writes it."""

    def __init__(self, writer: Any, file: IO[bytes], path: Path) -> None:
        """Use `open_mcap`."""
        self._writer, self._file, self._path = writer, file, path
        self._store = _typestore()
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._roots: tuple[str, ...] = ("/perception",)

    def name_models(self, names: Sequence[str]) -> None:
        """Tell the names of the models, in their order; before the first answer."""
        if len(names) > 1:
            self._roots = tuple(f"/perception/{n}_{_NO_TOKEN.sub('_', name)}" for n, name in enumerate(names))

    def watch(self, seen: Seen) -> None:
        """Write one answer; with the clean one of a frame its image."""
        frame = seen.item.frame
        if frame is None or not isinstance(seen.outcome, Result):
            return
        stamp_ns = max(seen.item.stamp_ns, 0)
        top = self._header(frame)
        base = f"{self._roots[seen.model]}/{frame.camera}"
        if seen.condition == CLEAN and seen.model == 0:
            done, data = cv2.imencode(
                ".jpg", np.ascontiguousarray(frame.rgb()[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
            )
            assert done
            image = self._store.types[COMPRESSED_IMAGE](header=top, format="jpeg", data=data.reshape(-1))
            self._write(f"/{frame.camera}/image/compressed", COMPRESSED_IMAGE, image, stamp_ns)
        if seen.condition != CLEAN:
            base += f"/attacked/{seen.condition}"
        result = seen.outcome
        if result.detections is not None:
            self._write(f"{base}/detections", DETECTIONS, self._detections(result.detections, top), stamp_ns)
        if result.classification is not None:
            message = self._classification(result.classification, top)
            self._write(f"{base}/classification", CLASSIFICATION, message, stamp_ns)
        self._write(f"{base}/annotations", ANNOTATIONS, self._annotations(seen.pairs, top.stamp), stamp_ns)

    def attach(self, report: str) -> None:
        """Add the report, JSON."""
        with self.writing():
            self._writer.add_attachment(0, 0, REPORT_NAME, "application/json", report.encode())

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Name the file where it cannot be written, such as on a full disk."""
        try:
            yield
        except OSError as error:
            raise UsageError(
                "cannot write --mcap",
                found=f"{self._path}: {error.strerror}",
                expected="room for it",
                cure="make room there, or choose another path",
            ) from error

    def _write(self, topic: str, kind: str, message: Any, stamp_ns: int) -> None:
        if topic not in self._channels:
            if kind not in self._schemas:
                text = self._store.generate_msgdef(kind, ros_version=2)[0]
                self._schemas[kind] = self._writer.register_schema(kind, "ros2msg", text.encode())
            self._channels[topic] = self._writer.register_channel(topic, "cdr", self._schemas[kind])
        data = bytes(self._store.serialize_cdr(message, kind))
        with self.writing():
            self._writer.add_message(self._channels[topic], stamp_ns, data, stamp_ns)

    def _header(self, frame: Frame) -> Any:
        sec, nanosec = from_ns(frame.stamp_ns)
        stamp = self._store.types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
        return self._store.types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame.frame_id)

    def _hypothesis(self, hypothesis: Hypothesis) -> Any:
        kind = self._store.types["vision_msgs/msg/ObjectHypothesis"]
        return kind(class_id=hypothesis.label, score=float(hypothesis.score))

    def _classification(self, answer: Classification, top: Any) -> Any:
        results = [self._hypothesis(hypothesis) for hypothesis in answer.hypotheses]
        return self._store.types[CLASSIFICATION](header=top, results=results)

    def _detections(self, answer: Detections, top: Any) -> Any:
        return self._store.types[DETECTIONS](header=top, detections=[self._detection(one, top) for one in answer.items])

    def _detection(self, item: Detection, top: Any) -> Any:
        types = self._store.types
        x0, y0, x1, y1 = map(float, item.box_xyxy_px)
        centre = types["vision_msgs/msg/Point2D"](x=(x0 + x1) / 2, y=(y0 + y1) / 2)
        box = types["vision_msgs/msg/BoundingBox2D"](
            center=types["vision_msgs/msg/Pose2D"](position=centre, theta=0.0), size_x=x1 - x0, size_y=y1 - y0
        )
        nowhere = types["geometry_msgs/msg/Pose"](
            position=types["geometry_msgs/msg/Point"](x=0.0, y=0.0, z=0.0),
            orientation=types["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
        )
        pose = types["geometry_msgs/msg/PoseWithCovariance"](pose=nowhere, covariance=np.zeros(36))
        posed = types["vision_msgs/msg/ObjectHypothesisWithPose"]
        results = [posed(hypothesis=self._hypothesis(one), pose=pose) for one in item.hypotheses]
        return types["vision_msgs/msg/Detection2D"](header=top, results=results, bbox=box, id=item.id)

    def _annotations(self, pairs: tuple[Pair, ...], stamp: Any) -> Any:
        types = self._store.types
        kinds = {name: types[f"foxglove_msgs/msg/{name}"] for name in _DEFINITIONS}

        def colour(values: tuple[float, ...]) -> Any:
            return kinds["Color"](**dict(zip("rgba", values, strict=True)))

        points, texts, line = [], [], 0
        for pair in pairs:
            label = pair.answer or pair.reference
            assert label is not None  # a pair has one of both
            values = _colour(pair)
            place = (4.0, _TEXT_PX * (1.5 + 1.5 * line))
            if label.box_xyxy_px is None:
                line += 1
            else:
                x0, y0, x1, y1 = map(float, label.box_xyxy_px)
                place = (x0, y0)
                corners = [kinds["Point2"](x=x, y=y) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
                points.append(
                    kinds["PointsAnnotation"](
                        timestamp=stamp,
                        type=_LINE_LOOP,
                        points=corners,
                        outline_color=colour(values),
                        outline_colors=[],
                        fill_color=colour((0.0,) * 4),
                        thickness=_LINE_PX,
                        UNKNOWN=0,
                        POINTS=1,
                        LINE_LOOP=2,
                        LINE_STRIP=3,
                        LINE_LIST=4,
                    )
                )
            words = f"{label.name} {label.score:.2f}" if pair.answer else f"{label.name} missed"
            texts.append(
                kinds["TextAnnotation"](
                    timestamp=stamp,
                    position=kinds["Point2"](x=place[0], y=place[1]),
                    text=words,
                    font_size=_TEXT_PX,
                    text_color=colour((0.0, 0.0, 0.0, 1.0)),
                    background_color=colour(values),
                )
            )
        return types[ANNOTATIONS](circles=[], points=points, texts=texts)


def _colour(pair: Pair) -> tuple[float, ...]:
    if pair.right is None:
        return _WHITE
    return _GREEN if pair.right else _RED if pair.answer else _YELLOW


@functools.cache
def _typestore() -> Typestore:
    """The types for reading bags, and those of foxglove_msgs."""
    store = typestore()
    types: dict[str, Any] = {}
    for name, text in _DEFINITIONS.items():
        types.update(get_types_from_msg(text, f"foxglove_msgs/msg/{name}"))
    store.register(types)
    return store


def both(*watchers: Callable[[Seen], object]) -> Callable[[Seen], None]:
    """Show every answer to several."""

    def watch(seen: Seen) -> None:
        for one in watchers:
            one(seen)

    return watch
