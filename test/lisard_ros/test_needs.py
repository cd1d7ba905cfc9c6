"""What is said when a package that the runtime needs cannot be imported."""

from __future__ import annotations

import sys

import pytest

from lisard_ros import needs


def lacking(name: str) -> ImportError:
    return ModuleNotFoundError(f"No module named '{name}'", name=name)


def test_a_python_package_is_named_as_pip_calls_it_with_the_command() -> None:
    assert f"{sys.executable} -m pip install array-api-compat" in str(needs.cannot_import(lacking("array_api_compat")))
    assert "-m pip install rosbags-image" in str(needs.cannot_import(lacking("rosbags.image")))
    assert "-m pip install onnxruntime" in str(needs.cannot_import(lacking("onnxruntime.capi")))


def test_a_ros_package_is_named_as_apt_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    assert "sudo apt install ros-jazzy-vision-msgs" in str(needs.cannot_import(lacking("vision_msgs.msg")))


def test_a_package_that_nobody_here_needs_is_shown_as_it_is() -> None:
    assert "found No module named 'surprise'" in str(needs.cannot_import(lacking("surprise")))


def test_all_that_lacks_is_in_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "PACKAGES", {**needs.PACKAGES, "no_such_package": "no-such"})
    assert needs.missing() == ["no-such"]
    assert "pip install msgspec no-such" in str(needs.cannot_import(lacking("msgspec")))
