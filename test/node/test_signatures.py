"""require_signature and trusted_keys on a real node: what no trusted key has signed is not loaded, with the reason."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundles import write, write_detector
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from peers import NodeProcess

from lisard_ros import bundle as bundles
from lisard_ros.bundle import signature

Start = Callable[..., NodeProcess]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of keys `ours` and `theirs`, an RSA key, and the folder `trusted` with our public key."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        signature.write_new_key(folder / f"{name}.pem")
    public = rsa.generate_private_key(65537, 2048).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / "rsa.pem").write_bytes(public.public_bytes(serialization.Encoding.PEM, form))
    (folder / "garbage.pem").write_bytes(b"garbage")
    (folder / "trusted").mkdir()
    shutil.copy(folder / "ours.pub.pem", folder / "trusted")
    return folder


def sign(path: Path, key: Path) -> Path:
    """Sign a bundle in place."""
    bundle = bundles.read(path)
    bundles.add_signature(bundle, signature.sign(bundle, signature.read_private_key(key)))
    return path


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Path:
    """A bundle that we have signed."""
    return sign(write(tmp_path_factory.mktemp("signed") / "colours"), keys / "ours.pem")


def refused(start: Start, status: int, *words: str, **parameters: Any) -> None:
    """The node ends with STATUS, and its log has all `words`."""
    node = start("/signed", image_topics=["/s/image"], require_signature=True, **parameters)
    assert node.wait() == status, node.log
    assert all(word in node.log for word in words), node.log
    assert "Traceback" not in node.log


def test_what_we_have_signed_runs(start: Start, signed: Path, keys: Path) -> None:
    node = start(
        "/signed", bundle=signed, image_topics=["/s/image"], require_signature=True, trusted_keys=[keys / "trusted"]
    )
    node.said("active: ")
    assert "signed by key " in node.log
    assert node.stop() == 0


def test_an_unsigned_bundle_is_not_loaded(start: Start, bundle: Path, keys: Path) -> None:
    refused(start, 1, "cannot configure", "is not signed", bundle=bundle, trusted_keys=[keys / "ours.pub.pem"])


def test_an_unknown_key(start: Start, signed: Path, keys: Path) -> None:
    refused(start, 1, "cannot configure", "unknown key", bundle=signed, trusted_keys=[keys / "theirs.pub.pem"])


def test_a_wrong_signature(start: Start, signed: Path, keys: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", images=6)
    shutil.copy(signed / "signature.json", other)
    refused(start, 1, "cannot configure", "wrong signature", bundle=other, trusted_keys=[keys / "ours.pub.pem"])


@pytest.mark.parametrize(
    ("file", "found"), [("rsa.pem", "RSA"), ("ours.pem", "a private key"), ("garbage.pem", "garbage.pem")]
)
def test_a_key_file_of_the_wrong_kind(start: Start, signed: Path, keys: Path, file: str, found: str) -> None:
    refused(start, 1, "cannot configure", found, "public Ed25519 key", bundle=signed, trusted_keys=[keys / file])


def test_the_detector_must_be_signed_too(start: Start, signed: Path, keys: Path, tmp_path: Path) -> None:
    detector = write_detector(tmp_path / "street")
    trusted = [keys / "ours.pub.pem"]
    refused(start, 1, "street is not signed", bundle=signed, detector=detector, trusted_keys=trusted)


def test_keys_and_the_wish_for_a_signature_belong_together(start: Start, signed: Path) -> None:
    refused(start, 2, "true without trusted_keys", bundle=signed)
