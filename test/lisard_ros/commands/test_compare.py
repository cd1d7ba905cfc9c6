"""`lisard compare`: paired differences of two replays, and what must not be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

S = 1_000_000_000
LABELS = ("red", "green", "blue")
WORSE = np.array([[20, 0, 0], [20, 0, 0], [0, 0, 20]], np.float32)  # green is answered red


@pytest.fixture
def drive(recording: Any) -> Path:
    """Thirty labelled images, each another one, over half a minute."""
    messages = []
    for n in range(30):
        image = np.zeros((10, 12, 3), np.uint8)
        image[..., n % 3] = 200
        image[0, 0] = n
        messages += [recording.raw(image, S + n * S), recording.label(S + n * S, LABELS[n % 3])]
    return recording.write("drive", messages)


@pytest.fixture
def replayed(lisard: Any, tiny: Any, drive: Path, tmp_path: Path) -> Any:
    """Replays the drive with a model and returns the JSON file."""

    def replay(name: str, *options: Any, weights: Any = None, path: Path | None = None) -> Path:
        model = tiny.classifier_onnx(weights)
        bundle = tiny.classifier(name, model)
        file = tmp_path / f"{name}.json"
        words = ("replay", path or drive, "--bundle", bundle.path, "--json", file, "--block-s", "3", *options)
        assert lisard(*words).status == 0
        return file

    return replay


def test_a_worse_model_is_a_regression(lisard: Any, replayed: Any) -> None:
    before, after = replayed("before"), replayed("after", weights=WORSE)
    done = lisard("compare", before, after, "--json")
    clean, noise = json.loads(done.out)["differences"]
    assert done.status == 1 and (clean["verdict"], clean["n"], clean["blocks"]) == ("regression", 30, 10)
    assert clean["difference"]["value"] == pytest.approx(-1 / 3) and clean["difference"]["high"] < 0
    assert (clean["before"], noise["injection"]) == (1.0, "noise")
    assert lisard("compare", after, before).status == 0, "getting better is no regression"
    shown = lisard("compare", before, after)
    assert "regression: the share of right answers fell" in shown.out and "-33.3 [-33.3, -33.3]" in shown.out


def test_the_same_model_is_none(lisard: Any, replayed: Any) -> None:
    done = lisard("compare", replayed("before"), replayed("after"))
    assert done.status == 0 and done.out.rstrip().endswith("no regression")


def test_a_loss_over_few_blocks_is_not_enough_evidence(lisard: Any, replayed: Any) -> None:
    few = ("--block-s", "10")
    before, after = replayed("before", *few), replayed("after", *few, weights=WORSE)
    done = lisard("compare", before, after)
    assert done.status == 1 and "not enough evidence: worse in 3 independent blocks" in done.out
    by_frame = ("--by", "frame")
    done = lisard("compare", replayed("a", *by_frame), replayed("b", *by_frame, weights=WORSE))
    assert done.status == 1 and "regression: the share" in done.out


def test_frames_without_an_answer_are_a_regression(lisard: Any, replayed: Any, tmp_path: Path) -> None:
    before = replayed("before")
    content = json.loads(before.read_text())
    content["rows"][0]["failed"] = {"output": 2}
    (tmp_path / "after.json").write_text(json.dumps(content))
    done = lisard("compare", before, tmp_path / "after.json")
    assert done.status == 1 and "regression: 2 more frames without an answer" in done.out


def test_more_false_boxes_are_a_regression(lisard: Any, tiny: Any, recording: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    messages = []
    for n in range(10):
        image = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        messages += [recording.raw(image, S + n * S), recording.boxes(S + n * S, ("red", 0, 0, 8, 16))]
    drive = recording.write("boxes", messages)
    rows = np.array([[0, 0, 8, 16, 1, 0.9, 0, 0], [8, 0, 16, 16, 1, 0, 0, 0.8]], np.float32)
    for name, number in (("one", 1), ("two", 2)):
        bundle = tiny.detector(rows[:number], name=name)
        words = ("replay", drive, "--bundle", bundle.path, "--json", tmp_path / f"{name}.json", "--block-s", "1")
        assert lisard(*words, "--injections", "none").status == 0
    done = lisard("compare", tmp_path / "one.json", tmp_path / "two.json")
    assert done.status == 1 and "there are more false boxes" in done.out and "+1.00 [+1.00, +1.00]" in done.out
    assert lisard("compare", tmp_path / "two.json", tmp_path / "one.json").status == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--limit", "20"), "other frames: found 20 on /front/image_raw, expected the same 30"),
        (("--label-map", "red=blue"), "other labels"),
        (("--block-s", "2"), "other blocks"),
        (("--by", "frame"), "other blocks: found --by frame, expected --by time"),
        (("--sigma", "4"), "other settings of noise: found knowledge none, attack noise, sigma_255 4.0"),
        (("--seed", "4"), "other settings of noise"),
    ],
)
def test_other_frames_labels_and_attacks_are_refused(
    lisard: Any, replayed: Any, options: tuple[str, ...], message: str
) -> None:
    lisard("compare", replayed("before"), replayed("after", *options)).refused(message)


def test_another_recording_is_refused(lisard: Any, replayed: Any, recording: Any) -> None:
    other = recording.write("other", [recording.raw(np.zeros((10, 12, 3), np.uint8), S), recording.label(S, "red")])
    lisard("compare", replayed("before"), replayed("after", path=other)).refused("other recordings")


def test_files_that_are_no_reports(lisard: Any, replayed: Any, tmp_path: Path) -> None:
    good = replayed("good")
    content = json.loads(good.read_text())
    for change, message in (
        ({"schema_version": 1}, "has another schema: found 1, expected JSON of `lisard replay`, schema 3"),
        ({"rows": 3}, "report"),
        ({"cameras": []}, "contradicts itself"),
    ):
        (tmp_path / "bad.json").write_text(json.dumps({**content, **change}))
        lisard("compare", good, tmp_path / "bad.json").refused(message)
    for text in ("", "[]", "{"):
        (tmp_path / "bad.json").write_text(text)
        lisard("compare", tmp_path / "bad.json", good).refused("schema 3")
    lisard("compare", good, tmp_path / "none.json").refused("No such file")


def test_injections_of_one_alone_are_named(lisard: Any, replayed: Any) -> None:
    done = lisard("compare", replayed("before", "--injections", "noise,corruption/fog/1"), replayed("after"))
    assert done.status == 0 and "in one of the two alone: corruption/fog/1" in done.out


def test_latencies_are_judged_where_asked(lisard: Any, replayed: Any, tmp_path: Path) -> None:
    before = replayed("before")
    content = json.loads(before.read_text())
    for row in content["rows"]:
        times = row["latency"]["total"]
        row["latency"]["total"] = {name: value if name == "n" else 3 * value for name, value in times.items()}
    (tmp_path / "after.json").write_text(json.dumps(content))
    words = ("compare", before, tmp_path / "after.json")
    assert lisard(*words).status == 0 and lisard(*words, "--latency", "p95_ms=3.1,max_ms=4").status == 0
    done = lisard(*words, "--latency", "p50_ms=2,p95_ms=3.1")
    assert done.status == 1 and "regression: p50_ms " in done.out and "at most 2 times is allowed" in done.out
    lisard(*words, "--latency", "p95=1").refused("unknown metric of a limit", "p95_ms")
    lisard(*words, "--latency", "clean=0.5").refused("unknown metric of a limit")
