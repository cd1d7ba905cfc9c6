"""Rules of operators that multiply by weights, and of pooling over windows.

A convolution goes back as a convolution, which runtimes compute faster than its transposed operator: with the filters
turned around where the stride is 1, and for a larger stride with one filter for each place within it, whose results
DepthToSpace lays side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .rules import Rule, Step, scaled, sum_to
from .shaping import padded, second_output

SQUARE = 2  # spatial axes that DepthToSpace knows


@dataclass(frozen=True, slots=True)
class Window:
    """How a convolution or pooling walks over positions; one number for each spatial axis.

    before, behind: padding. source, result: positions that came in and went out.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    behind: tuple[int, ...]
    source: tuple[int, ...]
    result: tuple[int, ...]


def window_of(step: Step, kernel: tuple[int, ...], forward: tuple[str, str] | None = None) -> Window:
    """Read the window of a node; forward: names of the tensors on its fine and its coarse side."""
    fine, coarse = forward or (step.x, step.y)
    axes = len(kernel)
    strides = tuple(step.attribute("strides", [1] * axes))
    dilations = tuple(step.attribute("dilations", [1] * axes))
    source, result = tuple(step.sides(fine, 2)), tuple(step.sides(coarse, 2))
    automatic = step.attribute("auto_pad", "NOTSET")
    if automatic.startswith("SAME"):
        spans = zip(result, strides, kernel, dilations, source, strict=True)
        totals = [max(0, (o - 1) * s + (k - 1) * d + 1 - n) for o, s, k, d, n in spans]
        less = [total // 2 for total in totals]
        more = [total - half for total, half in zip(totals, less, strict=True)]
        before, behind = (less, more) if automatic == "SAME_UPPER" else (more, less)
    elif automatic == "VALID":
        before = behind = [0] * axes
    else:
        pads = step.attribute("pads", [0] * 2 * axes)
        before, behind = pads[:axes], pads[axes:]
    return Window(kernel, strides, dilations, tuple(before), tuple(behind), source, result)


def conv(step: Step) -> dict[int, str]:
    """The gradient in the image alone: filters are constants."""
    if step.wanted != {0}:
        raise step.refused("computes its filters from the image")
    filters = step.constant(1)
    assert filters is not None
    window = window_of(step, filters.shape[2:])
    return {0: back_through(step, step.dy, filters, window, step.attribute("group", 1))}


def conv_transpose(step: Step) -> dict[int, str]:
    """The convolution with the same filters."""
    if step.wanted != {0}:
        raise step.refused("computes its filters from the image")
    filters = step.constant(1)
    assert filters is not None
    if step.attribute("output_shape") or step.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise step.refused("pads by the shape of its result")
    window = window_of(step, filters.shape[2:], (step.y, step.x))
    return {
        0: step.graph.op(
            "Conv",
            step.dy,
            step.graph.constant(filters),
            group=step.attribute("group", 1),
            strides=window.strides,
            dilations=window.dilations,
            pads=(*window.before, *window.behind),
        )
    }


def back_through(step: Step, dy: str, filters: NDArray[np.floating], window: Window, group: int) -> str:
    """Return the gradient in the input of a convolution. filters: [out, in / group, *kernel]."""
    stride = window.strides[0]
    if set(window.strides) == {1}:
        back = _unit_stride(step, dy, filters, window, group)
    elif len(window.kernel) == SQUARE and set(window.strides) == {stride} and set(window.dilations) == {1}:
        back = _by_places(step, dy, filters, window, group)
    else:
        back = None
    return back or _transposed(step, dy, filters, window, group)


def _turned(filters: NDArray[np.floating], group: int) -> NDArray[np.floating]:
    """Filters [out, in / group, ...] as [in, out / group, ...], reversed along their positions."""
    parts = [part.swapaxes(0, 1) for part in np.split(filters, group)]
    return np.flip(np.concatenate(parts), tuple(range(2, filters.ndim)))


def _unit_stride(step: Step, dy: str, filters: NDArray[np.floating], window: Window, group: int) -> str | None:
    """Convolve with the turned filters; None where that would cut instead of pad."""
    reach = [d * (k - 1) for d, k in zip(window.dilations, window.kernel, strict=True)]
    before = [r - p for r, p in zip(reach, window.before, strict=True)]
    behind = [n - o + r - b for n, o, r, b in zip(window.source, window.result, reach, before, strict=True)]
    if min(*before, *behind) < 0:
        return None
    filters_name, pads = step.graph.constant(_turned(filters, group)), (*before, *behind)
    return step.graph.op("Conv", dy, filters_name, group=group, dilations=window.dilations, pads=pads)


def _by_places(step: Step, dy: str, filters: NDArray[np.floating], window: Window, group: int) -> str | None:
    """One filter for each place within the stride, side by side; None where padding would have to be cut.

    Position i of the padded input is i = s q + r; it gets sum_t dy[q - t] w[s t + r] from the taps t of place r.
    """
    g, s = step.graph, window.strides[0]
    taps = [-(-k // s) for k in window.kernel]
    cells = [-(-(p + n) // s) for p, n in zip(window.before, window.source, strict=True)]
    behind = [cell - o for cell, o in zip(cells, window.result, strict=True)]
    if min(behind) < 0:
        return None
    filled = np.zeros((*filters.shape[:2], taps[0] * s, taps[1] * s), filters.dtype)
    filled[:, :, : window.kernel[0], : window.kernel[1]] = filters
    out, into = filters.shape[:2]
    placed = filled.reshape(out, into, taps[0], s, taps[1], s).transpose(0, 1, 3, 5, 2, 4)
    turned = _turned(placed.reshape(out, into * s * s, *taps), group)
    pads = (taps[0] - 1, taps[1] - 1, *behind)
    phases = g.op("Conv", dy, g.constant(turned), group=group, pads=pads)
    image = g.op("DepthToSpace", phases, blocksize=s, mode="CRD")
    first = window.before
    if not any(first) and all(cell * s == n for cell, n in zip(cells, window.source, strict=True)):
        return image
    ends = [p + n for p, n in zip(first, window.source, strict=True)]
    return g.op("Slice", image, g.ints(*first), g.ints(*ends), g.ints(2, 3))


def _transposed(step: Step, dy: str, filters: NDArray[np.floating], window: Window, group: int) -> str:
    """The operator made for it; what it leaves out at the end gets no gradient."""
    spans = [d * (k - 1) + 1 for d, k in zip(window.dilations, window.kernel, strict=True)]
    whole = [s * (o - 1) + span for s, o, span in zip(window.strides, window.result, spans, strict=True)]
    filters_name = step.graph.constant(filters)
    image = step.graph.op(
        "ConvTranspose", dy, filters_name, group=group, strides=window.strides, dilations=window.dilations
    )
    left = [n - (w - p) for n, w, p in zip(window.source, whole, window.before, strict=True)]
    return padded(step, image, np.array([[0, 0, *(-p for p in window.before)], [0, 0, *left]], np.int64))


def average_pool(step: Step) -> dict[int, str]:
    """Each mean back to its window: a convolution of each channel with a filter of ones, backwards."""
    g, kernel = step.graph, tuple(step.attribute("kernel_shape"))
    window = window_of(step, kernel)
    channels = step.side(step.x, 1)
    share = g.op("Div", step.dy, g.constant(_counts(window, bool(step.attribute("count_include_pad", 0)))))
    ones = np.ones((channels, 1, *kernel), np.float32)
    return {0: back_through(step, share, ones, window, channels)}


def _counts(window: Window, padding_too: bool) -> NDArray[np.float32]:
    """How many elements each mean is taken over; what lies beyond the padding never counts."""
    counts = np.ones((), np.float32)
    spans = (window.kernel, window.strides, window.dilations, window.before, window.behind, window.source)
    for axis, (k, s, d, p, q, n) in enumerate(zip(*spans, strict=True)):
        places = np.arange(window.result[axis])[:, None] * s + np.arange(k)[None] * d - p
        low, high = (-p, n + q) if padding_too else (0, n)
        counts = counts[..., None] * ((places >= low) & (places < high)).sum(axis=1)
    return np.asarray(counts, np.float32)


def max_pool(step: Step) -> dict[int, str]:
    """To the place of each largest element; the second output of the node names it in the whole batch, flattened."""
    if step.attribute("storage_order", 0):
        raise step.refused("counts its places by columns")
    g, indices = step.graph, second_output(step)
    flat = g.ints(-1)
    zeros = g.op("Expand", g.constant(np.float32(0)), g.op("Reshape", g.op("Size", step.x), flat))
    summed = g.op(
        "ScatterElements", zeros, g.op("Reshape", indices, flat), g.op("Reshape", step.dy, flat), reduction="add"
    )
    return {0: g.reshape_like(summed, step.x)}


def gemm(step: Step) -> dict[int, str]:
    """Alpha A B + beta C, each of A and B perhaps transposed."""
    g, (a, b) = step.graph, step.node.input[:2]
    turn_a, turn_b = step.attribute("transA", 0), step.attribute("transB", 0)
    alpha, beta = step.attribute("alpha", 1.0), step.attribute("beta", 1.0)
    back = {}
    if 0 in step.wanted:
        back[0] = (
            g.op("Gemm", b, step.dy, alpha=alpha, transA=turn_b, transB=1)
            if turn_a
            else g.op("Gemm", step.dy, b, alpha=alpha, transB=1 - turn_b)
        )
    if 1 in step.wanted:
        back[1] = (
            g.op("Gemm", step.dy, a, alpha=alpha, transA=1, transB=turn_a)
            if turn_b
            else g.op("Gemm", a, step.dy, alpha=alpha, transA=1 - turn_a)
        )
    if 2 in step.wanted:
        back[2] = sum_to(g, scaled(g, step.dy, beta), step.node.input[2], step.y)
    return back


def matmul(step: Step) -> dict[int, str]:
    """Dy B^T and A^T dy."""
    g, (a, b) = step.graph, step.node.input
    if min(len(g.shape(a)), len(g.shape(b))) < SQUARE:
        raise step.refused("multiplies by a vector")
    back = {}
    if 0 in step.wanted:
        back[0] = sum_to(g, g.op("MatMul", step.dy, _swapped(step, b)), a, step.y)
    if 1 in step.wanted:
        back[1] = sum_to(g, g.op("MatMul", _swapped(step, a), step.dy), b, step.y)
    return back


def _swapped(step: Step, name: str) -> str:
    """The last two axes exchanged."""
    value = step.graph.value(name)
    if value is not None:
        return step.graph.constant(value.swapaxes(-1, -2))
    rank = len(step.graph.shape(name))
    return step.graph.op("Transpose", name, perm=[*range(rank - 2), rank - 1, rank - 2])


RULES: dict[str, Rule] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "AveragePool": average_pool,
    "MaxPool": max_pool,
    "Gemm": gemm,
    "MatMul": matmul,
}
