"""The cache of TensorRT engines. A sidecar records what each was built from, for what, and whether it was verified.

    $LISARD_CACHE/plans/BUNDLE_SHA256/ENGINE_KEY/model.plan and plan.json

An engine is never part of a bundle. It is used only where everything in its key fits this machine; what does not fit is
refused with what was found, what was expected, and the command that builds it anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import ModelFile, Precision, QuantizationScheme, Verification
from lisard_ros.bundle.model_choice import loss_text
from lisard_ros.bundle.model_choice import name as variant_name
from lisard_ros.errors import BackendError
from lisard_ros.whole_file import write_whole

SCHEMA_VERSION = 1
ENGINE_NAME, SIDECAR_NAME = "model.plan", "plan.json"
CACHE_VARIABLE = "LISARD_CACHE"
Policy = Literal["require", "build", "rebuild", "fallback"]
_PREFERRED = ("verified", "forced", "unverified", "refused")
POLICIES: tuple[Policy, ...] = ("require", "build", "rebuild", "fallback")


class EngineKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides an engine; two builds of one key may differ in their bytes, never in what they are for.

    device, compute_capability: the GPU it was built on, or 0 and the targets it was built for.
    least, usual, most: batches of the optimisation profile. cpu: machine type, since engines do not cross it.
    """

    onnx_sha256: str
    precision: Precision
    scheme: QuantizationScheme = msgspec.field(name="flavour")  # old names, so that caches stay valid
    calibration_sha256: str
    product: str
    version: str
    device: str
    compute_capability: int
    targets: tuple[int, ...]
    cpu: str
    least: int
    usual: int
    most: int
    height: int
    width: int
    workspace_mib: int
    level: int
    dla_core: int

    def digest(self) -> str:
        """Return the hash that names the engine's folder."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


class Sidecar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of an engine. verification: None until it was run on its device and compared (`unverified`)."""

    schema_version: int = SCHEMA_VERSION
    key: EngineKey
    bundle: str
    bundle_sha256: str
    engine_sha256: str = msgspec.field(name="plan_sha256")
    engine_bytes: int = msgspec.field(name="plan_bytes")
    build_seconds: float
    made_by: str
    verification: Verification | None = None

    @property
    def state(self) -> str:
        """Return verified, forced, refused or unverified."""
        if self.verification is None:
            return "unverified"
        if self.verification.passed:
            return "verified"
        return "forced" if self.verification.forced else "refused"


@dataclass(frozen=True, slots=True)
class Host:
    """What would run an engine: product and version of TensorRT, and the GPU."""

    product: str
    version: str
    device: str
    compute_capability: int
    cpu: str


@dataclass(frozen=True, slots=True, eq=False)
class CachedEngine:
    """An engine whose bytes match its sidecar."""

    folder: Path
    sidecar: Sidecar
    data: bytes

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what diagnostics must say as long as it runs."""
        name = f"engine {self.sidecar.key.digest()[:12]}"
        if self.sidecar.verification is None:
            return (f"{name} is unverified: it was never compared on this device; run `lisard verify`",)
        if self.sidecar.verification.passed:
            return ()
        return (f"{name} {loss_text(self.sidecar.verification)}; installed by force",)


def cache_root() -> Path:
    """Return $LISARD_CACHE, or lisard_ros in the user's cache folder."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lisard_ros"


def keep(file: Path, content: bytes) -> None:
    """Write a small file of the cache at once; a cache that cannot be written is no hindrance."""
    with contextlib.suppress(OSError):
        write_whole(file, content + b"\n")


def folder_of(bundle_sha256: str, key: EngineKey) -> Path:
    """Return where an engine of that key lies, or would."""
    return _bundle_folder(bundle_sha256) / key.digest()


def _bundle_folder(bundle_sha256: str) -> Path:
    return cache_root() / "plans" / bundle_sha256


def read(folder: Path) -> CachedEngine:
    """Read an engine and hold it against its sidecar; BackendError for one that is truncated or of another key."""
    return _held_against(folder, read_sidecar(folder))


def _held_against(folder: Path, sidecar: Sidecar) -> CachedEngine:
    try:
        data = (folder / ENGINE_NAME).read_bytes()
    except OSError as error:
        raise _damaged(folder, f"{ENGINE_NAME}: {error.strerror}", "the engine beside its sidecar") from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != sidecar.engine_sha256:
        raise _damaged(
            folder,
            f"{len(data)} bytes, sha256 {actual[:12]}",
            f"{sidecar.engine_bytes} bytes, sha256 {sidecar.engine_sha256[:12]}",
        )
    return CachedEngine(folder, sidecar, data)


def read_sidecar(folder: Path) -> Sidecar:
    """Read plan.json; BackendError when it is missing, malformed or in the folder of another key."""
    try:
        sidecar = msgspec.json.decode((folder / SIDECAR_NAME).read_bytes(), type=Sidecar)
    except OSError as error:
        raise _damaged(folder, f"{SIDECAR_NAME}: {error.strerror}", "an engine with its sidecar") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(folder, str(error), f"a sidecar of schema {SCHEMA_VERSION}") from error
    if sidecar.schema_version != SCHEMA_VERSION or sidecar.key.digest() != folder.name:
        raise _damaged(folder, f"the engine of key {sidecar.key.digest()[:12]}", f"key {folder.name[:12]}")
    return sidecar


def select(bundle: Bundle, model: ModelFile, host: Host, refused_too: bool = False) -> CachedEngine:
    """Return the engine of that model which this host can run, a verified one first; what the gate refused is not run.

    BackendError when there is none: it says what the engines that are there were built for, and how to build one.
    """
    sidecars = [(folder, read_sidecar(folder)) for folder in _folders(bundle.sha256)]
    ours = [(folder, s) for folder, s in sidecars if s.key.onnx_sha256 == model.sha256]
    fitting = [(folder, s) for folder, s in ours if not _misfit(s.key, host)]
    usable = [(folder, s) for folder, s in fitting if refused_too or s.state != "refused"]
    if usable:
        return _held_against(*min(usable, key=lambda pair: _PREFERRED.index(pair[1].state)))
    raise _none_fits(bundle, model, host, [s for _, s in ours], [s for _, s in fitting])


def has_any(bundle: Bundle) -> bool:
    """Say whether the cache holds engines of this bundle at all, which costs one look at a folder."""
    return bool(_folders(bundle.sha256))


def store(bundle: Bundle, key: EngineKey, data: bytes, build_seconds: float, made_by: str) -> CachedEngine:
    """Put an engine into the cache, whole or not at all; replaces one of the same key. It begins unverified."""
    target = folder_of(bundle.sha256, key)
    sidecar = Sidecar(
        key=key,
        bundle=bundle.manifest.name,
        bundle_sha256=bundle.sha256,
        engine_bytes=len(data),
        engine_sha256=hashlib.sha256(data).hexdigest(),
        build_seconds=round(build_seconds, 3),
        made_by=made_by,
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".building.", dir=target.parent))
        try:
            (staging / ENGINE_NAME).write_bytes(data)
            (staging / SIDECAR_NAME).write_bytes(_encoded(sidecar))
            _swap_in(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise not_written(target, error) from error
    return read(target)


def record(engine: CachedEngine, verification: Verification) -> CachedEngine:
    """Write into the sidecar what a comparison on the device found."""
    sidecar = msgspec.structs.replace(engine.sidecar, verification=verification)
    try:
        write_whole(engine.folder / SIDECAR_NAME, _encoded(sidecar))
    except OSError as error:
        raise not_written(engine.folder, error) from error
    return CachedEngine(engine.folder, sidecar, engine.data)


@contextlib.contextmanager
def building(bundle_sha256: str, key: EngineKey) -> Iterator[None]:
    """Hold the key: a second process that wants to build it waits until the first one is done."""
    target = folder_of(bundle_sha256, key)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(target.parent / f".{target.name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise not_written(target, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def not_written(target: Path, error: OSError) -> BackendError:
    """Build the error for a cache that cannot be written (read-only, full)."""
    return BackendError(
        "cannot write the engine cache",
        found=f"{target}: {error.strerror or error}",
        expected="a folder with free space that you may write to",
        cure=f"set {CACHE_VARIABLE} to another folder, or free some space",
    )


def build_command(bundle: Bundle, product: str) -> str:
    """Return the command that builds engines of a bundle here."""
    return f"lisard build {bundle.path} --variants none --engines {product}"


def _encoded(sidecar: Sidecar) -> bytes:
    return msgspec.json.format(msgspec.json.encode(sidecar, order="deterministic"), indent=2) + b"\n"


def _swap_in(staging: Path, target: Path) -> None:
    old = target.with_name(f".old.{target.name}.{os.getpid()}")
    if target.exists():
        os.rename(target, old)
    os.rename(staging, target)
    shutil.rmtree(old, ignore_errors=True)


def _folders(bundle_sha256: str) -> list[Path]:
    folder = _bundle_folder(bundle_sha256)
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _misfit(key: EngineKey, host: Host) -> str:
    """Say what of a key does not fit, or '' when all does."""
    if (key.product, key.version) != (host.product, host.version):
        return f"built with {key.product} {key.version}"
    if key.cpu != host.cpu:
        return f"built on {key.cpu}"
    if key.targets:
        return "" if host.compute_capability in key.targets else f"built for compute capabilities {list(key.targets)}"
    if (key.device, key.compute_capability) != (host.device, host.compute_capability):
        return f"built on {key.device} ({key.compute_capability})"
    return ""


def _none_fits(
    bundle: Bundle, model: ModelFile, host: Host, ours: list[Sidecar], fitting: list[Sidecar]
) -> BackendError:
    refused = [f"one that {loss_text(s.verification)}" for s in fitting if s.verification is not None]
    others = [_misfit(s.key, host) for s in ours if _misfit(s.key, host)]
    reasons = "; ".join(dict.fromkeys(refused + others)) or "no engine of this model in the cache"
    expected = f"{host.product} {host.version} on {host.device} ({host.compute_capability}, {host.cpu})"
    return BackendError(
        f"no engine for {variant_name(model)} of {bundle.manifest.name} here",
        found=reasons,
        expected=expected,
        cure=f"build it with `{build_command(bundle, host.product)}`",
    )


def _damaged(folder: Path, found: str, expected: str) -> BackendError:
    return BackendError(
        f"the engine in {folder} is damaged",
        found=found,
        expected=expected,
        cure="remove that folder and build the engine again (`lisard build`)",
    )
