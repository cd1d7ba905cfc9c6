"""A node of your own that reads the answers of perception_node.

    python examples/read_answers.py /perception/camera/detections [--count N]

Prints a line for each message. Exit status: 0 after --count messages or Ctrl-C, 2 where ROS 2 is missing or no message
comes.
"""

from __future__ import annotations

import argparse
import sys
import time

PATIENCE_S = 60.0


def main() -> int:
    """Subscribe and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("topic", help="topic of answers; its last part is detections or classification")
    parser.add_argument("--count", type=int, default=0, help="end after so many messages (default: go on)")
    args = parser.parse_args()
    try:
        import rclpy
        from vision_msgs.msg import Classification, Detection2DArray
    except ImportError as error:
        print(f"read_answers: error: found {error}, expected ROS 2; run `make setup`, or source ROS", file=sys.stderr)
        return 2

    def on_detections(message: Detection2DArray) -> None:
        """One box has hypotheses; the best class is the first."""
        boxes = [(one.results[0].hypothesis, one.bbox) for one in message.detections]
        shown = [f"{best.class_id} {best.score:.2f} at x {box.center.position.x:.0f}" for best, box in boxes]
        report(message, shown)

    def on_classification(message: Classification) -> None:
        """The classes of a whole image, the likeliest first."""
        report(message, [f"{best.class_id} {best.score:.2f}" for best in message.results[:1]])

    seen = 0

    def report(message: Detection2DArray | Classification, answers: list[str]) -> None:
        # The header is that of the image: join with the image, or with other sensors, by its stamp.
        nonlocal seen
        seen += 1
        stamp = message.header.stamp
        print(f"{stamp.sec}.{stamp.nanosec:09d}: {', '.join(answers) or 'nothing found'}", flush=True)

    rclpy.init()
    node = rclpy.create_node("read_answers")
    if args.topic.endswith("/classification"):
        node.create_subscription(Classification, args.topic, on_classification, 10)
    else:
        node.create_subscription(Detection2DArray, args.topic, on_detections, 10)
    deadline = time.monotonic() + PATIENCE_S
    try:
        while rclpy.ok() and not (args.count and seen >= args.count):
            rclpy.spin_once(node, timeout_sec=0.2)
            if not seen and time.monotonic() > deadline:
                publishers = node.count_publishers(args.topic)
                print(
                    f"read_answers: error: {args.topic}: found no message and {publishers} publishers within "
                    f"{PATIENCE_S:.0f} s, expected a node that answers images; check the topic and ROS_DOMAIN_ID",
                    file=sys.stderr,
                )
                return 2
    except KeyboardInterrupt:
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
