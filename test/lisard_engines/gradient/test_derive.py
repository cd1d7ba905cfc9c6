"""Gradient files of whole models: against torch's autograd, against differences, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from lisard_engines.gradient import derive
from lisard_engines.gradient.assignment import ASSIGNED_BOXES, ASSIGNED_CLASSES
from lisard_ros import bundle as bundles
from lisard_ros.attacks import BoxCriterion, Targeted, Untargeted, from_bundle, gradient_file
from lisard_ros.attacks.gradient_file import BOXES, IMAGES, LABELS, WEIGHTS
from lisard_ros.attacks.onnx_model import BOX_LOSSES
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import Decode, InputSpec, OutputSpec
from lisard_ros.errors import AttackError, BackendError, BundleError
from lisard_ros.evaluation import references
from lisard_ros.inference.preprocess import prepare

MODELS = Path(__file__).resolve().parents[3] / "models"
SAME_SIGNS = 0.995
SIDE_PX = 16


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def ready(bundle: Bundle) -> Any:
    """The bundle's attack model, its gradient built."""
    derive.provide(bundle)
    return from_bundle(bundle, threads=1)


def shipped(name: str, count: int) -> tuple[Bundle, np.ndarray, Any]:
    """A shipped bundle, its first reference images as the network meets them, and the images themselves."""
    bundle = bundles.read(MODELS / name)
    assert bundle.manifest.self_test is not None
    images = references.load(bundle, bundle.manifest.self_test).take(np.arange(count))
    return bundle, prepare([frame.rgb() for frame in images.frames], bundle.manifest.input), images


def same_signs(mine: Any, theirs: Any) -> float:
    """The share of elements of two gradients whose signs are equal."""
    return float((np.sign(np.asarray(mine)) == np.sign(np.asarray(theirs))).mean())


def test_the_shipped_classifier_as_torch_has_it() -> None:
    torch = pytest.importorskip("torch")
    from lisard_ros.attacks import from_torch
    from lisard_ros.backends.pytorch import load_network

    bundle, x, images = shipped("traffic_signs", 12)
    mine, theirs = ready(bundle), from_torch(load_network(bundle))
    labels = images.labels.astype(np.int64)
    others = (labels + 5) % len(bundle.manifest.labels)
    for criterion in (
        *(Untargeted(labels, loss) for loss in ("cross_entropy", "margin", "dlr")),
        *(Targeted(others, loss) for loss in ("cross_entropy", "margin", "dlr")),
        Targeted(others, "dlr_targeted", labels),
    ):
        ours, reference = mine.evaluate(x, criterion), theirs.evaluate(x, criterion)
        np.testing.assert_allclose(ours.loss, reference.loss, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(ours.scores, reference.scores, rtol=1e-3, atol=1e-5)
        assert same_signs(ours.gradient, reference.gradient) >= SAME_SIGNS
        asked = mine.evaluate(x, criterion, gradient=False)
        assert asked.gradient is None
        np.testing.assert_allclose(asked.loss, ours.loss, rtol=1e-5, atol=1e-5)
    tensors = mine.evaluate(torch.from_numpy(x), criterion)
    np.testing.assert_array_equal(tensors.gradient.numpy(), ours.gradient)


def test_the_shipped_detector_as_torch_has_it() -> None:
    torch = pytest.importorskip("torch")
    from lisard_ros.backends.pytorch import load_network
    from lisard_trainer.tasks.detection.attack_model import DetectorAttackModel
    from lisard_trainer.tasks.detection.attack_targets import criterion_of

    bundle, x, images = shipped("road_signs", 2)
    mine, theirs = ready(bundle), DetectorAttackModel(load_network(bundle))
    true = criterion_of(images.frames, images.truths, bundle.manifest.input)
    for loss in BOX_LOSSES:
        targets = (true.labels + 1) % 4 if loss == "mislabel" else None
        criterion = BoxCriterion(true.boxes_xyxy_px, true.labels, loss, targets)  # type: ignore[arg-type]
        ours, reference = mine.evaluate(x, criterion), theirs.evaluate(torch.from_numpy(x), criterion)
        np.testing.assert_allclose(ours.loss, reference.loss.numpy(), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(ours.scores, reference.scores.numpy())
        assert same_signs(ours.gradient, reference.gradient.numpy()) >= SAME_SIGNS


def test_rows_answer_for_boxes_as_the_trainer_assigns_them() -> None:
    """Of true boxes, of two in one place, and of a tiny one; the second image has fewer boxes than places for them."""
    torch = pytest.importorskip("torch")
    from lisard_trainer.tasks.detection import assign, geometry
    from lisard_trainer.tasks.detection.attack_targets import criterion_of
    from lisard_trainer.tasks.detection.network import STRIDES, level_sizes

    bundle, x, images = shipped("road_signs", 2)
    true = criterion_of(images.frames, images.truths, bundle.manifest.input)
    first = true.boxes_xyxy_px[:, :1]
    boxes = np.concatenate([true.boxes_xyxy_px, first + 3, first[..., [0, 1, 0, 1]] + [0, 0, 2, 2]], axis=1)
    labels = np.concatenate([true.labels, [[1, 2], [3, -1]]], axis=1)
    model = onnx.load_model_from_string(derive.provide(bundle).read_bytes())
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in (ASSIGNED_CLASSES, ASSIGNED_BOXES))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {IMAGES: x, WEIGHTS: np.ones(4, np.float32), BOXES: boxes.astype(np.float32), LABELS: labels}
    output, classes, owners = session.run([bundle.manifest.output.name, ASSIGNED_CLASSES, ASSIGNED_BOXES], feed)
    centres, strides = geometry.positions(level_sizes(*x.shape[:1:-1]), STRIDES, torch.zeros(1))
    given = (torch.from_numpy(each) for each in (output, feed[BOXES], labels))
    reference = assign.assign(*given, centres, strides)
    places = reference.rows.numpy(), reference.columns.numpy()
    expected = np.full(classes.shape, -1)
    expected[places] = reference.labels.numpy()
    np.testing.assert_array_equal(classes, expected)
    np.testing.assert_array_equal(owners[places], reference.boxes.numpy())
    assert {*labels[0], -1} == set(classes[0]) and (classes >= 0).sum() > labels.size


@pytest.mark.parametrize("kind", ["silu", "gelu"])
def test_modern_networks_as_torch_has_them(small: Any, kind: str) -> None:
    torch = pytest.importorskip("torch")
    from lisard_ros.attacks import from_torch

    network = modern(torch, kind)
    bundle = small.bundle(exported(torch, network))
    x = np.random.default_rng(0).random((5, 3, SIDE_PX, SIDE_PX)).astype(np.float32)
    criterion = Untargeted(np.array([0, 1, 2, 0, 1]))
    ours, reference = ready(bundle).evaluate(x, criterion), from_torch(network).evaluate(x, criterion)
    np.testing.assert_allclose(ours.loss, reference.loss, rtol=1e-4, atol=1e-5)
    assert same_signs(ours.gradient, reference.gradient) >= SAME_SIGNS


def modern(torch: Any, kind: str) -> Any:
    """With SiLU: inverted bottlenecks with squeeze and excitation. With GELU: patches and attention, layer norms."""
    from torch import nn

    torch.manual_seed(0)

    class Excite(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 4, 1), nn.SiLU(), nn.Conv2d(4, 12, 1))

        def forward(self, x: Any) -> Any:
            return x + x * self.layers(x).sigmoid()

    class Attend(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.LayerNorm(12), nn.LayerNorm(12)
            self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12)
            self.mlp = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))

        def forward(self, x: Any) -> Any:
            x = x.flatten(2).transpose(1, 2)
            q, k, v = self.qkv(self.first(x)).reshape(-1, 16, 3, 2, 6).permute(2, 0, 3, 1, 4).unbind(0)
            mixed = (q @ k.transpose(-1, -2) / 6**0.5).softmax(-1) @ v
            x = x + self.out(mixed.transpose(1, 2).reshape(-1, 16, 12))
            return (x + self.mlp(self.second(x))).mean(1)

    if kind == "gelu":
        return nn.Sequential(nn.Conv2d(3, 12, 4, stride=4), Attend(), nn.Linear(12, 3)).eval()
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.SiLU(),
        nn.Conv2d(8, 12, 1),
        nn.SiLU(),
        nn.Conv2d(12, 12, 5, stride=2, padding=2, groups=12),
        nn.SiLU(),
        Excite(),
        nn.MaxPool2d(3, 2, 1),
        nn.Flatten(),
        nn.Linear(48, 3),
    ).eval()


def exported(torch: Any, network: Any) -> bytes:
    """The network as an ONNX file of any batch."""
    size = {"x": {0: torch.export.Dim("n")}}
    example = torch.zeros(2, 3, SIDE_PX, SIDE_PX)
    program = torch.onnx.export(
        network,
        (example,),
        input_names=["x"],
        output_names=["out"],
        dynamic_shapes=tuple(size.values()),
        dynamo=True,
        verbose=False,
    )
    data: bytes = program.model_proto.SerializeToString()
    return data


def test_a_fixed_batch_is_filled_up(small: Any) -> None:
    x = np.random.default_rng(0).random((3, 3, SIDE_PX, SIDE_PX)).astype(np.float32)
    criterion = Untargeted([0, 1, 2])
    free = ready(small.bundle()).evaluate(x, criterion)
    for batch in (1, 2):
        fixed = ready(small.bundle(small.network(batch=batch), name=f"fixed{batch}")).evaluate(x, criterion)
        np.testing.assert_allclose(fixed.gradient, free.gradient, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(fixed.loss, free.loss, rtol=1e-5)


def test_mean_and_deviation_are_part_of_the_gradient(small: Any) -> None:
    spec = InputSpec(width=SIDE_PX, height=SIDE_PX, mean=(0.4, 0.5, 0.3), std=(0.2, 0.25, 0.5))
    x = np.random.default_rng(0).random((2, 3, SIDE_PX, SIDE_PX)).astype(np.float32)
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (spec.mean, spec.std))
    plain = ready(small.bundle()).evaluate((x - mean) / std, Untargeted([0, 1]))
    normed = ready(small.bundle(name="normed", input=spec)).evaluate(x, Untargeted([0, 1]))
    np.testing.assert_allclose(normed.loss, plain.loss, rtol=1e-5)
    np.testing.assert_allclose(normed.gradient, plain.gradient / std, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["softmax", "probabilities"])
def test_a_model_that_gives_scores_itself(small: Any, kind: str) -> None:
    """A softmax at the end is taken off; of other scores the logarithm stands for logits."""
    model = onnx.load_model_from_string(small.network(weight=0.2))
    last = model.graph.node[-1]
    last.output[0] = "logits"
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["soft" if kind != "softmax" else "out"]))
    if kind != "softmax":
        model.graph.node.append(helper.make_node("Reshape", ["soft", "shape"], ["out"]))
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 3], np.int64), "shape"))
    own = small.bundle(model.SerializeToString(), name="own", output=OutputSpec(name="out", activation="none"))
    x = np.random.default_rng(0).uniform(0.4, 0.6, (3, 3, SIDE_PX, SIDE_PX)).astype(np.float32)
    expected = ready(small.bundle(small.network(weight=0.2))).evaluate(x, Untargeted([0, 1, 2]))
    answer = ready(own).evaluate(x, Untargeted([0, 1, 2]))
    np.testing.assert_allclose(answer.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(answer.loss, expected.loss, rtol=1e-3, atol=1e-4)
    assert same_signs(answer.gradient, expected.gradient) >= SAME_SIGNS


def test_an_old_file_is_brought_to_the_version_that_the_rules_write(small: Any) -> None:
    model = onnx.load_model_from_string(small.network())
    pooled = next(node for node in model.graph.node if node.op_type == "GlobalAveragePool")
    pooled.CopyFrom(helper.make_node("ReduceMean", ["sum"], ["pooled"], axes=[2, 3]))
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 11))
    x = np.random.default_rng(0).random((2, 3, SIDE_PX, SIDE_PX)).astype(np.float32)
    old = ready(small.bundle(model.SerializeToString(), name="old")).evaluate(x, Untargeted([0, 1]))
    new = ready(small.bundle()).evaluate(x, Untargeted([0, 1]))
    np.testing.assert_allclose(old.gradient, new.gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("layout", "activation"),
    [
        ("xyxy_objectness_classes", "sigmoid"),
        ("xyxy_objectness_classes", "none"),
        ("cxcywh_objectness_classes", "softmax"),
        ("cxcywh_classes_first", "none"),
        ("cxcywh_classes_first", "sigmoid"),
        ("xyxy_score_class", "none"),
        ("yolox_grid", "sigmoid"),
        ("xyxy_objectness_classes, no grid", "sigmoid"),
        ("xyxy_score_class, no grid", "none"),
    ],
)
def test_every_layout_against_differences(small: Any, layout: str, activation: str) -> None:
    """The gradient along itself is what the loss changes by, for each loss of boxes and each layout."""
    layout, _, no_grid = layout.partition(", ")
    bundle = detector(small, layout, activation, strides=(8, 16) if no_grid else (8, 16, 32))
    model = ready(bundle)
    x = np.random.default_rng(3).uniform(0.2, 0.8, (2, 3, 32, 32)).astype(np.float32)
    boxes = np.array([[[2, 3, 20, 18], [14, 10, 31, 30]], [[5, 5, 25, 28], [0, 0, 0, 0]]], np.float64)
    labels = np.array([[0, 2], [1, -1]])
    for loss in BOX_LOSSES:
        if loss == "mislabel" and layout == "xyxy_score_class":
            with pytest.raises(AttackError, match="scores of every class"):
                model.evaluate(x, BoxCriterion(boxes, labels, "mislabel", (labels + 1) % 3))
            continue
        targets = np.where(labels < 0, labels, (labels + 1) % 3) if loss == "mislabel" else None
        criterion = BoxCriterion(boxes, labels, loss, targets)  # type: ignore[arg-type]
        slope = model.evaluate(x, criterion).gradient.astype(np.float64)
        for row in range(len(x)):
            size = np.linalg.norm(slope[row])
            assert size > 0
            step = np.zeros(x.shape, np.float32)
            step[row] = slope[row] / size * 2e-3
            ahead, behind = (model.evaluate(x + sign * step, criterion, gradient=False).loss[row] for sign in (1, -1))
            assert (ahead - behind) / 4e-3 == pytest.approx(size, rel=0.05, abs=2e-3 * max(1.0, abs(float(ahead))))


def detector(small: Any, layout: str, activation: str, strides: tuple[int, ...]) -> Bundle:
    """A convolution for each stride; with 8, 16 and 32 its rows are the cells of the grids."""
    random = np.random.default_rng(5)
    width = 6 if layout == "xyxy_score_class" else 7 if layout == "cxcywh_classes_first" else 8
    nodes, weights, parts = [], {"shape": np.array([0, width, -1], np.int64)}, []
    for stride in strides:
        weights[f"w{stride}"] = random.normal(0, 1 / stride, (width, 3, stride, stride)).astype(np.float32)
        nodes.append(helper.make_node("Conv", ["images", f"w{stride}"], [f"c{stride}"], strides=[stride, stride]))
        nodes.append(helper.make_node("Reshape", [f"c{stride}", "shape"], [f"r{stride}"]))
        parts.append(f"r{stride}")
    nodes += [
        helper.make_node("Concat", parts, ["rows"], axis=2),
        helper.make_node("Sigmoid", ["rows"], ["scores"]),
        helper.make_node("Mul", ["rows" if activation != "none" else "scores", "size"], ["sized"]),
        helper.make_node("Add", ["sized", "place"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Identity", ["columns" if layout == "cxcywh_classes_first" else "turned"], ["out"]),
    ]
    count = sum((32 // stride) ** 2 for stride in strides)
    weights["size"] = np.ones((1, width, 1), np.float32)
    weights["place"] = np.zeros((1, width, count), np.float32)
    if layout != "yolox_grid":
        weights["size"][0, :4] = 4
        cells = random.uniform(4, 16, (4, count))
        weights["place"][0, :4] = cells + (0 if layout.startswith("cxcywh") else np.array([[0], [0], [14], [14]]))
    if layout == "xyxy_score_class":
        weights["size"][0, 5], weights["place"][0, 5] = 0, np.arange(count) % 3
    graph = helper.make_graph(
        nodes,
        layout,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    shaped = onnx.shape_inference.infer_shapes(model)
    bundle: Bundle = small.bundle(
        shaped.SerializeToString(),
        name=f"{layout}_{activation}",
        task="detection",
        input=InputSpec(width=32, height=32),
        output=OutputSpec(name="out", activation=activation),
        decode=Decode(layout=layout),
        self_test=None,
        perturbations=(),
    )
    return bundle


def test_what_no_gradient_passes_is_refused_with_operator_and_node(small: Any) -> None:
    bundle = small.bundle(small.network(operator="Shrink"))
    with pytest.raises(BundleError, match=r"operator Shrink \(node 'bend'\)"):
        derive.provide(bundle)


def test_the_gradient_of_another_model_is_refused(small: Any) -> None:
    first, second = small.bundle(), small.bundle(small.network(weight=0.5), name="second")
    derive.provide(first)
    foreign = derive.provide(second)
    with pytest.raises(BundleError, match="gradient of another model") as caught:
        from_bundle(first, file=foreign)
    assert gradient_file.model_of(first).sha256 in str(caught.value)
    own = gradient_file.path_of(gradient_file.key_of(first))
    own.write_bytes(foreign.read_bytes())
    with pytest.raises(BundleError, match="gradient of another model"):
        from_bundle(first)


def test_another_format_damage_and_absence_are_refused(small: Any) -> None:
    bundle = small.bundle()
    with pytest.raises(AttackError, match="no gradient of bundle small") as caught:
        from_bundle(bundle)
    assert "--variants none --gradient" in str(caught.value)
    path = derive.provide(bundle)
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    with pytest.raises(BackendError, match="ONNX Runtime refuses"):
        from_bundle(bundle)
    model = onnx.load_model_from_string(whole)
    old = msgspec.structs.replace(gradient_file.key_of(bundle), format=0)
    helper.set_model_props(model, {gradient_file.METADATA: msgspec.json.encode(old).decode()})
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=f"found format 0, expected {gradient_file.FORMAT}"):
        from_bundle(bundle)
    path.write_bytes(bundle.data("model.onnx"))
    with pytest.raises(BundleError, match="no gradient of this format"):
        from_bundle(bundle)


def test_a_second_build_finds_the_first(small: Any) -> None:
    bundle = small.bundle()
    before = derive.provide(bundle).stat().st_mtime_ns
    assert derive.provide(bundle).stat().st_mtime_ns == before


def test_what_does_not_fit_the_model_is_refused(small: Any) -> None:
    model = ready(small.bundle())
    x = np.full((2, 3, SIDE_PX, SIDE_PX), 0.5, np.float32)
    with pytest.raises(AttackError, match="do not fit the model"):
        model.evaluate(x[:, :, :8], Untargeted([0, 1]))
    with pytest.raises(AttackError, match="a class that the network does not have"):
        model.evaluate(x, Untargeted([0, 3]))
    with pytest.raises(AttackError, match="a box criterion for a classifier"):
        model.evaluate(x, BoxCriterion(np.zeros((2, 1, 4)), np.zeros((2, 1), int)))
    with pytest.raises(AttackError, match="cannot be turned back"):
        model.evaluate(x, Untargeted([0, 1]), lambda images: images * 1)
    with pytest.raises(AttackError, match="dlr_targeted compares more classes"):
        model.evaluate(x, Targeted([0, 1], "dlr_targeted", [1, 2]))


WITHOUT_TORCH = """
import sys
import numpy as np
from lisard_engines.gradient import derive
from lisard_ros import attacks, bundle
ours = bundle.read(sys.argv[1])
derive.provide(ours)
model = attacks.from_bundle(ours, threads=1)
x = np.full((2, 3, 16, 16), 0.5, np.float32)
criterion = attacks.Untargeted([0, 1])
for attack in (attacks.FGSM(), attacks.PGD(steps=2), attacks.MIFGSM(steps=2), attacks.APGD(steps=3)):
    assert np.abs(attack(model, x, criterion) - x).max() > 0
assert "torch" not in sys.modules
"""


def test_neither_building_nor_attacking_needs_torch(small: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(small.bundle().path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
