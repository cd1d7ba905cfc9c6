"""docs/views.png: what the network sees while it trains, for the shipped recipe and some images.

python bench/views_sheet.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from lisard_trainer import data, recipes
from lisard_trainer.losses import augment

ROOT = Path(__file__).resolve().parent.parent
IMAGES = 6
SCALE = 3
GAP_PX = 6
HEADER_PX = 22
COLUMNS = ("image", "first view", "noisy view")


def main() -> None:
    """Draws one row per image."""
    recipe = recipes.read(ROOT / "trainer" / "recipes" / "traffic_signs.yaml")
    found = data.read(ROOT / "data" / "gtsrb_tracks", recipe.data.size_px)
    chosen = found.take(np.linspace(0, len(found) - 1, IMAGES).astype(int))
    sheet = draw(views(data.to_unit(chosen.images), recipe))
    cv2.imwrite(str(ROOT / "docs" / "views.png"), sheet, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def views(x: Tensor, recipe: recipes.Recipe) -> list[Tensor]:
    """The columns, each [N,3,H,W] in [0,1]."""
    random = torch.Generator().manual_seed(4)
    clean = augment.clean_view(x, recipe.augment, random, recipe.data.size_px)
    return [x, augment.first_view(clean, recipe.noise, random), augment.noisy_view(clean, recipe.noise, random)]


def draw(columns: list[Tensor]) -> np.ndarray:
    """A BGR sheet with a header."""
    stacked = torch.stack(columns, 1).clamp(0, 1).mul(255).round().byte().permute(0, 1, 3, 4, 2).numpy()
    side = stacked.shape[2] * SCALE + GAP_PX
    height, width = len(stacked) * side + HEADER_PX, len(columns) * side
    sheet = np.full((height, width, 3), 255, np.uint8)
    for row, images in enumerate(stacked):
        for column, rgb in enumerate(images):
            large = cv2.resize(rgb, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_NEAREST)[:, :, ::-1]
            top, left = HEADER_PX + row * side, column * side
            sheet[top : top + large.shape[0], left : left + large.shape[1]] = large
    for column, title in enumerate(COLUMNS):
        cv2.putText(sheet, title, (column * side, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return sheet


if __name__ == "__main__":
    main()
