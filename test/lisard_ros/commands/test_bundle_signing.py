"""`lisard bundle keygen`, `sign` and `verify`, and --trusted-keys of what runs bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lisard_ros import bundle as bundles


@pytest.fixture
def key(lisard: Any, tmp_path: Path) -> Path:
    """A private key; key.pub.pem lies beside it."""
    assert lisard("bundle", "keygen", tmp_path / "key.pem").status == 0
    return tmp_path / "key.pem"


def public(key: Path) -> Path:
    """The public key of the pair."""
    return key.with_name("key.pub.pem")


def test_sign_then_verify(lisard: Any, tiny: Any, key: Path) -> None:
    bundle = tiny.classifier()
    before = lisard("bundle", "verify", bundle.path, "--keys", public(key))
    assert before.status == 1 and "is not signed" in before.out and before.err == ""
    done = lisard("bundle", "sign", bundle.path, "--key", key, "--json")
    made = json.loads(done.out)
    assert done.status == 0 and made["sha256"] == bundle.sha256
    after = lisard("bundle", "verify", bundle.path, "--keys", public(key))
    assert after.status == 0 and made["key_id"] in after.out
    shown = lisard("bundle", bundle.path)
    assert shown.status == 0 and made["key_id"] in shown.out and "not checked" in shown.out


def test_verify_with_other_keys(lisard: Any, tiny: Any, key: Path, tmp_path: Path) -> None:
    bundle = tiny.classifier()
    lisard("bundle", "sign", bundle.path, "--key", key)
    lisard("bundle", "keygen", tmp_path / "other.pem")
    others = lisard("bundle", "verify", bundle.path, "--keys", tmp_path / "other.pub.pem", "--json")
    assert others.status == 1 and "unknown key" in json.loads(others.out)["error"]
    lisard("bundle", "verify", bundle.path, "--keys", key).refused("a private key")
    lisard("bundle", "sign", bundle.path, "--key", public(key)).refused("a public key")
    lisard("bundle", "keygen", key).refused("never overwritten")


def test_what_runs_a_bundle_can_ask_for_a_signature(lisard: Any, tiny: Any, key: Path, image: Any) -> None:
    bundle = tiny.classifier()
    call = ("predict", bundle.path, image(0), "--trusted-keys", public(key))
    lisard(*call).refused("is not signed")
    lisard("bundle", "sign", bundle.path, "--key", key)
    assert lisard(*call).status == 0


def test_a_bundle_of_the_name_of_an_action(lisard: Any, tiny: Any, tmp_path: Path, monkeypatch: Any) -> None:
    bundles.pack(tiny.classifier().path, tmp_path / "sign")
    monkeypatch.chdir(tmp_path)
    assert lisard("bundle", "./sign").status == 0
    assert lisard("bundle", "sign").status == 2
