"""Small folders of images that a narrow network can learn in seconds."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from lisard_trainer import data, recipes

SIZE_PX = 16
COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))


def write_image(path: Path, colour: tuple[int, int, int], seed: int, size_px: int = SIZE_PX) -> None:
    """A patch of one colour with texture, as a PNG."""
    texture = np.random.default_rng(seed).integers(-30, 31, (size_px, size_px, 3))
    rgb = np.clip(np.array(colour) + texture, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rgb[:, :, ::-1])


def write_folder(folder: Path, tracks: int = 4, frames: int = 5, size_px: int = SIZE_PX) -> Path:
    """Three classes of coloured patches, <class>/<track>_<frame>.png."""
    for label, colour in enumerate(COLOURS):
        for track in range(tracks):
            for frame in range(frames):
                seed = (label * 100 + track) * 100 + frame
                write_image(folder / f"{label:05d}" / f"{track:05d}_{frame:05d}.png", colour, seed, size_px)
    return folder


@pytest.fixture(scope="session")
def golden():
    return json.loads((Path(__file__).parent / "data" / "lisard_golden.json").read_text())


@pytest.fixture
def make_folder():
    return write_folder


@pytest.fixture
def make_image():
    return write_image


@pytest.fixture(scope="session")
def make_recipe():
    return tiny_recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of its own, which a test may spoil."""
    return write_folder(tmp_path / "images")


@pytest.fixture(scope="session")
def shared_folder(made_once) -> Path:
    return made_once("images", write_folder)


@pytest.fixture(scope="session")
def split(shared_folder: Path) -> data.Split:
    return data.split_by_track(data.read(shared_folder, SIZE_PX), 0.25, 0)


def tiny_recipe(**changes) -> recipes.Recipe:
    """A training of seconds."""
    settings = {
        "name": "tiny",
        "network": "resnet14n",
        "precision": "float32",
        "data": {"size_px": SIZE_PX},
        "optimizer": {"epochs": 3, "batch_size": 15, "max_lr": 0.05},
    }
    return recipes.from_mapping({**settings, **changes})


class BalancedHtml(HTMLParser):
    """Fails on a tag that is not closed; links: what `src` and `href` name."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links = [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


@pytest.fixture(scope="session")
def balanced():
    """Reads HTML, and fails when it is not well-formed."""
    return BalancedHtml
