"""Signatures: what was signed is found by its key; everything else is refused with found, expected and cure."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from lisard_ros import bundle as bundles
from lisard_ros.bundle import Bundle, signature
from lisard_ros.errors import BundleError, LisardError, UsageError
from lisard_ros.inference.pipeline import open_pipeline

PEM = serialization.Encoding.PEM
PUBLIC = serialization.PublicFormat.SubjectPublicKeyInfo


def key_pair(folder: Path, name: str = "key") -> tuple[Path, Path]:
    """Private and public key file."""
    folder.mkdir(exist_ok=True)
    private, public, _ = signature.write_new_key(folder / f"{name}.pem")
    return private, public


def signed(bundle: Bundle, key: Path) -> Bundle:
    """The bundle after it was signed, read again."""
    bundles.add_signature(bundle, signature.sign(bundle, signature.read_private_key(key)))
    return bundles.read(bundle.path)


def refused(error: type[LisardError], call: Any, *words: str) -> None:
    """CALL raises ERROR with a complete sentence that holds all `words`."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert all(word in message for word in ("found ", "; ", *words)), message


def edited(bundle: Bundle, **changes: object) -> Bundle:
    """The bundle with other values in signature.json."""
    path = bundle.path / "signature.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))
    return bundles.read(bundle.path)


def test_what_was_signed_is_trusted_in_folder_and_zip(tiny: Any, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path)
    bundle = tiny.armed()
    after = signed(bundle, private)
    trusted = signature.read_trusted_keys([public])
    (key_id,) = trusted.keys
    assert trusted.require_signed(after) == key_id and len(key_id) == 64
    assert after.sha256 == bundle.sha256 and dict(after.contents) == dict(bundle.contents)
    packed = bundles.read(bundles.pack(bundle.path, tmp_path / "tiny.zip"))
    assert trusted.require_signed(packed) == key_id and packed.signature == after.signature


def test_a_zip_can_be_signed(tiny: Any, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path)
    archive = bundles.pack(tiny.classifier().path, tmp_path / "tiny.zip")
    after = signed(bundles.read(archive), private)
    assert signature.read_trusted_keys([public]).require_signed(after)
    with zipfile.ZipFile(archive) as members:
        assert sorted(members.namelist()) == ["bundle.json", "model.onnx", "signature.json"]


def test_signing_again_replaces_the_signature(tiny: Any, tmp_path: Path) -> None:
    old, new = key_pair(tmp_path, "old"), key_pair(tmp_path, "new")
    after = signed(signed(tiny.classifier(), old[0]), new[0])
    assert signature.read_trusted_keys([new[1]]).require_signed(after)
    refused(BundleError, lambda: signature.read_trusted_keys([old[1]]).require_signed(after), "unknown key")


def test_the_same_bundle_and_key_give_the_same_signature(tiny: Any, tmp_path: Path) -> None:
    key = signature.read_private_key(key_pair(tmp_path)[0])
    bundle = tiny.classifier()
    assert signature.sign(bundle, key) == signature.sign(bundle, key)


def test_the_signature_is_of_the_prefix_and_bundle_json(tiny: Any, tmp_path: Path) -> None:
    """What another program needs to check a bundle; a change here breaks every signature that exists."""
    private, public = key_pair(tmp_path)
    after = signed(tiny.classifier(), private)
    assert after.signature is not None
    raw = base64.b64decode(json.loads(after.signature)["signature"])
    key = serialization.load_pem_public_key(public.read_bytes())
    assert isinstance(key, ed25519.Ed25519PublicKey)
    key.verify(raw, b"lisard_ros bundle.json signature, version 1\0" + (after.path / "bundle.json").read_bytes())


def test_an_unsigned_bundle_is_refused(tiny: Any, tmp_path: Path) -> None:
    trusted = signature.read_trusted_keys([key_pair(tmp_path)[1]])
    refused(BundleError, lambda: trusted.require_signed(tiny.classifier()), "is not signed", "signature.json")


def test_a_signature_by_an_unknown_key_is_refused(tiny: Any, tmp_path: Path) -> None:
    after = signed(tiny.classifier(), key_pair(tmp_path, "theirs")[0])
    trusted = signature.read_trusted_keys([key_pair(tmp_path, "ours")[1]])
    refused(BundleError, lambda: trusted.require_signed(after), "unknown key", "expected one of")


def test_a_changed_bundle_is_refused(tiny: Any, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path)
    changed = tiny.with_manifest(signed(tiny.classifier(), private), name="other")
    trusted = signature.read_trusted_keys([public])
    refused(BundleError, lambda: trusted.require_signed(bundles.read(changed)), "wrong signature")


def test_the_signature_of_another_bundle_is_refused(tiny: Any, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path)
    first, second = signed(tiny.classifier("a"), private), tiny.armed("b")
    shutil.copy(first.path / "signature.json", second.path)
    trusted = signature.read_trusted_keys([public])
    refused(BundleError, lambda: trusted.require_signed(bundles.read(second.path)), "wrong signature")


@pytest.mark.parametrize(
    "changes",
    [
        {"signature": ""},
        {"signature": "AAAA"},
        {"signature": "not Base64!"},
        {"signature": 3},
        {"signature": "é"},
        {"algorithm": "rsa"},
        {"version": 2},
        {"more": 1},
    ],
)
def test_a_malformed_signature_is_refused(tiny: Any, tmp_path: Path, changes: dict[str, object]) -> None:
    private, public = key_pair(tmp_path)
    after = edited(signed(tiny.classifier(), private), **changes)
    refused(BundleError, lambda: signature.read_trusted_keys([public]).require_signed(after), "signature")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 2000, b"null"])
def test_garbage_beside_a_bundle_is_no_signature(tiny: Any, tmp_path: Path, data: bytes) -> None:
    bundle = tiny.classifier()
    (bundle.path / "signature.json").write_bytes(data)
    trusted = signature.read_trusted_keys([key_pair(tmp_path)[1]])
    refused(BundleError, lambda: trusted.require_signed(bundles.read(bundle.path)), "unreadable signature.json")
    assert open_pipeline(bundle.path, threads=1), "nobody asked for a signature"


def test_what_is_no_small_file_is_refused_as_signature(tiny: Any) -> None:
    bundle = tiny.classifier()
    (bundle.path / "signature.json").write_bytes(bytes(5000))
    refused(BundleError, lambda: bundles.read(bundle.path), "signature.json is too large")
    (bundle.path / "signature.json").unlink()
    (bundle.path / "signature.json").mkdir()
    refused(BundleError, lambda: bundles.read(bundle.path), "signature.json")


def test_a_bundle_cannot_list_its_signature(tiny: Any) -> None:
    bundle = tiny.classifier()
    path = tiny.with_manifest(bundle, files={**bundle.manifest.files, "signature.json": "0" * 64})
    refused(BundleError, lambda: bundles.read(path), "lists signature.json")


def test_a_bundle_that_is_written_anew_has_no_signature(tiny: Any, tmp_path: Path) -> None:
    after = signed(tiny.classifier(), key_pair(tmp_path)[0])
    assert after.signature is not None
    assert tiny.classifier(labels=("a", "b", "c")).signature is None


def test_both_stages_must_be_signed(tiny: Any, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path)
    trusted = signature.read_trusted_keys([public])
    bundle, detector = signed(tiny.armed(), private), tiny.armed_detector()
    refused(
        BundleError, lambda: open_pipeline(bundle.path, detector=detector.path, trusted_keys=trusted), "is not signed"
    )
    signed(detector, private)
    open_pipeline(bundle.path, detector=detector.path, trusted_keys=trusted, threads=1).close()


# --- keys -------------------------------------------------------------------------------------------------------


def test_keys_are_pem_files_and_the_private_one_is_closed_to_others(tmp_path: Path) -> None:
    private, public = key_pair(tmp_path)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert public.name == "key.pub.pem" and b"BEGIN PUBLIC KEY" in public.read_bytes()
    refused(UsageError, lambda: signature.write_new_key(private), "never overwritten")
    private.unlink()
    refused(UsageError, lambda: signature.write_new_key(private), "never overwritten")
    assert not private.exists()
    refused(UsageError, lambda: signature.write_new_key(tmp_path / "no" / "key.pem"), "cannot write the key")


def test_a_private_key_that_others_can_read_does_not_sign(tmp_path: Path) -> None:
    private, _ = key_pair(tmp_path)
    private.chmod(0o640)
    refused(UsageError, lambda: signature.read_private_key(private), "0640", "chmod 600")


def test_a_folder_holds_several_trusted_keys(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _, public = key_pair(tmp_path / "pairs", name)
        (tmp_path / "trusted").mkdir(exist_ok=True)
        shutil.copy(public, tmp_path / "trusted")
    assert len(signature.read_trusted_keys([tmp_path / "trusted"]).keys) == 2
    (tmp_path / "trusted" / "README").write_text("no key")
    assert len(signature.read_trusted_keys([tmp_path / "trusted"]).keys) == 2


def other_keys() -> dict[str, bytes]:
    """Files that are no public Ed25519 key, by a word of the message; spaces tell files of the same word apart."""
    numbers = rsa.generate_private_key(65537, 2048).public_key()
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    secret = ed25519.Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.PKCS8
    return {
        "RSA public key": numbers.public_bytes(PEM, PUBLIC),
        "EC public key": curve.public_bytes(PEM, PUBLIC),
        "a private key": secret.private_bytes(PEM, form, serialization.NoEncryption()),
        "a private key ": secret.private_bytes(PEM, form, serialization.BestAvailableEncryption(b"word")),
        "": b"garbage",
        " ": b"",
        "  ": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "more than": bytes(70_000),
    }


def test_files_of_the_wrong_kind_are_no_trusted_keys(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    for found, data in other_keys().items():
        path.write_bytes(data)
        refused(UsageError, lambda: signature.read_trusted_keys([path]), str(path), found.strip())
        refused(UsageError, lambda: signature.read_trusted_keys([tmp_path]), str(path))


@pytest.mark.parametrize("place", ["missing.pem", "empty", "nul\0"])
def test_places_without_keys(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    refused(UsageError, lambda: signature.read_trusted_keys([str(tmp_path / place)]))


def test_no_places_at_all() -> None:
    refused(UsageError, lambda: signature.read_trusted_keys([]), "no key")


def test_files_of_the_wrong_kind_do_not_sign(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    form, secret = serialization.PrivateFormat.PKCS8, ed25519.Ed25519PrivateKey.generate()
    numbers = rsa.generate_private_key(65537, 2048)
    for data, word in (
        (secret.public_key().public_bytes(PEM, PUBLIC), "a public key"),
        (numbers.private_bytes(PEM, form, serialization.NoEncryption()), "RSA private key"),
        (secret.private_bytes(PEM, form, serialization.BestAvailableEncryption(b"word")), "password"),
        (b"garbage", "no private key"),
    ):
        path.write_bytes(data)
        path.chmod(0o600)
        refused(UsageError, lambda: signature.read_private_key(path), word)


def test_without_cryptography_one_sentence_has_the_cure(tiny: Any, tmp_path: Path, monkeypatch: Any) -> None:
    private, public = key_pair(tmp_path)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    for call in (
        lambda: signature.read_private_key(private),
        lambda: signature.read_trusted_keys([public]),
        lambda: signature.write_new_key(tmp_path / "new.pem"),
    ):
        refused(UsageError, call, "pip install cryptography", "lisard_ros[signing]")
    assert bundles.read(tiny.classifier().path).signature is None, "reading needs no such package"
