"""Random training scenes of a whole batch: mosaic, zoom, crop, flip, copy-paste and light, boxes and all.

A scene is cut into four regions at a random point (a plain scene has one), and each region shows a piece of some
image at some zoom. There is no rotation, so columns and rows can be mapped separately, and one gather fetches every
pixel of the batch. Mosaic: Bochkovskiy et al. 2020 (arXiv 2004.10934).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lisard_ros.errors import UsageError, unknown_name

from ...bounds import NOT_NEGATIVE, POSITIVE, SHARE, RecipeSection, bounded
from ...data.detection import IGNORED, NOTHING, Scenes
from .copy_paste import CopyPaste, paste

REGIONS = 4
PAD = 114 / 255  # as the runtime letterboxes
MOSAIC_ZOOM = 0.75  # images of a mosaic are smaller by this, so that more of them is seen
CENTRE_LOW, CENTRE_HIGH = 0.3, 0.7  # of the sides, where a mosaic is cut
GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601
NO_COPIES = CopyPaste()


@dataclass(frozen=True)
class SceneAugment(RecipeSection, section="augment"):
    """Bounds of the random change; all are drawn evenly (factors: their logarithms).

    mosaic: share of the scenes that are made of four images, except in the last `no_mosaic_share` of the run.
    flip_classes: names with commas; an image is mirrored in half the cases if all its boxes are of these classes.
    A box of which less than min_visible is left, or that is narrower than min_px, becomes an ignored region.
    """

    mosaic: float = bounded(0.5, SHARE)
    no_mosaic_share: float = bounded(0.15, SHARE)
    zoom_low: float = bounded(0.6, POSITIVE)
    zoom_high: float = 1.5
    flip_classes: str = ""
    contrast_low: float = bounded(0.6, POSITIVE)
    contrast_high: float = 1.4
    brightness: float = bounded(0.12, NOT_NEGATIVE)
    saturation_low: float = bounded(0.5, POSITIVE)
    saturation_high: float = 1.5
    min_visible: float = bounded(0.4, SHARE)
    min_px: float = bounded(3.0, NOT_NEGATIVE)

    def flips(self, classes: tuple[str, ...]) -> tuple[int, ...]:
        """Numbers of the classes that may be mirrored; unknown names are errors."""
        names = [name.strip() for name in self.flip_classes.split(",") if name.strip()]
        for name in names:
            if name not in classes:
                raise unknown_name("class in recipe key augment.flip_classes", name, classes, UsageError)
        return tuple(classes.index(name) for name in names)


@dataclass(frozen=True)
class ComposedScenes:
    """Training scenes: x float32 [N,3,H,W] in [0,1], boxes float32 [N,M,4] in input pixels, labels int64 [N,M]."""

    x: Tensor
    boxes: Tensor
    labels: Tensor


@dataclass(frozen=True)
class SceneLayout:
    """What each region shows: [N,4] or [N,4,2] (x, y).

    sources: numbers of images. low, high: corners of the region in the scene. zoom; start: where in the zoomed
    image the region begins; origin, size: where the image lies in its letterbox. mirrored: bool.
    """

    sources: Tensor
    low: Tensor
    high: Tensor
    zoom: Tensor
    start: Tensor
    origin: Tensor
    size: Tensor
    mirrored: Tensor


def compose(
    scenes: Scenes,
    part: Tensor,
    augment: SceneAugment,
    generator: torch.Generator,
    share_done: float,
    copy_paste: CopyPaste = NO_COPIES,
) -> ComposedScenes:
    """Scenes around the images at the positions `part`, which each appear in one of them."""
    layout = draw_layout(scenes, part.to(scenes.images.device), augment, generator, share_done)
    boxes, labels = place_boxes(scenes, layout, augment)
    x, shown = place_pixels(scenes.images, layout)
    if copy_paste.share and share_done < 1 - augment.no_mosaic_share:
        boxes, labels = compact(*paste(scenes, x, shown, boxes, labels, copy_paste, generator))
    return ComposedScenes(_relight(x, augment, generator), boxes, labels)


# What is shown where --------------------------------------------------------------------------------------------------


def draw_layout(
    scenes: Scenes, part: Tensor, augment: SceneAugment, generator: torch.Generator, share_done: float
) -> SceneLayout:
    """Draws everything that geometry needs."""
    device = scenes.images.device
    count, extent = len(part), torch.tensor([scenes.images.shape[3], scenes.images.shape[2]], device=device)
    is_mosaic = _even((count,), generator, device) < (
        augment.mosaic if share_done < 1 - augment.no_mosaic_share else 0.0
    )
    cut = _even((count, 2), generator, device) * (CENTRE_HIGH - CENTRE_LOW) + CENTRE_LOW
    cut = torch.where(is_mosaic[:, None], (cut * extent).round(), extent.float())
    others = (_even((count, REGIONS), generator, device) * len(scenes)).long().clamp(max=len(scenes) - 1)
    sources = torch.cat([part[:, None], others[:, 1:]], 1)
    low, high = _regions(cut, extent)
    span = math.log(augment.zoom_low), math.log(augment.zoom_high)
    zoom = (_even((count, REGIONS), generator, device) * (span[1] - span[0]) + span[0]).exp()
    zoom = torch.where(is_mosaic[:, None], zoom * MOSAIC_ZOOM, zoom)
    content = scenes.content[sources]
    size = content[..., 2:] - content[..., :2]
    start = _even((count, REGIONS, 2), generator, device) * (size * zoom[..., None] - (high - low))
    mirrored = _even((count, REGIONS), generator, device) < 0.5
    return SceneLayout(
        sources, low, high, zoom, start, content[..., :2], size, mirrored & _may_flip(scenes, augment)[sources]
    )


def _regions(cut: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
    """Corners of the four regions around a point [N,2]: upper left, upper right, lower left, lower right."""
    zero, full = torch.zeros_like(cut), extent.expand_as(cut).to(cut)
    low = torch.stack([zero, _mixed(cut, zero), _mixed(zero, cut), cut], 1)
    high = torch.stack([cut, _mixed(full, cut), _mixed(cut, full), full], 1)
    return low, high


def _mixed(first: Tensor, second: Tensor) -> Tensor:
    """X of the first, y of the second."""
    return torch.stack([first[:, 0], second[:, 1]], 1)


def _may_flip(scenes: Scenes, augment: SceneAugment) -> Tensor:
    """Images whose boxes are all of classes that may be mirrored, bool [n]; none where no class may."""
    allowed = augment.flips(scenes.classes)
    if not allowed:
        return torch.zeros(len(scenes), dtype=torch.bool, device=scenes.labels.device)
    fits = torch.isin(scenes.labels, torch.tensor([*allowed, NOTHING, IGNORED], device=scenes.labels.device))
    return fits.all(1)


def _even(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device).to(device)


# Boxes ----------------------------------------------------------------------------------------------------------------


def place_boxes(scenes: Scenes, layout: SceneLayout, augment: SceneAugment) -> tuple[Tensor, Tensor]:
    """Boxes and labels of the scenes, those that are left first."""
    boxes, labels = scenes.boxes[layout.sources], scenes.labels[layout.sources]  # [N,4,m,4], [N,4,m]
    low, high = _moved(boxes, layout)
    inside_low, inside_high = torch.maximum(low, layout.low[:, :, None]), torch.minimum(high, layout.high[:, :, None])
    left = (inside_high - inside_low).clamp(min=0)
    visible = left.prod(-1) / (high - low).prod(-1).clamp(min=1e-6)
    good = (visible >= augment.min_visible) & (left.amin(-1) >= augment.min_px)
    labels = torch.where(good | (labels < 0), labels, torch.full_like(labels, IGNORED))
    labels = torch.where(left.prod(-1) > 0, labels, torch.full_like(labels, NOTHING))
    return compact(torch.cat([inside_low, inside_high], -1).flatten(1, 2), labels.flatten(1))


def _moved(boxes: Tensor, layout: SceneLayout) -> tuple[Tensor, Tensor]:
    """Corners of boxes [N,4,m,4] in the scene, not yet cut off."""
    origin, size = layout.origin[:, :, None], layout.size[:, :, None]
    low, high = boxes[..., :2] - origin, boxes[..., 2:] - origin
    turned = size[..., 0] - high[..., 0], size[..., 0] - low[..., 0]
    flip = layout.mirrored[:, :, None]
    low = torch.stack([torch.where(flip, turned[0], low[..., 0]), low[..., 1]], -1)
    high = torch.stack([torch.where(flip, turned[1], high[..., 0]), high[..., 1]], -1)
    zoom, shift = layout.zoom[:, :, None, None], (layout.low - layout.start)[:, :, None]
    return low * zoom + shift, high * zoom + shift


def compact(boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Moves padding to the end and cuts it off: boxes [N,M,4] and labels [N,M] with the smallest M that holds all."""
    order = (labels == NOTHING).int().argsort(dim=1, stable=True)
    most = int((labels != NOTHING).sum(1).max()) if labels.numel() else 0
    order = order[:, :most]
    labels = labels.gather(1, order)
    boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
    return boxes * (labels != NOTHING)[..., None], labels


# Pixels ---------------------------------------------------------------------------------------------------------------


def place_pixels(images: Tensor, layout: SceneLayout) -> tuple[Tensor, Tensor]:
    """Pixels of the scenes, float32 [N,3,H,W] in [0,1] (channels last in memory), bilinear; grey outside images. And
    where they show an image, bool [N,H,W].
    """
    height, width = images.shape[2:]
    x, is_left = _column(layout, 0, width, images.device)
    y, is_upper = _column(layout, 1, height, images.device)
    inside = [(v >= 0) & (v < layout.size[..., axis, None]) for axis, v in enumerate((x, y))]
    x = torch.where(layout.mirrored[..., None], layout.size[..., :1] - x, x)
    # Coordinates of pixel centres in the letterboxed source, held inside the image.
    x, y = (
        (v + layout.origin[..., axis, None] - 0.5).clamp(
            layout.origin[..., axis, None], layout.origin[..., axis, None] + layout.size[..., axis, None] - 1
        )
        for axis, v in enumerate((x, y))
    )
    xs, valid_x = _across(x, is_left, is_upper), _across(inside[0], is_left, is_upper)
    ys, valid_y = _down(y, is_left, is_upper), _down(inside[1], is_left, is_upper)
    base = _across(layout.sources[..., None].expand(-1, -1, width), is_left, is_upper) * (height * width)
    pixels = _bilinear(images, base, xs, ys)
    shown = valid_x & valid_y
    pixels = torch.where(shown[..., None], pixels, torch.full_like(pixels, PAD))
    return pixels.permute(0, 3, 1, 2), shown


def _column(layout: SceneLayout, axis: int, extent: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where in its image (in letterbox pixels from its edge) each column of the scene lies, for each region
    [N,4,extent]; and which columns lie before the cut [N,extent].
    """
    places = torch.arange(extent, device=device) + 0.5
    own = (places - layout.low[..., axis, None] + layout.start[..., axis, None]) / layout.zoom[..., None]
    return own, places < layout.high[:, 0, axis, None]


def _across(of_regions: Tensor, is_left: Tensor, is_upper: Tensor) -> Tensor:
    """Values of columns [N,4,W] -> of every pixel [N,H,W], each from its own region."""
    upper = torch.where(is_left, of_regions[:, 0], of_regions[:, 1])
    lower = torch.where(is_left, of_regions[:, 2], of_regions[:, 3])
    return torch.where(is_upper[:, :, None], upper[:, None], lower[:, None])


def _down(of_regions: Tensor, is_left: Tensor, is_upper: Tensor) -> Tensor:
    """Values of rows [N,4,H] -> of every pixel [N,H,W], each from its own region."""
    left = torch.where(is_upper, of_regions[:, 0], of_regions[:, 2])
    right = torch.where(is_upper, of_regions[:, 1], of_regions[:, 3])
    return torch.where(is_left[:, None], left[:, :, None], right[:, :, None])


def _bilinear(images: Tensor, base: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """[N,H,W,3] in [0,1] at the coordinates of pixel centres; base: where the image begins, in pixels."""
    height, width = images.shape[2:]
    flat = images.permute(0, 2, 3, 1).reshape(-1, 3)
    x0, y0 = xs.floor(), ys.floor()
    right, below = (xs - x0)[..., None], (ys - y0)[..., None]
    x0, y0 = x0.long(), y0.long()
    x1, y1 = (x0 + 1).clamp(max=width - 1), (y0 + 1).clamp(max=height - 1)
    upper, lower = base + y0 * width, base + y1 * width

    def fetch(index: Tensor) -> Tensor:
        return flat.index_select(0, index.flatten()).view(*index.shape, 3).float()

    top = torch.lerp(fetch(upper + x0), fetch(upper + x1), right)
    bottom = torch.lerp(fetch(lower + x0), fetch(lower + x1), right)
    return torch.lerp(top, bottom, below).div_(255)


def _relight(x: Tensor, augment: SceneAugment, generator: torch.Generator) -> Tensor:
    """Random saturation, contrast about the mean, and brightness, per scene; clipped to [0,1]."""

    def factor(low: float, high: float) -> Tensor:
        drawn = _even((len(x), 1, 1, 1), generator, x.device)
        return (drawn * (math.log(high) - math.log(low)) + math.log(low)).exp()

    luma = sum(weight * x[:, channel : channel + 1] for channel, weight in enumerate(GREY))
    x = torch.lerp(torch.as_tensor(luma).expand_as(x), x, factor(augment.saturation_low, augment.saturation_high))
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    offset = (_even((len(x), 1, 1, 1), generator, x.device) * 2 - 1) * augment.brightness
    contrast = factor(augment.contrast_low, augment.contrast_high)
    return ((x - mean) * contrast + mean + offset).clamp_(0, 1)
