"""The shipped bundles' printed patches on live frames: what the node publishes is what the pipeline gives for them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
from peers import ROOT, NodeProcess, Peer, image, stamp_ns, wait_until
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification, Detection2DArray

from lisard_ros import bundle as bundles
from lisard_ros import injection
from lisard_ros.bags.reader import open_bag
from lisard_ros.frames import Frame, Result
from lisard_ros.image_files.folders import read_rgb
from lisard_ros.inference.injected import Injection
from lisard_ros.inference.pipeline import Pipeline, open_pipeline

MODELS = ROOT / "models"
PATCHES = ("attack/patch_object", "attack/patch_fixed", "patch")
SCENES = ("road_signs", ("traffic_signs", "road_signs"))
Images = list[np.ndarray]
# Class and corners of a box, or the class of an image; boxes of the node are float64, of the pipeline float32.
Answer = list[tuple[str, tuple[float, ...]]]


def scenes(count: int) -> Images:
    """Recorded road images with signs, RGB."""
    with open_bag(ROOT / "data" / "road_signs") as bag:
        return [frame.frame.rgb() for frame in islice(bag.frames(), count) if frame.frame]


def signs(count: int) -> Images:
    """One image of each of some tracks, RGB."""
    files = sorted((ROOT / "data" / "gtsrb_tracks").glob("*/*.png"))
    return [np.ascontiguousarray(read_rgb(file)) for file in files[:: len(files) // count][:count]]


def published(message: Any) -> Answer:
    """What a message of the node answers."""
    if isinstance(message, Classification):
        return [(message.results[0].class_id, ())]
    boxes = []
    for one in message.detections:
        at, size = one.bbox.center.position, (one.bbox.size_x / 2, one.bbox.size_y / 2)
        corners = (at.x - size[0], at.y - size[1], at.x + size[0], at.y + size[1])
        boxes.append((one.results[0].hypothesis.class_id, corners))
    return boxes


def given(result: Any) -> Answer:
    """What a pipeline answers."""
    assert isinstance(result, Result), result
    if result.classification is not None:
        return [(result.classification.hypotheses[0].label, ())]
    assert result.detections is not None
    return [(item.hypotheses[0].label, item.box_xyxy_px) for item in result.detections.items]


def injections(pipeline: Pipeline, names: tuple[str, ...]) -> dict[str, Injection]:
    """The injections as the node's process makes them, with its seed."""
    made = {}
    for name in names:
        first = pipeline.detector
        attacked = first if first is not None and name.startswith("detector/") else pipeline
        sources = injection.AttackSources(engine=attacked.choice.backend, threads=1)
        bundle_in_front = None if first is None else first.bundle
        made[name] = injection.make_staged(pipeline.bundle, bundle_in_front, name, sources=sources)
    return made


@pytest.mark.parametrize(
    ("name", "detector", "names"),
    [
        ("traffic_signs", "", PATCHES),
        ("road_signs", "", PATCHES),
        ("traffic_signs", "road_signs", ("detector/attack/patch_object", "attack/patch_object")),
    ],
    ids=["classifier", "detector", "two stages"],
)
def test_live_frames_with_the_patch_are_answered_as_the_pipeline_answers_them(
    peer: Peer, start: Callable[..., NodeProcess], name: str, detector: str, names: tuple[str, ...]
) -> None:
    images = signs(12) if name == "traffic_signs" and not detector else scenes(12)
    first = open_pipeline(bundles.read(MODELS / detector), threads=1, precision="fp32") if detector else None
    pipeline = open_pipeline(bundles.read(MODELS / name), threads=1, precision="fp32", detector=first)
    kind = Classification if name == "traffic_signs" and not detector else Detection2DArray
    node_name = "/patched/perception"
    diagnosis = peer.diagnosis(node_name)
    parameters: dict[str, object] = {"detector": MODELS / detector} if detector else {}
    node = start(
        "/patched",
        bundle=MODELS / name,
        image_topics=["/p/image_raw"],
        precision="fp32",
        threads=1,
        diagnostics_period_s=0.2,
        injection__enabled=True,
        injection__attacks=list(names),
        injection__max_share=1.0,
        **parameters,
    )
    node.said("active: ")
    camera = peer.publisher(Image, "/p/image_raw")
    end = "classification" if kind is Classification else "detections"
    clean = peer.collect(kind, f"{node_name}/p/{end}")
    attacked = {name: peer.collect(kind, f"{node_name}/p/attacked/{name.replace('/', '_')}/{end}") for name in names}
    wait_until(lambda: diagnosis.values.get("injection", {}).get("process") == "running", "the injection process")

    def counts() -> dict[str, int]:
        values = diagnosis.values["injection"]
        return {key: int(values.get(key, 0)) for key in ("offered", "pending", "failed", "answered", "replaced")}

    for number, pixels in enumerate(images, 1):
        camera.publish(image(pixels, number))
        wait_until(lambda n=number: counts()["offered"] == n * len(names) and not counts()["pending"], f"{counts()}")
    assert counts()["failed"] == counts()["replaced"] == 0, diagnosis.values["injection"]
    heard = {name: {stamp_ns(message): published(message) for message in attacked[name]} for name in names}
    made, changed = injections(pipeline, names), dict.fromkeys(names, 0)
    for number, pixels in enumerate(images, 1):
        frame = Frame(pixels, "rgb", number, "optical", "p")
        (before,) = pipeline.run([frame])
        for name in names:
            (expected,) = pipeline.attack([frame], made[name])
            if not expected.applied or expected.no_regions:
                assert number not in heard[name], "an image without an object has no answer"
                continue
            answer = heard[name][number]
            wanted = given(expected.outcome)
            assert [label for label, _ in answer] == [label for label, _ in wanted]
            np.testing.assert_allclose([box for _, box in answer], [box for _, box in wanted], atol=0.01)
            changed[name] += [label for label, _ in answer] != [label for label, _ in given(before)]
    assert len(clean) == len(images) and min(changed.values()) > 0, changed
    for name in names:
        said = int(diagnosis.values["injection"].get(f"answered_{name}", 0))
        assert said == len(attacked[name]) == len(heard[name]) > 0, "each answer is counted, and each arrives"
    peer.node.destroy_publisher(camera)
    assert node.stop() == 0 and "Traceback" not in node.log
