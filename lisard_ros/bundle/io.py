"""Read, verify and write model bundles: all that passes between trainer, engines and node.

A bundle is a folder, or the same folder as one .zip. Every file is read once, hashed, and those very bytes are used;
nothing is ever unpickled. The manifest itself is typed in `manifest.py`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import msgspec

from lisard_ros import share
from lisard_ros.bundle.manifest import Manifest, decode, encode, referenced_files, validate
from lisard_ros.errors import BundleError, one_line
from lisard_ros.whole_file import write_whole

MANIFEST_NAME = "bundle.json"
SIGNATURE_NAME = "signature.json"  # beside it, not one of its files: see signature.py
# The folder of the bundles that come with this package.
MODELS = "models"
MAX_MANIFEST_BYTES = 4 << 20
MAX_SIGNATURE_BYTES = 4 << 10
MAX_FILE_BYTES = 1 << 30
MAX_TOTAL_BYTES = 2 << 30
MAX_ZIP_RATIO = 200
_RATIO_MATTERS_FROM_BYTES = 1 << 20
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CURE = "take the bundle from its source again, or export the model again"
# What zipfile raises for bytes that are no zip, or a damaged one.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    ValueError,
    RuntimeError,
)


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A verified bundle in memory.

    manifest_bytes: bundle.json as it was read. sha256: their hash; since they hold the hash of every other file, it
    identifies the bundle. signature: signature.json as it was read, not checked (signature.py); None: there is none.
    """

    path: Path
    manifest: Manifest
    manifest_bytes: bytes
    sha256: str
    contents: Mapping[str, bytes]
    signature: bytes | None = None

    def data(self, name: str) -> bytes:
        """Return the verified bytes of one file."""
        if name not in self.contents:
            raise BundleError(f"bundle {self.path} has no such file", found=name, expected=", ".join(self.contents))
        return self.contents[name]


def read(path: str | os.PathLike[str]) -> Bundle:
    """Read and verify a bundle folder or .zip; BundleError says what is wrong, what was expected and the cure."""
    location = Path(path)
    if os.path.isdir(location):
        return _read_with(location, _FolderSource(location))
    if os.path.isfile(location):
        if location.suffix.lower() == ".onnx":
            raise BundleError(
                "no bundle there",
                found=f"{location}, an ONNX file",
                expected="a folder with bundle.json, or a .zip of one",
                cure="`lisard bundle` makes a bundle from an ONNX file",
            )
        try:
            with zipfile.ZipFile(location) as archive:
                return _read_with(location, _ZipSource(location, archive))
        except _ZIP_ERRORS as error:
            raise BundleError(
                f"{location} is not a readable zip",
                found=one_line(error),
                expected="a bundle folder packed as .zip",
                cure="copy it again, or pack it with `lisard bundle --zip`",
            ) from error
    raise _no_bundle([location])


def locate(path: str | os.PathLike[str]) -> Path:
    """Return where the bundle of this name lies; BundleError lists the places that were looked at.

    A relative path counts from the current folder. Where nothing is there, models/NAME is one of the bundles that come
    with this package.
    """
    location = Path(path)
    places = [location]
    if not location.is_absolute() and location.parts[:1] == (MODELS,):
        places += [folder / location for folder in share.folders()]
    for place in places:
        if os.path.exists(place):
            return place
    raise _no_bundle(places)


def shipped() -> dict[str, Path]:
    """Return where the bundles that come with this package lie, by name, as `locate` finds them."""
    found: dict[str, Path] = {}
    for folder in share.folders():
        for manifest in sorted((folder / MODELS).glob(f"*/{MANIFEST_NAME}")):
            found.setdefault(manifest.parent.name, manifest.parent)
    return found


def copy(source: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Bundle:
    """Verify a bundle and write it, byte for byte and with its signature, to a new folder.

    Args:
        source: Folder or .zip of a bundle.
        folder: The new folder; what is there is never replaced.

    Raises:
        BundleError: The bundle cannot be used, or the folder exists or cannot be written.
    """
    bundle, target = read(source), Path(os.path.abspath(folder))
    _require_free(target, False)
    contents = {**bundle.contents, MANIFEST_NAME: bundle.manifest_bytes}
    if bundle.signature is not None:
        contents[SIGNATURE_NAME] = bundle.signature
    return _put(contents, target)


def _no_bundle(places: Sequence[Path]) -> BundleError:
    return BundleError(
        "no bundle there",
        found="nothing at " + " or ".join(dict.fromkeys(os.path.abspath(place) for place in places)),
        expected="a folder with bundle.json, or a .zip of one",
        cure="train one (lisard train), wrap an ONNX file (lisard bundle), or use models/traffic_signs",
    )


def write(
    folder: str | os.PathLike[str], manifest: Manifest, contents: Mapping[str, bytes], *, overwrite: bool = False
) -> Bundle:
    """Write a bundle folder atomically and return it as read back.

    manifest: hashes are filled in here. contents: name -> bytes of every file besides bundle.json.
    """
    target = Path(os.path.abspath(folder))
    _require_free(target, overwrite)
    complete = _with_hashes(manifest, contents)
    _check_listed(complete, str(target))
    return _put({**contents, MANIFEST_NAME: encode(complete)}, target)


def _put(contents: Mapping[str, bytes], target: Path) -> Bundle:
    """Write the files beside their place, read them back, and only then let them take it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise _not_written(target, error) from error
    try:
        _write_files(staging, contents)
        written = read(staging)  # before it replaces anything: what cannot be read back is not worth having
        _swap_in(staging, target)
    except OSError as error:
        raise _not_written(target, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return replace(written, path=target)


def pack(folder: str | os.PathLike[str], archive: str | os.PathLike[str]) -> Path:
    """Verify a bundle folder and write it as one .zip, with its signature; equal bundles give equal zip files."""
    return _pack(read(folder), Path(archive))


def add_signature(bundle: Bundle, signature: bytes) -> None:
    """Write `signature` (`signature.sign`) beside bundle.json, in the folder or .zip that the bundle was read from."""
    if not os.path.isdir(bundle.path):
        _pack(replace(bundle, signature=signature), bundle.path)
        return
    target = bundle.path / SIGNATURE_NAME
    try:
        write_whole(target, signature)
    except OSError as error:
        raise _not_written(target, error) from error


def _pack(bundle: Bundle, target: Path) -> Path:
    contents = {**bundle.contents, MANIFEST_NAME: bundle.manifest_bytes}
    if bundle.signature is not None:
        contents[SIGNATURE_NAME] = bundle.signature
    temporary = target.with_name(f".{target.name}.partial")
    try:
        with zipfile.ZipFile(temporary, "w") as output:
            for name, data in sorted(contents.items()):
                output.writestr(_zip_entry(name, data), data)
        os.replace(temporary, target)
    except OSError as error:
        raise _not_written(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _zip_entry(name: str, data: bytes) -> zipfile.ZipInfo:
    """Describe a member; what would be compressed so highly that `read` takes it for a bomb is stored as it is."""
    entry = zipfile.ZipInfo(name, _ZIP_TIME)
    entry.external_attr = 0o644 << 16
    bomb = _is_bomb(len(data), len(zlib.compress(data)))
    entry.compress_type = zipfile.ZIP_STORED if bomb else zipfile.ZIP_DEFLATED
    return entry


def _is_bomb(size: int, packed: int) -> bool:
    return size > _RATIO_MATTERS_FROM_BYTES and size / max(packed, 1) > MAX_ZIP_RATIO


def check_place(folder: str | os.PathLike[str]) -> None:
    """Tells before any work whether a bundle may be written there, in place of an older one; BundleError if not."""
    target = Path(os.path.abspath(folder))
    _require_free(target, True)
    above = next(parent for parent in target.parents if os.path.lexists(parent))
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        obstacle = "a folder that you may not write to" if above.is_dir() else "not a directory"
        raise BundleError(
            f"cannot write the bundle to {target}",
            found=f"{above}, {obstacle}",
            expected="a folder that you may write to",
            cure="choose another place",
        )


def check_replaceable(folder: str | os.PathLike[str], cure: str) -> None:
    """BundleError if an export there would lose what an older bundle was given: stored attacks, made models."""
    target = Path(os.path.abspath(folder))
    try:
        there = decode((target / MANIFEST_NAME).read_bytes(), str(target))
    except (OSError, BundleError):
        return  # nothing there, or nothing that could be used
    lost = [f"stored attack {one.name}" for one in there.perturbations]
    lost += [f"model {model.file}" for model in there.models[1:]]
    if lost:
        raise BundleError(
            f"bundle {target}",
            found=f"{', '.join(lost)}, which an export would lose",
            expected="a new place, or leave to replace them",
            cure=cure,
        )


def _require_free(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise BundleError(
            "bundle exists already",
            found=str(target),
            expected="a new folder",
            cure="choose another name or pass overwrite",
        )
    if target.is_symlink() or not (target / MANIFEST_NAME).is_file():
        raise BundleError(
            "refusing to replace something that is not a bundle",
            found=str(target),
            expected="a folder with bundle.json, not a link",
            cure="choose another name",
        )


def _not_written(target: Path, error: OSError) -> BundleError:
    return BundleError(
        "cannot write the bundle",
        found=f"{target}: {error.strerror or error}",
        cure="choose a folder that you may write to",
    )


class _FolderSource:
    """Opens only the files it is asked for; a listed file may be a link, as colcon installs them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        """Tell whether there is anything of this name, be it unreadable."""
        return os.path.lexists(self.folder / name)

    def load(self, name: str, limit: int) -> bytes:
        path = self.folder / _safe_name(name, str(self.folder))
        try:
            # Without O_NONBLOCK a pipe of that name would be waited for.
            with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    raise BundleError("not a regular file in the bundle", found=path, expected="a file", cure=_CURE)
                data = stream.read(limit + 1)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise BundleError(
                f"bundle {self.folder} has a file missing",
                found=f"no readable {name!r} ({reason})",
                expected="every file that bundle.json lists",
                cure="copy the whole folder again, or export the model again",
            ) from error
        return _within(data, limit, name, str(self.folder))


class _ZipSource:
    """Reads members after all of them have been checked: no odd paths, links, giants or bombs."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self.archive = path, archive
        entries = archive.infolist()
        for entry in entries:
            self._check(entry)
        self.members = {entry.filename: entry for entry in entries if not entry.is_dir()}
        repeated = len({entry.filename for entry in entries}) != len(entries)
        _refuse(repeated, f"{path} holds two members of one name", "a name twice", "each name once")
        total = sum(entry.file_size for entry in self.members.values())
        _refuse(total > MAX_TOTAL_BYTES, f"{path} unpacks too large", total, f"<= {MAX_TOTAL_BYTES} bytes")

    def has(self, name: str) -> bool:
        """Tell whether there is a member of this name."""
        return name in self.members

    def load(self, name: str, limit: int) -> bytes:
        entry = self.members.get(_safe_name(name, str(self.path)))
        if entry is None:
            raise BundleError(
                f"bundle {self.path} has a file missing",
                found=f"no {name}",
                expected="bundle.json at the top of the zip",
                cure="zip the contents of the bundle folder, not the folder itself",
            )
        with self.archive.open(entry) as stream:
            return _within(stream.read(limit + 1), limit, name, str(self.path))

    def _check(self, entry: zipfile.ZipInfo) -> None:
        name, where = entry.filename, str(self.path)
        _safe_name(name.removesuffix("/"), where)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        plain = (0, stat.S_IFDIR) if entry.is_dir() else (0, stat.S_IFREG)
        _refuse(kind not in plain, f"{where} holds a link or device", name, "plain files")
        _refuse(bool(entry.flag_bits & 1), f"{where} holds an encrypted member", name, "no password")
        _refuse(
            entry.compress_type not in _ZIP_METHODS,
            f"{where}: {name} is packed in an unknown way",
            f"method {entry.compress_type}",
            "stored or deflated",
        )
        _refuse(entry.file_size > MAX_FILE_BYTES, f"{where}: {name} is too large", entry.file_size, MAX_FILE_BYTES)
        _refuse(
            _is_bomb(entry.file_size, entry.compress_size),
            f"{where}: {name} is compressed too highly",
            f"{entry.file_size} bytes in {entry.compress_size}",
            f"at most {MAX_ZIP_RATIO} to 1",
        )


def _read_with(location: Path, source: _FolderSource | _ZipSource) -> Bundle:
    raw = source.load(MANIFEST_NAME, MAX_MANIFEST_BYTES)
    manifest = decode(raw, f"{location}/{MANIFEST_NAME}")
    _check_listed(manifest, str(location))
    contents: dict[str, bytes] = {}
    left = MAX_TOTAL_BYTES
    for name, expected in manifest.files.items():
        data = source.load(name, min(MAX_FILE_BYTES, left))
        actual = hashlib.sha256(data).hexdigest()
        if actual != expected:
            raise BundleError(
                f"bundle {location}: {name} is not the file that bundle.json lists",
                found=f"sha256 {actual[:16]}…",
                expected=f"{expected[:16]}…",
                cure="restore the original file, or export the model again; never edit files inside a bundle",
            )
        contents[name] = data
        left -= len(data)
    signature = source.load(SIGNATURE_NAME, MAX_SIGNATURE_BYTES) if source.has(SIGNATURE_NAME) else None
    return Bundle(location, manifest, raw, hashlib.sha256(raw).hexdigest(), contents, signature)


def _check_listed(manifest: Manifest, where: str) -> None:
    for name in manifest.files:
        _safe_name(name, where)
        own = name in (MANIFEST_NAME, SIGNATURE_NAME)
        _refuse(own, f"{where} lists {name} as one of its files", name, "other files")
    for name in referenced_files(manifest):
        _refuse(name not in manifest.files, f"{where}: a file is used but not listed", name, "a hash in `files`")
    for model in manifest.models:
        listed = manifest.files[model.file]
        _refuse(model.sha256 != listed, f"{where}: two hashes for {model.file}", model.sha256[:16], listed[:16])


def _with_hashes(manifest: Manifest, contents: Mapping[str, bytes]) -> Manifest:
    files = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())}
    models = tuple(msgspec.structs.replace(m, sha256=files.get(m.file, "")) for m in manifest.models)
    complete = msgspec.structs.replace(manifest, files=files, models=models)
    validate(complete, MANIFEST_NAME)
    return complete


def _write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.chmod(0o755)  # as mkdir makes folders; temporary ones are closed to others
    for name, data in contents.items():
        path = folder / _safe_name(name, str(folder))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _swap_in(staging: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    replaces = target.exists()
    if replaces:
        os.rename(target, old)
    try:
        os.rename(staging, target)
    except OSError:
        if replaces:
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _safe_name(name: str, where: str) -> str:
    parts = PurePosixPath(name).parts
    bad = not parts or name.startswith("/") or "\\" in name or "\0" in name or ":" in name or ".." in parts
    bad = bad or str(PurePosixPath(name)) != name
    bad = bad or not name.isprintable()
    _refuse(bad, f"{where} names a file outside the bundle or oddly", repr(name), "a plain relative path")
    return name


def _within(data: bytes, limit: int, name: str, where: str) -> bytes:
    _refuse(len(data) > limit, f"{where}: {name} is too large", f"more than {limit} bytes", f"<= {limit}")
    return data


def _refuse(broken: bool, what: str, found: object, expected: object) -> None:
    if broken:
        raise BundleError(what, found=found, expected=expected, cure=_CURE)
