"""Bytes that are no message of their type, sent as DDS samples: the node refuses or skips them and goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from peers import NodeProcess, Peer, image, stamped, wait_until
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

HEAD = b"\x00\x01\x00\x00"  # of CDR, little endian
HUGE = b"\xff\xff\xff\x7f"
NOT_UTF_8 = b"\xff\xfe\xfd\xfc"


def boxes(stamp_ns: int) -> Detection2DArray:
    """One box in an image of 32x24 pixels."""
    detection = Detection2D(id="abcd")
    detection.bbox.size_x = detection.bbox.size_y = 9.0
    detection.bbox.center.position.x = detection.bbox.center.position.y = 9.0
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = "sign"
    detection.results.append(hypothesis)
    return stamped(Detection2DArray(detections=[detection]), stamp_ns)


def damaged(data: bytes, *texts: bytes) -> list[bytes]:
    """Cut short, lengths beyond the end, texts that are not UTF-8, and bytes of nothing."""
    return [
        *(data[:length] for length in (6, 60, len(data) - 5)),
        *(data[:at] + HUGE + data[at + 4 :] for at in range(4, min(len(data) - 4, 48), 4)),
        *(data.replace(text, NOT_UTF_8) for text in texts),
        HEAD,
        HEAD + bytes(range(256)),
    ]


def test_the_node_goes_on_after_samples_that_are_no_message(
    peer: Peer, bundle: Path, start: Callable[..., NodeProcess]
) -> None:
    node = start("/hostile", bundle=bundle, image_topics=["/h/image"], boxes_topic="/h/boxes", boxes_wait_ms=60000.0)
    node.said("active: ")
    answers = peer.collect(Detection2DArray, "/hostile/perception/h/detections")
    of_images, of_boxes = peer.publisher(Image, "/h/image"), peer.publisher(Detection2DArray, "/h/boxes")
    samples = [(of_images, sample) for sample in damaged(serialize_message(image((200, 0, 0), 1)), b"rgb8")]
    samples += [(of_boxes, sample) for sample in damaged(serialize_message(boxes(1)), b"sign", b"abcd")]
    for number, (publisher, sample) in enumerate(samples, start=2):
        publisher.publish(sample)
        answered = len(answers)
        of_boxes.publish(boxes(number * 10**9))
        of_images.publish(image((200, 0, 0), number * 10**9))
        wait_until(lambda before=answered: len(answers) > before, f"an answer after {sample[:60]!r}:\n{node.log}")
        assert node.process.poll() is None
    assert node.stop() == 0
