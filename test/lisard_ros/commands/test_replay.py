"""`lisard replay`: a recorded drive through the same pipeline; table, JSON, and exit status."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from lisard_ros import injection
from lisard_ros.bundle.manifest import ModelFile
from lisard_ros.commands import output, replay

ROOT = Path(__file__).resolve().parents[3]
S = 1_000_000_000
LABELS = ("red", "green", "blue")


def rgb(colour: int) -> np.ndarray:
    """An image of one colour."""
    image = np.zeros((10, 12, 3), np.uint8)
    image[..., colour] = 200
    return image


@pytest.fixture
def drive(recording: Any) -> Path:
    """Three labelled images, one with a wrong label, and one that is cut short."""
    return recording.write(
        "drive",
        [
            recording.raw(rgb(0), S),
            recording.label(S, "red"),
            recording.raw(rgb(1), 2 * S),
            recording.label(2 * S, "green"),
            recording.raw(rgb(2), 3 * S),
            recording.label(3 * S, "red"),
            recording.raw(rgb(2), 4 * S, missing_bytes=7),
            recording.label(4 * S, "blue"),
        ],
    )


def rows(text: str) -> dict[str, dict[str, Any]]:
    """JSON rows by injection."""
    return {row["injection"]: row for row in json.loads(text)["rows"]}


def test_the_table(lisard: Any, tiny: Any, drive: Path) -> None:
    done = lisard("replay", drive, "--bundle", tiny.armed().path, "--injections", "all")
    assert done.status == 0
    lines = [line.split() for line in done.out.splitlines()]
    assert [line[1] for line in lines[4:8]] == ["clean", "noise", "fgsm", "universal"]
    assert "66.7 % [9.4, 97.5] n=3" in done.out and "image 1" in done.out and "accuracy" in done.out
    assert "labels of /labels on /front/image_raw: 4 frames matched within 20 ms, 0 unmatched, 0 ambiguous" in done.out


def test_the_page(lisard: Any, tiny: Any, drive: Path, tmp_path: Path) -> None:
    words = ("replay", drive, "--bundle", tiny.armed().path, "--injections", "noise,universal", "--json")
    done = lisard(*words, "--html", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert done.status == 0 and "Replay of drive" in text and "universal" in text and "data:image/" in text
    with_page, without = ([row["score"] for row in json.loads(out)["rows"]] for out in (done.out, lisard(*words).out))
    assert with_page == without, "the page changes nothing in the figures"


def test_backends_side_by_side_meet_the_same_attacks(lisard: Any, tiny: Any, drive: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="requirements/engines.txt is not installed")
    words = ("replay", drive, "--bundle", tiny.armed().path, "--injections", "noise")
    done = lisard(*words, "--backends", "onnxruntime:fp32,openvino", "--json", "--html", tmp_path / "page.html")
    found = json.loads(done.out)["rows"]
    assert [(row["backend"].split()[0], row["injection"]) for row in found] == [
        ("ONNX", "clean"),
        ("ONNX", "noise"),
        ("OpenVINO", "clean"),
        ("OpenVINO", "noise"),
    ]
    assert found[1]["score"] == found[3]["score"]
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count('class="backend"') == 2 and "lowest of 2 cameras and models" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--backends", "onnxruntim"), "unknown backend.*onnxruntime"),
        (("--backends", "openvino:int9"), "unknown precision"),
        (("--backends", "openvino", "--precision", "int8"), "--backends beside --backend or --precision"),
        (("--limit", "-1"), "--limit is negative"),
    ],
)
def test_wrong_backends(words: tuple[str, ...], message: str, lisard: Any, tiny: Any, drive: Path) -> None:
    done = lisard("replay", drive, "--bundle", tiny.armed().path, *words)
    assert done.status == 2 and re.search(message, done.err)


def test_json_on_stdout(lisard: Any, tiny: Any, drive: Path) -> None:
    bundle = tiny.armed()
    done = lisard("replay", drive, "--bundle", bundle.path, "--injections", "noise,fgsm", "--json")
    assert done.status == 0 and json.loads(done.out)["bundle_sha256"] == bundle.sha256
    assert json.loads(done.out)["schema_version"] == 3
    found = rows(done.out)
    assert set(found) == {"clean", "noise", "fgsm"}
    clean = found["clean"]
    assert (clean["frames"], clean["answered"], clean["failed"]) == (4, 3, {"image": 1})
    assert (clean["score"]["hits"], clean["score"]["n"], clean["judged"]) == (2, 3, "accuracy")
    assert found["fgsm"]["not_applicable"] == 3 and found["fgsm"]["score"]["share"] is None
    assert clean["latency"]["total"]["n"] == 3 and found["fgsm"]["latency"]["total"]["p50_ms"] is None


def test_json_in_a_file_beside_the_table(lisard: Any, tiny: Any, drive: Path, tmp_path: Path) -> None:
    done = lisard("replay", drive, "--bundle", tiny.classifier().path, "--json", tmp_path / "out.json")
    assert done.status == 0 and "injection" in done.out.splitlines()[2]
    assert set(rows((tmp_path / "out.json").read_text())) == {"clean", "noise"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--json", "{}/none/x.json"), "cannot write the result to --json"),
        (("--html", "{}/none/page.html"), "cannot write the result to --html"),
        (("--html", "{}"), "cannot write the result to --html"),
        (("--json", "{}/x", "--html", "{}/x"), "--json and --html have the same path"),
    ],
)
def test_output_paths_are_tried_before_the_replay(
    lisard: Any, tiny: Any, drive: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    """Regression: a replay of an hour ended with a page that could not be written."""
    words = [word.format(tmp_path) for word in options]
    lisard("replay", drive, "--bundle", tiny.classifier().path, *words).refused(message)
    assert not (tmp_path / "x").exists()


def test_a_result_that_cannot_be_written_after_all_is_shown(
    lisard: Any, tiny: Any, drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the whole replay ended in a traceback, with nothing shown. Here the folder goes in the meantime."""
    (tmp_path / "out").mkdir()
    evaluated = replay.evaluate

    def with_loss(*words: Any) -> Any:
        (tmp_path / "out").rmdir()
        return evaluated(*words)

    monkeypatch.setattr(replay, "evaluate", with_loss)
    done = lisard("replay", drive, "--bundle", tiny.classifier().path, "--json", tmp_path / "out" / "x.json")
    assert done.status == 2 and "66.7 %" in done.out and "cannot write the result" in done.err


def test_attacks_that_say_nothing_are_named_below_the_table(lisard: Any, tiny: Any, drive: Path) -> None:
    words = ("replay", drive, "--bundle", tiny.armed().path, "--injections", "fgsm,universal")
    last = lisard(*words).out.splitlines()[-2:]
    assert last[0].startswith("applied to no frame: fgsm (") and last[1].startswith("no measurable effect: universal (")
    found = rows(lisard(*words, "--json").out)
    assert [found[name]["effect"] for name in ("clean", "fgsm", "universal")] == [
        "",
        "applied to no frame",
        "no measurable effect",
    ]


def test_topics_may_be_written_with_blanks(lisard: Any, tiny: Any, drive: Path) -> None:
    """Regression: `--topics "a, b"` looked for a topic that begins with a blank."""
    done = lisard("replay", drive, "--bundle", tiny.classifier().path, "--topics", " /front/image_raw , ", "--json")
    assert done.status == 0 and rows(done.out)["clean"]["frames"] == 4


def test_a_long_replay_shows_how_far_it_is(
    lisard: Any, tiny: Any, drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: where stderr is no terminal, an hour went by without a word."""
    words = ("replay", drive, "--bundle", tiny.classifier().path)
    assert lisard(*words).err == "", "a short one needs no report"
    monkeypatch.setattr(output, "REPORT_EVERY_S", 0.0)
    told = lisard(*words).err.splitlines()
    assert told[0] == "lisard: replay on onnxruntime: 1 of 4 frames" and told[-1].endswith("4 of 4 frames")


@pytest.mark.parametrize(
    ("attacks", "names"),
    [
        ("none", {"clean"}),
        ("clean", {"clean"}),
        ("noise,noise", {"clean", "noise"}),
        (" noise , ", {"clean", "noise"}),
    ],
)
def test_attacks_are_taken_once(lisard: Any, tiny: Any, drive: Path, attacks: str, names: set[str]) -> None:
    """Regression: an attack named twice doubled its number of frames."""
    found = rows(lisard("replay", drive, "--bundle", tiny.classifier().path, "--injections", attacks, "--json").out)
    assert set(found) == names and all(row["frames"] == 4 for row in found.values())


def test_corruptions_by_name(lisard: Any, tiny: Any, drive: Path) -> None:
    path = tiny.classifier().path
    found = rows(lisard("replay", drive, "--bundle", path, "--injections", "corruption/fog/3,noise", "--json").out)
    assert set(found) == {"clean", "corruption/fog/3", "noise"}
    foggy = found["corruption/fog/3"]
    assert (foggy["knowledge"], foggy["score"]["n"], foggy["not_applicable"]) == ("none", 3, 0)


def test_a_limit(lisard: Any, tiny: Any, drive: Path) -> None:
    found = rows(lisard("replay", drive, "--bundle", tiny.classifier().path, "--limit", "2", "--json").out)
    assert found["clean"]["frames"] == 2


def test_a_recording_without_any_answer_is_status_1(lisard: Any, tiny: Any, recording: Any) -> None:
    path = recording.write("short", [recording.raw(rgb(0), S, missing_bytes=1)])
    done = lisard("replay", path, "--bundle", tiny.classifier().path)
    assert done.status == 1 and "image 1" in done.out and "no data" in done.out


def test_frames_without_an_answer_are_named_everywhere(lisard: Any, tiny: Any, recording: Any, tmp_path: Path) -> None:
    """Regression: page and Markdown had their number alone."""
    topic = "/front/image_raw/compressed"
    messages = [(recording.png if n == 3 else recording.damaged_jpeg)(rgb(n % 3), S + n * S) for n in range(8)]
    words = ("replay", recording.write("torn", messages), "--bundle", tiny.classifier().path, "--json")
    files = {name: tmp_path / name for name in ("html", "markdown")}
    done = lisard(*words, *(word for name, file in files.items() for word in (f"--{name}", file)))
    failures = json.loads(done.out)["failures"]
    assert done.status == 0 and [one["number"] for one in failures] == [0, 1, 2, 4, 5, 6, 7]
    assert all(one["topic"] == topic and "corrupt JPEG: found no end marker" in one["error"] for one in failures)
    for text in (lisard(*words[:-1]).out, *(file.read_text(encoding="utf-8") for file in files.values())):
        named = re.findall(rf"no answer to frame (\d) of {topic} at (\d+) ns: corrupt JPEG: found no end marker", text)
        assert named == [(str(n), str(S + n * S)) for n in (0, 1, 2, 4, 5)] and "more of them are in the JSON" in text
    whole = recording.write("whole", [recording.png(rgb(0), S)])
    lisard("replay", whole, *words[2:], "--html", files["html"], "--markdown", files["markdown"])
    assert not any("Frames without an answer" in file.read_text(encoding="utf-8") for file in files.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--injections", "nose"], "unknown injection of bundle tiny: found 'nose'"),
        (["--injections", "corruption/fgo/3"], "did you mean 'corruption/fog/3'?"),
        (["--topics", "/nowhere"], "found no such topic"),
        (["--labels-topic", "/front/image_raw"], "does not fit"),
        (["--sigma", "0"], "noise out of range"),
        (["--sigma", "nan"], "noise out of range"),
        (["--seed", "-1"], "seed of the noise is negative"),
        (["--limit", "-1"], "--limit is negative"),
        (["--threads", "-1"], "number of threads out of range"),
        (["--backend", "torch"], "no PyTorch model"),
    ],
)
def test_wrong_use_is_refused(lisard: Any, tiny: Any, drive: Path, options: list[str], message: str) -> None:
    lisard("replay", drive, "--bundle", tiny.classifier().path, *options).refused(message)


def test_wrong_paths_are_refused(lisard: Any, tiny: Any, drive: Path, tmp_path: Path) -> None:
    lisard("replay", tmp_path / "none", "--bundle", tiny.classifier().path).refused("no such bag")
    lisard("replay", tmp_path, "--bundle", tiny.classifier().path).refused("is not a readable bag")
    lisard("replay", drive, "--bundle", tmp_path / "none").refused("no bundle there")


def test_the_demonstration_bag_with_boxes(lisard: Any, tiny: Any) -> None:
    """Real road images (CC0) with ground-truth boxes: every box is cut out, answered and attacked."""
    bundle = tiny.classifier(roi_groups={"stop": ("red",), "speedlimit": ("red", "blue")})
    words = ("replay", ROOT / "data" / "road_signs", "--bundle", bundle.path, "--limit", "5", "--json")
    lisard(*words).refused("labels of classes that bundle tiny does not have: found trafficlight (8), crosswalk (5)")
    done = lisard(*words, "--label-map", "trafficlight=,crosswalk=")
    found = rows(done.out)
    assert done.status == 0 and found["clean"]["frames"] == found["clean"]["answered"] == 5
    assert found["clean"]["judged"] == "accuracy" and found["clean"]["score"]["n"] >= 2
    assert found["noise"]["score"]["n"] == found["clean"]["score"]["n"]


def test_the_short_images_of_ros_tiny(lisard: Any, tiny: Any, ros_tiny: Path | None) -> None:
    """Listed as not run at the end where the recordings are absent."""
    for name in ("test_bag_mcap", "test_bag_sqlite3") if ros_tiny else ():
        done = lisard("replay", os.path.join(str(ros_tiny), name), "--bundle", tiny.classifier().path, "--json")
        assert done.status == 1 and all(row["failed"] == {"image": 2} for row in json.loads(done.out)["rows"])


def test_tracks_reach_json_page_and_table(lisard: Any, tiny: Any, recording: Any, tmp_path: Path) -> None:
    grey = [np.full((32, 32, 3), level, np.uint8) for level in (120, 120, 90, 120)]
    drive = recording.write("drive", [recording.raw(image, S + n * S // 30) for n, image in enumerate(grey)])
    words = ("replay", drive, "--bundle", tiny.armed_detector().path, "--injections", "noise")
    done = lisard(*words, "--tracking", "bytetrack", "--json", "--html", tmp_path / "page.html")
    report, plain = json.loads(done.out), json.loads(lisard(*words, "--json").out)
    assert (report["tracking"], plain["tracking"], plain["tracks"]) == ("bytetrack", "none", [])
    assert [row["score"] for row in report["rows"]] == [row["score"] for row in plain["rows"]], "scores stay"
    assert [(track["topic"], track["id"], len(track["boxes"])) for track in report["tracks"]] == [
        ("/front/image_raw", "1", 3),
        ("/front/image_raw", "2", 3),
    ]
    second = report["tracks"][1]["boxes"]
    assert [box["recovered"] for box in second] == [False, True, False] and second[1]["label"] == "green"
    assert [box["stamp_ns"] for box in second] == [S + n * S // 30 for n in (1, 2, 3)]
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Tracks (bytetrack)" in text and "2 tracks with 6 boxes" in text and "When each track has a box" in text
    assert "2 with 6 boxes, 1 of these below the score" in lisard(*words, "--tracking", "bytetrack").out


def test_tracks_without_any_box_are_no_error(lisard: Any, tiny: Any, recording: Any, tmp_path: Path) -> None:
    drive = recording.write("dark", [recording.raw(np.zeros((32, 32, 3), np.uint8), S)])
    words = ("replay", drive, "--bundle", tiny.armed_detector().path, "--tracking", "bytetrack")
    done = lisard(*words, "--html", tmp_path / "page.html")
    assert done.status == 0 and "0 tracks with 0 boxes" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_whole_frames_cannot_be_tracked(lisard: Any, tiny: Any, drive: Path) -> None:
    words = ("replay", drive, "--bundle", tiny.classifier().path, "--tracking", "bytetrack")
    lisard(*words).refused("--tracking: found bytetrack with a classifier of whole frames, expected boxes to track")


def test_labels_that_the_bundle_does_not_know_are_refused(lisard: Any, tiny: Any, recording: Any) -> None:
    """Regression: a foreign model scored 0 % on a recording of other classes, and nothing said why."""
    path = recording.write(
        "other",
        [
            recording.raw(rgb(0), S),
            recording.label(S, "rad"),
            recording.raw(rgb(1), 2 * S),
            recording.label(2 * S, "x"),
        ],
    )
    words = ("replay", path, "--bundle", tiny.classifier().path, "--json")
    lisard(*words).refused("found rad (1), x (1), expected of blue, green, red; --label-map rad=red renames them")
    lisard(*words, "--label-map", "rad=red").refused("found x (1)")
    done = lisard(*words, "--label-map", "rad=red,x=")
    clean = rows(done.out)["clean"]
    assert done.status == 0 and (clean["score"]["hits"], clean["score"]["n"], clean["judged"]) == (1, 1, "accuracy")


def test_boxes_of_classes_that_are_not_looked_at_are_counted(lisard: Any, tiny: Any) -> None:
    words = ("replay", ROOT / "data" / "road_signs", "--limit", "3", "--json", "--injections", "none", "--bundle")
    groups = {"stop": ("red",)}
    done = lisard(*words, tiny.classifier(roi_groups=groups, roi_classes=("stop",)).path)
    assert done.status == 0
    assert json.loads(done.out)["unseen"] == {"speedlimit": 27, "trafficlight": 8, "crosswalk": 5}
    lisard(*words, tiny.classifier(roi_classes=("red",)).path).refused("labels of classes", "expected of red")


# --- a file of labels for several recordings --------------------------------------------------------------------------


def recorded(recording: Any, name: str, *seconds: int, topic: str = "/front/image_raw") -> Path:
    """A recording without labels: at each second an image, red, green and blue in turn, each another one."""
    messages = []
    for n in seconds:
        image = rgb(n % 3)
        image[0, 0] = n
        messages.append(recording.raw(image, n * S, topic))
    return recording.write(name, messages)


def label_file(path: Path, *seconds: float) -> Path:
    """The right label for each second."""
    rows_of_file = (f"{second},{LABELS[round(second) % 3]}" for second in seconds)
    path.write_text("\n".join(["stamp_s,label", *rows_of_file]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("workers", [(), ("--workers", "2", "--slice-s", "7")])
def test_a_file_of_labels_serves_all_recordings(
    lisard: Any, tiny: Any, recording: Any, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    """Regression: the labels of each recording counted as `without a frame` in the others."""
    drives = recorded(recording, "first", *range(1, 21)), recorded(recording, "second", *range(31, 51))
    file = label_file(tmp_path / "labels.csv", *range(1, 21), *range(31, 51))
    words = ("replay", *drives, "--bundle", tiny.classifier().path, "--injections", "none", *workers, "--labels", file)
    done = lisard(*words)
    met = "40 frames matched within 20 ms, 0 unmatched, 0 ambiguous; 0 labels without a frame"
    assert done.status == 0 and met in done.out
    label_file(file, *range(1, 20), *range(31, 51), 60, 61, 62)
    report = json.loads(lisard(*words, "--json").out)
    (join,) = report["labels"]
    assert [join[name] for name in ("matched", "unmatched", "ambiguous", "unused")] == [39, 1, 0, 3]
    assert (report["rows"][0]["score"]["hits"], report["rows"][0]["score"]["n"]) == (39, 39)


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_a_label_goes_to_the_nearest_frame_of_all_recordings(
    lisard: Any, tiny: Any, recording: Any, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    """Regression: where recordings overlap in time, both took the same labels without a word."""
    drives = recorded(recording, "first", 1, 2, 3, 4), recorded(recording, "second", 4, 5, 6, 7)
    file = label_file(tmp_path / "labels.csv", 1, 2, 3.1, 4, 5.9, 7)
    options = ("--labels", file, "--label-tolerance-ms", "1000", "--json", "--slices", tmp_path / "kept")
    words = ("replay", *drives, "--bundle", tiny.classifier().path, "--injections", "none", *workers)
    report = json.loads(lisard(*words, *options[: None if workers else -2]).out)
    (join,) = report["labels"]
    assert [join[name] for name in ("matched", "unmatched", "ambiguous", "unused")] == [5, 1, 2, 1]
    assert report["rows"][0]["score"]["n"] == 5
    if workers:  # what a slice of the same recording kept under other recordings is another one
        alone = json.loads(lisard("replay", drives[0], *words[3:], *options).out)
        assert alone["labels"][0]["matched"] == alone["rows"][0]["score"]["n"] == 4


@pytest.mark.parametrize("workers", [(), ("--workers", "1")])
def test_labels_that_fit_two_recordings_alike_are_refused(
    lisard: Any, tiny: Any, recording: Any, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    drives = recorded(recording, "drive", 1, 2, 3), recorded(recording, "copy", 1, 2, 3)
    file = label_file(tmp_path / "labels.csv", 1, 2, 3)
    words = ("--bundle", tiny.classifier().path, "--injections", "none", *workers, "--labels", file)
    lisard("replay", *drives, *words).refused(
        "no frame has a label of its own in labels.csv: found 6 frames whose label fits another one as well",
        "expected recordings that do not overlap in time; replay them one by one",
    )
    other = recorded(recording, "rear", 1, 2, 3, topic="/rear/image_raw")
    assert lisard("replay", drives[0], other, *words).status == 0, "each camera has all labels"


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def long_drive(recording: Any) -> Path:
    """Sixty labelled images over a minute, each another one; a tenth of the labels does not fit."""
    messages = []
    for n in range(60):
        image = rgb(n % 3)
        image[0, 0] = n
        messages += [
            recording.raw(image, S + n * S),
            recording.label(S + n * S, "red" if n % 10 == 9 else LABELS[n % 3]),
        ]
    return recording.write("long", messages)


def test_limits_decide_the_exit_status(lisard: Any, tiny: Any, long_drive: Path, tmp_path: Path) -> None:
    words = ("replay", long_drive, "--bundle", tiny.armed().path, "--injections", "noise")
    held = lisard(*words, "--limits", "clean=0.5,noise=0.3,max_ms=100000,failed=0", "--junit", tmp_path / "held.xml")
    assert held.status == 0 and "clean>=0.5: holds" in held.out
    suite = ElementTree.parse(tmp_path / "held.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("5", "0")
    broken = lisard(*words, "--limits", "clean=0.99,p95_ms=0.000001", "--junit", tmp_path / "broken.xml", "--json")
    verdicts = json.loads(broken.out)["verdicts"]
    assert broken.status == 1 and [v["passed"] for v in verdicts] == [False, False]
    assert "the lower bound of 93.3 % [" in verdicts[0]["reason"] and "is below 99 %" in verdicts[0]["reason"]
    failures = [
        case.get("name") for case in ElementTree.parse(tmp_path / "broken.xml").getroot().iter("testcase") if len(case)
    ]
    assert failures == ["clean", "p95_ms"]


def test_the_point_value_does_not_hold_a_limit(lisard: Any, tiny: Any, long_drive: Path) -> None:
    words = ("replay", long_drive, "--bundle", tiny.armed().path, "--injections", "none")
    done = lisard(*words, "--json")
    score = rows(done.out)["clean"]["score"]
    between = (score["low"] + score["share"]) / 2
    assert lisard(*words, "--limits", f"clean={between}").status == 1
    assert lisard(*words, "--limits", f"clean={score['low'] - 0.001}").status == 0


def test_few_blocks_are_not_enough_evidence(lisard: Any, tiny: Any, long_drive: Path, tmp_path: Path) -> None:
    (tmp_path / "limits.yaml").write_text("clean: 0.1\n")
    words = (
        "replay",
        long_drive,
        "--bundle",
        tiny.armed().path,
        "--injections",
        "none",
        "--limits",
        tmp_path / "limits.yaml",
    )
    done = lisard(*words, "--block-s", "15")
    assert done.status == 1 and "clean>=0.1: BROKEN: not enough evidence: 93.3 %" in done.out
    assert lisard(*words, "--block-s", "15", "--limit", "0", "--by", "frame").status == 0
    assert "in 1 independent blocks" in lisard(*words, "--by", "bag").out
    lisard(*words, "--by", "track").refused("--by track: found labels without tracks")


def test_an_accuracy_without_labels_does_not_hold(lisard: Any, tiny: Any, recording: Any) -> None:
    path = recording.write("plain", [recording.raw(rgb(n % 3), S + n * 11 * S) for n in range(6)])
    words = ("replay", path, "--bundle", tiny.armed().path, "--injections", "noise", "--by", "frame", "--limits")
    done = lisard(*words, "noise=0.1")
    assert done.status == 1 and "noise>=0.1: BROKEN: no accuracy was measured: the recording has no labels" in done.out
    assert lisard(*words, "agreement/noise=0.1").status == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--limits", "nosie=0.5"], "unknown metric of a limit: found 'nosie'"),
        (["--limits", "clean=2"], "expected a share from 0 to 1; such as clean=0.8"),
        (["--limits", "p95=50"], "the limit of p95: found '50', expected a share from 0 to 1; did you mean 'p95_ms'"),
        (["--limits", "none.yaml"], "limits none.yaml"),
        (["--label-tolerance-ms", "-1"], "--label-tolerance-ms out of range"),
        (["--label-tolerance-ms", "nan"], "--label-tolerance-ms out of range"),
        (["--block-s", "0"], "--block-s out of range"),
        (["--labels", "x.csv", "--labels-topic", "/labels"], "--labels beside --labels-topic"),
        (["--labels", "x.csv"], "labels x.csv"),
        (["--label-map", "x"], "--label-map x"),
    ],
)
def test_wrong_labels_and_limits_are_refused(
    lisard: Any, tiny: Any, drive: Path, options: list[str], message: str
) -> None:
    done = lisard("replay", drive, "--bundle", tiny.classifier().path, *options)
    assert done.status == 2 and message in done.err and done.err.count("\n") == 1


def test_answers_of_another_precision_are_compared_with_fp32(
    lisard: Any, tiny: Any, recording: Any, drive: Path
) -> None:
    """Regression: int8 was compared with itself, so it always agreed."""
    swapped = tiny.classifier_onnx(np.eye(3, dtype=np.float32)[[1, 0, 2]] * 20)
    models = (ModelFile(file="model.onnx"), ModelFile(file="half.onnx", precision="fp16"))
    bundle = tiny.classifier(files={"half.onnx": swapped}, models=models)
    path = recording.write("plain", [recording.raw(rgb(n % 3), S + n * S) for n in range(6)])
    words = ("--bundle", bundle.path, "--precision", "fp16", "--injections", "noise", "--json")
    done = lisard("replay", path, *words)
    assert done.status == 0, done
    report = json.loads(done.out)
    clean, noise = report["rows"]
    assert (clean["judged"], clean["score"]["hits"], clean["score"]["n"]) == ("agreement", 2, 6)
    assert (noise["judged"], noise["clean"]["hits"], noise["clean"]["n"]) == ("agreement", 2, 6)
    assert "fp32" in report["reference"] and "fp16" in report["backend"]
    assert json.loads(lisard("replay", drive, *words).out)["reference"] == "", "labels need no reference"


def test_the_report_names_what_it_was_made_of(lisard: Any, tiny: Any, drive: Path) -> None:
    words = (
        "replay",
        drive,
        "--bundle",
        tiny.armed().path,
        "--injections",
        "noise,corruption/fog/2,fgsm",
        "--seed",
        "4",
    )
    report = json.loads(lisard(*words, "--sigma", "9", "--json").out)
    (file,) = drive.glob("*.mcap")
    assert report["recordings"][0]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    found = {one["name"]: one for one in report["injections"]}
    assert (found["noise"]["sigma_255"], found["noise"]["seed"]) == (9, 4)
    assert (found["corruption/fog/2"]["attack"], found["corruption/fog/2"]["strength"]) == ("fog", 2)
    assert (found["fgsm"]["eps_255"], found["fgsm"]["steps"], found["fgsm"]["seed"]) == (8, 1, 0)
    assert report["made"]["versions"]["numpy"] == np.__version__ and report["made"]["made_at"].endswith("Z")
    assert report["models"][0]["reason"] and report["cameras"][0]["stamps_ns"] == [S, 2 * S, 3 * S, 4 * S]


def test_tables_in_files(lisard: Any, tiny: Any, drive: Path, tmp_path: Path) -> None:
    words = ("replay", drive, "--bundle", tiny.armed().path, "--injections", "noise", "--json", "--limits", "clean=0.1")
    done = lisard(*words, "--csv", tmp_path / "t.csv", "--markdown", tmp_path / "t.md")
    with (tmp_path / "t.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["injection"] for row in table] == ["clean", "noise"] and table[0]["hits"] == "2"
    assert float(table[0]["low"]) == rows(done.out)["clean"]["score"]["low"]
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "**1 of 1 limits broken**" in text and "| clean | none | 3 of 4 | image 1 |" in text


def test_the_page_shows_limits_time_strength_and_what_was_added(
    lisard: Any, tiny: Any, long_drive: Path, tmp_path: Path
) -> None:
    injections = "universal,corruption/fog/1,corruption/fog/5"
    words = ("replay", long_drive, "--bundle", tiny.armed().path, "--injections", injections, "--limits", "clean=0.99")
    assert lisard(*words, "--html", tmp_path / "page.html").status == 1
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    for part in ("Right answers over time", "Right answers over strength", "what was added, ", "sha256 "):
        assert part in text, part
    assert '<span class="badge bad">broken</span> clean&gt;=0.99: BROKEN' in text
    assert "What was answered for each class" in text and ">green</td>" in text
    assert text.count("data:image/") == 3 * text.count("<figcaption>clean: "), "clean, what was added, attacked"


@pytest.mark.parametrize("mcap", [True, False])
def test_reading_ahead_changes_no_figure(
    lisard: Any, tiny: Any, recording: Any, monkeypatch: pytest.MonkeyPatch, mcap: bool
) -> None:
    messages = [
        one for n in range(9) for one in (recording.raw(rgb(n % 3), S + n * S), recording.label(S + n * S, "red"))
    ]
    words = ("replay", recording.write("drive", messages, mcap=mcap), "--bundle", tiny.armed().path, "--json")
    reports = []
    for cores in ({0}, {0, 1}):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: cores)
        report = json.loads(lisard(*words, "--threads", "1").out)
        reports.append(
            [{key: row[key] for key in ("score", "scores", "answered", "confusion")} for row in report["rows"]]
        )
    assert reports[0] == reports[1]


def test_attacks_of_the_registry_over_strength(lisard: Any, tiny: Any, long_drive: Path, tmp_path: Path) -> None:
    """Attacks by queries ask the engine that is replayed; their budget is the strength of the curve."""
    words = ("replay", long_drive, "--bundle", tiny.classifier().path, "--limit", "3", "--json")
    done = lisard(*words, "--injections", "attack/square100/2,attack/square100/16", "--html", tmp_path / "page.html")
    found = json.loads(done.out)["injections"]
    assert done.status == 0 and [(one["attack"], one["eps_255"], one["steps"]) for one in found] == [
        ("square100", 2, 100),
        ("square100", 16, 100),
    ]
    assert "Right answers over strength" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_matrix_of_bundles_and_engines_in_one_pass(lisard: Any, tiny: Any, drive: Path, tmp_path: Path) -> None:
    """Every model has its rows, images on the page and topics in the MCAP file; bundles of one name are told apart."""
    pytest.importorskip("mcap", reason="requirements/replay.txt is not installed")
    from mcap.reader import make_reader

    bundles = tiny.armed(), tiny.armed("swapped", np.eye(3, dtype=np.float32)[[1, 0, 2]] * 20)
    words = ["replay", drive, *(word for one in bundles for word in ("--bundle", one.path)), "--injections", "all"]
    files = {name: tmp_path / f"out.{name}" for name in ("html", "mcap", "csv")}
    done = lisard(*words, "--json", *(word for name, file in files.items() for word in (f"--{name}", file)))
    report = json.loads(done.out)
    names = [f"tiny ({one.sha256[:8]})" for one in bundles]
    assert done.status == 0 and [one["bundle"] for one in report["models"]] == names
    assert [(row["model"], row["bundle"], row["injection"]) for row in report["rows"]] == [
        (n, names[n], name) for n in (0, 1) for name in ("clean", "noise", "fgsm", "universal")
    ]
    clean = [row["score"]["hits"] for row in report["rows"] if row["injection"] == "clean"]
    assert clean == [2, 0], "the second bundle takes red for green and green for red"
    text = files["html"].read_text(encoding="utf-8")
    assert all(f"{name} on ONNX Runtime" in text for name in names) and text.count('class="backend"') == 2
    with files["mcap"].open("rb") as file:
        topics = {channel.topic for channel in make_reader(file).get_summary().channels.values()}
    images = {topic for topic in topics if topic.endswith("/compressed")}
    roots = {topic.split("/")[2].partition("_")[0] for topic in topics - images}
    assert len(images) == 1 and roots == {"0", "1"} and any("attacked/universal" in topic for topic in topics)
    assert lisard(*words, "--bundle", bundles[0].path).status == 2, "a bundle twice"


def test_models_of_a_matrix_must_fit_the_recording_and_each_other(lisard: Any, tiny: Any, drive: Path) -> None:
    first, boxes = tiny.armed().path, tiny.detector(np.zeros((1, 8), np.float32)).path
    done = lisard("replay", drive, "--bundle", first, "--bundle", boxes, "--injections", "none")
    done.refused("models of different tasks in one replay", "finds boxes")
    plain = tiny.classifier("plain")
    lisard("replay", drive, "--bundle", first, "--bundle", plain.path, "--injections", "fgsm").refused(
        "unknown injection"
    )


def test_one_fp32_model_is_tested_and_the_reference_of_others(
    lisard: Any, tiny: Any, recording: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers each frame once, and no third model is opened."""
    from lisard_ros.inference.pipeline import Pipeline

    swapped = tiny.classifier_onnx(np.eye(3, dtype=np.float32)[[1, 0, 2]] * 20)
    models = (ModelFile(file="model.onnx"), ModelFile(file="half.onnx", precision="fp16"))
    bundle = tiny.classifier(files={"half.onnx": swapped}, models=models)
    path = recording.write("plain", [recording.raw(rgb(n % 3), S + n * S) for n in range(6)])
    calls: list[int] = []
    infer = Pipeline.infer
    monkeypatch.setattr(Pipeline, "infer", lambda self, *rest, **more: calls.append(1) or infer(self, *rest, **more))
    words = ("replay", path, "--bundle", bundle.path, "--backends", "onnxruntime:fp16,onnxruntime:fp32", "--json")
    report = json.loads(lisard(*words, "--injections", "none").out)
    assert [(row["judged"], row["score"]["hits"]) for row in report["rows"]] == [("agreement", 2), ("reference", 0)]
    assert len(calls) == 12 and "fp32" in report["models"][0]["reference"] and not report["models"][1]["reference"]


def test_attacks_follow_the_gradients_of_a_surrogate(lisard: Any, tiny: Any, drive: Path) -> None:
    from lisard_engines.gradient import derive

    bundle, surrogate = tiny.classifier(), tiny.classifier("surrogate", tiny.classifier_onnx(-np.eye(3) * 20))
    words = ("replay", drive, "--bundle", bundle.path, "--surrogate", surrogate.path, "--json")
    lisard(*words, "--injections", "noise").refused("--surrogate without an attack")
    lisard(*words, "--injections", "attack/fgsm/8").refused("there is no gradient of bundle")
    derive.provide(surrogate)
    report = json.loads(lisard(*words, "--injections", "attack/fgsm/8").out)
    (about,) = report["injections"]
    assert about["knowledge"] == "gray-box" and about["surrogate"] == f"tiny {surrogate.sha256[:12]}"
    assert report["rows"][1]["answered"] == 3


def test_an_attack_drives_recorded_images_away_from_their_labels(
    lisard: Any, tiny: Any, drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Driven away from a wrong answer, an image can become right, and accuracy under attack is overstated."""
    told: list[Any] = []
    wanted = injection.criterion_for

    def criterion_for(entry: Any, model: Any, x: Any, truths: Any) -> Any:
        told.extend(truths)
        return wanted(entry, model, x, truths)

    monkeypatch.setattr(injection, "criterion_for", criterion_for)
    words = ("replay", drive, "--bundle", tiny.classifier().path, "--injections", "attack/square100/1")
    assert lisard(*words).status == 0
    assert told == [LABELS.index(name) for name in ("red", "green", "red")]
