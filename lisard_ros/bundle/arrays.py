"""Arrays in files of a bundle: .npz without pickle, so that nothing runs when one is read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lisard_ros.bundle.io import MAX_FILE_BYTES, Bundle
from lisard_ros.bundle.manifest import SelfTest
from lisard_ros.errors import BundleError, one_line


def load_arrays(data: bytes, name: str) -> dict[str, NDArray[np.generic]]:
    """Read the arrays of an .npz without unpickling anything.

    Args:
        data: The file.
        name: What to call it in errors.

    Raises:
        BundleError: It is no .npz, is damaged, unpacks too large, or needs pickle.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > MAX_FILE_BYTES:
                raise BundleError(
                    f"{name} unpacks too large",
                    found=size,
                    expected=f"<= {MAX_FILE_BYTES} bytes",
                    cure="make it again from fewer images",
                )
            arrays: dict[str, NDArray[np.generic]] = {}
            for entry in archive.infolist():
                content = io.BytesIO(archive.read(entry))
                key = entry.filename.removesuffix(".npy")
                arrays[key] = np.lib.format.read_array(content, allow_pickle=False)
            return arrays
    except BundleError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for bytes that do not fit
        raise BundleError(
            f"{name} is not a plain .npz",
            found=one_line(error),
            expected="arrays without pickled objects",
            cure="make it again",
        ) from error


def dump_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Serialise arrays as .npz with fixed time stamps, so that equal arrays give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in sorted(arrays.items()):
            entry = zipfile.ZipInfo(f"{key}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w") as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
    return buffer.getvalue()


def reference_images(bundle: Bundle, test: SelfTest) -> NDArray[np.uint8]:
    """Read the reference images of a bundle, uint8 [N, H, W, 3] RGB.

    Raises:
        BundleError: They are something else, not as many as their labels, or a true box lies outside its image.
    """
    images = load_arrays(bundle.data(test.frames), test.frames).get("frames")
    fits = images is not None and images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3
    if images is None or not fits or len(images) != len(test.labels):
        raise BundleError(
            f"{test.frames} does not hold the reference images",
            found=None if images is None else f"{images.dtype} {images.shape}",
            expected=f"`frames` uint8 [{len(test.labels)}, H, W, 3]",
        )
    height_px, width_px = images.shape[1:3]
    corners = [box.box_xyxy_px for boxes in test.boxes for box in boxes]
    outside = [box for box in corners if box[2] > width_px or box[3] > height_px]
    if outside:
        raise BundleError(
            "the self test has true boxes outside its images",
            found=", ".join(map(str, outside[:3])),
            expected=f"boxes inside {width_px}x{height_px} px",
            cure="export the bundle again",
        )
    return np.asarray(images, np.uint8)
