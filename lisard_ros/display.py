"""What reports show: labels as words, and pictures inside the page itself."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from numpy.typing import NDArray


def words(label: str) -> str:
    """Write a label with blanks."""
    return label.replace("_", " ")


def png(rgb: NDArray[np.uint8]) -> str:
    """Return [H, W, 3] RGB as a data URI."""
    done, data = cv2.imencode(".png", np.ascontiguousarray(rgb[:, :, ::-1]))
    assert done
    return uri("png", data.tobytes())


def uri(kind: str, data: bytes) -> str:
    """Return an encoded picture as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
