"""The content of bundle.json: what `validate` refuses, and that equal manifests are equal bytes."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.bundle import manifest as m
from lisard_ros.errors import BundleError

replace = msgspec.structs.replace


@pytest.fixture
def good(tiny: Any) -> m.Manifest:
    """A manifest with every optional part."""
    manifest: m.Manifest = tiny.armed().manifest
    return replace(
        manifest,
        architecture=m.Architecture(name="resnet", arguments={"width": 32}),
        twin="twin.safetensors",
        roi_classes=("sign",),
        roi_groups={"sign": ("red", "green")},
        roi_margin=0.1,
    )


def test_a_good_manifest_round_trips(good: m.Manifest) -> None:
    m.validate(good, "here")
    assert m.decode(m.encode(good), "here") == good
    assert m.encode(m.decode(m.encode(good), "here")) == m.encode(good)


def spec(**changes: Any) -> m.InputSpec:
    """An input of 16x16 with changes."""
    return m.InputSpec(**{"width": 16, "height": 16, **changes})


DETECTION = {"task": "detection", "self_test": None}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"input": spec(width=0)}, "input size out of range"),
    ({"input": spec(height=m.MAX_SIDE_PX + 1)}, "input size out of range"),
    ({"input": spec(mean=(0.0, math.nan, 0.0))}, "not finite"),
    ({"input": spec(std=(1.0, math.inf, 1.0))}, "not finite"),
    ({"input": spec(std=(1.0, 0.0, 1.0))}, "std not positive"),
    ({"input": spec(pad=256)}, "pad out of range"),
    ({"name": ""}, "name is empty"),
    ({"labels": ()}, "no labels"),
    ({"labels": ("red", "green", "red")}, "labels repeat"),
    ({"labels": ("red", "green", " ")}, "blank label"),
    ({"roi_groups": {"sign": ("red", "purple")}}, "roi_groups names labels that the bundle does not have"),
    ({"roi_margin": -0.1}, "roi_margin out of range"),
    ({"roi_margin": math.nan}, "roi_margin out of range"),
    (DETECTION, "detection without `decode`"),
    ({"decode": m.Decode(layout="cxcywh_classes_first")}, "classification with `decode`"),
    ({**DETECTION, "decode": m.Decode(layout="cxcywh_classes_first", nms_iou=0.0)}, "decode out of range"),
    ({**DETECTION, "decode": m.Decode(layout="cxcywh_classes_first", score_threshold=1.1)}, "decode out of range"),
    ({**DETECTION, "decode": m.Decode(layout="cxcywh_classes_first", max_detections=0)}, "decode out of range"),
    ({"models": ()}, "no models"),
    ({"models": (m.ModelFile(file="a"), m.ModelFile(file="b"))}, "two models of one precision and flavour"),
    ({"architecture": None}, "twin without `architecture`"),
    ({"task": "detection", "decode": m.Decode(layout="cxcywh_classes_first")}, "self-test labels of a detector"),
]


@pytest.mark.parametrize(("changes", "what"), WRONG)
def test_what_contradicts_itself_is_refused(good: m.Manifest, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(BundleError) as caught:
        m.validate(replace(good, **changes), "here")
    message = str(caught.value)
    assert message.startswith("here: ") and what in message and ", expected " in message and "; " in message


@pytest.mark.parametrize("name", ["clean", "noise", "all", "none", "corruption/fog/3", "detector/x", "a,b", " "])
def test_a_perturbation_must_not_take_a_reserved_name(good: m.Manifest, name: str) -> None:
    """Regression: a perturbation named `noise` was listed, but Gaussian noise was injected in its place."""
    first, *others = good.perturbations
    with pytest.raises(BundleError, match="perturbation names that mean something else"):
        m.validate(replace(good, perturbations=(replace(first, name=name), *others)), "here")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"eps_255": 0.0}, "budget out of range"),
        ({"eps_255": 256.0}, "budget out of range"),
        ({"eps_255": math.nan}, "budget out of range"),
        ({"name": "universal"}, "perturbation names repeat"),
    ],
)
def test_perturbations_are_checked(good: m.Manifest, changes: dict[str, Any], what: str) -> None:
    first, *others = good.perturbations
    with pytest.raises(BundleError, match=what):
        m.validate(replace(good, perturbations=(replace(first, **changes), *others)), "here")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"labels": ()}, "without images"),
        ({"labels": (0, 3)}, "label out of range"),
        ({"labels": (-1,)}, "label out of range"),
        ({"suite": ()}, "without a suite"),
        ({"suite": (m.SelfTestCase(injection="clean", min_accuracy=1.1),)}, "limit out of range"),
        ({"suite": (m.SelfTestCase(injection="clean", min_accuracy=math.nan),)}, "limit out of range"),
        ({"suite": (m.SelfTestCase(injection="clean", min_accuracy=0.5),) * 2}, "cases repeat: found \\['clean'\\]"),
        (
            {"labels": (0, (m.TrueBox(label=0, box_xyxy_px=(0, 0, 4, 4)),))},
            "labels of a classifier: found 1 lists of boxes, expected a class index for each image",
        ),
    ],
)
def test_the_self_test_is_checked(good: m.Manifest, changes: dict[str, Any], what: str) -> None:
    assert good.self_test is not None
    with pytest.raises(BundleError, match=what):
        m.validate(replace(good, self_test=replace(good.self_test, **changes)), "here")


def true_box(*corners: float, label: int = 0) -> tuple[m.TrueBox, ...]:
    """The boxes of one reference image: a single one."""
    x0, y0, x1, y1 = corners
    return (m.TrueBox(label=label, box_xyxy_px=(x0, y0, x1, y1)),)


def test_the_self_test_of_a_detector_round_trips(tiny: Any) -> None:
    manifest = tiny.armed_detector().manifest
    assert m.decode(m.encode(manifest), "here") == manifest
    assert manifest.self_test.classes == () and [len(boxes) for boxes in manifest.self_test.boxes] == [2] * 4


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        ((), "without images"),
        ((0, 1), "labels of a detector: found 2 class indices, expected a list of true boxes"),
        ((true_box(0, 0, 4, 4), 1), "labels of a detector: found 1 class indices"),
        (((), ()), "without a true box"),
        ((true_box(0, 0, 4, 4, label=3),), "label out of range: found \\[3\\], expected 0..2"),
        ((true_box(0, 0, 4, 4, label=-1),), "label out of range"),
        ((true_box(4, 0, 4, 4),), "boxes without an area"),
        ((true_box(0, 5, 4, 4),), "boxes without an area"),
        ((true_box(-1, 0, 4, 4),), "boxes without an area"),
        ((true_box(0, 0, math.inf, 4),), "boxes without an area"),
        ((true_box(0, 0, math.nan, 4),), "boxes without an area"),
    ],
)
def test_the_self_test_of_a_detector_is_checked(tiny: Any, labels: tuple[Any, ...], what: str) -> None:
    good = tiny.armed_detector().manifest
    with pytest.raises(BundleError, match=what):
        m.validate(replace(good, self_test=replace(good.self_test, labels=labels)), "here")


@pytest.mark.parametrize(
    "entry",
    [
        {"label": 0},
        {"label": 0, "box_xyxy_px": [0, 0, 4]},
        {"label": "red", "box_xyxy_px": [0, 0, 4, 4]},
        {"label": 0, "box_xyxy_px": [0, 0, 4, 4], "score": 1.0},
    ],
)
def test_a_true_box_of_another_shape_breaks_the_schema(tiny: Any, entry: dict[str, Any]) -> None:
    bundle = tiny.armed_detector()
    content = msgspec.json.decode(bundle.manifest_bytes)
    content["self_test"]["labels"][0] = [entry]
    with pytest.raises(BundleError, match="breaks the bundle schema: .*labels.*"):
        m.decode(msgspec.json.encode(content), "here")


def test_every_file_that_is_used_is_known(good: m.Manifest) -> None:
    files = {"model.onnx", "twin.safetensors", "stored.npz", "universal.npz", "references.npz"}
    assert set(m.referenced_files(good)) == files


@given(st.dictionaries(st.text("ab", max_size=3), st.floats(-1e9, 1e9), max_size=5))
def test_the_order_of_a_mapping_does_not_change_the_bytes(metrics: dict[str, float]) -> None:
    def bytes_of(values: dict[str, float]) -> bytes:
        card = m.TrainingCard(metrics=values)
        return m.encode(
            m.Manifest(
                name="x",
                task="classification",
                labels=("a",),
                input=spec(),
                output=m.OutputSpec(name="o", activation="none"),
                models=(m.ModelFile(file="f"),),
                card=card,
            )
        )

    assert bytes_of(metrics) == bytes_of(dict(reversed(metrics.items())))


def test_a_release_that_does_not_know_a_layout_names_it(good: m.Manifest) -> None:
    """New layouts leave the schema's version alone, because an older release refuses them with their name."""
    data = m.encode(good).replace(b'"decode": null', b'"decode": {"layout": "of_tomorrow"}')
    with pytest.raises(BundleError, match="breaks the bundle schema: found Invalid enum value 'of_tomorrow'"):
        m.decode(data, "here")
