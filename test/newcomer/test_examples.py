"""The programs of examples/, each run as its page says, and each without its data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from peers import NodeProcess, Peer, image, wait_until
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from lisard_ros.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))
import test_foreign_models as foreign  # noqa: E402

sys.path.remove(str(Path(__file__).parent))
EXAMPLES = ROOT / "examples"
TRACKS = ROOT / "data/gtsrb_tracks"
Done = subprocess.CompletedProcess[str]
# Stand-ins for launch, launch_ros and launch_testing; prints the node's parameters, or runs the tests of the file.
LAUNCH_TEST = """
import importlib.util, json, sys, types, unittest
class Recorded:
    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs
names = {"launch": ["LaunchDescription"], "launch_ros": [], "launch_ros.actions": ["Node"], "launch_testing": [],
         "launch_testing.actions": ["ReadyToTest"]}
for name, kinds in names.items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__dict__.update({kind: type(kind, (Recorded,), {}) for kind in kinds})
sys.modules["launch_testing"].actions = sys.modules["launch_testing.actions"]
spec = importlib.util.spec_from_file_location("example", sys.argv[1])
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)
if sys.argv[2] == "describe":
    node, ready = example.generate_test_description().args[0]
    print(json.dumps({**node.kwargs, "ready": type(ready).__name__}))
else:
    suite = unittest.defaultTestLoader.loadTestsFromModule(example)
    sys.exit(not unittest.TextTestRunner().run(suite).wasSuccessful())
"""


def program(folder: Path, *words: object, budget_s: float = 100) -> Done:
    """Run Python with these words in a folder, with the packages of this checkout."""
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "trainer", "engines"))
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=budget_s,
        check=False,
    )


def test_images_to_node_trains_and_answers(tmp_path: Path) -> None:
    for name in ("00001", "00003"):
        shutil.copytree(TRACKS / name, tmp_path / "IMAGES" / name)
    changes = (
        "data.tracks=none",
        "network=resnet8",
        "gradient.form=none",
        "optimizer.epochs=1",
        "optimizer.batch_size=9",
    )
    words = [word for change in changes for word in ("--set", change)]
    done = program(tmp_path, EXAMPLES / "images_to_node.py", "IMAGES", "--name", "two", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "models/two/bundle.json").is_file()
    assert ": 0000" in done.stdout.splitlines()[-1] and "score" in done.stdout


def test_own_yolo_makes_a_bundle_and_answers(tmp_path: Path) -> None:
    (tmp_path / "yolo.onnx").write_bytes(foreign.classes_first())
    (tmp_path / "labels.txt").write_text("\n".join(foreign.LABELS))
    cv2.imwrite(str(tmp_path / "street.png"), foreign.scene()[..., ::-1])
    done = program(tmp_path, EXAMPLES / "own_yolo.py", "yolo.onnx", "street.png", "--labels", "labels.txt")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nred 0." in done.stdout and "\nblue 0." in done.stdout
    assert (tmp_path / "models/yolo_check_street.png").is_file()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("images_to_node.py", "IMAGES"), "no images to train on: found none at IMAGES/CLASS/*.jpg"),
        (("own_yolo.py", "yolo.onnx", "street.jpg"), "no ONNX file: found nothing at yolo.onnx"),
    ],
)
def test_an_example_without_its_data_says_what_it_needs(tmp_path: Path, words: tuple[str, ...], expected: str) -> None:
    done = program(tmp_path, EXAMPLES / words[0], *words[1:])
    assert done.returncode == 2
    assert expected in done.stderr and "expected" in done.stderr and "Traceback" not in done.stderr


def test_one_node_answers_four_cameras_and_another_node_reads_them(
    start: Callable[[list[str]], NodeProcess], peer: Peer, tmp_path: Path
) -> None:
    file = EXAMPLES / "four_cameras.yaml"
    node = start(["--ros-args", "--params-file", str(file), "-p", "threads:=1", "-p", "max_age_ms:=0.0"])
    topics = yaml.safe_load(file.read_text())["perception"]["ros__parameters"]["image_topics"]
    cameras = [topic.split("/")[1] for topic in topics]
    assert len(set(cameras)) == 4
    node.said("active: ")
    got = {name: peer.collect(Detection2DArray, f"/perception/{name}/detections") for name in cameras}
    reader = subprocess.Popen(
        [sys.executable, EXAMPLES / "read_answers.py", "/perception/front/detections", "--count", "1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    publishers = {topic: peer.publisher(kind_of(topic), topic) for topic in topics}
    wait_until(lambda: peer.node.count_subscribers("/perception/front/detections") > 1, "the reader")
    deadline = time.monotonic() + 60
    while not (all(got.values()) and reader.poll() is not None):
        assert time.monotonic() < deadline, {name: len(messages) for name, messages in got.items()}
        for topic, publisher in publishers.items():
            publisher.publish(street(topic))
        time.sleep(0.5)
    assert reader.wait() == 0 and reader.stdout is not None
    assert ": nothing found" in reader.stdout.read() or got["front"][0].detections
    assert node.stop() == 0


def kind_of(topic: str) -> type:
    """The type of a camera's topic, as its name says."""
    return CompressedImage if topic.endswith("/compressed") else Image


def street(topic: str) -> Any:
    """A gray image as a camera of this topic publishes it, stamped now."""
    pixels = np.full((240, 320, 3), 120, np.uint8)
    message = image(pixels, time.time_ns())
    if kind_of(topic) is Image:
        return message
    return CompressedImage(header=message.header, format="jpeg", data=cv2.imencode(".jpg", pixels)[1].tobytes())


def test_read_answers_ends_with_a_sentence_where_nothing_answers(tmp_path: Path) -> None:
    code = (
        f"import runpy, sys; sys.argv = ['read_answers', '/nobody/detections']; sys.path.insert(0, {str(EXAMPLES)!r})\n"
    )
    code += "import read_answers; read_answers.PATIENCE_S = 0.5; sys.exit(read_answers.main())"
    done = program(tmp_path, "-c", code)
    assert done.returncode == 2
    assert "/nobody/detections: found no message and 0 publishers" in done.stderr


def test_the_cpp_node_compiles(tmp_path: Path) -> None:
    try:
        get_package_prefix("rclcpp")
    except PackageNotFoundError:
        pytest.skip("rclcpp is not installed")
    source = EXAMPLES / "read_answers_cpp"
    subprocess.run(["cmake", "-S", source, "-B", tmp_path], check=True)
    subprocess.run(["cmake", "--build", tmp_path], check=True)


def test_the_workflow_judges_a_recording(lisard: Callable[..., Any], tmp_path: Path) -> None:
    """Each `run` step in turn, with a small recording of shipped signs in place of the user's."""
    job = yaml.safe_load((EXAMPLES / "bag_verdict.yml").read_text(encoding="utf-8"))["jobs"]["verdict"]
    for name in ("00001", "00003", "00004", "00009", "00010", "00011"):
        shutil.copytree(TRACKS / name, tmp_path / "SIGNS" / name)
    made = lisard("bag", "make", "drive", "--classes", "SIGNS", "--names", ROOT / "models/traffic_signs/bundle.json")
    assert made.returncode == 0, made.stderr
    variables = {**job["env"], "RECORDING": "drive", "BUNDLE": "models/traffic_signs", "LIMITS": "failed=0"}
    environment = {
        **os.environ,
        **variables,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }

    def judged(step: str) -> Done:
        command = ["bash", "-e", "-c", step]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    steps = [step["run"] for step in job["steps"] if "run" in step and not step["run"].startswith("pip")]
    assert len(steps) == 2
    for step in steps:
        done = judged(step)
        assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.glob("verdict.*")} == {"verdict.html", "verdict.json", "verdict.xml"}
    environment["LIMITS"] = "clean=1"
    assert judged(steps[1]).returncode == 1


def test_the_launch_test_asks_a_running_node(start: Callable[[list[str]], NodeProcess], tmp_path: Path) -> None:
    """With stand-ins for launch: its parameters start the node here, its TestCase asks that node."""
    example = EXAMPLES / "self_test.launch_test.py"
    described = json.loads(program(tmp_path, "-c", LAUNCH_TEST, example, "describe").stdout)
    assert described["package"] == "lisard_ros" and described["ready"] == "ReadyToTest"
    words = [
        word
        for name, value in described["parameters"][0].items()
        for word in ("-p", f"{name}:={json.dumps(value) if isinstance(value, list) else value}")
    ]
    node = start(["--ros-args", "-r", f"__node:={described['name']}", *words, "-p", "threads:=1"])
    done = program(tmp_path, "-c", LAUNCH_TEST, example, "run")
    assert done.returncode == 0, done.stdout + done.stderr + node.log
    assert node.stop() == 0


def test_the_notebook_attacks_a_network_and_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(EXAMPLES)
    cells = json.loads((EXAMPLES / "attack_a_network.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell.get("outputs") for cell in cells), "commit the notebook without its outputs"
    namespace: dict[str, Any] = {}
    for cell in code[:-1]:
        exec(compile(cell, "cell", "exec"), namespace)
    *before, last = code[-1].rstrip().splitlines()
    exec(compile("\n".join(before), "cell", "exec"), namespace)
    sheet = cv2.imdecode(
        np.frombuffer(eval(compile(last, "cell", "eval"), namespace)._repr_png_(), np.uint8), cv2.IMREAD_COLOR
    )
    assert sheet.shape == (4 * 4 * 32, 3 * 4 * 32, 3)
    assert namespace["shares"]["clean"] > 0.9 and namespace["shares"]["PGD"] < 0.8
    assert all(np.abs(batch - namespace["images"]).max() <= 8 / 255 + 1e-6 for batch in namespace["attacked"].values())


def test_the_notebook_without_its_data_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    cells = json.loads((EXAMPLES / "attack_a_network.ipynb").read_text(encoding="utf-8"))["cells"]
    first = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    with pytest.raises(DataError, match="start Jupyter in the checkout"):
        exec(compile(first, "cell", "exec"), {})


def test_the_page_lists_every_example() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    names = [path.name for path in EXAMPLES.iterdir() if path.name not in ("README.md", "__pycache__")]
    assert len(names) == 8 and all(f"[{name}](" in text for name in names)
