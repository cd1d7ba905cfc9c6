"""Reports of older schemas have the names of today when they are read; those of today stay as they are."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import evaluation_json  # noqa: E402
import grid_table  # noqa: E402
import readme_results  # noqa: E402

DIFFERENCE = {"value": 0.1, "low": 0.0, "high": 0.2}
CLASSIFIER = {
    "schema": 2,
    "pictures": 10,
    "origin": "pictures of a folder",
    "columns": [{"name": "clean", "pictures": 0}],
    "sources": [{"model": "lisard", "role": "shipped"}, {"model": "plain", "role": "control"}],
    "worst": [{"model": "lisard", "condition": "gray_worst", "columns": ["gray_fgsm"]}],
    "differences": [{"model": "lisard", "control": "plain", "condition": "clean", "difference": DIFFERENCE}],
    "conditions": [{"what": "falls", "column": "gray_fgsm", "holds": True}],
    "contrasts": [{"models": ["lisard"], "controls": ["plain"], "condition": "clean"}],
    "flags": [{"code": "trained_on_other_pictures", "model": "plain"}],
}
DETECTOR = {
    "schema": 1,
    "task": "detection",
    "pictures": "val of road_signs",
    "pictures_sha256": "0",
    "lines": [{"model": "lisard", "column": "clean", "share": 0.0}],
    "corrupted": [{"model": "lisard", "columns": 15}],
    "conditions": [{"name": "surrogate is as good as plain", "holds": True}],
}


def test_a_report_of_schema_2_has_the_names_of_schema_3() -> None:
    assert evaluation_json.current(CLASSIFIER) == {
        "model": "lisard",
        "schema": 2,
        "images": 10,
        "origin": "images of a folder",
        "conditions": [{"name": "clean", "images": 0}],
        "sources": [{"model": "lisard", "role": "bundle"}, {"model": "plain", "role": "baseline"}],
        "worst": [{"model": "lisard", "condition": "gray_worst", "conditions": ["gray_fgsm"]}],
        "differences": [{"model": "lisard", "baseline": "plain", "condition": "clean", "difference": DIFFERENCE}],
        "requirements": [{"what": "falls", "condition": "gray_fgsm", "holds": True}],
        "comparisons": [{"models": ["lisard"], "baselines": ["plain"], "condition": "clean"}],
        "flags": [{"code": "trained_on_other_images", "model": "plain"}],
    }


def test_in_that_of_a_detector_the_words_on_the_images_are_its_origin() -> None:
    found = evaluation_json.current(DETECTOR)
    assert (found["model"], found["origin"], found["images_sha256"]) == ("lisard", "val of road_signs", "0")
    assert found["lines"] == [{"model": "lisard", "condition": "clean", "share": 0.0}]
    assert found["corrupted"] == [{"model": "lisard", "conditions": 15}] and len(found["requirements"]) == 1


@pytest.mark.parametrize("former", [CLASSIFIER, DETECTOR])
def test_a_report_that_names_its_model_is_left_as_it_is(former: dict[str, object], tmp_path: Path) -> None:
    """`conditions` would become `requirements` once more."""
    report = evaluation_json.current(former)
    (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    assert evaluation_json.current(report) == evaluation_json.read(tmp_path / "report.json") == report


RESULTS = ROOT / "docs" / "results"


def under_another_name(name: str) -> str:
    """A published report as it would be written today, for a bundle called `signs`."""
    return json.dumps(evaluation_json.read(RESULTS / f"{name}.json")).replace('"lisard"', '"signs"')


def test_tables_of_the_readme_take_the_name_of_the_model_from_the_report(tmp_path: Path) -> None:
    """The tables of published reports, in which it is `lisard`, are those of reports of today."""
    for name in ("node", "int8"):
        shutil.copy(RESULTS / f"{name}.json", tmp_path)
    for name in ("robustness", "white_box", "corruptions_accuracy", "detector", "detector_white", "grid_detector"):
        (tmp_path / f"{name}.json").write_text(under_another_name(name), encoding="utf-8")
        assert '"signs"' in under_another_name(name)
    for _, _, tables in readme_results.BLOCKS:
        assert tables(tmp_path) == tables(RESULTS)


@pytest.mark.parametrize("name", ["grid_gtsrb", "grid_cifar10"])
def test_the_page_of_a_grid_takes_the_name_of_the_model_from_the_report(name: str) -> None:
    published = evaluation_json.read(RESULTS / f"{name}.json")
    assert grid_table.markdown(json.loads(under_another_name(name))) == grid_table.markdown(published)
