"""Small recordings, written with rosbags: raw and compressed images, labels, boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lisard_ros.bags.messages import CLASSIFICATION, COMPRESSED_IMAGE, DETECTIONS, IMAGE, typestore
from lisard_ros.demo.bags import BagWriter, JpegPicture, LabelledBox, boxes_message, header


@dataclass(frozen=True)
class Recording:
    """Writes bags below a folder."""

    folder: Path

    def write(self, name: str, messages: Sequence[tuple[str, str, int, Any]], *, mcap: bool = True) -> Path:
        """messages: (topic, type, stamp in ns, message or serialised bytes)."""
        store = typestore()
        path = self.folder / name
        with BagWriter(path, store, mcap=mcap) as bag:
            for topic, kind, stamp_ns, message in messages:
                if isinstance(message, bytes):
                    bag.write_raw(topic, kind, stamp_ns, message)
                else:
                    bag.write(topic, kind, stamp_ns, message)
        return path

    @staticmethod
    def raw(rgb: np.ndarray, stamp_ns: int, topic: str = "/front/image_raw", missing_bytes: int = 0) -> Any:
        """An rgb8 image, possibly cut short."""
        store = typestore()
        height, width = rgb.shape[:2]
        data = rgb.reshape(-1)
        message = store.types[IMAGE](
            header=header(store, stamp_ns, "front"), height=height, width=width, encoding="rgb8", is_bigendian=0,
            step=3 * width, data=data[: len(data) - missing_bytes],
        )
        return topic, IMAGE, stamp_ns, message

    @staticmethod
    def png(rgb: np.ndarray, stamp_ns: int, topic: str = "/front/image_raw/compressed") -> Any:
        """A losslessly compressed image."""
        store = typestore()
        data = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))[1].reshape(-1)
        message = store.types[COMPRESSED_IMAGE](header=header(store, stamp_ns, "front"), format="png", data=data)
        return topic, COMPRESSED_IMAGE, stamp_ns, message

    @staticmethod
    def label(stamp_ns: int, *names: str, topic: str = "/labels") -> Any:
        """The class of the whole frame; the last name has the highest score."""
        store = typestore()
        hypothesis = store.types["vision_msgs/msg/ObjectHypothesis"]
        results = [hypothesis(class_id=name, score=(n + 1) / len(names)) for n, name in enumerate(names)]
        message = store.types[CLASSIFICATION](header=header(store, stamp_ns, "front"), results=results)
        return topic, CLASSIFICATION, stamp_ns, message

    @staticmethod
    def boxes(stamp_ns: int, *boxes: tuple[str, float, float, float, float], topic: str = "/boxes") -> Any:
        """Boxes as (label, x, y, width, height)."""
        store = typestore()
        labelled = tuple(LabelledBox(str(n), *box) for n, box in enumerate(boxes))
        message = boxes_message(store, JpegPicture(stamp_ns, "front", b"", labelled))
        return topic, DETECTIONS, stamp_ns, message


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """A writer of bags below the test's own folder."""
    return Recording(tmp_path)
