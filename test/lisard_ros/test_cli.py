"""The `lisard` command: finds and suggests subcommands, imports only what is called, and never shows a traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from lisard_ros import __version__, cli

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ("bundle", "attack", "replay", "compare", "predict", "models", "bag", "doctor")


def lisard(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'trainer'}"}
    return subprocess.run(
        [sys.executable, "-m", "lisard_ros", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_without_a_command_the_overview_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2 and "usage: lisard COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_the_overview_names_every_command(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([word]) == 0
    overview = capsys.readouterr().out
    commands = {entry.name: entry.value for entry in entry_points(group=cli.COMMAND_GROUP)}
    assert {"train", "build", *RUNTIME} <= set(commands)
    assert all(f"  {name} " in overview and cli.summary_of(module) in overview for name, module in commands.items())


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_the_version(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([word]) == 0 and capsys.readouterr().out == f"lisard {__version__}\n"


@pytest.mark.parametrize(("word", "guess"), [("bundel", "bundle"), ("doktor", "doctor"), ("repaly", "replay")])
def test_a_wrong_command_is_answered_with_the_nearest(
    word: str, guess: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([word]) == 2
    error = capsys.readouterr().err
    assert f"unknown command: found '{word}', expected one of" in error and f"did you mean '{guess}'?" in error


def test_a_word_like_no_command_gets_no_guess(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["xyzzy"]) == 2 and "did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize("name", RUNTIME)
def test_every_command_explains_itself_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: lisard {name}") and f"  lisard {name}" in text


@pytest.mark.parametrize("name", RUNTIME)
def test_an_unknown_option_is_wrong_use(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--no-such-option"]) == 2
    assert "usage: lisard" in capsys.readouterr().err


def test_a_command_that_is_not_installed_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_modules", lambda: {"train": "lisard_nowhere.train"})
    assert cli.main(["train"]) == 2
    assert "`lisard train` cannot be loaded: found No module named" in capsys.readouterr().err


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_dispatch", interrupted)
    assert cli.main(["run"]) == 130 and capsys.readouterr().err == "lisard: interrupted\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "/a/b"), "'/a/b': found Permission denied, expected to read or"),
        (OSError(28, "No space left on device"), "the file system: found No space left on device, "),
        (MemoryError("array of 3 TB"), "memory: found too little (array of 3 TB)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you"), "memory: found too little (DefaultCPU"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "memory: found too little (CUDA out of memory"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_dispatch", refused)
    assert cli.main(["run"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"lisard: error: {said}") and told.count("\n") == 1


@pytest.mark.parametrize("kind", [ZeroDivisionError, RuntimeError])
def test_a_bug_is_not_hidden(kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(words: list[str]) -> int:
        raise kind

    monkeypatch.setattr(cli, "_dispatch", bug)
    with pytest.raises(kind):
        cli.main(["run"])


def test_importing_the_command_imports_nothing_heavy() -> None:
    code = (
        "import sys, lisard_ros.cli as cli; cli.main(['--help']); "
        "heavy = {'numpy', 'cv2', 'onnxruntime', 'torch', 'rosbags', 'msgspec', 'rclpy', 'lisard_trainer'}; "
        "found = heavy & set(sys.modules); sys.exit(', '.join(sorted(found)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", RUNTIME)
def test_runtime_commands_do_not_import_torch(name: str) -> None:
    """Regression: `lisard attack run` loaded torch to describe `lisard attack make`."""
    code = f"import sys, lisard_ros.cli as cli; cli.main([{name!r}, '--help']); sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'trainer'}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_checkout_that_is_not_installed_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "entry_points", lambda group: [])
    assert cli.main(["doctor"]) == 2
    assert "found a checkout that is not installed" in capsys.readouterr().err


def test_the_old_name_of_a_command_works_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--help"]) == 0
    text = capsys.readouterr()
    assert text.out.startswith("usage: lisard predict")
    assert text.err == "lisard: `lisard run` is now `lisard predict`; the next release drops the old name\n"
    assert cli.main(["--help"]) == 0 and "\n  run " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "old", "new", "value"),
    [
        ("verify", "--pictures", "--images", "folder"),
        ("verify", "--flavour", "--scheme", "s8s8"),
        ("build", "--plans", "--engines", "tensorrt"),
        ("build", "--plan-policy", "--engine-policy", "require"),
    ],
)
def test_the_old_name_of_an_option_works_and_says_so(
    command: str, old: str, new: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, str(tmp_path), f"{old}={value}"]) == 2
    text = capsys.readouterr().err
    assert text.startswith(f"lisard: `{old}` is now `{new}`; the next release drops the old name\n")
    assert "unrecognized" not in text


@pytest.mark.parametrize("command", cli.RENAMED_OPTIONS)
def test_help_shows_new_names_of_options_alone(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    if command in ("attack", "evaluate"):
        pytest.importorskip("torch")
    assert cli.main([command, *(["make"] if command == "attack" else []), "--help"]) == 0
    shown = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    renamed = cli.RENAMED_OPTIONS[command]
    assert set(renamed.values()) <= shown and not set(renamed) & shown


# --- as a process ---------------------------------------------------------------------------------------------------


def test_the_module_is_the_command() -> None:
    done = lisard("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"lisard {__version__}\n", "")


def test_wrong_use_has_no_traceback() -> None:
    done = lisard("predict", "/nowhere", "/nowhere.png")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("lisard: error: no bundle there")
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    """Regression: `lisard --help | head -1` could end with Python's own message and status 120."""
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(
        [sys.executable, "-m", "lisard_ros", "--help"], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert process.communicate(timeout=60)[1] == "" and process.returncode == 0


def test_a_name_that_the_terminal_cannot_show_is_escaped() -> None:
    """Regression: UnicodeEncodeError, with a traceback, for a name in Cyrillic on an ASCII terminal."""
    ascii_only = {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'trainer'}", **ascii_only}
    words = ["predict", str(ROOT / "models" / "traffic_signs"), "\u0437\u043d\u0430\u043a.png"]
    command = [sys.executable, "-m", "lisard_ros", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "\\u0437\\u043d\\u0430\\u043a.png" in done.stderr and "Traceback" not in done.stderr
    done = subprocess.run(
        [*command, "--json"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2 and json.loads(done.stdout)[0]["file"] == words[2]
