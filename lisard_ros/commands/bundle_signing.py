"""`lisard bundle sign`, `verify` and `keygen`: who made a bundle."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from lisard_ros import bundle as bundles
from lisard_ros.bundle import signature
from lisard_ros.bundle.signature import TrustedKeys
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE
from lisard_ros.commands.output import to_json
from lisard_ros.errors import BundleError

SUMMARY = "sign bundles and check signatures"
HELP = """Sign bundles and check signatures (Ed25519; needs the Python package cryptography).

  lisard bundle keygen release.pem                          writes release.pem, which is secret, and release.pub.pem
  lisard bundle sign models/my_model --key release.pem      writes signature.json beside bundle.json
  lisard bundle verify models/my_model --keys release.pub.pem
  ros2 run lisard_ros perception_node --ros-args -p bundle:=models/my_model \\
      -p require_signature:=true -p trusted_keys:=release.pub.pem

A signature covers bundle.json, which holds the sha256 of every other file. It does not change the sha256 of the bundle.
Exit status of verify: 0 signed by one of the keys, 1 not so, 2 usage error or a key file of the wrong kind."""


@dataclass(frozen=True, slots=True)
class Made:
    """What `keygen` wrote."""

    private_key: str
    public_key: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What `sign` or `verify` did. error: '' where the signature holds."""

    path: str
    sha256: str
    key_id: str
    error: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the three actions."""
    actions = parser.add_subparsers(dest="action", required=True)
    maker = actions.add_parser("keygen", help="make a pair of keys")
    maker.add_argument("key", type=Path, metavar="KEY.pem", help="new file of the private key")
    maker.set_defaults(call=_make)
    signer = actions.add_parser("sign", help="sign a bundle")
    signer.add_argument("bundle", type=Path, help="model bundle (folder or .zip)")
    signer.add_argument("--key", type=Path, required=True, metavar="KEY.pem", help="private key")
    signer.set_defaults(call=_sign)
    verifier = actions.add_parser("verify", help="check who signed a bundle")
    verifier.add_argument("bundle", type=Path, help="model bundle (folder or .zip)")
    verifier.add_argument(
        "--keys",
        type=Path,
        action="append",
        required=True,
        metavar="FOLDER|FILE",
        help="public keys that are trusted: a .pem file, or a folder of them; repeatable",
    )
    verifier.set_defaults(call=_verify)
    for one in (maker, signer, verifier):
        one.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Call the chosen action."""
    status: int = args.call(args)
    return status


def add_trusted_keys(parser: argparse.ArgumentParser) -> None:
    """Add --trusted-keys to a command that runs bundles."""
    parser.add_argument(
        "--trusted-keys",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER|FILE",
        help="run only bundles that one of these public keys has signed (lisard bundle sign); repeatable",
    )


def trusted_keys(args: argparse.Namespace) -> TrustedKeys | None:
    """Read the keys of --trusted-keys; None without that option."""
    return signature.read_trusted_keys(args.trusted_keys) if args.trusted_keys else None


def _make(args: argparse.Namespace) -> int:
    private, public, key_id = signature.write_new_key(args.key)
    made = Made(str(private), str(public), key_id)
    lines = f"private key  {private}, keep it secret\npublic key   {public}\nkey id       {key_id}"
    print(to_json(made) if args.json else lines)
    return EXIT_DONE


def _sign(args: argparse.Namespace) -> int:
    key = signature.read_private_key(args.key)
    bundle = bundles.read(bundles.locate(args.bundle))
    bundles.add_signature(bundle, signature.sign(bundle, key))
    done = Checked(str(bundle.path), bundle.sha256, signature.key_id(key.public_key()))
    print(to_json(done) if args.json else f"{done.path} ({done.sha256[:12]}) is signed by key {done.key_id}")
    return EXIT_DONE


def _verify(args: argparse.Namespace) -> int:
    keys = signature.read_trusted_keys(args.keys)
    bundle = bundles.read(bundles.locate(args.bundle))
    try:
        done = Checked(str(bundle.path), bundle.sha256, keys.require_signed(bundle))
    except BundleError as error:
        done = Checked(str(bundle.path), bundle.sha256, "", str(error))
    signed = f"{done.path} ({done.sha256[:12]}) is signed by key {done.key_id}"
    print(to_json(done) if args.json else done.error or signed)
    return EXIT_CHECK_FAILED if done.error else EXIT_DONE
