"""The commands as users call them: words in, exit status and text out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lisard_ros import cli


@dataclass(frozen=True)
class Done:
    """What a call left: exit status, stdout, stderr."""

    status: int
    out: str
    err: str

    def refused(self, *words: str) -> None:
        """Wrong use: status 2, one complete message, nothing on stdout."""
        assert self.status == 2 and self.out == "", self
        assert self.err.startswith("lisard: error: ") and self.err.count("\n") == 1, self.err
        assert all(word in self.err for word in words), self.err
        assert "found " in self.err and ("expected " in self.err or "; " in self.err), self.err


@pytest.fixture
def lisard(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Call the command in this process; an exception that escapes fails the test."""

    def call(*words: Any) -> Done:
        capsys.readouterr()
        status = cli.main([str(word) for word in words])
        text = capsys.readouterr()
        return Done(status, text.out, text.err)

    return call


@pytest.fixture
def image(tmp_path: Path) -> Callable[..., Path]:
    """Write an image of one colour (0 red, 1 green, 2 blue; None white) and return its path."""

    def write(colour: int | None, name: str = "", size: tuple[int, int] = (20, 30)) -> Path:
        rgb = np.zeros((*size, 3), np.uint8) if colour is not None else np.full((*size, 3), 255, np.uint8)
        if colour is not None:
            rgb[..., colour] = 200
        path = tmp_path / (name or f"{colour}.png")
        cv2.imwrite(str(path), np.ascontiguousarray(rgb[..., ::-1]))
        return path

    return write
