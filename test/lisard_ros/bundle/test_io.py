"""Bundles: what is written comes back, everything odd is refused with found, expected and cure, nothing else escapes.

The rules are those of ARCHITECTURE.md on bundles. The fuzz tests allow BundleError and no other exception.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros import bundle as bundles
from lisard_ros.bundle import io as bundle_io
from lisard_ros.bundle.manifest import ModelFile, Perturbation, TrainingCard
from lisard_ros.errors import BundleError

PARTS = (": found ", ", expected ", "; ")


def refused(path: Any, *words: str) -> str:
    """Read a bundle that must be refused with a complete message holding all `words`; return the message."""
    with pytest.raises(BundleError) as caught:
        bundles.read(path)
    message = str(caught.value)
    assert all(part in message for part in PARTS), message
    assert all(word in message for word in words), message
    return message


def members(path: Path) -> dict[str, bytes]:
    """Content of a zip by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def repacked(path: Path, content: dict[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a zip of these members."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for entry, data in content.items():
            archive.writestr(entry, data)
    return path


# --- round trips ----------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back(tiny: Any) -> None:
    model = tiny.classifier_onnx()
    bundle = tiny.classifier(model=model, card=TrainingCard(seed=3, metrics={"clean": 0.5}))
    again = bundles.read(bundle.path)
    assert again.manifest == bundle.manifest and again.sha256 == bundle.sha256
    assert again.path == bundle.path == tiny.folder / "classifier"
    assert again.data("model.onnx") == model
    assert again.manifest.files == {"model.onnx": hashlib.sha256(model).hexdigest()}
    assert again.sha256 == hashlib.sha256((bundle.path / "bundle.json").read_bytes()).hexdigest()


def test_folder_and_zip_are_the_same_bundle(tiny: Any, tmp_path: Path) -> None:
    bundle = tiny.armed()
    archive = bundles.pack(bundle.path, tmp_path / "tiny.zip")
    zipped = bundles.read(archive)
    assert zipped.sha256 == bundle.sha256 and zipped.manifest == bundle.manifest
    assert dict(zipped.contents) == dict(bundle.contents)


def test_equal_bundles_are_equal_bytes(tiny: Any, tmp_path: Path) -> None:
    first, second = tiny.armed("a"), tiny.armed("b")
    assert first.sha256 == second.sha256
    one, two = (bundles.pack(b.path, tmp_path / f"{b.path.name}.zip") for b in (first, second))
    assert one.read_bytes() == two.read_bytes()


def test_a_zip_can_be_packed_again(tiny: Any, tmp_path: Path) -> None:
    archive = bundles.pack(tiny.classifier().path, tmp_path / "a.zip")
    before = archive.read_bytes()
    assert bundles.pack(archive, archive).read_bytes() == before


def test_a_highly_compressible_bundle_can_be_packed_and_read(tiny: Any, tmp_path: Path) -> None:
    """Regression: `pack` compressed 2 MiB of zeros a thousandfold, which `read` then refused as a bomb."""
    bundle = tiny.classifier(files={"zeros.bin": bytes(2 << 20)})
    archive = bundles.pack(bundle.path, tmp_path / "tiny.zip")
    assert bundles.read(archive).sha256 == bundle.sha256


def test_files_in_subfolders_round_trip(tiny: Any, tmp_path: Path) -> None:
    bundle = tiny.classifier(files={"extra/deep/notes.txt": b"hello"})
    assert bundles.read(bundle.path).data("extra/deep/notes.txt") == b"hello"
    assert bundles.read(bundles.pack(bundle.path, tmp_path / "t.zip")).data("extra/deep/notes.txt") == b"hello"


def test_a_file_that_the_bundle_lacks_is_named(tiny: Any) -> None:
    with pytest.raises(BundleError, match=r"no such file: found nothing.bin, expected model.onnx"):
        tiny.classifier().data("nothing.bin")


# --- folders --------------------------------------------------------------------------------------------------------


def test_only_listed_files_are_opened(tiny: Any) -> None:
    """A pipe would block whoever opens it, a directory would fail, an unreadable file too."""
    bundle = tiny.classifier()
    os.mkfifo(bundle.path / "pipe")
    (bundle.path / "folder").mkdir()
    (bundle.path / "extra.bin").write_bytes(b"never hashed")
    assert bundles.read(bundle.path).sha256 == bundle.sha256


def test_a_listed_file_may_be_a_link(tiny: Any, tmp_path: Path) -> None:
    """colcon build --symlink-install links every data file."""
    bundle = tiny.classifier()
    for name in ("model.onnx", "bundle.json"):
        os.rename(bundle.path / name, tmp_path / name)
        os.symlink(tmp_path / name, bundle.path / name)
    assert bundles.read(bundle.path).sha256 == bundle.sha256


def test_a_listed_pipe_is_refused_and_not_waited_for(tiny: Any) -> None:
    """Regression: opening a named pipe blocked for ever."""
    bundle = tiny.classifier()
    (bundle.path / "model.onnx").unlink()
    os.mkfifo(bundle.path / "model.onnx")
    refused(bundle.path, "not a regular file", "model.onnx")


def test_a_listed_folder_is_refused(tiny: Any) -> None:
    bundle = tiny.classifier()
    (bundle.path / "model.onnx").unlink()
    (bundle.path / "model.onnx").mkdir()
    refused(bundle.path, "model.onnx")


def test_a_tampered_byte_is_refused(tiny: Any) -> None:
    bundle = tiny.classifier()
    model = bytearray((bundle.path / "model.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (bundle.path / "model.onnx").write_bytes(model)
    refused(bundle.path, "model.onnx is not the file that bundle.json lists", "never edit files")


@pytest.mark.parametrize("missing", ["model.onnx", "bundle.json"])
def test_a_missing_file_is_refused(tiny: Any, missing: str) -> None:
    bundle = tiny.classifier()
    (bundle.path / missing).unlink()
    refused(bundle.path, missing, "has a file missing", "copy the whole folder again")


@pytest.mark.parametrize("path", ["nowhere", "nul\0byte", "x" * 5000])
def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path, path: str) -> None:
    refused(tmp_path / path, "no bundle there", "lisard train")
    with pytest.raises(BundleError, match="no bundle there: found nothing at"):
        bundles.locate(tmp_path / path)


def test_a_bundle_of_this_package_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = bundles.locate("models/traffic_signs")
    assert shipped.is_absolute() and bundles.read(shipped).manifest.name == "traffic_signs"
    (tmp_path / "models/traffic_signs").mkdir(parents=True)
    assert bundles.locate("models/traffic_signs") == Path("models/traffic_signs"), "what is here comes first"
    with pytest.raises(BundleError) as caught:
        bundles.locate("models/signs")
    assert f"nothing at {tmp_path}/models/signs or /" in str(caught.value)
    with pytest.raises(BundleError, match="found nothing at [^ ]*/mine/signs, expected"):
        bundles.locate("mine/signs")


def test_a_bundle_of_this_package_is_found_in_a_sourced_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "prefix/share/lisard_ros/models/mine"
    installed.mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/opt/none:{tmp_path / 'prefix'}")
    assert bundles.locate("models/mine") == installed


def test_an_oversized_file_is_refused(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny.classifier()
    monkeypatch.setattr(bundle_io, "MAX_FILE_BYTES", 100)
    refused(bundle.path, "model.onnx is too large", "<= 100")


def test_a_folder_that_is_too_large_in_all_is_refused(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: only zips had a limit for the sum."""
    bundle = tiny.classifier(files={"a.bin": bytes(800), "b.bin": bytes(800)})
    monkeypatch.setattr(bundle_io, "MAX_TOTAL_BYTES", 1500)
    refused(bundle.path, "b.bin is too large")


def test_an_oversized_manifest_is_refused(tiny: Any) -> None:
    bundle = tiny.classifier()
    (bundle.path / "bundle.json").write_bytes(b" " * (bundles.MAX_MANIFEST_BYTES + 1))
    refused(bundle.path, "bundle.json is too large")


ODD_NAMES = ["/etc/passwd", "../secret", "a/../../b", "a//b", "./a", "a/", ".", "", "a\\b", "C:x", "a\0b", "a\nb"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_in_the_manifest_are_refused(tiny: Any, name: str) -> None:
    bundle = tiny.classifier()
    path = tiny.with_manifest(bundle, files={**bundle.manifest.files, name: "0" * 64})
    refused(path, "names a file outside the bundle or oddly", repr(name))


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_not_written(tiny: Any, name: str) -> None:
    with pytest.raises(BundleError, match="outside the bundle or oddly"):
        tiny.classifier(files={name: b""})
    assert list(tiny.folder.iterdir()) == []


def test_the_manifest_cannot_list_itself(tiny: Any) -> None:
    bundle = tiny.classifier()
    refused(tiny.with_manifest(bundle, files={**bundle.manifest.files, "bundle.json": "0" * 64}), "lists bundle.json")


def test_a_used_file_must_be_listed(tiny: Any) -> None:
    refused(tiny.with_manifest(tiny.classifier(), files={}), "used but not listed", "model.onnx")


def test_a_model_has_one_hash(tiny: Any) -> None:
    bundle = tiny.classifier()
    model = {"file": "model.onnx", "sha256": "0" * 64}
    refused(tiny.with_manifest(bundle, models=[model]), "two hashes for model.onnx")


# --- zips -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def packed(tiny: Any, tmp_path: Path) -> Path:
    """A good zip."""
    return bundles.pack(tiny.classifier().path, tmp_path / "tiny.zip")


@pytest.mark.parametrize("name", ["/etc/passwd", "../evil", "a/../../evil", "a\\b", "C:\\evil", "/", "../"])
def test_a_zip_with_an_odd_member_is_refused(packed: Path, name: str) -> None:
    refused(repacked(packed, {**members(packed), name: b"x"}), "outside the bundle or oddly")


def special(name: str, mode: int) -> zipfile.ZipInfo:
    """A member with a file type in its attributes."""
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = (mode | 0o777) << 16
    return entry


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFBLK, stat.S_IFSOCK])
@pytest.mark.parametrize("name", ["extra", "model.onnx", "folder/"])
def test_a_zip_with_a_link_or_device_is_refused(packed: Path, name: str, mode: int) -> None:
    content: dict[Any, bytes] = {k: v for k, v in members(packed).items() if k != name}
    refused(repacked(packed, {**content, special(name, mode): b"/etc/passwd"}), "link or device", name)


def test_a_zip_may_hold_folder_entries_and_unlisted_files(packed: Path) -> None:
    before = bundles.read(packed).sha256
    folder = special("extra/", stat.S_IFDIR)
    assert bundles.read(repacked(packed, {**members(packed), folder: b"", "extra/x": b"x"})).sha256 == before


def test_a_zip_with_a_repeated_member_is_refused(packed: Path) -> None:
    content = members(packed)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(packed, "w") as archive:
        for name, data in [*content.items(), ("model.onnx", b"another")]:
            archive.writestr(name, data)
    refused(packed, "two members of one name")


def test_a_zip_bomb_is_refused(packed: Path) -> None:
    refused(repacked(packed, {**members(packed), "bomb": bytes(4 << 20)}), "bomb is compressed too highly", "200 to 1")


def test_a_zip_with_a_giant_is_refused(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_io, "MAX_FILE_BYTES", 1000)
    refused(repacked(packed, {**members(packed), "giant": os.urandom(2000)}), "giant is too large")


def test_a_zip_that_unpacks_too_large_is_refused(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_io, "MAX_TOTAL_BYTES", 3000)
    many = {f"part{n}": os.urandom(900) for n in range(4)}
    refused(repacked(packed, {**members(packed), **many}), "unpacks too large")


def test_an_encrypted_zip_is_refused(packed: Path) -> None:
    data = bytearray(packed.read_bytes())
    first = data.index(b"PK\x01\x02")
    data[first + 8] |= 1
    packed.write_bytes(data)
    refused(packed, "encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_of_another_method_is_refused(packed: Path, method: int) -> None:
    """Regression: damaged LZMA members raised LZMAError, which nobody caught."""
    refused(repacked(packed, dict(members(packed)), method), "unknown way", "stored or deflated")


def test_a_zip_of_the_folder_itself_says_how_to_pack(packed: Path) -> None:
    nested = {f"tiny/{name}": data for name, data in members(packed).items()}
    refused(repacked(packed, nested), "no bundle.json", "zip the contents of the bundle folder")


def test_a_tampered_member_is_refused(packed: Path) -> None:
    content = members(packed)
    refused(repacked(packed, {**content, "model.onnx": content["model.onnx"] + b" "}), "is not the file")


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"\x80\x04K\x01.", os.urandom(200)])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    refused(tmp_path / "x.zip")


def test_a_copy_is_the_bundle_byte_for_byte(tiny: Any, tmp_path: Path) -> None:
    source = tiny.classifier()
    (source.path / "signature.json").write_bytes(b"{}")
    made = bundles.copy(source.path, tmp_path / "copy")
    assert made.path == tmp_path / "copy" and made.sha256 == source.sha256
    files = {path.name: path.read_bytes() for path in source.path.iterdir()}
    assert {path.name: path.read_bytes() for path in made.path.iterdir()} == files
    with pytest.raises(BundleError, match="exists already"):
        bundles.copy(source.path, tmp_path / "copy")


# --- bundle.json ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 2, "1", None, 1.5, [], True])
def test_another_schema_version_is_refused(tiny: Any, version: object) -> None:
    message = refused(tiny.with_manifest(tiny.classifier(), schema_version=version))
    assert ("newer schema" if version == 2 else "another schema") in message or version is True


NO_MANIFESTS = [b"", b"{", b"[]", b"1", b'"text"', b"\xff\xfe", b'{"a": "\xff"}', b"[" * 100_000, b"\0"]


@pytest.mark.parametrize("data", NO_MANIFESTS)
def test_what_is_no_manifest_is_refused(tiny: Any, data: bytes) -> None:
    bundle = tiny.classifier()
    (bundle.path / "bundle.json").write_bytes(data)
    refused(bundle.path)


def test_an_unknown_field_is_refused(tiny: Any) -> None:
    refused(tiny.with_manifest(tiny.classifier(), colour="rgb"), "unknown field `colour`")


def test_a_field_of_another_type_is_refused(tiny: Any) -> None:
    refused(tiny.with_manifest(tiny.classifier(), labels="red"), "Expected `array`", "$.labels")


# --- writing --------------------------------------------------------------------------------------------------------


def test_an_existing_bundle_is_not_replaced_unasked(tiny: Any) -> None:
    bundle = tiny.classifier()
    with pytest.raises(BundleError, match="exists already"):
        bundles.write(bundle.path, tiny.manifest(name="other"), dict(bundle.contents))
    assert bundles.read(bundle.path).manifest.name == "tiny"


def test_an_existing_bundle_is_replaced_when_asked(tiny: Any) -> None:
    bundle = tiny.classifier(files={"old.bin": b"old"})
    new = bundles.write(bundle.path, tiny.manifest(name="other"), {"model.onnx": b"x"}, overwrite=True)
    assert new.manifest.name == "other" and not (bundle.path / "old.bin").exists()
    assert [p.name for p in tiny.folder.iterdir()] == ["classifier"]


def test_what_an_export_would_lose_is_named(tiny: Any) -> None:
    bundle = tiny.classifier()
    bundles.check_replaceable(bundle.path, "look")
    bundles.check_replaceable(tiny.folder / "nothing", "look")
    models = (*bundle.manifest.models, ModelFile(file="half.onnx", precision="fp16"))
    manifest = msgspec.structs.replace(bundle.manifest, models=models)
    bundles.write(bundle.path, manifest, {**bundle.contents, "half.onnx": b"x"}, overwrite=True)
    with pytest.raises(BundleError, match="found model half.onnx, which an export would lose.*; look"):
        bundles.check_replaceable(bundle.path, "look")
    (bundle.path / "bundle.json").write_text("{")
    bundles.check_replaceable(bundle.path, "look")


def test_what_is_no_bundle_is_never_replaced(tiny: Any) -> None:
    home = tiny.folder / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    (tiny.folder / "file").write_text("x")
    os.symlink(tiny.classifier().path, tiny.folder / "link")
    for name in ("home", "file", "link"):
        with pytest.raises(BundleError, match="not a bundle"):
            tiny.classifier(name)
    assert (home / "thesis.txt").read_text() == "years of work"


def test_a_failed_write_leaves_the_old_bundle(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny.classifier()

    def full(folder: Path, contents: object) -> None:
        (folder / "half").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle_io, "_write_files", full)
    with pytest.raises(BundleError, match="cannot write the bundle: .*No space left on device"):
        tiny.classifier(name="classifier")
    assert bundles.read(bundle.path).sha256 == bundle.sha256
    assert [p.name for p in tiny.folder.iterdir()] == ["classifier"]


def test_a_failed_swap_restores_the_old_bundle(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: the old bundle stayed away when the new one could not be moved in."""
    bundle = tiny.classifier()
    rename, calls = os.rename, []

    def second_fails(source: Any, target: Any) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(BundleError, match="Input/output error"):
        tiny.classifier(files={"new.bin": b"new"})
    assert bundles.read(bundle.path).sha256 == bundle.sha256
    assert [p.name for p in tiny.folder.iterdir()] == ["classifier"]


def test_what_cannot_be_read_back_replaces_nothing(tiny: Any) -> None:
    """Regression: a NaN metric became null in bundle.json, found only after the old bundle was gone."""
    bundle = tiny.classifier()
    with pytest.raises(BundleError, match="metrics"):
        tiny.classifier(card=TrainingCard(metrics={"accuracy": float("nan")}))
    assert bundles.read(bundle.path).sha256 == bundle.sha256


def test_names_that_hide_each_other_are_an_error_of_ours(tiny: Any) -> None:
    with pytest.raises(BundleError, match="cannot write the bundle"):
        tiny.classifier(files={"a": b"", "a/b": b""})
    assert list(tiny.folder.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_error_of_ours(tiny: Any) -> None:
    (tiny.folder / "file").write_text("x")
    with pytest.raises(BundleError, match="cannot write the bundle"):
        bundles.write(tiny.folder / "file" / "bundle", tiny.manifest(), {"model.onnx": b""})
    with pytest.raises(BundleError, match="cannot write the bundle"):
        bundles.pack(tiny.classifier().path, tiny.folder / "none" / "x.zip")


@pytest.mark.parametrize("contents", [{}, {"model.onnx": b"", "bundle.json": b"{}"}])
def test_contents_must_fit_the_manifest(tiny: Any, contents: dict[str, bytes]) -> None:
    with pytest.raises(BundleError):
        bundles.write(tiny.folder / "x", tiny.manifest(), contents)
    assert list(tiny.folder.iterdir()) == []


# --- fuzz -----------------------------------------------------------------------------------------------------------


def read_or_refuse(path: Path) -> None:
    """Read; only BundleError may escape."""
    try:
        bundles.read(path)
    except BundleError as error:
        assert str(error)


def mutated(data: bytes, edits: list[tuple[int, int]], cut: int) -> bytes:
    """Overwrite bytes at relative places and cut the end."""
    changed = bytearray(data)
    for place, value in edits:
        changed[place % len(changed)] = value
    return bytes(changed[: len(changed) - cut % len(changed)])


EDITS = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=8)
CUTS = st.one_of(st.just(0), st.integers(0, 1 << 20))


@given(EDITS, CUTS)
@settings(max_examples=300)
def test_fuzz_mutated_manifest(tiny: Any, edits: list[tuple[int, int]], cut: int) -> None:
    bundle = tiny.folder / "classifier"
    if not bundle.exists():
        tiny.armed("classifier")
        (tiny.folder / "good.json").write_bytes((bundle / "bundle.json").read_bytes())
    (bundle / "bundle.json").write_bytes(mutated((tiny.folder / "good.json").read_bytes(), edits, cut))
    read_or_refuse(bundle)


@given(EDITS, CUTS)
@settings(max_examples=300)
def test_fuzz_mutated_zip(tiny: Any, edits: list[tuple[int, int]], cut: int) -> None:
    good, bad = tiny.folder / "good.zip", tiny.folder / "bad.zip"
    if not good.exists():
        bundles.pack(tiny.armed().path, good)
    bad.write_bytes(mutated(good.read_bytes(), edits, cut))
    read_or_refuse(bad)


@given(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=46))
@settings(max_examples=250)
def test_fuzz_zip_headers(tiny: Any, place: int, block: bytes) -> None:
    """Whole blocks over the central directory and the local headers, where most of zipfile's code decides."""
    good, bad = tiny.folder / "good.zip", tiny.folder / "bad.zip"
    if not good.exists():
        bundles.pack(tiny.classifier().path, good)
    data = bytearray(good.read_bytes())
    headers = [n for n in range(len(data) - 4) if data[n : n + 2] == b"PK"]
    start = headers[place % len(headers)] + place // len(headers) % 46
    data[start : start + len(block)] = block
    bad.write_bytes(data)
    read_or_refuse(bad)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc./", max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        "schema_version",
        "name",
        "task",
        "labels",
        "input",
        "output",
        "models",
        "decode",
        "roi_classes",
        "roi_groups",
        "roi_margin",
        "architecture",
        "twin",
        "perturbations",
        "self_test",
        "card",
        "files",
        "stray",
    ]
)


@given(st.dictionaries(FIELDS, JSON, min_size=1, max_size=3))
@settings(max_examples=200)
def test_fuzz_random_structures(tiny: Any, changes: dict[str, Any]) -> None:
    bundle = tiny.folder / "armed"
    if not bundle.exists():
        tiny.armed()
        (tiny.folder / "good.json").write_bytes((bundle / "bundle.json").read_bytes())
    content = {**msgspec.json.decode((tiny.folder / "good.json").read_bytes()), **changes}
    (bundle / "bundle.json").write_bytes(msgspec.json.encode(content))
    read_or_refuse(bundle)


@given(st.binary(max_size=300))
@settings(max_examples=150)
def test_fuzz_random_bytes_as_manifest_and_zip(tiny: Any, data: bytes) -> None:
    folder = tiny.folder / "random"
    folder.mkdir(exist_ok=True)
    (folder / "bundle.json").write_bytes(data)
    (tiny.folder / "random.zip").write_bytes(data)
    read_or_refuse(folder)
    read_or_refuse(tiny.folder / "random.zip")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("bundle.json", data)
    (tiny.folder / "random.zip").write_bytes(buffer.getvalue())
    read_or_refuse(tiny.folder / "random.zip")


def test_a_second_precision_has_its_own_hash(tiny: Any) -> None:
    models = (ModelFile(file="model.onnx"), ModelFile(file="half.onnx", precision="fp16"))
    bundle = tiny.classifier(files={"half.onnx": b"half"}, models=models)
    assert [m.sha256 for m in bundle.manifest.models] == [bundle.manifest.files[m.file] for m in models]


def test_pack_keeps_perturbations_lossless(tiny: Any, tmp_path: Path) -> None:
    bundle = tiny.armed()
    about: Perturbation = bundle.manifest.perturbations[0]
    zipped = bundles.read(bundles.pack(bundle.path, tmp_path / "a.zip"))
    assert zipped.data(about.file) == bundle.data(about.file)
