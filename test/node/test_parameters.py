"""The parameter table: types, ranges, overrides nobody declares, and the files generated from it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros import backends
from lisard_ros.backends import engine_cache
from lisard_ros.bundle import model_choice
from lisard_ros.errors import UsageError
from lisard_ros.inference import pipeline
from lisard_ros.node import parameter_docs, parameters
from lisard_ros.node.parameters import BY_NAME, TABLE, NodeSettings, resolve

ROOT = Path(__file__).resolve().parents[2]


def test_settings_have_one_field_for_each_parameter() -> None:
    assert [spec.field for spec in TABLE] == [field.name for field in fields(NodeSettings)]


@pytest.mark.parametrize("spec", TABLE, ids=lambda spec: spec.name)
def test_defaults_fit_their_own_limits(spec: parameters.ParameterSpec) -> None:
    assert parameters.coerce(spec, spec.default) == spec.default
    assert spec.description.endswith(".") or spec.description.endswith("...")


def test_defaults_agree_with_the_pipeline() -> None:
    settings = resolve({})
    core = pipeline.Settings()
    assert (settings.top_k, settings.min_score, settings.max_detections) == (
        core.top_k,
        core.min_score,
        core.max_detections,
    )


def test_choices_are_those_of_the_runtime() -> None:
    choices = {spec.name: spec.choices for spec in TABLE}
    assert choices["backend"] == backends.POLICIES
    assert choices["precision"] == model_choice.PRECISIONS
    assert choices["plan_policy"] == engine_cache.POLICIES


def test_safe_conversions() -> None:
    settings = resolve({"min_score": 1, "image_topics": "/a/image, /b/image", "fixed_boxes": [0, 0, 4, 4.5]})
    assert settings.min_score == 1.0 and isinstance(settings.min_score, float)
    assert settings.image_topics == ("/a/image", "/b/image")
    assert settings.fixed_boxes == (0.0, 0.0, 4.0, 4.5)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("threads", "many", "expected an integer in [0, 256]"),
        ("threads", True, "found True (bool)"),
        ("threads", 1000, "expected an integer in [0, 256]"),
        ("min_score", 1.5, "expected a number in [0, 1]"),
        ("min_score", float("nan"), "expected a number in [0, 1]"),
        ("backend", "onnxruntme", "did you mean 'onnxruntime'?"),
        ("backend", False, "quote it in YAML"),
        ("roi_classes", [True, False], "quote it in YAML"),
        ("roi_classes", [30, 50], "quote it in YAML"),
        ("bundle", 7, "expected a string"),
        ("autostart", "yes", "expected true or false"),
        ("fixed_boxes", [1.0, 2.0, 3.0], "four for each box"),
        ("fixed_boxes", [5.0, 0.0, 3.0, 9.0], "x0 < x1"),
        ("fixed_boxes", [0.0, 0.0, float("inf"), 9.0], "parameter 'fixed_boxes'"),
        ("regions", "topic", "set boxes_topic"),
        ("regions", "fixed", "set fixed_boxes"),
    ],
)
def test_bad_values_say_what_was_found_and_the_cure(name: str, value: object, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve({name: value})
    assert said in str(caught.value) and name in str(caught.value)


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=3))


@given(st.sampled_from(TABLE), SCALARS | st.lists(SCALARS, max_size=4))
def test_any_value_is_taken_or_refused_with_usage_error(spec: parameters.ParameterSpec, value: object) -> None:
    try:
        settings = resolve({spec.name: value})
    except UsageError:
        return
    assert isinstance(settings, NodeSettings)


def test_an_update_at_run_time_is_checked_and_leaves_the_rest() -> None:
    settings = resolve({"bundle": "b", "top_k": 2})
    changed = parameters.updated(settings, {"min_score": 0.25, "injection.enabled": True})
    assert (changed.min_score, changed.injection_enabled, changed.top_k) == (0.25, True, 2)
    with pytest.raises(UsageError):
        parameters.updated(settings, {"top_k": 0})


@pytest.mark.parametrize(
    ("overrides", "mode"),
    [
        ({}, "whole"),
        ({"fixed_boxes": [0.0, 0.0, 1.0, 1.0]}, "fixed"),
        ({"boxes_topic": "/b"}, "topic"),
        ({"boxes_topic": "/b", "regions": "whole"}, "whole"),
    ],
)
def test_auto_regions(overrides: dict[str, object], mode: str) -> None:
    assert parameters.regions_mode(resolve(overrides)) == mode


def test_signatures_are_asked_for_with_keys_or_not_at_all() -> None:
    asked = parameters.resolve({"require_signature": True, "trusted_keys": ["keys"]})
    assert asked.require_signature and asked.trusted_keys == ("keys",)
    with pytest.raises(UsageError, match="true without trusted_keys"):
        parameters.resolve({"require_signature": True})
    with pytest.raises(UsageError, match="keys without require_signature"):
        parameters.resolve({"trusted_keys": ["keys"]})


def test_unknown_overrides_name_the_nearest_and_spare_shared_ones() -> None:
    unknown = parameters.find_unknown(
        ["bundle", "min_scor", "shared_by_all", "use_sim_time", "qos_overrides./a.publisher.depth"],
        frozenset({"min_scor"}),
    )
    assert [(u.name, u.from_wildcard) for u in unknown] == [("min_scor", False), ("shared_by_all", True)]
    assert "did you mean 'min_score'?" in unknown[0].message


def test_where_an_override_came_from() -> None:
    argv = [
        "x",
        "--ros-args",
        "-p",
        "a:=1",
        "--param",
        "node:b:=2",
        "--params-file",
        "f.yaml",
        "-r",
        "c:=d",
        "--",
        "-p",
        "e:=1",
    ]
    assert parameters.names_on_command_line(argv) == {"a", "b"}
    assert parameters.params_files(argv) == ("f.yaml",)
    document = {
        "/**": {"ros__parameters": {"shared": 1}},
        "perception": {"ros__parameters": {"own": 1, "injection": {"sed": 2}}},
        "/ns": {"perception": {"ros__parameters": {"deep": 1}}, "*": {"ros__parameters": {"wild": 1}}},
    }
    assert parameters.names_in_own_sections(document) == {"own", "injection.sed", "deep"}
    assert parameters.names_in_own_sections(["no", "mapping"]) == frozenset()


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            ["/perceptoin"],
            "the section '/perceptoin' is for another node and ignored: did you mean '/front/perception'?",
        ),
        (["/**", "/front/perceptoin"], "the section '/front/perceptoin' is for another node"),
        (["perception"], "no section is for this node: found /perception, expected '/front/perception' or '/**'"),
        (["/front/camera", "/rear/perception"], "no section is for this node"),
        (["/front/perception", "/front/perceptoin"], ""),
        (["/**", "/rear/perception", "/front/camera"], ""),
        (["/*/perception"], ""),
        (["/front/*"], ""),
        (["/**/perception"], ""),
        ([], ""),
    ],
)
def test_sections_for_another_name_are_noticed(sections: list[str], said: str) -> None:
    document = {section: {"ros__parameters": {"top_k": 1}} for section in sections}
    assert parameters.stray_section(document, "/front/perception").startswith(said)
    assert bool(parameters.stray_section(document, "/front/perception")) == bool(said)


def test_qos_overrides_are_for_what_the_node_subscribes_to() -> None:
    good = {"qos_overrides./a/image.subscription.depth": 5, "qos_overrides./clock.subscription.depth": 1, "top_k": 2}
    assert parameters.find_unknown_qos(good, ["/a/image"], frozenset()) == ()
    wrong = {"qos_overrides./b/image.subscription.depth": 5}
    (unknown,) = parameters.find_unknown_qos(wrong, ["/a/image"], frozenset())
    assert unknown.from_wildcard
    assert "expected reliability, durability, history, depth of a subscription to /a/image" in unknown.message


def test_the_help_names_every_parameter() -> None:
    text = "\n".join(parameter_docs.help_lines())
    assert all(f"  {spec.name}: {spec.expected}" in text for spec in TABLE)


def test_the_docs_table_is_up_to_date() -> None:
    text = (ROOT / "docs/node.md").read_text(encoding="utf-8")
    assert parameter_docs.with_table(text) == text, "run python3 -m lisard_ros.node.parameter_docs"


def test_the_example_file_is_up_to_date_and_loads() -> None:
    text = (ROOT / "config/perception.yaml").read_text(encoding="utf-8")
    assert text == parameter_docs.yaml_file(), "run python3 -m lisard_ros.node.parameter_docs"
    values = yaml.safe_load(text)["perception"]["ros__parameters"]
    assert resolve(values) == resolve({})
    commented = {line.split(":")[0].strip(" #") for line in text.splitlines() if line.startswith("    # ")}
    assert set(values) | commented >= set(BY_NAME)
