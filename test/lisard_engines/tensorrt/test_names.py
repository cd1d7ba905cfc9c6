"""Every name of TensorRT that is used stands in one table; the real bindings of each version have all of them.

The bindings wheels are downloaded (1 MB each, no libraries) and imported over empty libraries: names can be looked at,
nothing can be built. Where no package registry can be reached, these tests say so and do not run.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lisard_ros import tensorrt_api
from lisard_ros.tensorrt_api import NAMES, Api, Log, missing_names

ROOT = Path(__file__).resolve().parents[3]
ADAPTERS = (
    ROOT / "engines/lisard_engines/tensorrt/builders.py",
    ROOT / "lisard_ros/backends/tensorrt_engine.py",
)
# JetPack 6.1 has 10.3.
WHEELS = {
    "10.3": "tensorrt-cu12-bindings==10.3.0",
    "10.7": "tensorrt-cu12-bindings==10.7.0",
    "10.16": "tensorrt-cu13-bindings==10.16.1.11",
    "11.4": "tensorrt-cu13-bindings==11.4.0.106",
}
# What the bindings want of their libraries when they are loaded.
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
    "getLogger",
    "getInferLibVersion",
    "getBuilderPluginRegistry",
)
LIBRARIES = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")
PROBE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import tensorrt_bindings as trt
from lisard_ros.tensorrt_api import NAMES, missing_names
version = trt.__version__
names = NAMES["tensorrt", int(version.split(".")[0])]
print(json.dumps({"version": version, "missing": missing_names(trt, names), "flags": hasattr(trt.BuilderFlag, "FP16")}))
"""


@pytest.fixture(scope="session")
def empty_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Libraries with the functions that the bindings look for, which do nothing."""
    folder = tmp_path_factory.mktemp("empty_libraries")
    source = folder / "empty.c"
    source.write_text("\n".join(f"void *{name}(void) {{ return 0; }}" for name in FUNCTIONS))
    for major in (10, 11):
        for library in LIBRARIES:
            target = f"{library}.so.{major}"
            command = ["gcc", "-shared", "-fPIC", "-o", str(folder / target), str(source), f"-Wl,-soname,{target}"]
            subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def wheels() -> Path:
    """Where downloaded wheels are kept between runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lisard_ros" / "test_wheels"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def unpacked(wheels: Path, requirement: str, folder: Path) -> Path:
    """Download a wheel unless it is there, and unpack it."""
    name, version = requirement.split("==")
    pattern = f"{name.replace('-', '_')}-{version}-cp{sys.version_info.major}{sys.version_info.minor}-*.whl"
    if not list(wheels.glob(pattern)):
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--only-binary",
            ":all:",
            "-d",
            str(wheels),
            requirement,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        if done.returncode:
            pytest.skip(f"{requirement} cannot be downloaded here: {done.stderr.strip().splitlines()[-1:]}")
    (wheel,) = wheels.glob(pattern)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.parametrize("version", WHEELS)
def test_the_real_bindings_have_every_name(version: str, wheels: Path, empty_libraries: Path, tmp_path: Path) -> None:
    folder = unpacked(wheels, WHEELS[version], tmp_path)
    environ = {**os.environ, "LD_LIBRARY_PATH": str(empty_libraries), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(folder)], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["version"].startswith(version) and found["missing"] == []
    assert found["flags"] is version.startswith("10"), "the precision flags, which are not used, are gone in 11"


def test_tensorrt_rtx_has_every_name() -> None:
    module = pytest.importorskip("tensorrt_rtx", reason="requirements/engines.txt is not installed")
    assert missing_names(module, NAMES["tensorrt_rtx", 1]) == []


def test_a_missing_name_would_be_found() -> None:
    class Module:
        class Builder:
            create_network = None

    assert missing_names(Module, {"": ("Builder", "Parser"), "Builder": ("create_network", "build")}) == [
        "Parser",
        "Builder.build",
    ]


def foreign_names(path: Path, own: set[str]) -> set[str]:
    """Attribute names that a file uses and that neither this project, Python nor the table explains."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return used - own - {member for names in NAMES.values() for members in names.values() for member in members}


def own_names() -> set[str]:
    """Names that the project and the standard types define."""
    names: set[str] = set()
    for folder in (ROOT / "lisard_ros", ROOT / "engines"):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    names.add(node.name)
                elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    names.add(node.target.id)
                elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node):
                    names.add(node.attr)
    import numpy as np

    for kind in (
        object,
        type,
        str,
        bytes,
        list,
        dict,
        tuple,
        int,
        Path,
        np,
        np.ndarray,
        builtins,
        __import__("time"),
        threading,
    ):
        names |= set(dir(kind))
    return names | {"__dict__"}


def _is_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "self"


@pytest.mark.parametrize("path", [p for p in ADAPTERS if p.exists()], ids=lambda p: p.name)
def test_the_adapters_use_no_name_outside_the_table(path: Path) -> None:
    assert foreign_names(path, own_names()) == set()


def test_a_name_outside_the_table_would_be_found(tmp_path: Path) -> None:
    stray = tmp_path / "stray.py"
    stray.write_text("config.int8_calibrator = None\nconfig.set_flag(trt.BuilderFlag.FP16)\n")
    assert foreign_names(stray, own_names()) == {"int8_calibrator", "FP16"}


class Recorder:
    """A recording fake of TensorRT, made from the table: it proves the order of calls and the handling of None and

    False, nothing else. It has only the names of the table, so any other is an AttributeError here.
    """

    def __init__(self, answers: dict[str, Any]) -> None:
        self.calls: list[str] = []
        self.answers = answers
        self.__version__ = "10.3.0"
        for name in NAMES["tensorrt", 10][""]:
            setattr(self, name, self._kind(name))

    def _kind(self, name: str) -> Any:
        members = NAMES["tensorrt", 10].get(name, ())
        recorder = self

        class Kind:
            __slots__ = ("__dict__",)

            def __init__(self, *arguments: Any) -> None:
                recorder.calls.append(name)

            def __getattr__(self, member: str) -> Any:
                if member not in members:
                    raise AttributeError(f"{name}.{member} is not in the table")
                return recorder._member(name, member)

        for number, member in enumerate(members):
            if member.isupper():
                setattr(Kind, member, number)
        Kind.__name__ = name
        return Kind

    def _member(self, name: str, member: str) -> Any:
        key = f"{name}.{member}"
        if key in PROPERTIES:
            return self.answers.get(key, PROPERTIES[key])

        def call(*arguments: Any) -> Any:
            self.calls.append(key)
            answer = self.answers.get(key, DEFAULTS.get(key))
            return self._kind(answer[1:])() if isinstance(answer, str) and answer.startswith("@") else answer

        return call


PROPERTIES: dict[str, Any] = {
    "Builder.num_DLA_cores": 0,
    "INetworkDefinition.num_inputs": 1,
    "INetworkDefinition.num_layers": 7,
    "ITensor.name": "images",
    "ITensor.shape": (-1, 3, 16, 16),
    "OnnxParser.num_errors": 1,
}
DEFAULTS: dict[str, Any] = {
    "Builder.create_network": "@INetworkDefinition",
    "Builder.create_builder_config": "@IBuilderConfig",
    "Builder.create_optimization_profile": "@IOptimizationProfile",
    "OnnxParser.parse": True,
    "INetworkDefinition.get_input": "@ITensor",
    "IBuilderConfig.add_optimization_profile": 0,
    "IBuilderConfig.create_timing_cache": "@ITimingCache",
    "IBuilderConfig.set_timing_cache": True,
    "IBuilderConfig.get_timing_cache": "@ITimingCache",
    "ITimingCache.serialize": b"timings",
    "OnnxParser.get_error": "@ParserError",
    "ParserError.desc": "not supported",
    "ParserError.node_name": "bend",
    "ParserError.node_operator": "Bernoulli",
}


class Plan(bytes):
    """What build_serialized_network gives."""

    @property
    def nbytes(self) -> int:
        return len(self)


def recorded(monkeypatch: pytest.MonkeyPatch, small: Any, dla_core: int = -1, **answers: Any) -> Any:
    """Build with the classic builder on the fake; the calls that it saw, and the result."""
    from lisard_engines.tensorrt import BuilderSettings, builders
    from lisard_ros.cuda_driver import Device

    fake = Recorder({"Builder.build_serialized_network": Plan(b"engine"), **answers})
    monkeypatch.setattr(builders.cuda_driver, "find", lambda: Device("Fake GPU", 87, "12.6"))
    api = Api("tensorrt", "10.3.0", fake, Log())
    builder = builders.TensorRt(BuilderSettings(dla_core=dla_core), api)
    assert builder.device() == ("Fake GPU", 87)
    return fake.calls, builder.build(small.network(), "model.onnx", b"old", lambda text: None)


def test_recorded_calls_come_in_order(monkeypatch: pytest.MonkeyPatch, small: Any) -> None:
    calls, built = recorded(monkeypatch, small)
    order = [
        "Builder",
        "Builder.create_network",
        "OnnxParser.parse",
        "Builder.create_builder_config",
        "IBuilderConfig.set_memory_pool_limit",
        "IOptimizationProfile.set_shape",
        "IBuilderConfig.add_optimization_profile",
        "IBuilderConfig.create_timing_cache",
        "IBuilderConfig.set_timing_cache",
        "Builder.build_serialized_network",
        "ITimingCache.serialize",
    ]
    places = [calls.index(name) for name in order]
    assert places == sorted(places)
    assert built.engine == b"engine" and built.timing_cache == b"timings" and built.layers == 7


@pytest.mark.parametrize(
    "name",
    [
        "Builder.create_network",
        "Builder.create_builder_config",
        "Builder.create_optimization_profile",
        "Builder.build_serialized_network",
        "IBuilderConfig.create_timing_cache",
    ],
)
def test_recorded_none_becomes_an_error(name: str, monkeypatch: pytest.MonkeyPatch, small: Any) -> None:
    from lisard_ros.errors import BackendError

    with pytest.raises(BackendError, match="no |cannot build model.onnx"):
        recorded(monkeypatch, small, **{name: None})


def test_recorded_refusals_become_errors(monkeypatch: pytest.MonkeyPatch, small: Any) -> None:
    from lisard_ros.errors import BackendError, UsageError

    with pytest.raises(BackendError, match="operator Bernoulli of node 'bend': not supported"):
        recorded(monkeypatch, small, **{"OnnxParser.parse": False})
    with pytest.raises(BackendError, match="refuses the profile"):
        recorded(monkeypatch, small, **{"IBuilderConfig.add_optimization_profile": -1})
    with pytest.raises(BackendError, match="empty engine"):
        recorded(monkeypatch, small, **{"Builder.build_serialized_network": Plan(b"")})
    with pytest.raises(UsageError, match="no such DLA core: found 0, expected below 0"):
        recorded(monkeypatch, small, dla_core=0)


def test_recorded_dla_is_set_with_its_fallback(monkeypatch: pytest.MonkeyPatch, small: Any) -> None:
    calls, _ = recorded(monkeypatch, small, dla_core=1, **{"Builder.num_DLA_cores": 2})
    assert calls.index("IBuilderConfig.set_flag") < calls.index("Builder.build_serialized_network")


def test_a_timing_cache_of_another_device_is_begun_anew(monkeypatch: pytest.MonkeyPatch, small: Any) -> None:
    calls, _ = recorded(monkeypatch, small, **{"IBuilderConfig.set_timing_cache": False})
    assert calls.count("IBuilderConfig.create_timing_cache") == 2


def test_what_lacks_is_told_stage_by_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_api, "_loaded", {})
    monkeypatch.setitem(tensorrt_api.MODULES, "tensorrt", ("no_such_tensorrt",))  # type: ignore[index]
    (stage,) = tensorrt_api.prerequisites("tensorrt")
    assert (stage.name, stage.ok) == ("bindings", False) and "no such module" in stage.detail


def test_bindings_without_libraries_are_the_second_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bare_tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tensorrt_api, "_loaded", {})
    monkeypatch.setitem(tensorrt_api.MODULES, "tensorrt", ("bare_tensorrt",))  # type: ignore[index]
    bindings, libraries = tensorrt_api.prerequisites("tensorrt")
    assert bindings.ok and not libraries.ok and "libnvinfer.so.10" in libraries.detail
