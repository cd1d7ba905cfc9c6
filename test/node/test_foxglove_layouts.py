"""config/foxglove_*.json: panels and keys that Foxglove has, and topics and statuses that the node publishes."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builtin_interfaces.msg import Time

from lisard_ros.bundle import read
from lisard_ros.node import diagnostics
from lisard_ros.node.diagnostics import CameraView
from lisard_ros.node.frame_counters import Counts

ROOT = Path(__file__).resolve().parents[2]
LAYOUTS = sorted((ROOT / "config").glob("foxglove_*.json"))
# Panel type -> the keys of its settings, as the sources of Lichtblick 1.28 name them (packages/suite-base/src/panels),
# which continues the last Foxglove Studio with open sources.
KEYS = {
    "Image": {"imageMode"},
    "DiagnosticSummary": {"minLevel", "pinnedIds", "topicToRender", "hardwareIdFilter", "sortByLevel"},
    "DiagnosticStatusPanel": {"topicToRender", "selectedHardwareId", "selectedName", "numericPrecision"},
    "RawMessages": {"topicPath", "diffEnabled", "diffMethod", "diffTopicPath", "expansion", "fontSize"},
    "Plot": {"paths", "showLegend", "legendDisplay", "isSynced", "xAxisVal", "followingViewWidth", "minYValue"},
}
IMAGE_KEYS = {"imageTopic", "calibrationTopic", "annotations", "synchronize"}
PATH_KEYS = {"value", "enabled", "label", "color", "timestampMethod", "showLine", "lineSize"}
TITLE = "foxglovePanelTitle"


def layout(path: Path) -> Any:
    """A layout as Foxglove reads it."""
    return json.loads(path.read_text(encoding="utf-8"))


def shown(split: Any) -> Iterator[str]:
    """The ids of the panels in a tree of splits."""
    if isinstance(split, str):
        yield split
        return
    assert set(split) <= {"direction", "first", "second", "splitPercentage"}
    assert split["direction"] in ("row", "column")
    yield from shown(split["first"])
    yield from shown(split["second"])


@pytest.mark.parametrize("path", LAYOUTS, ids=lambda path: path.stem)
def test_panels_and_their_settings_are_known_to_foxglove(path: Path) -> None:
    content = layout(path)
    assert sorted(shown(content["layout"])) == sorted(content["configById"])
    for name, settings in content["configById"].items():
        assert set(settings) <= KEYS[name.partition("!")[0]] | {TITLE}, name
        assert set(settings.get("imageMode", {})) <= IMAGE_KEYS, name
        assert all(set(one) <= PATH_KEYS for one in settings.get("paths", [])), name


def test_the_live_layout_names_topics_that_the_node_publishes() -> None:
    policy = ElementTree.parse(ROOT / "config/sros2_policy.xml").getroot().iter("topics")
    published = {
        re.sub(r"^~/camera/", "/perception/front/", (entry.text or "").strip())
        for group in policy
        if "publish" in group.attrib
        for entry in group
    }
    text = (ROOT / "config/foxglove_live.json").read_text(encoding="utf-8")
    named = set(re.findall(r'"(?:imageTopic|topicPath|topicToRender|value)": "([^".]+)', text))
    assert len(named) == 4 and named <= published


def test_the_live_layout_selects_a_status_of_the_node() -> None:
    panel = layout(ROOT / "config/foxglove_live.json")["configById"]["DiagnosticStatusPanel!camera"]
    camera = CameraView("front", "/front/image_raw", "best_effort", Counts(), {}, 0.0)
    bundle = read(ROOT / "models/traffic_signs").manifest.name
    (status,) = diagnostics.to_message([diagnostics.camera_status(camera)], "/perception", bundle, Time()).status
    assert (panel["selectedHardwareId"], panel["selectedName"]) == (status.hardware_id, status.name)
