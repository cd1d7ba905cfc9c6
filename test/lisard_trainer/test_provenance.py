"""Which commit a result was made from."""

from __future__ import annotations

import subprocess

from lisard_trainer import provenance


def git(folder, *words):
    subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e@x", *words], check=True, capture_output=True
    )


def test_a_checkout_names_its_commit_and_says_when_files_differ(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "first")
    clean = provenance.commit(tmp_path)
    (tmp_path / "file").write_text("two")
    assert len(clean) == 40 and provenance.commit(tmp_path) == clean + "+changes"
    assert provenance.short(clean) == clean[:10]
    assert provenance.short(clean + "+changes") == clean[:10] + " with changes"


def test_a_folder_without_git_is_unknown(tmp_path):
    assert provenance.commit(tmp_path) == provenance.UNKNOWN == provenance.short(provenance.UNKNOWN)
