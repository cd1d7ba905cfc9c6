"""The version of code: what is said about it does not count, what it does does."""

from __future__ import annotations

from lisard_trainer.evaluation import versions

SOURCE = '"""Doc."""\ndef f(x):\n    """Doc."""\n    return x + 1  # why\n'


def test_words_do_not_count_but_deeds_do():
    reworded = '"""Other."""\n\ndef f(x):\n    # new\n    return x + 1\n'
    assert versions.meaning(SOURCE) == versions.meaning(reworded)
    assert versions.meaning(SOURCE) != versions.meaning(SOURCE.replace("+ 1", "+ 2"))


def test_modules_and_packages_have_versions_of_their_own():
    assert versions.of("lisard_ros.attacks") != versions.of("lisard_ros.attacks.gradient")
    assert versions.of("lisard_ros.attacks") == versions.of("lisard_ros.attacks")


def test_another_release_of_a_package_is_another_version(monkeypatch):
    first = versions.of("lisard_ros.attacks", packages=("cv2",))
    monkeypatch.setattr("cv2.__version__", "0.0.0")
    versions.of.cache_clear()
    assert versions.of("lisard_ros.attacks", packages=("cv2",)) != first != versions.of("lisard_ros.attacks")
    versions.of.cache_clear()
