"""The README's commands, as they are written there, from an empty folder with the package's files elsewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from peers import NodeProcess, Peer, image, wait_until
from vision_msgs.msg import Classification

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SIGN = ROOT / "data/gtsrb_tracks/00003/00007_00006.png"


def command(name: str) -> list[str]:
    """Words of the README's `lisard NAME ...`; where a checkout's data/ is named, that of this checkout."""
    (line,) = re.findall(rf"^lisard {name} (?!--).*$", README, re.MULTILINE)
    words = shlex.split(line, comments=True)[1:]
    return [str(ROOT / word) if word.startswith("data/") else word for word in words]


def test_doctor_shows_the_self_test_of_a_shipped_bundle(lisard: Callable[..., Any]) -> None:
    done = lisard(*command("doctor"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok   self test" in done.stdout and "universal (gray-box)" in done.stdout


def test_replay_writes_its_page(lisard: Callable[..., Any], tmp_path: Path) -> None:
    """Of the first images alone: all of them take ten seconds."""
    done = lisard(*command("replay"), "--limit", "5")
    assert done.returncode == 0, done.stderr
    assert "universal" in done.stdout and "applied to no frame: gray_fgsm" in done.stdout
    assert "<html" in (tmp_path / "replay.html").read_text(encoding="utf-8")


@pytest.fixture
def street(tmp_path: Path) -> None:
    """The README's street.jpg: a gray street with a shipped sign in it."""
    pixels = np.full((240, 320, 3), 120, np.uint8)
    pixels[60:140, 120:200] = cv2.resize(cv2.imread(str(SIGN)), (80, 80))
    cv2.imwrite(str(tmp_path / "street.jpg"), pixels)


@pytest.mark.usefixtures("street")
def test_the_lines_of_python_print_the_signs_of_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert re.match(r"speed_limit_60 0\.\d+ \(", capsys.readouterr().out)


@pytest.mark.usefixtures("street")
def test_predict_finds_and_classifies_the_signs_of_an_image(lisard: Callable[..., Any]) -> None:
    done = lisard(*command("predict"))
    assert done.returncode == 0, done.stderr
    assert re.match(r"street.jpg: \[.*speed_limit_60", done.stdout)
    done = lisard("predict", "models/traffic_signs", SIGN)
    assert done.returncode == 0 and "speed_limit_60" in done.stdout


def test_attack_run_judges_a_shipped_bundle(lisard: Callable[..., Any]) -> None:
    done = lisard(*command("attack run"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "clean" in done.stdout and "corruption/fog/3" in done.stdout


def test_bundle_wraps_an_onnx_file_with_labels_images_and_a_check(lisard: Callable[..., Any], tmp_path: Path) -> None:
    """The README's net.onnx averages colours, and PHOTOS has a folder of images for each."""
    rng = np.random.default_rng(0)
    for place, label in enumerate(labels := ("blue", "green", "red")):  # OpenCV writes BGR
        (folder := tmp_path / "PHOTOS" / label).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(40, 90, (48, 64, 3), np.uint8)
            pixels[..., place] += 120
            cv2.imwrite(str(folder / f"{number}.png"), pixels)
    (tmp_path / "labels.txt").write_text("\n".join(reversed(labels)))
    cv2.imwrite(str(tmp_path / "photo.jpg"), pixels)
    (tmp_path / "net.onnx").write_bytes(averages())
    done = lisard(*command("bundle"))
    assert done.returncode == 0, done.stderr
    assert re.search(r"self test +yes", done.stdout) and (tmp_path / "models/net_check_photo.png").is_file()
    assert "red" in done.stdout.split("checked")[1].splitlines()[1]
    for words in (("doctor", "models/net"), ("attack", "run", "models/net")):
        done = lisard(*words)
        assert done.returncode == 0, done.stdout + done.stderr


def averages() -> bytes:
    """Logits of red, green and blue: 20 times the mean of each channel."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "averages",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor("gain", TensorProto.FLOAT, [1], [20.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(onnx.checker.check_model(model) or model.SerializeToString())


def answer(peer: Peer, node: NodeProcess, pixels: np.ndarray) -> str:
    """Label that the node at the README's topics answers to an image."""
    node.said("active: ")
    got = peer.collect(Classification, "/perception/camera/classification")
    peer.publisher(type(image(pixels, 0)), "/camera/image_raw").publish(image(pixels, 5_000_000_000))
    message = wait_until(lambda: got and got[0], "an answer of the node")
    return str(message.results[0].class_id)


def sign() -> np.ndarray:
    """A shipped image of a sign, uint8 RGB."""
    return np.ascontiguousarray(np.asarray(cv2.imread(str(SIGN)), np.uint8)[..., ::-1])


def test_the_node_starts_as_the_readme_says(start: Callable[[list[str]], NodeProcess], peer: Peer) -> None:
    """From another folder: `models/traffic_signs` is the one of the package."""
    (line,) = re.findall(r"^perception_node (.*)$", README, re.MULTILINE)
    node = start(shlex.split(line))
    assert answer(peer, node, sign()) == "speed_limit_60"
    assert node.stop() == 0


def test_the_node_takes_the_parameter_file_of_a_python_launch_file(
    start: Callable[[list[str]], NodeProcess], peer: Peer, tmp_path: Path
) -> None:
    """launch_ros writes lists as !!python/tuple."""
    file = tmp_path / "launch_params.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    bundle: models/traffic_signs\n    threads: 1\n"
        "    image_topics: !!python/tuple\n    - /camera/image_raw\n"
    )
    node = start(["--ros-args", "--params-file", str(file)])
    assert answer(peer, node, sign()) == "speed_limit_60"
    assert node.stop() == 0
