"""The whole demonstration on a tiny bundle and a dozen images, over real DDS, and its scoring on its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lisard_demo import images, scenarios, score, table
from lisard_demo.recording import Moment, Played, ReceivedBox, ReceivedMessage, Recording, Status, read_recording
from lisard_ros.bags.messages import typestore
from lisard_ros.bags.reader import open_bag
from lisard_ros.bags.writer import JpegImage, LabelledBox, write_jpeg_bag
from lisard_ros.bundle import read as read_bundle
from lisard_ros.tools.recorder import Journal, source, write

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "scripts" / "demo.py"
COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}
MEGABYTE = 10**6


@pytest.fixture(scope="module")
def tiny_bundles() -> Any:
    """The tiny bundles of the node's tests."""
    sys.path.insert(0, str(ROOT / "test" / "node"))
    try:
        import bundles
    finally:
        sys.path.pop(0)
    return bundles


@pytest.fixture(scope="module")
def write_bundle(tiny_bundles: Any) -> Callable[..., Path]:
    """The colour classifier: its `write(folder, sign)`."""
    write: Callable[..., Path] = tiny_bundles.write
    return write


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of plain colours as tracks."""
    tmp_path = tmp_path_factory.mktemp("colours")
    for label, colour in COLOURS.items():
        folder = tmp_path / "data" / "gtsrb_tracks" / label
        folder.mkdir(parents=True)
        for frame in range(4):
            image = np.full((16, 16, 3), colour, np.uint8) + np.uint8(frame)
            cv2.imwrite(str(folder / f"00000_{frame:05}.png"), image[:, :, ::-1])
    return tmp_path / "data"


def write_streets(folder: Path, count: int = 8) -> Path:
    """Images with a red block on the left and a blue one on the right: a sign and a person, as the detector says."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30, 0] = pixels[:, 30:, 2] = 220
    jpeg = cv2.imencode(".jpg", np.ascontiguousarray(pixels[:, :, ::-1]))[1].tobytes()
    boxes = (LabelledBox("1", "sign", 3.75, 5, 22.5, 30), LabelledBox("2", "person", 33.75, 5, 22.5, 30))
    images = [JpegImage(1_700_000_000 * 10**9 + n * 10**8, "camera", jpeg, boxes) for n in range(count)]
    write_jpeg_bag(folder, typestore(), images, "/camera/image_raw/compressed", "/camera/boxes", mcap=False)
    return folder.parent


def demo(bundle: Path, data: Path, out: Path, *more: str, scenario: str = "b") -> subprocess.Popen[str]:
    options = {"--bundle": bundle, "--data": data, "--out": out, "--scenarios": scenario}
    command = [sys.executable, str(DEMO), *(str(word) for pair in options.items() for word in pair), *more]
    return subprocess.Popen(command, cwd=out.parent, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def running(word: str) -> list[str]:
    """Command lines of the processes that mention `word`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        if word in line and int(folder.name) != os.getpid():
            found.append(line)
    return found


@dataclass(frozen=True)
class Finished:
    """A demonstration that has ended: its folder, exit status, and all that it printed."""

    out: Path
    status: int
    printed: str


def finished(bundle: Path, data: Path, out: Path, *more: str, scenario: str = "b") -> Finished:
    """Run a demonstration to its end."""
    process = demo(bundle, data, out, *more, scenario=scenario)
    try:
        printed, errors = process.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        process.terminate()  # it ends what it has started
        raise
    return Finished(out, process.returncode, printed + errors)


@pytest.fixture(scope="module")
def part_b(tiny_bundles: Any, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Signs that are given as boxes."""
    folder = tmp_path_factory.mktemp("part_b")
    return finished(tiny_bundles.write_with_patch(folder / "bundle"), data, folder / "out")


@pytest.fixture(scope="module")
def full_scene(tiny_bundles: Any, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Streets with a detector in front of the classifier."""
    folder = tmp_path_factory.mktemp("full_scene")
    bundle = tiny_bundles.write(folder / "bundle", roi_groups={"sign": ("red",)})
    detector = tiny_bundles.write_detector(folder / "street")
    data = write_streets(folder / "data" / "road_signs")
    return finished(bundle, data, folder / "out", "--detector", str(detector), scenario="a")


@pytest.mark.parametrize("scenario", ["part_b", "full_scene"])
def test_the_report_passes_the_rules_of_axe_core(
    scenario: str, accessibility: Any, request: pytest.FixtureRequest
) -> None:
    done: Finished = request.getfixturevalue(scenario)
    page = done.out / "report.html"
    assert page.is_file(), done.printed
    assert accessibility.findings_of_files(page) == {}


def test_part_b_runs_is_scored_and_reported(part_b: Finished) -> None:
    printed, out = part_b.printed, part_b.out
    assert part_b.status == 0, printed
    assert "all checks passed" in printed and "published" in printed and "end to end" in printed
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    (scenario,) = report["scenarios"]
    frames = scenario["frames"]
    assert report["passed"] and report["bundle"] == "colours" and scenario["self_test"]["passed"]
    assert frames["published"] == 12 == frames["received"] + frames["lost_in_transport"]
    assert frames["received"] == frames["answered"] + frames["replaced"] + frames["too_old"] + frames["failed"]
    clean, *attacked = scenario["accuracy"]
    assert clean["condition"] == "clean" and clean["share"]["share"] == 1.0
    assert clean["share"]["n"] == frames["answered"]
    assert [a["condition"] for a in attacked] == ["universal", "patch"]
    met = attacked[0]["share"]["n"]  # Injection takes the newest frame when it is free, so it may not meet each.
    assert 0 < met <= frames["answered"] and attacked[1]["share"]["n"] == met
    details = {check["name"]: check["detail"] for check in scenario["checks"]}
    counted = f"universal {met} of {met}, patch {met} of {met}; {2 * met} of {2 * met}"
    assert details["every attacked answer was recorded"] == counted
    assert scenario["latency_ms"][0]["stage"] == "end to end" and scenario["latency_ms"][0]["p50_ms"] > 0
    html = (out / "report.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in html and "<svg" in html and "universal" in html
    assert "http://" not in html and "https://" not in html
    assert not running(str(out))


def test_the_full_scene_finds_and_classifies_without_boxes_topic(full_scene: Finished) -> None:
    out = full_scene.out
    assert full_scene.status == 0, full_scene.printed
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    (scenario,) = report["scenarios"]
    assert (
        report["passed"] and report["detector"].startswith("street, sha256 ") and scenario["frames"]["published"] == 8
    )
    checks = {check["name"]: check for check in scenario["checks"]}
    assert checks["true boxes are found, without boxes_topic"]["detail"] == "16 of 16"
    assert checks["signs that are found are classified"]["detail"] == "8 of 16 boxes"
    attacked = checks["every attacked answer was recorded"]["detail"]
    found = re.fullmatch(r"detector/noise ([1-8]) of \1, universal (\d) of \2; (\d+) of \3", attacked)
    assert found and int(found[3]) == int(found[1]) + int(found[2])
    assert checks["each attack that fits any frame has answers"]["detail"] == "1 of 1"
    assert [name for name, _, _ in scenario["self_test"]["cases"]] == ["detector/clean", "clean", "noise"]
    shares = [(a["condition"], a["tile"], a["share"]["share"]) for a in scenario["accuracy"]]
    assert shares[:4] == [
        ("clean", "Boxes found", 1.0),
        ("clean", "", 1.0),
        ("detector/noise", "Boxes found", 1.0),
        ("detector/noise", "", 1.0),
    ]
    assert [(name, tile) for name, tile, _ in shares[4:]] == [("universal", "")]
    html = (out / "report.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in html and "data:image/png;base64," in html and "detector/noise: " in html
    assert not running(str(out))


def test_a_model_that_fails_its_self_test_gives_status_1(write_bundle: Any, data: Path, tmp_path: Path) -> None:
    bundle, out = write_bundle(tmp_path / "bundle", sign=-1.0), tmp_path / "out"
    printed, errors = (process := demo(bundle, data, out)).communicate(timeout=100)
    assert process.returncode == 1, printed + errors
    assert "FAILED: ~/self_test passed" in printed
    assert json.loads((out / "report.json").read_text(encoding="utf-8"))["passed"] is False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_process_behind(write_bundle: Any, data: Path, tmp_path: Path, number: int) -> None:
    bundle, out = write_bundle(tmp_path / "bundle"), tmp_path / "out"
    process = demo(bundle, data, out)
    assert process.stderr is not None
    assert "starting the node" in process.stderr.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1, errors
    assert "interrupted; all processes have ended" in errors
    assert not running(str(out))


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DEMO), "--scenarios", "x", "--out", str(tmp_path / "o")], capture_output=True, text=True
    )
    assert done.returncode == 2 and "expected some of a, b, c" in done.stderr
    words = ["--detector", str(ROOT / "models" / "traffic_signs"), "--out", str(tmp_path / "o")]
    done = subprocess.run([sys.executable, str(DEMO), *words], capture_output=True, text=True)
    assert done.returncode == 2 and "a bundle for classification, expected detection" in done.stderr
    done = subprocess.run([sys.executable, str(DEMO), "--bundle", "/no/bundle"], capture_output=True, text=True)
    assert done.returncode == 1 and "/no/bundle" in done.stderr


# --- scoring ----------------------------------------------------------------------------------------------------


def heard(label: str, at_ns: int = 0, boxes: tuple[ReceivedBox, ...] = ()) -> ReceivedMessage:
    return ReceivedMessage(at_ns, ((label, 0.9),), boxes)


def status(**values: int) -> Status:
    return Status("/perception: camera eye", 0, "", {key: str(value) for key, value in values.items()})


COUNTS = score.FrameCounts(10, 1, 9, 6, 2, 0, 1, (("bad_image", 1),), 6)
NOTHING = Recording((), (), {}, 0, {})


def test_books_are_read_from_player_diagnostics_and_recorder() -> None:
    state = status(received=9, answered=6, replaced=2, failed=1, failed_bad_image=1, lost_in_transport=1)
    recording = Recording((), (state,), {"/answers": 6}, 0, {})
    played = Played({"/images": 10}, 1.0, 0.0, "", {})
    assert score.frame_counts(recording, played, "eye", "/images", "/answers") == COUNTS
    assert COUNTS.dropped_words == "2 replaced, 1 bad_image"


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"published": 11}, "published = received + lost in transport"),
        ({"published": 0, "received": 0, "lost_in_transport": 0}, "published = received + lost in transport"),
        ({"answered": 5, "recorded": 5}, "received = answered + replaced + too old + failed"),
        ({"recorded": 5}, "every answer was recorded"),
    ],
)
def test_a_broken_equation_fails_its_check(change: dict[str, int], broken: str) -> None:
    good = replace(COUNTS, lost_in_transport=0, received=10, replaced=4, failed=0, failed_by_cause=())
    assert all(check.passed for check in score.checks(good, NOTHING, 0))
    assert broken in [check.name for check in score.checks(replace(good, **change), NOTHING, 0) if not check.passed]


def test_loss_failures_and_a_crash_fail_their_checks() -> None:
    failed = [check.name for check in score.checks(COUNTS, replace(NOTHING, duplicates=1), 1) if not check.passed]
    assert failed == [
        "nothing was lost in transport",
        "no frame failed",
        "no stamp was answered twice",
        "the node ended in order",
    ]


def test_whole_images_are_scored_where_both_are_there() -> None:
    moments = [
        Moment(1, {"/l": heard("a")}, {"/x": heard("a")}),
        Moment(2, {"/l": heard("a")}, {"/x": heard("b")}),
        Moment(3, {"/l": heard("a")}, {}),
        Moment(4, {}, {"/x": heard("a")}),
    ]
    share = score.image_accuracy(moments, "/x", "/l")
    assert (share.hits, share.n) == (1, 2)


def test_boxes_are_scored_coarsely_by_id_and_only_when_classified() -> None:
    def box(number: str, *labels: str) -> ReceivedBox:
        return ReceivedBox(number, (0, 0, 1, 1), tuple((label, 1.0) for label in labels))

    true = {"1": "speed", "2": "speed", "3": "stop", "4": "speed", "5": "stop"}
    found = [("2", "stop", "speed"), ("1", "speed_30", "speed"), ("3", "stop"), ("5", "stop", "stop")]
    truth = heard("", boxes=tuple(box(number, label) for number, label in true.items()))
    answer = heard("", boxes=tuple(box(*words) for words in found))
    pairs = list(score.box_pairs([Moment(1, {"/l": truth}, {"/x": answer})], "/x", "/l"))
    speed = score.box_accuracy(pairs, "speed", {"speed_30", "speed_50"})
    stop = score.box_accuracy(pairs, "stop", {"stop"})
    assert (speed.hits, speed.n) == (1, 2)
    assert (stop.hits, stop.n) == (1, 2), "a box with the detector's label alone was not classified"


def found_box(place: float, *labels: str) -> ReceivedBox:
    """A box of 10 px at `place`, with these hypotheses."""
    return ReceivedBox("", (place, 0, place + 10, 10), tuple((label, 0.9) for label in labels))


def test_boxes_that_the_node_found_are_matched_by_place_and_class() -> None:
    true = (found_box(0, "speed"), found_box(20, "stop"), found_box(40, "stop"), found_box(60, "light"))
    found = (found_box(1, "speed_30", "speed", "speed_50"), found_box(21, "stop"), found_box(61, "stop", "stop"))
    moment = Moment(1, {"/l": heard("", boxes=true)}, {"/x": heard("", boxes=found)})
    pairs = score.matched_boxes([moment, Moment(2, {"/l": heard("", boxes=true)}, {})], "/x", "/l", "/x")
    assert [(a and a.hypotheses[0][0], t and t.hypotheses[0][0]) for a, t in pairs] == [
        ("speed_30", "speed"),
        ("stop", "stop"),
        ("stop", None),
        (None, "stop"),
        (None, "light"),
    ]
    share = score.found_share(pairs)
    assert (share.hits, share.n) == (2, 4)
    fine = score.fine_share(pairs, {"speed": {"speed_30"}, "stop": {"stop"}})
    assert (fine.hits, fine.n) == (1, 3), "a box with the detector's label alone was not classified"
    assert score.fine_share(pairs, {"speed": {"speed_50"}}).hits == 0
    silent = score.found_share(score.matched_boxes([moment], "/attacked", "/l", "/x"))
    assert (silent.hits, silent.n) == (0, 4), "a frame without an attacked answer counts as missed"


def test_a_scene_without_boxes_or_with_boxes_topic_fails_its_checks(tmp_path: Path) -> None:
    scenario = scenarios.Scenario("a", "", "", tmp_path, "eye", "/i", "/x", {}, "/l=detections")
    true = heard("", boxes=(found_box(0, "stop"),))
    good = Moment(1, {"/l": true}, {"/x": heard("", boxes=(found_box(0, "stop", "stop"),))})
    recording = replace(NOTHING, moments=(good,))
    assert all(check.passed for check in scenarios.scene_checks(scenario, recording))
    blind = replace(recording, moments=(Moment(1, {"/l": true}, {"/x": heard("")}),))
    assert not any(check.passed for check in scenarios.scene_checks(scenario, blind))
    given = replace(recording, statuses=(Status("/perception: boxes", 0, "", {"topic": "/b"}),))
    assert [check.passed for check in scenarios.scene_checks(scenario, given)] == [False, True]


@pytest.mark.parametrize(
    ("received", "counted", "passed"),
    [
        ({"/y": 3, "/z": 2}, {"answered": 5, "answered_noise": 3, "answered_fgsm": 2}, [True, True]),
        ({"/y": 3}, {"answered": 3, "answered_noise": 3}, [True, True]),  # fgsm need not fit these frames
        ({"/y": 2, "/z": 2}, {"answered": 5, "answered_noise": 3, "answered_fgsm": 2}, [False, True]),
        ({"/y": 2, "/z": 3}, {"answered": 5, "answered_noise": 3, "answered_fgsm": 2}, [False, True]),
        ({"/y": 4, "/z": 2}, {"answered": 5, "answered_noise": 3, "answered_fgsm": 2}, [False, True]),
        ({"/z": 2}, {"answered": 2, "answered_fgsm": 2}, [True, False]),
        ({}, {}, [False, False]),
        ({"/y": 3}, {"answered": 3}, [False, False]),
    ],
)
def test_attacked_answers_are_those_that_the_node_counts(
    received: dict[str, int], counted: dict[str, int], passed: list[bool]
) -> None:
    state = Status("/perception: injection", 1, "", {key: str(value) for key, value in counted.items()})
    recording = replace(NOTHING, statuses=(state,), received=received)
    checks = score.attacked_checks(recording, (("noise", "/y"), ("fgsm", "/z")), ("noise",))
    assert [check.passed for check in checks] == passed


def test_a_frame_that_injection_did_not_take_says_nothing_about_an_attack(tmp_path: Path) -> None:
    topics = (("detector/noise", "/n"), ("detector/fog", "/f"), ("universal", "/u"))
    scenario = scenarios.Scenario("a", "", "", tmp_path, "eye", "/i", "/x", {}, "/l=detections", topics)
    true, seen = (heard("", boxes=(found_box(0, *words),)) for words in (("stop",), ("stop", "stop")))
    moments = [
        Moment(1, {"/l": true}, {"/x": seen, "/n": seen, "/f": heard(""), "/u": seen}),
        Moment(2, {"/l": true}, {"/x": seen, "/n": seen, "/f": seen}),  # nothing to crop
        Moment(3, {"/l": true}, {"/x": seen}),  # not taken
    ]
    pairs = scenarios.scene_pairs(scenario, moments)
    shares = {name: score.found_share(of_one) for name, of_one in pairs.items()}
    found = {name: (share.hits, share.n) for name, share in shares.items()}
    assert found == {"clean": (3, 3), "detector/noise": (2, 2), "detector/fog": (1, 2), "universal": (1, 2)}


def test_a_scene_shows_what_was_found_missed_and_attacked(tiny_bundles: Any, tmp_path: Path) -> None:
    data = write_streets(tmp_path / "data" / "road_signs", count=1)
    detector = read_bundle(tiny_bundles.write_detector(tmp_path / "street"))
    with open_bag(data / "road_signs") as bag:
        (frame,) = bag.frames()
    true = heard("", boxes=(found_box(0, "sign"), found_box(30, "person")))
    clean, attacked = heard("", boxes=(found_box(0, "red", "sign"),)), heard("", boxes=(found_box(0, "blue", "sign"),))
    moment = Moment(1_700_000_000 * 10**9, {"/l": true}, {"/x": clean, "/y": attacked})
    shown = images.scene_images(
        data / "road_signs",
        "/camera/image_raw/compressed",
        [moment],
        [("clean", "/x"), ("detector/noise", "/y"), ("universal", "/z")],
        "/l",
        {"sign": frozenset({"red"})},
        detector,
    )
    conditions = ["clean", "detector/noise", "universal, without an answer"]
    assert frame.frame is not None and [s.condition for s in shown] == conditions and shown[2].overlays == ()
    assert [(o.text, o.right, o.missed) for o in shown[0].overlays] == [
        ("red 0.90", True, False),
        ("person missed", False, True),
    ]
    assert [o.right for o in shown[1].overlays] == [False, False]
    assert shown[0].uri.startswith("data:image/jpeg") and shown[1].uri.startswith("data:image/png")


def test_latency_joins_sending_and_receiving() -> None:
    moments = tuple(Moment(i, {}, {"/x": heard("a", 2_000_000 * i + i * 10**9)}) for i in range(1, 5))
    sent = {"/i": {i: i * 10**9 for i in range(1, 6)}}
    state = Status("n: camera eye", 0, "", {"infer_p50_ms": "1.5", "infer_p95_ms": "2", "infer_p99_ms": "3"})
    found = score.latency(Recording(moments, (state,), {}, 0, {}), Played({}, 1, 0, "", sent), "eye", "/i", "/x")
    assert found.end_to_end_ms == (2.0, 4.0, 6.0, 8.0)
    assert [stage.stage for stage in found.stages] == ["end to end", "infer"]
    assert found.stages[0].p50_ms == 5.0 and found.stages[1].p95_ms == 2.0


def test_what_the_recorder_writes_is_what_the_demo_reads(tmp_path: Path) -> None:
    journal = Journal()
    box = {"id": "7", "box_xyxy_px": [1.0, 2.0, 3.0, 4.0], "hypotheses": [["stop", 1.0]]}
    journal.note(source("/x/detections", is_label=False), 5, 11, {"detections": [box]})
    journal.note(source("/l/classification", is_label=True), 5, 12, {"hypotheses": [["a", 1.0]]})
    journal.note_status("/n: camera eye", 0, "30 Hz", {"received": "1"}, 13)
    write(tmp_path / "a.jsonl", journal.lines())
    recording = read_recording(tmp_path / "a.jsonl")
    (moment,) = recording.moments
    assert moment.answers["/x/detections"].boxes[0].id == "7" and moment.labels["/l/classification"].top == "a"
    assert recording.status("camera eye").number("received") == 1
    assert recording.status("camera ear").number("received") == 0


def test_signs_that_fell_and_signs_that_held_are_chosen() -> None:
    moments = [
        Moment(i, {"/l": heard(f"s{i}")}, {"/x": heard(f"s{i}"), "/y": heard(f"s{i}" if i % 2 else "other")})
        for i in range(12)
    ]
    chosen = images.choose_attacked(moments, [("pgd", "/y")], "/x", "/l", each=2)
    held = [moment.stamp_ns % 2 for moment, _, _ in chosen]
    assert held == [0, 0, 1, 1] and len({moment.stamp_ns for moment, _, _ in chosen}) == 4


def test_signs_are_shown_under_perturbations_and_under_a_patch(tiny_bundles: Any, data: Path, tmp_path: Path) -> None:
    """Regression: a bundle with a patch ended the demonstration before its report."""
    bundle = read_bundle(tiny_bundles.write_with_patch(tmp_path / "bundle"))
    config = scenarios.DemoConfig(ROOT, data, tmp_path, bundle)
    assert scenarios.make_gtsrb_bag(config) == 12
    bag = scenarios.traffic_signs(config).bag
    with open_bag(bag) as recorded:
        stamp_ns = next(frame.stamp_ns for frame in recorded.frames())
    moment = Moment(stamp_ns, {"/l": heard("blue")}, {"/x": heard("blue"), "/y": heard("red")})
    chosen = [(moment, "universal", "/y"), (moment, "patch", "/y")]
    universal, patch = images.attack_images(bag, bundle, scenarios.GTSRB_TOPIC, chosen, "/x", "/l")
    assert (universal.gain, patch.gain) == (images.MOST_GAIN, 1), "a patch changes pixels too much to be amplified"
    assert universal.clean_uri == patch.clean_uri != patch.attacked_uri != universal.attacked_uri
    assert not patch.held


def test_columns_align_numbers_to_the_right() -> None:
    text = table.columns(("name", "ms"), [("a", "1.5"), ("bcd", "10.25")])
    assert text.splitlines() == ["  name     ms", "  ----  -----", "  a       1.5", "  bcd   10.25"]


# --- the recordings that ship ---------------------------------------------------------------------------------------


def test_the_recordings_hold_what_their_readme_says() -> None:
    with open_bag(ROOT / "data" / "road_signs") as bag:
        frames = list(bag.frames())
    assert len(frames) == 40 and all(frame.error is None and frame.regions for frame in frames)
    labels = {region.label for frame in frames for region in frame.regions or ()}
    assert labels == {"stop", "speedlimit", "trafficlight", "crosswalk"}
    with open_bag(ROOT / "data" / "road_drive") as bag:
        assert bag.count() == 80
        first = next(bag.frames()).frame
    assert first is not None and (first.width_px, first.height_px) == (960, 540)


def test_shipped_data_and_models_stay_small() -> None:
    def size(folder: str) -> int:
        return sum(path.stat().st_size for path in (ROOT / folder).rglob("*") if path.is_file())

    assert size("data/road_drive") <= 4 * MEGABYTE
    assert size("data") - size("data/gtsrb_tracks") <= 7 * MEGABYTE
    assert size("data") + size("models/traffic_signs") <= 15 * MEGABYTE
    assert size("models/road_signs") <= 24 * MEGABYTE
    assert len(list((ROOT / "data" / "gtsrb_tracks").rglob("*.png"))) <= 400
