"""The three scenarios of the demonstration: what each plays, with which parameters, and how it is run and scored."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lisard_demo import score
from lisard_demo.processes import Children
from lisard_demo.recording import Moment, Played, Recording, read_played, read_recording
from lisard_ros import injection
from lisard_ros.bags import writer as bags
from lisard_ros.bags.messages import CLASSIFICATION, DETECTIONS, typestore
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import DETECTOR_PREFIX
from lisard_ros.errors import DataError
from lisard_ros.image_files.folders import read_rgb

NODE = "/perception"
READY_S, PLAY_S, RECORD_S, SELF_TEST_S = 40.0, 120.0, 30.0, 90.0
IDLE_S = 1.5
DIAGNOSTICS_PERIOD_S = 0.5
ROI_CLASSES = ("stop", "speedlimit")
SPEED_LIMIT_PREFIX = "speed_limit_"
GTSRB_TOPIC, GTSRB_LABELS = "/gtsrb/image_raw", "/gtsrb/labels"
CAMERA_TOPIC, BOXES_TOPIC = "/camera/image_raw/compressed", "/camera/boxes"
GTSRB_PERIOD_NS = 20_000_000
NO_WORD = re.compile(r"\W")  # characters that a topic's name cannot have


@dataclass(frozen=True, slots=True)
class Scenario:
    """One recording through one node. parameters: of the node; labels may be ''.

    follow: a frame waits until the one before was answered, so that a slow machine loses time instead of frames.
    finds_boxes: the node finds the boxes itself, so they are matched to the true ones by place and class.
    """

    key: str
    title: str
    about: str
    bag: Path
    camera: str
    image_topic: str
    answer_topic: str
    parameters: Mapping[str, object]
    labels: str = ""
    attacked_topics: tuple[tuple[str, str], ...] = ()
    follow: bool = False
    loops: int = 1
    self_test: bool = False
    finds_boxes: bool = False


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The answer of ~/self_test; cases: (name, message, good)."""

    passed: bool
    cases: tuple[tuple[str, str, bool], ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scenario that was run and scored."""

    scenario: Scenario
    recording: Recording
    played: Played
    counts: score.FrameCounts
    accuracies: tuple[score.Accuracy, ...]
    latency: score.Latency
    checks: tuple[score.Check, ...]
    self_test: SelfTest | None


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """Where things are: the checkout, the recordings, the folder for results, and the bundles that the node loads."""

    root: Path
    data: Path
    out: Path
    bundle: Bundle
    detector: Bundle | None = None

    @property
    def roi_classes(self) -> list[str]:
        """Classes of a detector whose boxes are classified."""
        return list(self.bundle.manifest.roi_classes or ROI_CLASSES)


def all_scenarios(config: DemoConfig) -> tuple[Scenario, ...]:
    """Describe the scenarios for the bundle at hand."""
    first = road_signs(config) if config.detector is None else scene(config, config.detector)
    return first, traffic_signs(config), road_drive(config)


def scene(config: DemoConfig, detector: Bundle) -> Scenario:
    """Full road images: the package's own detector finds what is there, and the signs among it are classified."""
    attacks = scene_attacks(config.bundle, detector)
    return Scenario(
        key="a",
        title="Road images, detector and classifier",
        about="40 road images as JPEG, held back from the detector's training. The node finds the objects itself; "
        "the signs among them are cut out and classified. On separate topics it answers with attacks injected: into "
        "what the detector sees (detector/...), or into the crops.",
        bag=config.data / "road_signs",
        camera="camera",
        image_topic=CAMERA_TOPIC,
        answer_topic=f"{NODE}/camera/detections",
        parameters={
            "image_topics": [CAMERA_TOPIC],
            "regions": "detector",
            "detector": str(detector.path),
            "roi_classes": config.roi_classes,
            "injection.enabled": True,
            "injection.attacks": list(attacks),
        },
        labels=f"{BOXES_TOPIC}=detections",
        follow=True,
        attacked_topics=attacked_topics(f"{NODE}/camera", attacks, "detections"),
        self_test=bool(config.bundle.manifest.self_test and detector.manifest.self_test),
        finds_boxes=True,
    )


def scene_attacks(bundle: Bundle, detector: Bundle) -> tuple[str, ...]:
    """Injections that need no particular image: noise for the detector, and those of both bundles for any image."""
    prefixes = ((DETECTOR_PREFIX, detector), ("", bundle))
    anywhere = [prefix + p.name for prefix, b in prefixes for p in b.manifest.perturbations if p.kind != "stored"]
    return (DETECTOR_PREFIX + injection.NOISE, *anywhere)


def attacked_topics(base: str, attacks: Sequence[str], kind: str) -> tuple[tuple[str, str], ...]:
    """Name and topic of each attack, as the node names them: with one attack alone there is no name in the topic."""
    groups = [f"/{NO_WORD.sub('_', name)}" if len(attacks) > 1 else "" for name in attacks]
    return tuple((name, f"{base}/attacked{group}/{kind}") for name, group in zip(attacks, groups, strict=True))


def road_signs(config: DemoConfig) -> Scenario:
    """Full road images; the boxes of another detector (here the ground truth) are looked at."""
    return Scenario(
        key="a",
        title="Road images, boxes from boxes_topic",
        about="40 road images as JPEG. The ground-truth boxes arrive on a topic, as from any detector; the stop and "
        "speed-limit signs in them are cut out and classified.",
        bag=config.data / "road_signs",
        camera="camera",
        image_topic=CAMERA_TOPIC,
        answer_topic=f"{NODE}/camera/detections",
        parameters={
            "image_topics": [CAMERA_TOPIC],
            "boxes_topic": BOXES_TOPIC,
            "roi_classes": config.roi_classes,
        },
        labels=f"{BOXES_TOPIC}=detections",
        follow=True,
    )


def traffic_signs(config: DemoConfig) -> Scenario:
    """Tracks of real signs, clean and with the bundle's perturbations injected."""
    attacks = [about.name for about in config.bundle.manifest.perturbations]
    return Scenario(
        key="b",
        title="Traffic signs, clean and attacked",
        about="Tracks of real traffic signs that the model was not trained on. The node answers each image clean "
        "and, on separate topics, with perturbations made beforehand injected before the network.",
        bag=config.out / "bags" / "gtsrb_tracks",
        camera="gtsrb",
        image_topic=GTSRB_TOPIC,
        answer_topic=f"{NODE}/gtsrb/classification",
        parameters={
            "image_topics": [GTSRB_TOPIC],
            "injection.enabled": bool(attacks),
            "injection.attacks": attacks or ["noise"],
        },
        labels=f"{GTSRB_LABELS}=classification",
        follow=True,
        attacked_topics=attacked_topics(f"{NODE}/gtsrb", attacks, "classification"),
        self_test=config.bundle.manifest.self_test is not None,
    )


def road_drive(config: DemoConfig) -> Scenario:
    """A real drive, for latency: the whole frame goes through the network, its answer means nothing."""
    return Scenario(
        key="c",
        title="Road drive, latency",
        about="A real dash-camera drive, 960 x 540 JPEG at 25 frames a second, played twice. The whole frame is "
        "classified, so the answers mean nothing; the times do.",
        bag=config.data / "road_drive",
        camera="camera",
        image_topic=CAMERA_TOPIC,
        answer_topic=f"{NODE}/camera/classification",
        parameters={"image_topics": [CAMERA_TOPIC]},
        loops=2,
    )


def make_gtsrb_bag(config: DemoConfig) -> int:
    """Turn data/gtsrb_tracks/CLASS/TRACK_FRAME.png into a bag, track after track; return the number of images."""
    folder, target = config.data / "gtsrb_tracks", config.out / "bags" / "gtsrb_tracks"
    files = sorted(folder.glob("*/*.png"))
    if not files:
        raise DataError("no images for scenario b", found=f"no CLASS/TRACK_FRAME.png in {folder}")
    images = (
        bags.LabelledImage(
            bags.START_NS + index * GTSRB_PERIOD_NS, "gtsrb", read_rgb(file), _label(file, config.bundle)
        )
        for index, file in enumerate(files)
    )
    return bags.write_labelled_bag(target, typestore(), images, GTSRB_TOPIC, GTSRB_LABELS)


def _label(file: Path, bundle: Bundle) -> str:
    """The folder's name is the class: its number in the bundle's list of labels, or the label itself."""
    name, labels = file.parent.name, bundle.manifest.labels
    if name.isdecimal() and int(name) < len(labels):
        return labels[int(name)]
    if name not in labels:
        raise DataError("a folder of images is no class of the bundle", found=name, expected=f"0..{len(labels) - 1}")
    return name


def run(scenario: Scenario, config: DemoConfig, announce: Callable[[str], None], tick: Callable[[], None]) -> Outcome:
    """Start node, recorder and player, wait for their ends, and score what was recorded.

    announce: called with what happens; tick: called often during every wait; an exception of it ends the scenario.
    """
    folder = config.out / "scenarios" / scenario.key
    answers, stamps = folder / "answers.jsonl", folder / "stamps.jsonl"
    with Children(config.root, folder, tick) as children:
        announce("starting the node and the recorder")
        node = children.python("node", "-m", "lisard_ros.node.main", *_node_words(scenario, config, folder))
        recorder = children.python("recorder", "-m", "lisard_ros.tools.recorder", answers, *_recorder_words(scenario))
        try:
            recorder.wait_for_line("ready", READY_S)
        except Exception:
            if node.status is not None:  # the node's own message explains more than the recorder's
                raise node.failure(f"ended with status {node.status}") from None
            raise
        announce("playing")
        player = children.python(
            "player", "-m", "lisard_ros.tools.player", scenario.bag, *_player_words(scenario, stamps)
        )
        if player.wait(PLAY_S) != 0:
            raise player.failure("failed")
        announce("waiting for the last answers")
        if recorder.wait(RECORD_S) != 0:
            raise recorder.failure("failed")
        self_test = _ask_self_test(children, announce) if scenario.self_test else None
        node_status = node.stop()
    played = read_played(player.printed(), stamps)
    return scored(scenario, config, read_recording(answers), played, node_status, self_test)


def _node_words(scenario: Scenario, config: DemoConfig, folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    common = {"bundle": str(config.bundle.path), "diagnostics_period_s": DIAGNOSTICS_PERIOD_S}
    file = folder / "parameters.yaml"
    file.write_text(
        json.dumps({NODE: {"ros__parameters": {**common, **scenario.parameters}}}, indent=2), encoding="utf-8"
    )
    return ["--ros-args", "--params-file", str(file)]


def _recorder_words(scenario: Scenario) -> list[str]:
    words = ["--node", NODE, "--diagnostics", "--idle", str(IDLE_S), "--wait-timeout", str(READY_S)]
    for topic in (scenario.answer_topic, *(topic for _, topic in scenario.attacked_topics)):
        words += ["--answers", topic]
    return [*words, "--labels", scenario.labels] if scenario.labels else words


def _player_words(scenario: Scenario, stamps: Path) -> list[str]:
    words = ["--profile", "--reliability", "best_effort", "--stamps", str(stamps), "--loops", str(scenario.loops)]
    words += ["--wait-for", f"{scenario.image_topic}=1"]
    if scenario.labels:
        topic = scenario.labels.partition("=")[0]
        words += ["--wait-for", f"{topic}={2 if topic in scenario.parameters.values() else 1}"]
    if scenario.follow:
        kind = DETECTIONS if scenario.answer_topic.endswith("/detections") else CLASSIFICATION
        words += ["--follow", f"{scenario.answer_topic}={kind}"]
    return words


def _ask_self_test(children: Children, announce: Callable[[str], None]) -> SelfTest:
    announce("asking ~/self_test")
    child = children.python("self_test", "-m", "lisard_ros.tools.ask", "self_test", NODE, "--timeout", SELF_TEST_S)
    child.wait(SELF_TEST_S + READY_S)
    if not child.printed():
        raise child.failure("gave no answer")
    answer = json.loads(child.printed().splitlines()[-1])
    cases = tuple((case["name"], case["message"], case["level"] == 0) for case in answer["cases"])
    return SelfTest(answer["passed"], cases, answer["seconds"])


def scored(
    scenario: Scenario,
    config: DemoConfig,
    recording: Recording,
    played: Played,
    node_status: int,
    self_test: SelfTest | None,
) -> Outcome:
    """Score what was recorded."""
    counts = score.frame_counts(recording, played, scenario.camera, scenario.image_topic, scenario.answer_topic)
    checks = score.checks(counts, recording, node_status)
    if self_test is not None:
        words = f"{sum(good for _, _, good in self_test.cases)} of {len(self_test.cases)} limits hold"
        checks += (score.Check("~/self_test passed", self_test.passed, words),)
    if scenario.finds_boxes:
        checks += scene_checks(scenario, recording)
    if scenario.attacked_topics:
        checks += score.attacked_checks(recording, scenario.attacked_topics, met_by_all(scenario, config.bundle))
    latency = score.latency(recording, played, scenario.camera, scenario.image_topic, scenario.answer_topic)
    accuracies = tuple(_accuracies(scenario, config, recording))
    return Outcome(scenario, recording, played, counts, accuracies, latency, checks, self_test)


def met_by_all(scenario: Scenario, bundle: Bundle) -> tuple[str, ...]:
    """Attacks of a scenario that any frame meets: crops need a box, and a stored perturbation needs its own image."""
    names = [name for name, _ in scenario.attacked_topics]
    if scenario.finds_boxes:
        return tuple(name for name in names if name.startswith(DETECTOR_PREFIX))
    stored = {about.name for about in bundle.manifest.perturbations if about.kind == "stored"}
    return tuple(name for name in names if name not in stored)


def scene_checks(scenario: Scenario, recording: Recording) -> tuple[score.Check, ...]:
    """What must hold where the node finds the boxes itself."""
    clean, labels = scenario.answer_topic, scenario.labels.partition("=")[0]
    pairs = score.matched_boxes(recording.moments, clean, labels, clean)
    met = [answer for answer, truth in pairs if answer is not None and truth is not None]
    known = sum(truth is not None for _, truth in pairs)
    fine = sum(len(answer.hypotheses) > 1 for answer in met)
    topic_unused = not recording.status(": boxes").values
    return (
        score.Check(
            "true boxes are found, without boxes_topic",
            bool(met) and topic_unused,
            f"{len(met)} of {known}" + ("" if topic_unused else ", but boxes_topic is in use"),
        ),
        score.Check("signs that are found are classified", fine > 0, f"{fine} of {len(met)} boxes"),
    )


def _accuracies(scenario: Scenario, config: DemoConfig, recording: Recording) -> list[score.Accuracy]:
    bundle, labels = config.bundle, scenario.labels.partition("=")[0]
    if not labels:
        return []
    knowledge = _knowledge(config)
    topics = (("clean", scenario.answer_topic), *scenario.attacked_topics)
    if scenario.finds_boxes:
        pairs = scene_pairs(scenario, recording.moments)
        return [row for name in pairs for row in _scene_accuracies(config, pairs[name], name, knowledge.get(name, ""))]
    if scenario.answer_topic.endswith("/detections"):
        return _box_accuracies(scenario, bundle, recording, labels)
    what = f"whole image, {len(bundle.manifest.labels)} classes"
    return [
        score.Accuracy(
            name, knowledge.get(name, ""), what, score.image_accuracy(recording.moments, topic, labels), "Accuracy"
        )
        for name, topic in topics
    ]


def scene_pairs(scenario: Scenario, moments: Sequence[Moment]) -> dict[str, list[score.BoxPair]]:
    """Match the boxes of each condition to the true ones, over the frames that it says something about.

    A frame that injection did not take says nothing about an attack. Of one that it took, each attack on the detector
    has an answer. The others have nothing to attack where nothing is found, and then every true box is missed.
    """
    labels = scenario.labels.partition("=")[0]
    met = {name: topic for name, topic in scenario.attacked_topics if name.startswith(DETECTOR_PREFIX)}
    taken = next(iter(met.values()), scenario.answer_topic)
    frames_of = {**dict.fromkeys((name for name, _ in scenario.attacked_topics), taken), **met}
    topics = (("clean", scenario.answer_topic), *scenario.attacked_topics)
    return {name: score.matched_boxes(moments, topic, labels, frames_of.get(name, topic)) for name, topic in topics}


def _knowledge(config: DemoConfig) -> dict[str, str]:
    """What the attacker knows, for each injection, and the strength."""
    noise = f"none, sigma {injection.DEFAULT_NOISE_SIGMA_255:g}/255"
    first = config.detector.manifest.perturbations if config.detector is not None else ()
    named = [
        *((p.name, p) for p in config.bundle.manifest.perturbations),
        *((DETECTOR_PREFIX + p.name, p) for p in first),
    ]
    about = {name: f"{p.knowledge}, eps {p.eps_255:g}/255" for name, p in named}
    return {injection.NOISE: noise, DETECTOR_PREFIX + injection.NOISE: noise, **about}


def _scene_accuracies(
    config: DemoConfig, pairs: Sequence[score.BoxPair], condition: str, knowledge: str
) -> list[score.Accuracy]:
    """How many true boxes are found, and how many of those worth classifying get a finer class that fits.

    An attack on the crops does not change which boxes are found.
    """
    right = {coarse: fine_labels(config.bundle, coarse) for coarse in config.roi_classes}
    signs = ", ".join(f"'{coarse}'" for coarse in right)
    found = score.Accuracy(
        condition, knowledge, "true boxes: found, with the detector's class", score.found_share(pairs), "Boxes found"
    )
    fine = score.Accuracy(
        condition, knowledge, f"{signs} boxes: found, and the finer class fits", score.fine_share(pairs, right)
    )
    return [found, fine] if condition == "clean" or condition.startswith(DETECTOR_PREFIX) else [fine]


def _box_accuracies(scenario: Scenario, bundle: Bundle, recording: Recording, labels: str) -> list[score.Accuracy]:
    pairs = list(score.box_pairs(recording.moments, scenario.answer_topic, labels))
    return [
        score.Accuracy(
            "clean",
            "",
            f"'{coarse}' boxes, counted right if {words}",
            score.box_accuracy(pairs, coarse, fine),
        )
        for coarse, fine, words in (
            ("stop", fine_labels(bundle, "stop"), "answered stop"),
            ("speedlimit", fine_labels(bundle, "speedlimit"), "answered any speed limit"),
        )
    ]


def fine_labels(bundle: Bundle, coarse: str) -> frozenset[str]:
    """Labels that a coarse class may turn out to be: the bundle's own group, else by the labels' names."""
    groups = bundle.manifest.roi_groups
    if coarse in groups:
        return frozenset(groups[coarse])
    if coarse == "speedlimit":
        return frozenset(label for label in bundle.manifest.labels if label.startswith(SPEED_LIMIT_PREFIX))
    return frozenset({coarse})
