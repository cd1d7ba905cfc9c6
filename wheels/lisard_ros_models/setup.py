"""The bundles of models/ as a wheel: `pip install 'lisard_ros[models]'`. Built by scripts/packages.py.

It holds no code. Its files go where `colcon build` puts them, so that models/NAME is found as in every installation.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHARE = "share/lisard_ros"

text = (ROOT / "lisard_ros/__init__.py").read_text(encoding="utf-8")
(version,) = re.findall(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
files = sorted(path.relative_to(ROOT) for path in (ROOT / "models").glob("*/*") if path.is_file())
folders = sorted({path.parent for path in files})

setup(
    name="lisard_ros_models",
    version=version,
    description="The models that ship with lisard_ros: a detector of road signs and a classifier of traffic signs",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="lisard_ros maintainers",
    author_email="maintainers@lisard-ros.org",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[],
    # Relative: setuptools takes no other paths.
    data_files=[
        (f"{SHARE}/{folder}", [os.path.relpath(ROOT / path, HERE) for path in files if path.parent == folder])
        for folder in folders
    ],
)
