"""`lisard models`: the shipped bundles of a checkout and of other installations, whole, damaged, or too new."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lisard_ros import bundle as bundles
from lisard_ros import share

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The share folder of an installation that holds one bundle."""
    shutil.copytree(ROOT / "models/traffic_signs", tmp_path / "share/models/signs")
    monkeypatch.setattr(share, "folders", lambda: [tmp_path / "share"])
    return tmp_path / "share"


def test_the_bundles_of_the_checkout_are_listed(lisard: Callable[..., Any]) -> None:
    done = lisard("models")
    assert done.status == 0 and done.err == ""
    rows = {line.split()[0]: line for line in done.out.splitlines()[2:]}
    assert rows.keys() == {"models/road_signs", "models/traffic_signs"}
    assert all(" whole " in row and str(ROOT / name) in row for name, row in rows.items())
    listed = json.loads(lisard("models", "verify", "--json").out)
    assert {one["name"]: one["sha256"] for one in listed} == {
        name: bundles.read(ROOT / "models" / name).sha256 for name in ("road_signs", "traffic_signs")
    }


def test_verify_ends_with_1_for_a_changed_file(lisard: Callable[..., Any], installation: Path) -> None:
    assert lisard("models", "verify").status == 0
    with (installation / "models/signs/universal.npz").open("ab") as file:
        file.write(b" ")
    done = lisard("models", "verify", "models/signs")
    assert done.status == 1 and " damaged " in done.out
    assert "universal.npz is not the file that bundle.json lists" in done.err


def test_a_bundle_of_a_newer_schema_is_said_to_be_one(lisard: Callable[..., Any], installation: Path) -> None:
    manifest = installation / "models/signs/bundle.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps({**content, "schema_version": 7, "more": 1}), encoding="utf-8")
    done = lisard("models")
    assert done.status == 0 and " newer schema " in done.out
    assert "is of a newer schema: found schema_version 7, expected at most 1; a newer lisard_ros wrote it" in done.err
    assert lisard("models", "verify").status == 1
    assert lisard("models", "copy", "signs", installation / "copy").status == 2


def test_a_copy_is_used_as_the_original(lisard: Callable[..., Any], installation: Path, tmp_path: Path) -> None:
    done = lisard("models", "copy", "signs", tmp_path / "mine")
    assert done.status == 0
    assert bundles.read(tmp_path / "mine").sha256 == bundles.read(installation / "models/signs").sha256
    lisard("models", "copy", "signs", tmp_path / "mine").refused("exists already")
    lisard("models", "copy", "sings").refused("unknown model", "did you mean 'signs'?")


def test_an_installation_without_bundles_says_how_to_get_them(
    lisard: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(share, "folders", lambda: [tmp_path])
    done = lisard("models")
    assert done.status == 0 and "pip install 'lisard_ros[models]'" in done.out
    assert lisard("models", "verify").status == 1
    lisard("models", "copy", "signs").refused("no bundle comes with this installation", str(tmp_path))
