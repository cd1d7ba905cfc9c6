"""Snapshots of the settings: a change makes a new one, and the one in use stays as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lisard_ros.errors import AttackError
from lisard_ros.frames import Frame, Result
from lisard_ros.inference.batching import BatchChoice
from lisard_ros.inference.pipeline import open_pipeline
from lisard_ros.node import parameters
from lisard_ros.node.snapshot import Snapshot, answer_settings, injection_plan

RED = Frame(np.full((8, 8, 3), (200, 20, 20), np.uint8), "rgb", 1, "optical", "front")


@pytest.fixture
def snapshot(bundle: Path) -> Iterator[Snapshot]:
    """The snapshot of a node with noise switched on."""
    settings = parameters.resolve({"bundle": str(bundle), "injection.enabled": True})
    pipeline = open_pipeline(bundle, settings=answer_settings(settings))
    yield Snapshot(settings, pipeline, BatchChoice(1, ""), injection_plan(settings))
    pipeline.close()


def hypotheses(snapshot: Snapshot) -> int:
    """How many hypotheses an answer by this snapshot holds."""
    (outcome,) = snapshot.pipeline.run([RED])
    assert isinstance(outcome, Result) and outcome.classification is not None
    return len(outcome.classification.hypotheses)


def test_a_change_leaves_the_snapshot_in_use_alone(snapshot: Snapshot) -> None:
    before = snapshot.pipeline.settings
    changed = snapshot.updated(parameters.updated(snapshot.settings, {"top_k": 1}), new_injections=False)
    assert (hypotheses(snapshot), hypotheses(changed)) == (3, 1)
    assert snapshot.pipeline.settings is before and snapshot.settings.top_k == 5
    assert changed.pipeline.choice is snapshot.pipeline.choice, "one loaded model"
    assert changed.plan is not None and changed.plan.answer.top_k == 1, "attacked answers are shaped alike"


def test_the_plan_follows_the_settings(snapshot: Snapshot) -> None:
    off = parameters.updated(snapshot.settings, {"injection.enabled": False})
    assert snapshot.updated(off, new_injections=True).plan is None, "nothing of the injection is left when it is off"
    stored = parameters.updated(snapshot.settings, {"injection.attacks": ["universal", "noise"]})
    assert snapshot.updated(stored, new_injections=True).injection_names == ("universal", "noise")
    assert snapshot.injection_names == ("noise",)


def test_an_injection_that_the_bundle_lacks_is_refused(snapshot: Snapshot) -> None:
    wrong = parameters.updated(snapshot.settings, {"injection.attacks": ["nothing"]})
    with pytest.raises(AttackError, match="nothing"):
        snapshot.updated(wrong, new_injections=True)
