"""Copy-paste: true boxes of training images, cut out, shrunk, and drawn onto free places of composed scenes.

So a scene shows more small objects, and more of rare classes. A cut-out has a margin, which fades into the scene. It
covers no box that is there, and lies on an image, not on padding. Pasting: Ghiasi et al. 2021 (arXiv 2012.07177); more
small objects by copies: Kisantal et al. 2019 (arXiv 1902.07296).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lisard_ros.errors import UsageError, unknown_name

from ...bounds import POSITIVE, SHARE, Bounds, RecipeSection, bounded
from ...data.detection import NOTHING, Scenes
from . import geometry

MARGIN = 0.1  # of the sides of the box, on each side, of its surroundings
PLACES = 16  # random places that are tried for a cut-out


@dataclass(frozen=True)
class CopyPaste(RecipeSection, section="copy_paste"):
    """Which boxes are drawn into how many scenes, and how small.

    share: of the scenes of a batch; none in the last `augment.no_mosaic_share` of the run. classes: names with commas
    (empty: all), each equally often. count: cut-outs of one scene. px_low, px_high: bounds of a pasted box, the square
    root of its area in input pixels; its logarithm is drawn evenly, and no cut-out is enlarged.
    """

    share: float = bounded(0.0, SHARE)
    classes: str = ""
    count: int = bounded(2, Bounds(1))
    px_low: float = bounded(8.0, POSITIVE)
    px_high: float = 40.0

    def numbers(self, classes: tuple[str, ...]) -> tuple[int, ...]:
        """Numbers of the classes that are pasted; unknown names are errors."""
        names = [name.strip() for name in self.classes.split(",") if name.strip()]
        for name in names:
            if name not in classes:
                raise unknown_name("class in recipe key copy_paste.classes", name, classes, UsageError)
        return tuple(classes.index(name) for name in names or classes)


@dataclass(frozen=True)
class CutOut:
    """A piece of an image. pixels float32 [3,h,w] in [0,1]; box float32 [4], in pixels of the piece; alpha float32
    [h,w]: how much of the piece is drawn, 1 on the box.
    """

    pixels: Tensor
    box: Tensor
    alpha: Tensor


def paste(
    scenes: Scenes,
    x: Tensor,
    shown: Tensor,
    boxes: Tensor,
    labels: Tensor,
    settings: CopyPaste,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw cut-outs into composed scenes.

    Args:
        scenes: Where they are cut out.
        x: The composed scenes, float32 [N,3,H,W] in [0,1]; they are changed in place.
        shown: Where they show an image, not padding, bool [N,H,W].
        boxes: Their boxes [N,M,4] in input pixels.
        labels: Their labels [N,M].
        settings: How many, of which classes, and how small.
        generator: Draws everything.

    Returns:
        Boxes [N,M+K,4] and labels [N,M+K] with those of the cut-outs, of which no scene has more than K.
    """
    rows, columns = sources(scenes, settings)
    known, classes = scenes.labels[rows, columns], settings.numbers(scenes.classes)
    new_boxes = boxes.new_zeros(len(x), settings.count, 4)
    new_labels = labels.new_full((len(x), settings.count), NOTHING)
    for number in (_even(generator, len(x)) < settings.share).nonzero().flatten().tolist():
        taken = boxes[number][labels[number] != NOTHING]
        for turn in range(settings.count):
            source = _source(known, classes, generator)
            if source is None:
                continue
            row, column = int(rows[source]), int(columns[source])
            piece = cut_out(scenes, row, column, settings, generator)
            place = free_place(piece, taken, shown[number], generator)
            if place is None:
                continue
            left, top = place
            height, width = piece.alpha.shape
            below = x[number, :, top : top + height, left : left + width]
            below.copy_(torch.lerp(below, piece.pixels, piece.alpha))
            new_boxes[number, turn] = piece.box + piece.box.new_tensor([left, top, left, top])
            new_labels[number, turn] = known[source]
            covered = boxes.new_tensor([[left, top, left + width, top + height]])
            taken = torch.cat([taken, covered])
    return torch.cat([boxes, new_boxes], 1), torch.cat([labels, new_labels], 1)


def sources(scenes: Scenes, settings: CopyPaste) -> tuple[Tensor, Tensor]:
    """Images and columns [K] of the boxes that may be cut out.

    They are of the classes of the recipe, no smaller than px_low, and no other box reaches into their cut-out.
    """
    boxes, labels = scenes.boxes, scenes.labels
    wanted = torch.isin(labels, labels.new_tensor(settings.numbers(scenes.classes)))
    wanted &= geometry.areas(boxes).sqrt() >= settings.px_low
    margin = MARGIN * (boxes[..., 2:] - boxes[..., :2])
    reach = torch.cat([boxes[..., :2] - margin, boxes[..., 2:] + margin], -1)
    shared, _ = geometry.overlaps(reach[:, :, None], boxes[:, None])
    others = (labels != NOTHING)[:, None] & ~torch.eye(labels.shape[1], dtype=torch.bool, device=labels.device)
    rows, columns = (wanted & ~((shared > 0) & others).any(2)).nonzero(as_tuple=True)
    return rows, columns


def _source(labels: Tensor, classes: tuple[int, ...], generator: torch.Generator) -> int | None:
    """Position of a random box among those with these labels: first a class is drawn, then a box of it."""
    which, share = _even(generator, 2).tolist()
    own = (labels == classes[int(which * len(classes))]).nonzero().flatten()
    return int(own[int(share * len(own))]) if len(own) else None


def cut_out(scenes: Scenes, row: int, column: int, settings: CopyPaste, generator: torch.Generator) -> CutOut:
    """A true box with its margin, in a random size."""
    box = scenes.boxes[row, column].double()
    low, high = box[:2], box[2:]
    content = scenes.content[row].double()
    margin = MARGIN * (high - low)
    begin = torch.maximum(low - margin, content[:2]).floor().clamp(min=0).int().tolist()
    end = torch.minimum(high + margin, content[2:]).ceil().int().tolist()
    own = float(geometry.areas(box).sqrt())
    bounds = math.log(settings.px_low), math.log(max(settings.px_low, min(settings.px_high, own)))
    wanted = math.exp(bounds[0] + float(_even(generator, 1)) * (bounds[1] - bounds[0]))
    sides = [max(1, round((stop - start) * wanted / own)) for start, stop in zip(begin, end, strict=True)]
    piece = scenes.images[row : row + 1, :, begin[1] : end[1], begin[0] : end[0]].float() / 255
    pixels = functional.interpolate(piece, (sides[1], sides[0]), mode="bilinear", antialias=True, align_corners=False)
    scale = box.new_tensor([side / (stop - start) for side, start, stop in zip(sides, begin, end, strict=True)])
    corner = box.new_tensor(begin)
    moved = torch.cat([(low - corner) * scale, (high - corner) * scale]).float()
    across, down = (_fade(moved[axis], moved[2 + axis], sides[axis]) for axis in (0, 1))
    return CutOut(pixels[0].clamp(0, 1), moved, down[:, None] * across)


def _fade(low: Tensor, high: Tensor, extent: int) -> Tensor:
    """Weight of each pixel of a row [extent]: 1 where it touches the box from low to high, falling to its ends."""
    starts = torch.arange(extent, device=low.device, dtype=low.dtype)
    before = (starts + 1) / low.clamp(min=1)
    after = (extent - starts) / (extent - high).clamp(min=1)
    inside = (starts + 1 > low) & (starts < high)
    return torch.where(inside, torch.ones_like(starts), torch.minimum(before, after).clamp(0, 1))


def free_place(piece: CutOut, taken: Tensor, shown: Tensor, generator: torch.Generator) -> tuple[int, int] | None:
    """Left and top of a random place for a piece, None if none was found.

    There the whole piece lies in the scene and off `taken` [M,4], and its corners lie where `shown` [H,W] is true.
    """
    height, width = piece.alpha.shape
    drawn = _even(generator, PLACES, 2)
    room = drawn.new_tensor([shown.shape[1] - width, shown.shape[0] - height])
    if int(room.min()) < 0:
        return None
    left, top = (drawn * (room + 1)).long().to(shown.device).unbind(1)
    right, below = left + width, top + height
    on_image = shown[top, left] & shown[top, right - 1] & shown[below - 1, left] & shown[below - 1, right - 1]
    spots = torch.stack([left, top, right, below], 1).to(taken)
    shared, _ = geometry.overlaps(spots[:, None], taken[None])
    free = (on_image & (shared == 0).all(1)).nonzero().flatten()
    return (int(left[free[0]]), int(top[free[0]])) if len(free) else None


def _even(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device).cpu()
