"""From messages to what the page shows: small JPEG images, boxes or classes. Duck-typed for rclpy and rosbags."""

from __future__ import annotations

from typing import Any

import cv2

from lisard_ros import images
from lisard_ros.errors import ImageError
from lisard_ros.message_fields import stamp_ns
from lisard_ros.watch.views import ShownAnswer, ShownBox, ShownImage

WIDEST_PX = 640
JPEG_QUALITY = 80
MOST_BOXES, MOST_CLASSES = 100, 3


def to_image(message: Any, camera: str) -> ShownImage:
    """Shrink an Image or CompressedImage to the page's width.

    Raises:
        ImageError: It cannot be decoded.
    """
    frame = images.to_frame(message, camera)
    scale = min(1.0, WIDEST_PX / frame.width_px)
    size = (round(frame.width_px * scale), max(1, round(frame.height_px * scale)))
    # Shrunk before its colours are turned: that is cheaper.
    small = frame.image if scale == 1.0 else cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
    bgr = small if frame.colour != "rgb" else cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    done, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise ImageError("an image cannot be shown", found=f"{frame.width_px} x {frame.height_px}", expected="an image")
    return ShownImage(stamp_ns(message.header), frame.width_px, frame.height_px, jpeg.tobytes())


def to_answer(message: Any) -> ShownAnswer:
    """Read a Detection2DArray or a Classification; boxes that are not finite are left out."""
    stamp = stamp_ns(message.header)
    if hasattr(message, "detections"):
        regions = [images.to_region(one) for one in message.detections[:MOST_BOXES]]
        boxes = [
            ShownBox(region.box_xyxy_px, region.label or "", region.score or 0.0, region.id)
            for region in regions
            if region is not None and region.box_xyxy_px is not None
        ]
        return ShownAnswer(stamp, tuple(boxes))
    found = [(str(one.class_id), float(one.score)) for one in message.results[:MOST_CLASSES]]
    return ShownAnswer(stamp, classes=tuple(found))
