"""The message types for reading bags: the same interface as the package that the node is built with."""

from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from lisard_ros.bags.messages import DEFINITIONS, typestore

MESSAGES = Path(__file__).resolve().parents[3] / "interfaces/vision_msgs/msg"


def test_the_definitions_are_those_of_the_interface_package():
    built = get_typestore(Stores.ROS2_HUMBLE)
    for path in sorted(MESSAGES.glob("*.msg")):
        built.register(get_types_from_msg(path.read_text(encoding="utf-8"), f"vision_msgs/msg/{path.stem}"))
    ours = typestore()
    assert {path.stem for path in MESSAGES.glob("*.msg")} == set(DEFINITIONS)
    for name in DEFINITIONS:
        kind = f"vision_msgs/msg/{name}"
        assert ours.hash_rihs01(kind) == built.hash_rihs01(kind)
