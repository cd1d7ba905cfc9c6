"""The blocks of the tutorials, as they stand there: each is run, or checked where a mark names another machine."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lisard_ros.node import arguments, parameters

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import reference_pages  # noqa: E402
from tutorial_blocks import ENDING_NODES, OWN_FILES, Block, blocks  # noqa: E402

sys.path.remove(str(ROOT / "scripts"))

TUTORIALS = sorted((ROOT / "docs/tutorials").glob("[!i]*.md"))
EXPLANATIONS = sorted((ROOT / "docs/explanation").glob("*.md"))
LIMIT_S = 200
# Pages whose blocks with the reader's own files run with shipped ones in their place.
WITH_FILES = ("own_images", "bag_to_verdict")
LAUNCH_FILES = {
    "perception.launch.py": arguments.PERCEPTION,
    "replay.launch.py": (*arguments.PERCEPTION, *arguments.REPLAY),
    "attack_test.launch.py": (*arguments.PERCEPTION, *arguments.ATTACK_TEST),
}
# Words that begin a line of a marked block and belong to other programs, whose options nothing here can check.
FOREIGN = ("source", "sudo", "pip", "colcon", "echo")
SERVICES = {"/perception/injection": "std_srvs/srv/SetBool", "/perception/self_test": "diagnostic_msgs/srv/SelfTest"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder that looks like a clone of the repository, with a models folder that may be written to."""
    for name in ("data", "trainer", "examples", "config"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "models").mkdir()
    for model in (ROOT / "models").iterdir():
        (tmp_path / "models" / model.name).symlink_to(model)
    return tmp_path


def run(block: Block, folder: Path) -> None:
    """Run a block as a terminal would; the test fails with what it printed unless it ends with status 0."""
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "trainer", "engines"))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": paths,
    }
    command = ["bash", "-euo", "pipefail", "-c", block.text] if block.language == "bash" else [sys.executable, "-"]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            printed, _ = process.communicate(block.text if block.language == "python" else "", timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            printed = f"not done in {LIMIT_S} s"
        finally:  # what a block left in the background has its group
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    logs = "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in folder.glob("*.log"))
    assert process.returncode == 0, f"{block.text}\n{printed[-3000:]}\n{logs}"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("page", [*TUTORIALS, *EXPLANATIONS], ids=lambda page: page.stem)
def test_every_block_without_a_mark_runs(page: Path, clone: Path) -> None:
    for block in blocks(page):
        if not block.mark:
            run(block, clone)


@pytest.fixture
def own_files(clone: Path) -> Path:
    """A clone with what two pages expect of their reader: class folders, one image, a recording; training is short."""
    (clone / "trainer").unlink()
    shutil.copytree(ROOT / "trainer/recipes", clone / "trainer/recipes")
    recipe = clone / "trainer/recipes/own_images.yaml"
    text = recipe.read_text(encoding="utf-8")
    shorter = {"network: resnet14w": "network: resnet8", "epochs: 15": "epochs: 2", "after: 9": "after: 1"}
    for key, short in {**shorter, "batch_size: 64": "batch_size: 8"}.items():
        assert key in text
        text = text.replace(key, short)
    recipe.write_text(text, encoding="utf-8")
    for kind in ("00001", "00003", "00004", "00009"):
        (folder := clone / "IMAGES" / kind).mkdir(parents=True)
        for number, image in enumerate(sorted((ROOT / "data/gtsrb_tracks" / kind).glob("*.png"))):
            shutil.copy(image, folder / f"crossing{number % 3}_{number:03d}.png")
    shutil.copy(ROOT / "data/gtsrb_tracks/00003/00007_00006.png", clone / "photo.jpg")
    (clone / "DRIVE").symlink_to(ROOT / "data/road_drive")
    return clone


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", WITH_FILES)
def test_blocks_with_own_files_run_with_shipped_ones(page: str, own_files: Path) -> None:
    """As they stand on the page, in the order of the page."""
    own = [block for block in blocks(ROOT / f"docs/tutorials/{page}.md") if block.mark == OWN_FILES]
    assert own
    for block in own:
        run(replace(block, text=ENDING_NODES + block.text), own_files)
    for result in re.findall(r"--html (\S+)", " ".join(block.text for block in own)):
        assert (own_files / result).is_file()  # also where a check failed, as after such a short training


def test_each_tutorial_has_blocks_and_most_of_them_run() -> None:
    assert len(TUTORIALS) == 7
    every = [block for page in TUTORIALS for block in blocks(page)]
    assert all(blocks(page) for page in TUTORIALS)
    assert sum(not block.mark for block in every) > len(every) / 2 - 5


@pytest.fixture(scope="module")
def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parsers of `lisard` by their words."""
    pytest.importorskip("torch")
    return reference_pages.parsers()


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_option_of_a_marked_block_exists(page: Path, parsers: dict[str, argparse.ArgumentParser]) -> None:
    for block in blocks(page):
        if block.mark:
            for words in command_lines(block.text):
                check(words, parsers)


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of each command of a block; what follows && or || is a command of its own."""
    for line in text.replace("\\\n", " ").splitlines():
        for command in re.split(r"&&|\|\|", line):
            words = shlex.split(command, comments=True)
            if words:
                yield words


def check(words: list[str], parsers: dict[str, argparse.ArgumentParser]) -> None:
    """Compare the names and options of a command line with what declares them."""
    program, *rest = words
    if program == "lisard":
        name = " ".join(rest[:2]) if " ".join(rest[:2]) in parsers else rest[0]
        parsers[name].parse_args(rest[len(name.split()) :])  # exits at an unknown option
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(rest) <= set(targets), words
    elif words[:3] == ["ros2", "launch", "lisard_ros"]:
        names = {argument.name for argument in LAUNCH_FILES[rest[2]]}
        assert {word.split(":=")[0] for word in rest[3:]} <= names, words
    elif words[:3] == ["ros2", "param", "set"]:
        assert rest[3] in {spec.name for spec in parameters.TABLE}, words
    elif words[:3] == ["ros2", "service", "call"]:
        assert SERVICES[rest[2]] == rest[3], words
    elif words[:3] == ["ros2", "topic", "echo"]:
        assert rest[2] == "/diagnostics" or re.search(r"/(detections|classification)$", rest[2]), words
    elif program == "perception_node":
        given = {word.split(":=")[0] for option, word in itertools.pairwise(rest) if option == "-p"}
        assert given <= {spec.name for spec in parameters.TABLE}, words
    else:
        assert program in FOREIGN, words


def test_the_index_explains_every_mark() -> None:
    text = (ROOT / "docs/tutorials/index.md").read_text(encoding="utf-8")
    used = {block.mark for page in TUTORIALS for block in blocks(page)} - {""}
    assert used and all(f"**{mark}**" in text for mark in used)
