"""The version of code: what is said about it does not count, what it does does."""

from __future__ import annotations

from lisard_trainer.evaluation import versions

SOURCE = '"""Doc."""\ndef f(x):\n    """Doc."""\n    return x + 1  # why\n'


def test_words_do_not_count_but_deeds_do():
    reworded = '"""Other."""\n\ndef f(x):\n    # new\n    return x + 1\n'
    assert versions.meaning(SOURCE) == versions.meaning(reworded)
    assert versions.meaning(SOURCE) != versions.meaning(SOURCE.replace("+ 1", "+ 2"))


def test_modules_and_packages_have_versions_of_their_own():
    assert versions.of("lisard_ros.injection") != versions.of("lisard_ros.injection.gradient")
    assert versions.of("lisard_ros.injection") == versions.of("lisard_ros.injection")
