"""The name of this machine's CPU: one line, never empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from lisard_ros import host_cpu


@pytest.mark.parametrize("name", ["flags\t\t", "Features\t"])  # x86, ARM
def test_features_are_those_that_the_system_lists(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{name}: avx2 sse avx512_bf16\n{name}: other\n")
    monkeypatch.setattr(host_cpu, "Path", lambda path: tmp_path / Path(path).name)
    assert host_cpu.flags() == {"avx2", "sse", "avx512_bf16"} and host_cpu.instruction_sets() == ("avx2",)
    (tmp_path / "cpuinfo").unlink()
    assert host_cpu.flags() == frozenset() and host_cpu.instruction_sets() == ()


def test_this_machine_has_a_name() -> None:
    name = host_cpu.cpu_name()
    assert name and "\n" not in name and "\0" not in name


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"model": "NVIDIA Jetson Orin\0", "cpuinfo": "model name : ARM\n"}, "NVIDIA Jetson Orin"),
        ({"cpuinfo": "flags: a\nmodel name\t: AMD EPYC 7R13\nmodel name : other\n"}, "AMD EPYC 7R13"),
    ],
)
def test_the_board_comes_before_the_cpu(
    files: dict[str, str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    monkeypatch.setattr(host_cpu, "Path", lambda path: tmp_path / Path(path).name)
    assert host_cpu.cpu_name() == name
