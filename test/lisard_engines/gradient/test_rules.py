"""Each rule against central differences in float64, which onnx's own reference evaluator computes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from lisard_engines.gradient.builder import GraphBuilder, observe
from lisard_engines.gradient.differentiate import RULES, gradient
from lisard_ros.errors import BundleError

STEP = 1e-5


@dataclass(frozen=True)
class Case:
    """Nodes from x to y. constants: weights by name; range: of the random x; opset: of the model.

    step: of the differences; the reference computes erf in float32 and needs a larger one.
    """

    nodes: str
    constants: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = (4, 6, 5)
    low: float = -1.0
    high: float = 1.0
    opset: int = 18
    step: float = STEP


def weights(*shape: int) -> np.ndarray:
    """Random weights."""
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    """A row of whole numbers."""
    return np.array(values, np.int64)


def conv(attributes: str, *shape: int, size: tuple[int, int] = (7, 6)) -> Case:
    """A convolution of 4 channels."""
    return Case(f"y = Conv <{attributes}> (x, w, b)", {"w": weights(*shape), "b": weights(shape[0])}, (4, *size))


def pool(kind: str, attributes: str, size: tuple[int, int] = (7, 6)) -> Case:
    """A pooling."""
    return Case(f"y = {kind} <{attributes}> (x)", shape=(3, *size))


def unary(kind: str, attributes: str = "", **options: Any) -> Case:
    """A function of one tensor."""
    return Case(f"y = {kind} {f'<{attributes}>' if attributes else ''} (x)", **options)


def resize(attributes: str, scales: tuple[float, ...] | None = None, sizes: tuple[int, ...] | None = None) -> Case:
    """A scaling of images of 4 x 5; sizes: of height and width."""
    if scales:
        return Case(f"y = Resize <{attributes}> (x, , s)", {"s": np.float32([1, 1, *scales])}, (2, 4, 5))
    assert sizes
    nodes = f"y = Resize <{attributes}, axes=[2,3]> (x, , , s)"
    return Case(nodes, {"s": whole(*sizes)}, (2, 4, 5))


CASES: dict[str, Case] = {
    "relu": unary("Relu"),
    "leaky_relu": unary("LeakyRelu", "alpha=0.2"),
    "prelu": Case("y = PRelu (x, s)", {"s": weights(4, 1, 1)}),
    "elu": unary("Elu", "alpha=0.7"),
    "celu": unary("Celu", "alpha=0.7"),
    "selu": unary("Selu"),
    "sigmoid": unary("Sigmoid"),
    "tanh": unary("Tanh"),
    "softplus": unary("Softplus"),
    "softsign": unary("Softsign"),
    "erf": unary("Erf", step=1e-3),
    "gelu": unary("Gelu", step=1e-3, low=-3, high=3, opset=20),
    "gelu_tanh": unary("Gelu", 'approximate="tanh"', low=-3, high=3, opset=20),
    "mish": unary("Mish"),
    "hard_sigmoid": unary("HardSigmoid", low=-4, high=4),
    "hard_swish": unary("HardSwish", low=-4, high=4),
    "exp": unary("Exp"),
    "log": unary("Log", low=0.1, high=2),
    "sqrt": unary("Sqrt", low=0.1, high=2),
    "reciprocal": unary("Reciprocal", low=0.2, high=2),
    "abs": unary("Abs"),
    "neg": unary("Neg"),
    "sin": unary("Sin"),
    "cos": unary("Cos"),
    "identity": unary("Identity"),
    "cast": Case("d = Cast <to=11> (x) y = Cast <to=1> (d)"),
    "dropout": unary("Dropout"),
    "floor": Case("f = Floor (x) y = Add (x, f)"),
    "clip": Case("y = Clip (x, l, h)", {"l": np.float32(-0.3), "h": np.float32(0.4)}),
    "clip_above": Case("y = Clip (x, , h)", {"h": np.float32(0.4)}),
    "add_constant": Case("y = Add (x, c)", {"c": weights(4, 1, 5)}),
    "add_itself": Case("p = Sigmoid (x) y = Add (x, p)"),
    "add_broadcast": Case("p = GlobalAveragePool (x) y = Add (p, x)"),
    "sum": Case("p = Tanh (x) y = Sum (x, p, x)"),
    "sub": Case("p = GlobalAveragePool (x) y = Sub (p, x)"),
    "mul": Case("p = GlobalAveragePool (x) y = Mul (p, x)"),
    "silu": Case("p = Sigmoid (x) y = Mul (x, p)"),
    "mul_column": Case("y = Mul (x, c)", {"c": weights(6, 1)}),
    "div": Case("p = GlobalAveragePool (x) y = Div (x, p)", low=0.5, high=2),
    "div_by_constant": Case("y = Div (x, c)", {"c": np.float32(0.3)}),
    "square": Case("y = Pow (x, c)", {"c": np.float32(2)}),
    "pow": Case("y = Pow (x, c)", {"c": np.float32(1.7)}, low=0.2, high=2),
    "max": Case("p = Neg (x) y = Max (x, p, c)", {"c": np.float32(0.2)}),
    "min": Case("p = GlobalAveragePool (x) y = Min (x, p)"),
    "mean": Case("p = Tanh (x) y = Mean (x, p)"),
    "where": Case("p = Tanh (x) m = Greater (x, c) y = Where (m, x, p)", {"c": np.float32(0.1)}),
    "reduce_sum": Case("y = ReduceSum <keepdims=0> (x, a)", {"a": whole(2)}),
    "reduce_sum_of_positions": Case("y = ReduceSum (x, a)", {"a": whole(-1, -2)}),
    "reduce_mean": Case("y = ReduceMean <keepdims=0> (x, a)", {"a": whole(-1, -2)}),
    "reduce_max": Case("y = ReduceMax <keepdims=0> (x, a)", {"a": whole(1)}),
    "reduce_min": Case("y = ReduceMin (x, a)", {"a": whole(1, 2)}),
    "reduce_l1": Case("y = ReduceL1 <keepdims=0> (x, a)", {"a": whole(1)}),
    "reduce_l2": Case("y = ReduceL2 (x, a)", {"a": whole(1)}),
    "reduce_sum_square": Case("y = ReduceSumSquare <keepdims=0> (x, a)", {"a": whole(3)}),
    "reduce_log_sum_exp": Case("y = ReduceLogSumExp <keepdims=0> (x, a)", {"a": whole(1)}),
    "softmax": unary("Softmax", "axis=1"),
    "softmax_last": unary("Softmax"),
    "log_softmax": unary("LogSoftmax", "axis=2"),
    "global_average_pool": unary("GlobalAveragePool"),
    "global_max_pool": unary("GlobalMaxPool"),
    "batch_norm": Case(
        "y = BatchNormalization <epsilon=0.01> (x, s, b, m, v)",
        {"s": weights(4), "b": weights(4), "m": weights(4), "v": np.abs(weights(4))},
    ),
    "layer_norm": Case("y = LayerNormalization <axis=-2> (x, s, b)", {"s": weights(6, 5), "b": weights(6, 5)}),
    "instance_norm": Case("y = InstanceNormalization (x, s, b)", {"s": weights(4), "b": weights(4)}),
    "lp_norm": unary("LpNormalization", "axis=1"),
    "reshape": Case("p = Reshape (x, s) y = MatMul (p, w)", {"s": whole(0, 8, 15), "w": weights(15, 3)}),
    "flatten": Case("y = Flatten (x)"),
    "squeeze": Case("p = ReduceMean (x, a) q = Squeeze (p, a) y = Tanh (q)", {"a": whole(2)}),
    "unsqueeze": Case("p = Unsqueeze (x, a) y = Tanh (p)", {"a": whole(1, -1)}),
    "transpose": unary("Transpose", "perm=[0,3,1,2]"),
    "expand": Case("p = ReduceMean (x, a) y = Expand (p, s)", {"a": whole(2), "s": whole(1, 4, 3, 5)}),
    "concat": Case("p = Tanh (x) y = Concat <axis=2> (x, p, x)"),
    "split": Case("p, q = Split <axis=1> (x, s) y = Tanh (q)", {"s": whole(1, 3)}),
    "split_alike": Case("p, q = Split <axis=2, num_outputs=2> (x) y = Mul (p, q)"),
    "slice": Case("y = Slice (x, s, e, a)", {"s": whole(1, -4), "e": whole(3, 2**60), "a": whole(1, 2)}),
    "slice_stepped": Case(
        "y = Slice (x, s, e, a, t)", {"s": whole(1, -1), "e": whole(6, -9), "a": whole(2, 3), "t": whole(2, -2)}
    ),
    "slice_of_all": Case("y = Slice (x, s, e)", {"s": whole(0, 1), "e": whole(2**31 - 1, 3)}),
    "gather": Case("y = Gather <axis=2> (x, i)", {"i": whole(4, 0, 4, -1)}),
    "gather_one": Case("y = Gather <axis=1> (x, i)", {"i": np.int64(2)}),
    "gather_table": Case("y = Gather <axis=1> (x, i)", {"i": whole(0, 3, 3, 1).reshape(2, 2)}),
    "pad": Case("y = Pad (x, p)", {"p": whole(0, 1, 0, 2, 0, 0, 3, 1)}),
    "pad_reflected": Case('y = Pad <mode="reflect"> (x, p)', {"p": whole(0, 0, 1, 2, 0, 0, 3, 1)}),
    "pad_of_axes": Case('y = Pad <mode="edge"> (x, p, , a)', {"p": whole(1, 2), "a": whole(-1)}),
    "tile": Case("y = Tile (x, t)", {"t": whole(1, 1, 2, 3)}),
    "top_k": Case("y, i = TopK <axis=1> (x, k)", {"k": whole(2)}),
    "depth_to_space": unary("DepthToSpace", "blocksize=2"),
    "depth_to_space_crd": unary("DepthToSpace", 'blocksize=2, mode="CRD"', shape=(8, 3, 2)),
    "space_to_depth": unary("SpaceToDepth", "blocksize=2", shape=(3, 4, 6)),
    "resize_nearest": resize(
        'mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"', (2, 2)
    ),
    "resize_nearest_uneven": resize('mode="nearest", coordinate_transformation_mode="half_pixel"', (2, 1.5)),
    "resize_nearest_one_axis": resize('mode="nearest"', (1, 3)),
    "resize_linear": resize('mode="linear", coordinate_transformation_mode="align_corners"', sizes=(7, 8)),
    "resize_linear_smaller": resize('mode="linear", coordinate_transformation_mode="pytorch_half_pixel"', sizes=(2, 3)),
    "resize_cubic": resize('mode="cubic", coordinate_transformation_mode="half_pixel"', (2, 2)),
    "conv": conv("pads=[1,1,1,1]", 5, 4, 3, 3),
    "conv_1x1": conv("group=1", 5, 4, 1, 1),
    "conv_valid": conv('auto_pad="VALID"', 5, 4, 3, 2),
    "conv_wide_padding": conv("pads=[3,2,3,2]", 2, 4, 2, 2),
    "conv_stride_2": conv("strides=[2,2], pads=[1,1,1,1]", 5, 4, 3, 3),
    "conv_stride_2_even": conv("strides=[2,2], pads=[1,1,1,1]", 5, 4, 3, 3, size=(8, 8)),
    "conv_stride_2_uneven_pads": conv("strides=[2,2], pads=[0,0,1,1]", 5, 4, 3, 3, size=(8, 8)),
    "conv_stride_2_of_5": conv("strides=[2,2], pads=[2,2,2,2]", 5, 4, 5, 5, size=(9, 8)),
    "conv_1x1_stride_2": conv("strides=[2,2]", 5, 4, 1, 1),
    "conv_stride_3": conv("strides=[3,3], pads=[1,0,0,1]", 5, 4, 2, 4, size=(9, 10)),
    "conv_patches": conv("strides=[4,4]", 6, 4, 4, 4, size=(8, 8)),
    "conv_strides_differ": conv("strides=[2,1], pads=[1,1,1,1]", 5, 4, 3, 3),
    "conv_same_upper": conv('auto_pad="SAME_UPPER", strides=[2,2]', 5, 4, 3, 3, size=(8, 7)),
    "conv_same_lower": conv('auto_pad="SAME_LOWER"', 5, 4, 2, 2),
    "conv_dilated": conv("dilations=[2,2], pads=[2,2,2,2]", 5, 4, 3, 3),
    "conv_dilated_stride_2": conv("dilations=[2,2], strides=[2,2], pads=[2,2,2,2]", 5, 4, 3, 3),
    "conv_groups": conv("group=2, pads=[1,1,1,1]", 6, 2, 3, 3),
    "conv_groups_stride_2": conv("group=2, strides=[2,2], pads=[1,1,1,1]", 6, 2, 3, 3),
    "conv_depthwise": conv("group=4, pads=[1,1,1,1]", 8, 1, 3, 3),
    "conv_depthwise_stride_2": conv("group=4, strides=[2,2], pads=[1,1,1,1]", 4, 1, 3, 3),
    "conv_1d": Case("y = Conv <strides=[2], pads=[1,1]> (x, w)", {"w": weights(3, 4, 3)}, (4, 9)),
    "conv_transpose": Case(
        "y = ConvTranspose <strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]> (x, w)",
        {"w": weights(4, 3, 3, 3)},
    ),
    "conv_transpose_dilated": Case("y = ConvTranspose <dilations=[2,1]> (x, w)", {"w": weights(4, 3, 3, 3)}),
    "average_pool": pool("AveragePool", "kernel_shape=[2,2], strides=[2,2]"),
    "average_pool_padded": pool("AveragePool", "kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]"),
    "average_pool_counting": pool("AveragePool", "kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1"),
    "average_pool_ceil": pool("AveragePool", "kernel_shape=[2,2], strides=[2,2], ceil_mode=1", (7, 5)),
    "max_pool": pool("MaxPool", "kernel_shape=[2,2], strides=[2,2]"),
    "max_pool_overlapping": pool("MaxPool", "kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]"),
    "gemm": Case("f = Flatten (x) y = Gemm <transB=1, alpha=0.5> (f, w, b)", {"w": weights(3, 120), "b": weights(3)}),
    "gemm_not_turned": Case("f = Flatten (x) y = Gemm (f, w)", {"w": weights(120, 3)}),
    "gemm_bias": Case(
        "f = Flatten (x) p = Gemm (f, w) y = Gemm <beta=0.3> (p, v, p)", {"w": weights(120, 3), "v": weights(3, 3)}
    ),
    "matmul": Case("y = MatMul (x, w)", {"w": weights(5, 3)}),
    "matmul_left": Case("y = MatMul (w, x)", {"w": weights(3, 6)}),
    "attention": Case("t = Transpose <perm=[0,1,3,2]> (x) s = MatMul (x, t) a = Softmax (s) y = MatMul (a, x)"),
    "sizes_from_shapes": Case(
        "s = Shape (x) h = Gather (s, i) q = Reshape (h, o) n = Concat <axis=0> (m, q) y = Reshape (x, n)",
        {"i": np.int64(2), "o": whole(1), "m": whole(0, -1)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rule_against_differences(name: str) -> None:
    """The gradient of a random sum of y, of every element of x."""
    model = forward(CASES[name])
    x = image(CASES[name])
    expected = differences(model, x, CASES[name].step)
    np.testing.assert_allclose(derived(model, x), expected, rtol=2e-3, atol=2e-4 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("batch", [1, 5])
def test_any_batch(batch: int) -> None:
    """A graph observed with batches of 2 and 3 serves others, each image by itself."""
    model = forward(CASES["max_pool_overlapping"])
    x = np.concatenate([image(CASES["max_pool_overlapping"], seed) for seed in range(batch)])
    apart = np.concatenate([derived(model, row[None]) for row in x])
    np.testing.assert_allclose(derived(model, x), apart, rtol=1e-5, atol=1e-6)


def test_every_rule_has_a_case() -> None:
    """No rule goes without a numeric test; Swish is an operator that ONNX Runtime does not have yet."""
    used = {node.op_type for case in CASES.values() for node in forward(case).graph.node}
    assert sorted(set(RULES) - used - {"Swish", "CastLike", "Ceil", "Round", "Sign"}) == []


def test_equal_values_share_the_gradient_of_their_maximum() -> None:
    """As torch's amax and maximum do."""
    x = np.zeros((1, 4, 6, 5), np.float32)
    assert np.unique(derived(forward(CASES["reduce_max"]), x) * 4).size == 30
    np.testing.assert_allclose(derived(forward(CASES["relu"]), x), 0)


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ("p = CumSum (x, a) y = Tanh (p)", "operator CumSum"),
        ("f = Flatten (x) y = MatMul (f, v)", "multiplies by a vector"),
        ("p = ReduceMean <keepdims=1> (x, z) y = Add (p, x)", "averages over the batch"),
        ("p = ReduceMean (x, z) y = Conv (x, p)", "computes its filters from the image"),
    ],
)
def test_refused_with_the_operator_and_the_node(nodes: str, found: str) -> None:
    """What no gradient passes is named."""
    constants = {"a": np.int64(1), "v": weights(120), "z": whole(0)}
    with pytest.raises(BundleError, match=found) as caught:
        derived(forward(Case(nodes, constants)), np.zeros((2, 4, 6, 5), np.float32))
    assert "node '" in str(caught.value)


def image(case: Case, seed: int = 0) -> np.ndarray:
    """One random x, no two elements equal."""
    random = np.random.default_rng(seed)
    count = int(np.prod(case.shape))
    values = np.linspace(case.low, case.high, count) + random.uniform(0, 1e-3, count)
    return random.permutation(values).reshape(1, *case.shape).astype(np.float32)


def forward(case: Case) -> ModelProto:
    """The case's nodes and, behind them, one loss for each image: y times fixed random numbers, summed."""
    sides = ",".join(map(str, case.shape))
    head = f'<ir_version: 8, opset_import: ["" : {case.opset}]> g (float[N,{sides}] x) => (float[N] y)'
    model = parser.parse_model(f"{head} {{ {case.nodes} }}")
    for number, node in enumerate(model.graph.node):
        node.name = f"node_{number}"
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in case.constants.items())
    (answer,) = run(model, {"x": image(case)}, ["y"])
    random = np.random.default_rng(7).standard_normal(answer[0].size).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(random, "r"))
    model.graph.initializer.append(numpy_helper.from_array(whole(1), "one"))
    model.graph.node.extend(
        [
            helper.make_node("Flatten", ["y"], ["flat"], axis=1),
            helper.make_node("Mul", ["flat", "r"], ["weighed"]),
            helper.make_node("ReduceSum", ["weighed", "one"], ["loss"], keepdims=0),
        ]
    )
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("loss", TensorProto.FLOAT, ["N"]))
    return model


def derived(model: ModelProto, x: np.ndarray) -> np.ndarray:
    """The gradient that our graph gives."""
    observed = observe(model, lambda n: {"x": np.repeat(x[:1], n, axis=0)}, (2, 3))
    graph = GraphBuilder(model, observed)
    graph.alias(gradient(graph, "loss", "x"), "dx")
    done = graph.finish(
        model.graph.input, [helper.make_tensor_value_info("dx", TensorProto.FLOAT, ["N", *x.shape[1:]])]
    )
    onnx.checker.check_model(done)
    return run(done, {"x": x}, ["dx"])[0]


def run(model: ModelProto, feed: dict[str, np.ndarray], outputs: list[str]) -> list[Any]:
    """What ONNX Runtime answers."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(outputs, feed))


def differences(model: ModelProto, x: np.ndarray, step: float) -> np.ndarray:
    """Central differences in float64 of every element of one image: a batch of moved copies."""
    wide = ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for node in wide.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to":
                attribute.i = TensorProto.DOUBLE
    for value in wide.graph.input:
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    moves = step * np.eye(x.size).reshape(x.size, *x.shape[1:])
    copies = np.concatenate([x + moves, x - moves])
    (loss,) = ReferenceEvaluator(wide).run(None, {"x": copies})
    ahead, behind = np.split(np.asarray(loss), 2)
    return ((ahead - behind) / (2 * step)).reshape(x.shape)
