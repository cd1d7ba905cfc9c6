"""`make sbom` and `make audit`: what is made of the answers of the tools."""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def supply_chain() -> Any:
    """The script, which imports others that lie beside it."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        return importlib.import_module("supply_chain")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


def test_the_wheel_is_the_subject_of_the_sbom(supply_chain: Any, tmp_path: Path) -> None:
    wheel = tmp_path / "lisard_ros-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    own = {"name": "lisard-ros", "version": "0.1.0", "externalReferences": [{"url": "file:///somewhere"}]}
    document = {"bomFormat": "CycloneDX", "metadata": {"tools": []}, "components": [own, {"name": "numpy"}]}
    made = supply_chain.with_wheel(document, wheel)
    assert made["components"] == [{"name": "numpy"}]
    assert made["metadata"]["component"] == {
        "name": "lisard-ros",
        "version": "0.1.0",
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(b"wheel").hexdigest()}],
    }
    assert made["metadata"]["tools"] == []


def test_only_a_database_that_cannot_be_reached_skips_the_audit(supply_chain: Any) -> None:
    lost = "WARNING: x\nrequests.exceptions.ConnectionError: HTTPSConnectionPool(...): Max retries exceeded\n"
    assert "Max retries" in supply_chain.unreachable(lost)
    assert supply_chain.unreachable("Found 1 known vulnerability in 1 package\n") == ""
    assert supply_chain.unreachable("ERROR: invalid requirement\n") == ""


def test_what_is_described_is_what_is_pinned(supply_chain: Any) -> None:
    assert all((ROOT / "requirements" / name).is_file() for name in supply_chain.DELIVERED)
