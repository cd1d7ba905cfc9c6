"""Engines in the cache: by policy, whole or not at all, refused where they do not fit; two real builds at once."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_engines.tensorrt import Batches, BuilderSettings, Built, engine_cache
from lisard_ros.backends import engine_cache as engines
from lisard_ros.backends.engine_cache import Host
from lisard_ros.bundle import model_choice
from lisard_ros.bundle.manifest import Verification
from lisard_ros.errors import BackendError, UsageError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Counting:
    """Stands in for a builder: what is tested here is the cache. It counts its builds; every one differs."""

    product, version = "tensorrt", "10.3.0"

    def __init__(self, device: str = "Orin", capability: int = 87, fails: bool = False) -> None:
        self.builds, self._device, self._fails = 0, (device, capability), fails
        self.seen: list[bytes] = []

    def device(self) -> tuple[str, int]:
        return self._device

    def build(self, data: bytes, name: str, timing_cache: bytes, progress: Any) -> Built:
        if self._fails:
            raise BackendError("GPU out of memory")
        self.builds += 1
        self.seen.append(timing_cache)
        return Built(b"engine %d" % self.builds, 1.5, 7, (), b"timings %d" % self.builds)


def verdict(**changes: Any) -> Verification:
    values: dict[str, Any] = {
        "against": "a",
        "backend": "b",
        "pictures": 10,
        "attacked": 10,
        "pictures_sha256": "",
        "agreement": 1.0,
        "max_abs_difference": 0.0,
        "clean_loss_points": 0.0,
        "robust_loss_points": 0.0,
        "clean_limit_points": 1.0,
        "robust_limit_points": 1.5,
        "passed": True,
    }
    return Verification(**{**values, **changes})


def provide(bundle: Any, builder: Any, policy: Any = "build", settings: BuilderSettings | None = None) -> Any:
    model = model_choice.pick(bundle.manifest)
    return engine_cache.provide(bundle, model, builder, settings or BuilderSettings(), policy, lambda text: None)


HOST = Host("tensorrt", "10.3.0", "Orin", 87, engine_cache.platform.machine())


def test_policies(small: Any) -> None:
    bundle, builder = small.bundle(), Counting()
    with pytest.raises(BackendError, match="no such engine in the cache: .*`lisard build .*--engines tensorrt`"):
        provide(bundle, builder, "require")
    assert provide(bundle, builder, "build").built.seconds == 1.5
    assert provide(bundle, builder, "build").built is None and builder.builds == 1
    assert provide(bundle, builder, "require").engine.data == b"engine 1"
    assert provide(bundle, builder, "rebuild").engine.data == b"engine 2"
    with pytest.raises(UsageError, match="did you mean 'rebuild'"):
        provide(bundle, builder, "rebuilt")


def test_an_engine_begins_unverified_and_says_so(small: Any) -> None:
    engine = provide(small.bundle(), Counting()).engine
    assert engine.sidecar.state == "unverified" and "was never compared" in engine.warnings[0]
    again = engines.read(engines.record(engine, verdict()).folder)
    assert again.sidecar.state == "verified" and again.warnings == ()
    forced = engines.record(engine, verdict(passed=False, forced=True, robust_loss_points=4.0))
    assert forced.sidecar.state == "forced" and "4.00 attacked (limit 1.5)" in forced.warnings[0]


def test_timings_are_kept_for_the_next_build_on_the_device(small: Any) -> None:
    builder = Counting()
    provide(small.bundle(), builder)
    provide(small.bundle(), builder, "rebuild")
    assert builder.seen == [b"", b"timings 1"]
    other = Counting(device="Nano")
    provide(small.bundle(), other)
    assert other.seen == [b""]


@pytest.mark.parametrize(
    "change",
    [
        {"batches": Batches(1, 2, 4)},
        {"workspace_mib": 64},
        {"level": 5},
        {"dla_core": 0},
    ],
)
def test_every_setting_is_part_of_the_key(change: dict[str, Any], small: Any) -> None:
    bundle, builder = small.bundle(), Counting()
    first = provide(bundle, builder).engine.folder
    assert provide(bundle, builder, settings=replace(BuilderSettings(), **change)).engine.folder != first


def test_another_model_is_another_key(small: Any) -> None:
    one, two = small.bundle(name="one"), small.bundle(small.network(weight=2.0), name="two")
    keys = [engine_cache.key_of(b, b.manifest.models[0], Counting(), BuilderSettings()).digest() for b in (one, two)]
    assert keys[0] != keys[1]


def test_the_host_gets_the_engine_that_fits_it(small: Any) -> None:
    bundle = small.bundle()
    engine = provide(bundle, Counting()).engine
    assert engines.select(bundle, bundle.manifest.models[0], HOST).folder == engine.folder
    assert engines.has_any(bundle)


@pytest.mark.parametrize(
    ("host", "found"),
    [
        (replace(HOST, version="10.7.0"), "built with tensorrt 10.3.0"),
        (replace(HOST, device="Nano"), r"built on Orin \(87\)"),
        (replace(HOST, compute_capability=89), r"built on Orin \(87\)"),
        (replace(HOST, cpu="riscv"), "built on "),
        (replace(HOST, product="tensorrt_rtx", version="1.7"), "built with tensorrt 10.3.0"),
    ],
)
def test_an_engine_of_another_device_or_version_is_refused(host: Host, found: str, small: Any) -> None:
    bundle = small.bundle()
    provide(bundle, Counting())
    with pytest.raises(BackendError, match=f"no engine for fp32/plain of small here: found {found}.*lisard build"):
        engines.select(bundle, bundle.manifest.models[0], host)


def test_an_engine_of_another_bundle_is_not_seen(small: Any) -> None:
    provide(small.bundle(name="one"), Counting())
    other = small.bundle(small.network(weight=2.0), name="two")
    with pytest.raises(BackendError, match="found no engine of this model in the cache"):
        engines.select(other, other.manifest.models[0], HOST)


def test_what_the_gate_refused_is_not_run(small: Any) -> None:
    bundle = small.bundle()
    engines.record(provide(bundle, Counting()).engine, verdict(passed=False, clean_loss_points=9.0))
    with pytest.raises(BackendError, match=r"found one that loses 9\.00 points clean"):
        engines.select(bundle, bundle.manifest.models[0], HOST)


@pytest.mark.parametrize("damage", ["truncate", "remove", "sidecar", "swap"])
def test_a_damaged_engine_is_refused(damage: str, small: Any) -> None:
    bundle = small.bundle()
    engine = provide(bundle, Counting()).engine
    if damage == "truncate":
        (engine.folder / "model.plan").write_bytes(engine.data[:3])
    elif damage == "remove":
        (engine.folder / "model.plan").unlink()
    elif damage == "sidecar":
        (engine.folder / "plan.json").write_text("{}")
    else:
        other = provide(bundle, Counting(), settings=BuilderSettings(level=1)).engine
        (engine.folder / "plan.json").write_bytes((other.folder / "plan.json").read_bytes())
    with pytest.raises(BackendError, match="is damaged: found .*remove that folder and build the engine again"):
        provide(bundle, Counting(), "require")


def test_a_cache_that_cannot_be_written_is_named(small: Any, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(BackendError, match="cannot write the engine cache: .*LISARD_CACHE"):
        provide(small.bundle(), Counting())


def test_a_full_disk_leaves_nothing_behind(small: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = small.bundle()
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "plan.json":
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BackendError, match="No space left on device.*free some space"):
        provide(bundle, Counting())
    left = [path.name for path in (cache / "plans" / bundle.sha256).iterdir() if not path.name.endswith(".lock")]
    assert left == []


def test_a_failed_build_stores_nothing(small: Any) -> None:
    bundle = small.bundle()
    with pytest.raises(BackendError, match="GPU out of memory"):
        provide(bundle, Counting(fails=True))
    assert not engines.has_any(bundle)


RACE = """
import sys, time
from pathlib import Path
from lisard_engines.tensorrt import BuilderSettings, builders, engine_cache
from lisard_ros import bundle as bundles
from lisard_ros.bundle import model_choice
bundle = bundles.read(sys.argv[1])
builder = builders.make("tensorrt_rtx", BuilderSettings())
while not Path(sys.argv[2]).exists():
    time.sleep(0.01)
model = model_choice.pick(bundle.manifest)
made = engine_cache.provide(bundle, model, builder, BuilderSettings(), "build", lambda text: None)
print(made.engine.sidecar.engine_sha256, made.built is not None)
"""


def test_two_processes_build_one_key_once(small: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="requirements/engines.txt is not installed")
    command = [sys.executable, "-c", RACE, str(small.bundle().path), str(tmp_path / "go")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    (tmp_path / "go").touch()
    shown = [process.communicate(timeout=60)[0].split() for process in running]
    assert shown[0][0] == shown[1][0], "both have the same engine"
    assert sorted(built for _, built in shown) == ["False", "True"]


def test_sidecars_are_read_strictly(small: Any) -> None:
    engine = provide(small.bundle(), Counting()).engine
    content = msgspec.json.decode((engine.folder / "plan.json").read_bytes())
    for change in ({"unknown": 1}, {"schema_version": 99}, {"plan_bytes": "many"}):
        (engine.folder / "plan.json").write_bytes(msgspec.json.encode({**content, **change}))
        with pytest.raises(BackendError, match="is damaged"):
            engines.read_sidecar(engine.folder)


@given(st.binary(max_size=200))
def test_no_bytes_of_a_sidecar_do_more_than_an_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "plan.json").write_bytes(data)
        with pytest.raises(BackendError, match="is damaged"):
            engines.read_sidecar(Path(folder))


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_an_engine_with_one_byte_changed_is_never_used(place: int, value: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / key().digest()
        path.mkdir()
        data = bytes(range(256)) * 4
        changed = bytearray(data)
        changed[place % len(data)] = value
        sidecar = engines.Sidecar(
            key=key(),
            bundle="b",
            bundle_sha256="",
            engine_sha256=hashlib.sha256(data).hexdigest(),
            engine_bytes=len(data),
            build_seconds=1.0,
            made_by="test",
        )
        (path / "plan.json").write_bytes(msgspec.json.encode(sidecar))
        (path / "model.plan").write_bytes(changed)
        if bytes(changed) == data:
            assert engines.read(path).data == data
        else:
            with pytest.raises(BackendError, match="is damaged"):
                engines.read(path)


def key() -> engines.EngineKey:
    return engines.EngineKey(
        onnx_sha256="a",
        precision="fp32",
        scheme="plain",
        calibration_sha256="",
        product="tensorrt",
        version="10.3.0",
        device="Orin",
        compute_capability=87,
        targets=(),
        cpu="aarch64",
        least=1,
        usual=1,
        most=8,
        height=16,
        width=16,
        workspace_mib=1,
        level=3,
        dla_core=-1,
    )
