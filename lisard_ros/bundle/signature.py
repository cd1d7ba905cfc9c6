"""Ed25519 signatures of bundles: who made a bundle, beside the hashes that tell whether it is whole.

Signed are the bytes of bundle.json, which holds the sha256 of every other file, behind a prefix that no other use of
such a key has. The signature lies beside bundle.json as signature.json; the sha256 of the bundle does not depend on it.
Keys are PEM files: PKCS #8 for private keys, SubjectPublicKeyInfo for public ones. Needs the package `cryptography`.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from lisard_ros.bundle.io import SIGNATURE_NAME, Bundle
from lisard_ros.errors import BundleError, UsageError, one_line

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PREFIX = b"lisard_ros bundle.json signature, version 1\0"
MAX_KEY_BYTES = 64 << 10
KEY_SUFFIX = ".pem"
_SIGNATURE_BYTES = 64
_PUBLIC_KEY = "a public Ed25519 key in PEM"
_PRIVATE_KEY = "a private Ed25519 key in PEM without a password"
_KEYGEN = "`lisard bundle keygen KEY.pem` makes KEY.pem and KEY.pub.pem"


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of signature.json. key_id: sha256 of the public key's 32 bytes, in hex. signature: in Base64."""

    version: Literal[1] = 1
    algorithm: Literal["ed25519"] = "ed25519"
    key_id: str
    signature: str


@dataclass(frozen=True, slots=True, eq=False)
class TrustedKeys:
    """Public keys by their id, and where they were read."""

    keys: Mapping[str, Ed25519PublicKey]
    places: tuple[str, ...]

    def require_signed(self, bundle: Bundle) -> str:
        """Check that a bundle was signed by one of these keys.

        Args:
            bundle: The bundle, as `bundle.read` gave it.

        Returns:
            The id of the key.

        Raises:
            BundleError: It is not signed, the key is not one of these, or the signature is of other bytes.
        """
        where = f"bundle {bundle.path}"
        if bundle.signature is None:
            raise BundleError(
                f"{where} is not signed",
                found=f"no {SIGNATURE_NAME}",
                expected=f"a signature by a key of {', '.join(self.places)}",
                cure="sign it (lisard bundle sign), or take it from its supplier again",
            )
        signature = parse(bundle.signature, where)
        key = self.keys.get(signature.key_id)
        if key is None:
            raise BundleError(
                f"{where} is signed by an unknown key",
                found=f"key {signature.key_id[:16]}…",
                expected="one of " + ", ".join(f"{key_id[:16]}…" for key_id in sorted(self.keys)),
                cure="add the supplier's public key to the trusted keys if you trust it",
            )
        from cryptography.exceptions import InvalidSignature

        try:
            key.verify(_signature_bytes(signature, where), PREFIX + bundle.manifest_bytes)
        except InvalidSignature as error:
            raise BundleError(
                f"{where} has a wrong signature",
                found=f"a signature of other bytes under key {signature.key_id[:16]}…",
                expected="the signature of this bundle.json",
                cure="the bundle was changed after it was signed: sign it again, or take it from its supplier again",
            ) from error
        return signature.key_id


def parse(data: bytes, where: str) -> Signature:
    """Parse the bytes of a signature.json; BundleError names `where` if they are none."""
    try:
        return msgspec.json.decode(data, type=Signature)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(
            f"{where} has an unreadable {SIGNATURE_NAME}",
            found=one_line(error),
            expected="version 1 with algorithm, key_id and signature",
            cure="sign it again, or delete that file",
        ) from error


def sign(bundle: Bundle, key: Ed25519PrivateKey) -> bytes:
    """Return the signature.json of a bundle under a private key (`read_private_key`)."""
    raw = key.sign(PREFIX + bundle.manifest_bytes)
    signature = Signature(key_id=key_id(key.public_key()), signature=base64.b64encode(raw).decode())
    return msgspec.json.format(msgspec.json.encode(signature), indent=2) + b"\n"


def key_id(key: Ed25519PublicKey) -> str:
    """Return the id of a public key: the sha256 of its 32 bytes, in hex."""
    _, serialization = _library()
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()


def read_trusted_keys(paths: Iterable[str | os.PathLike[str]]) -> TrustedKeys:
    """Read public keys.

    Args:
        paths: PEM files, or folders whose *.pem files are all read.

    Returns:
        The keys; at least one.

    Raises:
        UsageError: A file cannot be read, is of another kind (a private key, RSA, no PEM), or there is no key.
    """
    places = tuple(os.fspath(path) for path in paths)
    keys = {}
    for place in places:
        for path in _key_files(Path(place)):
            key = _read_public_key(path)
            keys[key_id(key)] = key
    if not keys:
        raise UsageError("trusted keys", found="no key", expected=_PUBLIC_KEY, cure=_KEYGEN)
    return TrustedKeys(keys, places)


def read_private_key(path: str | os.PathLike[str]) -> Ed25519PrivateKey:
    """Read the key that signs; UsageError if the file is of another kind, or others than its owner can read it."""
    data = _key_bytes(Path(path))
    ed25519, serialization = _library()
    with _foreign_errors(path, _PRIVATE_KEY, "a key that was made with `lisard bundle keygen`"):
        if b"PRIVATE KEY" not in data:
            raise _wrong_kind(path, "a public key" if b"PUBLIC KEY" in data else "no private key", _PRIVATE_KEY)
        key = serialization.load_pem_private_key(data, password=None)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise _wrong_kind(path, _name_of(key), _PRIVATE_KEY)
    mode = stat.S_IMODE(os.stat(path).st_mode)  # noqa: PTH116  follows links as open does
    if mode & 0o077:
        raise UsageError(
            f"the private key {path} can be read by others",
            found=f"mode {mode:04o}",
            expected="0600",
            cure=f"chmod 600 {path}, or make a new key if others may have read it",
        )
    return key


def write_new_key(path: str | os.PathLike[str]) -> tuple[Path, Path, str]:
    """Make a pair of keys.

    Args:
        path: Where the private key is written, NAME.pem, with mode 0600; the public key goes to NAME.pub.pem.

    Returns:
        Both paths and the key's id.

    Raises:
        UsageError: One of the files exists, or the folder cannot be written.
    """
    private = Path(path)
    public = private.with_name(private.name.removesuffix(KEY_SUFFIX) + ".pub" + KEY_SUFFIX)
    ed25519, serialization = _library()
    key = ed25519.Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    form, no_password = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    if os.path.lexists(public):
        raise _not_made(public, "a file is there already")
    _write_new(private, key.private_bytes(pem, form, no_password), 0o600)
    try:
        _write_new(public, key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo), 0o644)
    except BaseException:
        private.unlink()
        raise
    return private, public, key_id(key.public_key())


def _library() -> tuple[Any, Any]:
    """Return the modules `ed25519` and `serialization` of the package cryptography, which is optional."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise UsageError(
            "signatures need the Python package cryptography",
            found=one_line(error),
            expected=f"it in {sys.executable}",
            cure=f"{sys.executable} -m pip install cryptography (the extra lisard_ros[signing])",
        ) from error
    return ed25519, serialization


def _read_public_key(path: Path) -> Ed25519PublicKey:
    data = _key_bytes(path)
    ed25519, serialization = _library()
    cure = f"give the public key of the pair; {_KEYGEN}"
    if b"PRIVATE KEY" in data:
        # Refused unread: whoever trusts a key needs no secret, and a private key on a robot can be stolen there.
        raise UsageError(f"trusted key {path}", found="a private key", expected=_PUBLIC_KEY, cure=cure)
    with _foreign_errors(path, _PUBLIC_KEY, cure):
        key = serialization.load_pem_public_key(data)
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise _wrong_kind(path, _name_of(key), _PUBLIC_KEY)
    return key


@contextlib.contextmanager
def _foreign_errors(path: str | os.PathLike[str], expected: str, cure: str) -> Iterator[None]:
    """Turn what cryptography raises for a file that it cannot read into UsageError."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        yield
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: the key has a password
        raise UsageError(f"key {path}", found=one_line(error), expected=expected, cure=cure) from error


def _key_files(place: Path) -> list[Path]:
    if not os.path.isdir(place):
        return [place]
    try:
        files = sorted(place.glob(f"*{KEY_SUFFIX}"))
    except OSError as error:
        raise UsageError(
            f"trusted keys {place}", found=one_line(error), expected="a folder that can be read"
        ) from error
    if not files:
        raise UsageError(f"trusted keys {place}", found="no *.pem in that folder", expected=_PUBLIC_KEY, cure=_KEYGEN)
    return files


def _key_bytes(path: Path) -> bytes:
    try:
        # Without O_NONBLOCK a pipe of that name would be waited for.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            data = stream.read(MAX_KEY_BYTES + 1) if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else None
    except (OSError, ValueError) as error:
        raise UsageError(f"key {path}", found=one_line(error), expected="a PEM file", cure=_KEYGEN) from error
    if data is None or len(data) > MAX_KEY_BYTES:
        found = "not a regular file" if data is None else f"more than {MAX_KEY_BYTES} bytes"
        raise UsageError(f"key {path}", found=found, expected="a PEM file", cure=_KEYGEN)
    return data


def _signature_bytes(signature: Signature, where: str) -> bytes:
    try:
        raw = base64.b64decode(signature.signature, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _SIGNATURE_BYTES:
        raise BundleError(
            f"{where} has a malformed signature",
            found=f"{len(raw)} bytes of Base64",
            expected=f"{_SIGNATURE_BYTES}",
            cure="sign it again, or take it from its supplier again",
        )
    return raw


def _wrong_kind(path: str | os.PathLike[str], found: str, expected: str) -> UsageError:
    return UsageError(f"key {path} is of the wrong kind", found=found, expected=expected, cure=_KEYGEN)


def _name_of(key: object) -> str:
    """Name the kind of a key of cryptography, whose classes are RSAPublicKey, ECPrivateKey, ..."""
    name = type(key).__name__
    return name.replace("PublicKey", " public key").replace("PrivateKey", " private key")


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not exist; nobody else can read it at any moment."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
    except OSError as error:
        raise _not_made(path, error.strerror or one_line(error)) from error


def _not_made(path: Path, found: str) -> UsageError:
    return UsageError(
        f"cannot write the key {path}",
        found=found,
        expected="a new file in a folder that you may write to",
        cure="choose another name; a key is never overwritten",
    )
