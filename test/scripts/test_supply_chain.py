"""`make sbom` and `make audit`: what is made of the answers of the tools."""

from __future__ import annotations

import hashlib
import importlib
import json
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


def answer(*packages: dict[str, Any]) -> str:
    """What pip-audit prints as JSON."""
    return json.dumps({"dependencies": packages, "fixes": []})


SOUND = {"name": "numpy", "version": "2.4.6", "vulns": []}
UNKNOWN = {"name": "tqdm", "skip_reason": "not found"}


def test_a_vulnerability_fails_the_audit(supply_chain: Any) -> None:
    flaw = {"id": "PYSEC-1", "fix_versions": ["3.1.7"], "aliases": [], "description": ""}
    status, lines = supply_chain.verdict(answer(SOUND, {"name": "jinja2", "version": "3.1.6", "vulns": [flaw]}), "")
    assert status == 1 and "jinja2 3.1.6: PYSEC-1, fixed in 3.1.7" in lines
    assert supply_chain.verdict(answer(SOUND), "")[0] == 0


def test_a_package_that_the_database_does_not_know_is_named(supply_chain: Any) -> None:
    status, lines = supply_chain.verdict(answer(SOUND, UNKNOWN), "")
    assert status == 0 and lines[0] == "tqdm: not audited: not found" and lines[-1].endswith("in 1 packages")
    status, (line,) = supply_chain.verdict(answer(UNKNOWN, UNKNOWN), "")
    assert status == 0 and "not run" in line and "none of 2 packages" in line


def test_only_a_database_that_cannot_be_reached_skips_the_audit(supply_chain: Any) -> None:
    lost = "WARNING: x\nrequests.exceptions.ConnectionError: HTTPSConnectionPool(...): Max retries exceeded\n"
    status, (line,) = supply_chain.verdict("", lost)
    assert status == 0 and "not run" in line and "Max retries" in line
    assert supply_chain.verdict("", "ERROR: invalid requirement\n")[0] == 1


def test_what_is_described_is_what_is_pinned(supply_chain: Any) -> None:
    assert all((ROOT / "requirements" / name).is_file() for name in supply_chain.DELIVERED)
