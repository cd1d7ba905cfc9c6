"""The peer of bench/node_load.py: what an engineer writes in an afternoon with rclpy, OpenCV and ONNX Runtime.

One callback for each camera, sensor-data QoS, one session with ONNX Runtime's own thread settings, OpenCV's NMS. It
imports nothing of this project, and reads labels and thresholds from the bundle's JSON.
Run: python bench/plain_node.py models/road_signs THREADS TOPIC [TOPIC ...]; answers on /plain/TOPIC.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Classification, Detection2D, Detection2DArray, ObjectHypothesis, ObjectHypothesisWithPose


class PlainNode(Node):
    """Answers each image in its callback."""

    def __init__(self, folder: Path, file: str, threads: int, topics: list[str]) -> None:
        super().__init__("plain")
        self.info = json.loads((folder / "bundle.json").read_text())
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = ort.InferenceSession(str(folder / file), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.answer_type = Detection2DArray if self.info["task"] == "detection" else Classification
        for topic in topics:
            publisher = self.create_publisher(self.answer_type, "/plain" + topic, 10)
            kind = CompressedImage if topic.endswith("/compressed") else Image
            self.create_subscription(
                kind, topic, lambda m, p=publisher: p.publish(self.answer(m)), qos_profile_sensor_data
            )

    def answer(self, message: Image | CompressedImage) -> Detection2DArray | Classification:
        if isinstance(message, CompressedImage):
            rgb = cv2.cvtColor(cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        else:
            rgb = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        size = self.info["input"]["width"]
        if self.answer_type is Classification:
            return self.classes(self.run(cv2.resize(rgb, (size, size))), message)
        scale = size / max(rgb.shape[:2])
        small = cv2.resize(rgb, None, fx=scale, fy=scale)
        top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
        canvas = np.full((size, size, 3), self.info["input"]["pad"], np.uint8)
        canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
        return self.boxes(self.run(canvas), message, scale, left, top)

    def run(self, rgb: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(rgb.transpose(2, 0, 1)[None], np.float32) / 255
        return self.session.run(None, {self.input: x})[0][0]

    def classes(self, logits: np.ndarray, message: Image | CompressedImage) -> Classification:
        scores = np.exp(logits - logits.max())
        scores /= scores.sum()
        best = np.argsort(-scores)[:5]
        found = [ObjectHypothesis(class_id=self.info["labels"][i], score=float(scores[i])) for i in best]
        return Classification(header=message.header, results=found)

    def boxes(
        self, out: np.ndarray, message: Image | CompressedImage, scale: float, left: int, top: int
    ) -> Detection2DArray:
        probabilities = 1 / (1 + np.exp(-out[:, 4:]))
        scores = probabilities[:, :1] * probabilities[:, 1:]
        labels, best = scores.argmax(1), scores.max(1)
        keep = best >= self.info["decode"]["score_threshold"]
        corners, labels, best = (out[keep, :4] - [left, top, left, top]) / scale, labels[keep], best[keep]
        wide = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        answer = Detection2DArray(header=message.header)
        for i in cv2.dnn.NMSBoxesBatched(
            wide.tolist(), best.tolist(), labels.tolist(), 0.0, self.info["decode"]["nms_iou"]
        ):
            found = Detection2D(header=message.header, results=[ObjectHypothesisWithPose()])
            found.results[0].hypothesis.class_id = self.info["labels"][labels[i]]
            found.results[0].hypothesis.score = float(best[i])
            found.bbox.center.position.x, found.bbox.center.position.y = (wide[i, :2] + wide[i, 2:] / 2).tolist()
            found.bbox.size_x, found.bbox.size_y = wide[i, 2:].tolist()
            answer.detections.append(found)
        return answer


def main() -> int:
    """Spin until interrupted. The first argument is FOLDER or FOLDER:FILE of another ONNX file in it."""
    folder, _, file = sys.argv[1].partition(":")
    rclpy.init(args=[])
    node = PlainNode(Path(folder), file or "model.onnx", int(sys.argv[2]), sys.argv[3:])
    print("ready", flush=True)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
