"""Compressed video in recordings: H.264 and H.265 packets of foxglove_msgs and ffmpeg_image_transport, through PyAV."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from lisard_ros.errors import ImageError, UsageError, one_line
from lisard_ros.frames import Frame

# FFmpeg's decoder, and what messages call its codec.
CODECS = {"h264": re.compile("h264|x264|avc", re.I), "hevc": re.compile("h265|x265|hevc", re.I)}
Decoded = tuple[int, Frame | ImageError]


def require_av() -> Any:
    """Return PyAV; UsageError where it is missing."""
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise UsageError(
            "compressed video needs the Python package av",
            found=str(error),
            expected="it in this environment",
            cure="pip install 'lisard_ros[video]', or choose other --topics",
        ) from error


def codec_of(message: Any) -> str:
    """Return FFmpeg's name of the codec of a packet; ImageError for one that is not decoded.

    ffmpeg_image_transport writes the encoder's name, such as libx264 or hevc_nvenc, sometimes with more behind `;`.
    """
    named = str(message.encoding if hasattr(message, "encoding") else message.format)
    codec = next((codec for codec, pattern in CODECS.items() if pattern.search(named.split(";")[0])), None)
    if codec is None:
        raise ImageError(
            "unknown video codec", found=repr(named), expected="h264 or h265", cure="record with one of them"
        )
    return codec


class VideoStream:
    """Decodes the packets of one camera. A frame may come some packets after its own."""

    def __init__(self, codec: str, camera: str) -> None:
        """codec: FFmpeg's name."""
        self.codec, self._camera = codec, camera
        self._av = require_av()
        self._context = self._av.CodecContext.create(codec, "r")
        self._context.thread_count = 1
        self._waiting: dict[int, tuple[int, str]] = {}  # number of a packet -> stamp and frame_id

    def push(self, number: int, stamp_ns: int, frame_id: str, data: bytes) -> Iterator[Decoded]:
        """Decode one packet; yields what is ready, by the number of its packet.

        A packet that cannot be decoded is answered with an error, and so are those behind it up to the next key frame
        if the decoder gives no image for them.
        """
        self._waiting[number] = (stamp_ns, frame_id)
        packet = self._av.Packet(data)
        packet.pts = packet.dts = number
        try:
            frames = self._context.decode(packet)
        except self._av.error.FFmpegError as error:
            self._waiting.pop(number, None)
            yield number, ImageError("a video packet cannot be decoded", found=one_line(error))
            return
        yield from self._taken(frames)

    def flush(self) -> Iterator[Decoded]:
        """End the stream; packets without an image are answered with an error."""
        with suppress(self._av.error.FFmpegError, EOFError):  # what is missing is named below
            yield from self._taken(self._context.decode(None))
        for number in sorted(self._waiting):
            yield (
                number,
                ImageError("a video packet gives no image", found="no image", expected="a key frame before it"),
            )
        self._waiting.clear()

    def _taken(self, frames: list[Any]) -> Iterator[Decoded]:
        for frame in frames:
            about = self._waiting.pop(frame.pts, None)
            if about is None:
                continue
            if frame.is_corrupt:
                yield frame.pts, ImageError("a video packet is damaged", found="a corrupt image")
                continue
            stamp_ns, frame_id = about
            pixels = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
            yield frame.pts, Frame(pixels, "bgr", stamp_ns, frame_id, self._camera)
