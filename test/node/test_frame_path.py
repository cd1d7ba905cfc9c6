"""A frame is followed from the subscription to the answer by going to definitions, without meeting a callback."""

from __future__ import annotations

import ast

import pytest
from peers import ROOT

PATH = ("image_subscriber", "box_subscriber", "latest_frames", "inference_worker", "camera_publisher", "session")


@pytest.mark.parametrize("module", PATH)
def test_the_path_of_a_frame_stores_no_callback(module: str) -> None:
    text = (ROOT / f"lisard_ros/node/{module}.py").read_text(encoding="utf-8")
    assert "Callable" not in text
    assert not [node.lineno for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Lambda)]
