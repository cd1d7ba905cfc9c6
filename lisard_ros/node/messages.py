"""From answers to vision_msgs, and from vision_msgs to regions.

Headers are those of the input, always; class_id is the label's name or its index. Numbers are made Python floats: rclpy
without field checks sends an int or NumPy number as zero.
"""

from __future__ import annotations

import array
import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Float64MultiArray, Header, MultiArrayDimension, MultiArrayLayout
from vision_msgs.msg import (
    Classification as ClassificationMsg,
)
from vision_msgs.msg import (
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    VisionClass,
)

from lisard_ros.frames import Classification, Detection, Detections, Hypothesis, Pixels, Region, Result
from lisard_ros.images import to_region
from lisard_ros.message_fields import stamp_ns as stamp_ns

# What the places of `data` of a timing message hold; total is from arrival to answer, age from the image's stamp.
TIMED_STAGES = ("wait", "decode", "preprocess", "infer", "postprocess", "publish", "total", "age")
_TIMING_LABEL = ",".join(f"{stage}_ms" for stage in TIMED_STAGES)
_BOX_COLOUR = (80, 220, 60)
_TEXT_COLOUR = (255, 255, 255)


def class_id(hypothesis: Hypothesis, id_format: str) -> str:
    """Return the label's name, or its index; the name too where the bundle has no index for it."""
    return str(hypothesis.index) if id_format == "index" and hypothesis.index >= 0 else hypothesis.label


def classification(answer: Classification, header: Header, id_format: str) -> ClassificationMsg:
    """Fill a Classification message; no hypotheses is a valid answer."""
    message = ClassificationMsg()
    message.header = header
    message.results = [_hypothesis(hypothesis, id_format) for hypothesis in answer.hypotheses]
    return message


def detections(answer: Detections, header: Header, id_format: str) -> Detection2DArray:
    """Fill a Detection2DArray message; no detections is a valid answer."""
    message = Detection2DArray()
    message.header = header
    message.detections = [_detection(item, header, id_format) for item in answer.items]
    return message


def label_info(labels: Sequence[str], threshold: float, stamp: Time) -> LabelInfo:
    """Fill the LabelInfo message of a pipeline: class_id is the place in `labels`."""
    message = LabelInfo()
    message.header.stamp = stamp
    message.threshold = float(threshold)
    message.class_map = [VisionClass(class_id=index, class_name=label) for index, label in enumerate(labels)]
    return message


def regions(message: Detection2DArray, most: int) -> tuple[Region, ...]:
    """Return the boxes of another detector as regions, at most `most`, those with the best scores, in their order.

    Boxes that are not finite are left out; a box without hypotheses has no label.
    """
    boxes = [region for item in message.detections if (region := to_region(item)) is not None]
    if len(boxes) <= most:
        return tuple(boxes)
    best = sorted(range(len(boxes)), key=lambda i: -(boxes[i].score or 0.0))[:most]
    return tuple(boxes[i] for i in sorted(best))


def timing(stages_ms: Mapping[str, float]) -> Float64MultiArray:
    """Fill the timing of one answered image, in milliseconds in the order of TIMED_STAGES; NaN where unknown."""
    stages = len(TIMED_STAGES)
    layout = MultiArrayLayout(dim=[MultiArrayDimension(label=_TIMING_LABEL, size=stages, stride=stages)])
    return Float64MultiArray(layout=layout, data=[float(stages_ms.get(stage, math.nan)) for stage in TIMED_STAGES])


def overlay(result: Result, header: Header) -> Image:
    """Draw the answer into a copy of the frame."""
    canvas = result.frame.rgb().copy()
    if result.classification is not None:
        _caption(canvas, _words(result.classification.hypotheses), (4, 16))
    for item in result.detections.items if result.detections is not None else ():
        x0, y0, x1, y1 = (round(value) for value in item.box_xyxy_px)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), _BOX_COLOUR, 2)
        name = f"{item.id} {_words(item.hypotheses)}" if item.id else _words(item.hypotheses)
        _caption(canvas, name, (x0, max(12, y0 - 4)))
    return image(canvas, "rgb8", header)


def image(pixels: Pixels, encoding: str, header: Header) -> Image:
    """Fill an Image from contiguous pixels; array.array is the only form that every rclpy takes fast."""
    message = Image()
    message.header = header
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding
    message.step = pixels.size // pixels.shape[0]
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(pixels).data.cast("B"))
    message.data = data
    return message


def _hypothesis(hypothesis: Hypothesis, id_format: str) -> ObjectHypothesis:
    message = ObjectHypothesis()
    message.class_id = class_id(hypothesis, id_format)
    message.score = float(hypothesis.score)
    return message


def _detection(item: Detection, header: Header, id_format: str) -> Detection2D:
    message = Detection2D()
    message.header = header
    message.id = item.id
    x0, y0, x1, y1 = item.box_xyxy_px
    box = message.bbox
    box.center.position.x, box.center.position.y = (x0 + x1) / 2, (y0 + y1) / 2
    box.size_x, box.size_y = float(x1 - x0), float(y1 - y0)
    message.results = [_with_pose(hypothesis, id_format) for hypothesis in item.hypotheses]
    return message


def _with_pose(hypothesis: Hypothesis, id_format: str) -> ObjectHypothesisWithPose:
    message = ObjectHypothesisWithPose()
    message.hypothesis = _hypothesis(hypothesis, id_format)
    return message


def _words(hypotheses: Sequence[Hypothesis]) -> str:
    return f"{hypotheses[0].label} {hypotheses[0].score:.2f}" if hypotheses else "-"


def _caption(canvas: Pixels, text: str, at_px: tuple[int, int]) -> None:
    cv2.putText(canvas, text, at_px, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(canvas, text, at_px, cv2.FONT_HERSHEY_SIMPLEX, 0.45, _TEXT_COLOUR, 1, cv2.LINE_AA)
