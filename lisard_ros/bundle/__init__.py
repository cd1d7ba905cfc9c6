"""Bundles: a model with all that its answers depend on, read, checked, hashed and written."""

from __future__ import annotations

from lisard_ros.bundle.io import (
    MANIFEST_NAME,
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_TOTAL_BYTES,
    MAX_ZIP_RATIO,
    MODELS,
    SIGNATURE_NAME,
    Bundle,
    add_signature,
    check_place,
    check_replaceable,
    copy,
    locate,
    pack,
    read,
    shipped,
    write,
)

__all__ = [
    "MANIFEST_NAME",
    "MAX_FILE_BYTES",
    "MAX_MANIFEST_BYTES",
    "MAX_TOTAL_BYTES",
    "MAX_ZIP_RATIO",
    "MODELS",
    "SIGNATURE_NAME",
    "Bundle",
    "add_signature",
    "check_place",
    "check_replaceable",
    "copy",
    "locate",
    "pack",
    "read",
    "shipped",
    "write",
]
