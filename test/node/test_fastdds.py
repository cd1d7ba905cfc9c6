"""The shared-memory profile: which variable is set, and that Fast DDS reads it without a complaint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lisard_ros.node import fastdds
from lisard_ros.tools import player

ROOT = Path(__file__).resolve().parents[2]


def prefix(folder: Path, manifest: str | None) -> str:
    share = folder / "share" / fastdds.MIDDLEWARE
    share.mkdir(parents=True)
    if manifest is not None:
        (share / "package.xml").write_text(manifest, encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize(
    ("manifest", "names"),
    [
        ("<package><build_depend>fastcdr</build_depend><build_depend> fastdds </build_depend></package>", ("NEWER",)),
        ("<package><depend>fastrtps</depend><build_depend>fastrtps_cmake_module</build_depend></package>", ("OLDER",)),
        ("<package/>", ("NEWER", "OLDER")),
        (None, ("NEWER", "OLDER")),
    ],
)
def test_one_variable_where_the_version_is_known(manifest: str | None, names: tuple[str, ...], tmp_path: Path) -> None:
    prefixes = os.pathsep.join([str(tmp_path / "empty"), prefix(tmp_path / "ros", manifest)])
    found = fastdds.variables(ROOT / "config" / fastdds.PROFILE_NAME, prefixes)
    assert tuple(found) == tuple(getattr(fastdds, name) for name in names)


def test_the_profile_is_found_without_links() -> None:
    assert fastdds.profile_path() == (ROOT / "config" / fastdds.PROFILE_NAME).resolve()


def test_a_profile_that_is_asked_for_replaces_that_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in fastdds.VARIABLES:
        monkeypatch.setenv(name, "/mine.xml")
    player.use_profile(fastdds.profile_path())
    assert {os.environ.get(name) for name in fastdds.VARIABLES} <= {str(fastdds.profile_path()), None}


def test_fast_dds_reads_a_linked_profile_without_a_complaint(tmp_path: Path) -> None:
    link = tmp_path / fastdds.PROFILE_NAME
    link.symlink_to(ROOT / "config" / fastdds.PROFILE_NAME)
    kept = {name: value for name, value in os.environ.items() if name not in fastdds.VARIABLES}
    environment = {**kept, **fastdds.variables(link, os.environ["AMENT_PREFIX_PATH"])}
    code = "import rclpy; rclpy.init(); rclpy.create_node('reader').destroy_node(); rclpy.shutdown()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and "XMLPARSER" not in done.stdout + done.stderr
    assert "deprecated" not in done.stdout + done.stderr
