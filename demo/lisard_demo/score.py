"""Frame counts, accuracy and latency of one scenario, and the checks that decide the exit status. Pure: no ROS."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lisard_demo.recording import Moment, Played, ReceivedBox, Recording
from lisard_ros.evaluation.scoring import Named, match
from lisard_ros.evaluation.statistics import Proportion, percentiles, proportion

END_TO_END = "end to end"
STAGES = ("wait", "decode", "preprocess", "inject", "infer", "postprocess", "publish", "total")


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """The frames by outcome, from the player, the node's diagnostics and the recorder."""

    published: int
    lost_in_transport: int
    received: int
    answered: int
    replaced: int
    too_old: int
    failed: int
    failed_by_cause: tuple[tuple[str, int], ...]
    recorded: int

    @property
    def dropped_words(self) -> str:
        """The dropped frames by cause, in words."""
        causes = [("replaced", self.replaced), ("too old", self.too_old), *self.failed_by_cause]
        return ", ".join(f"{count} {cause}" for cause, count in causes if count) or "0"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold; `detail` gives the numbers."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of right answers under one condition ('clean' or an injection), with the attacker's knowledge.

    tile: heading of the key figure at the top of the report, '' for none.
    """

    condition: str
    knowledge: str
    what: str
    share: Proportion
    tile: str = ""


@dataclass(frozen=True, slots=True)
class StageLatency:
    """Percentiles of one stage in milliseconds; n is 0 where the node reports no count."""

    stage: str
    p50_ms: float
    p95_ms: float
    p99_ms: float
    n: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Stages in order, and the end-to-end time of each answered frame by time of sending, in milliseconds."""

    stages: tuple[StageLatency, ...]
    end_to_end_ms: tuple[float, ...]


def frame_counts(recording: Recording, played: Played, camera: str, image_topic: str, answer_topic: str) -> FrameCounts:
    """Collect the frame counts of one camera."""
    status = recording.status(f"camera {camera}")
    causes = tuple(
        (key.removeprefix("failed_"), int(value))
        for key, value in sorted(status.values.items())
        if key.startswith("failed_") and int(value)
    )
    return FrameCounts(
        published=played.published.get(image_topic, 0),
        lost_in_transport=int(status.number("lost_in_transport")),
        received=int(status.number("received")),
        answered=int(status.number("answered")),
        replaced=int(status.number("replaced")),
        too_old=int(status.number("too_old")),
        failed=int(status.number("failed")),
        failed_by_cause=causes,
        recorded=recording.received.get(answer_topic, 0),
    )


def checks(b: FrameCounts, recording: Recording, node_status: int) -> tuple[Check, ...]:
    """Check both accounting equations, and that nothing happened that must not happen here."""
    ends = b.answered + b.replaced + b.too_old + b.failed
    return (
        Check(
            "published = received + lost in transport",
            b.published == b.received + b.lost_in_transport and b.published > 0,
            f"{b.published} = {b.received} + {b.lost_in_transport}",
        ),
        Check(
            "received = answered + replaced + too old + failed",
            b.received == ends,
            f"{b.received} = {b.answered} + {b.replaced} + {b.too_old} + {b.failed}",
        ),
        Check("every answer was recorded", b.recorded == b.answered, f"{b.recorded} of {b.answered}"),
        Check("nothing was lost in transport", b.lost_in_transport == 0, f"{b.lost_in_transport} lost"),
        Check("no frame failed", b.failed == 0, b.dropped_words if b.failed else "0 failed"),
        Check("no stamp was answered twice", recording.duplicates == 0, f"{recording.duplicates} duplicates"),
        Check("the node ended in order", node_status == 0, f"exit status {node_status}"),
    )


def attacked_checks(
    recording: Recording, topics: Sequence[tuple[str, str]], met_by_all: Collection[str]
) -> tuple[Check, ...]:
    """Check that the attacked answers that arrived are those that the node counts.

    Args:
        recording: What was received, and the node's last diagnostics.
        topics: Name and topic of each attack.
        met_by_all: The attacks that have something to attack in any frame.
    """
    status = recording.status(": injection")
    received = {name: recording.received.get(topic, 0) for name, topic in topics}
    given = {name: int(status.number(f"answered_{name}")) for name in received}
    total = int(status.number("answered"))
    words = ", ".join(f"{name} {count} of {given[name]}" for name, count in received.items())
    missed = [name for name in met_by_all if not given[name]]
    return (
        Check(
            "every attacked answer was recorded",
            received == given and sum(given.values()) == total > 0,
            f"{words}; {sum(received.values())} of {total}",
        ),
        # How many frames an attack meets depends on the machine: injection takes the newest one when it is free.
        Check(
            "each attack that fits any frame has answers",
            not missed,
            f"{len(met_by_all) - len(missed)} of {len(met_by_all)}" + (f", not {', '.join(missed)}" if missed else ""),
        ),
    )


def image_accuracy(moments: Sequence[Moment], answers: str, labels: str) -> Proportion:
    """Accuracy of whole-image answers on topic `answers` against topic `labels`, over the stamps that have both."""
    joined = [moment for moment in moments if answers in moment.answers and labels in moment.labels]
    pairs = [(moment.answers[answers].top, moment.labels[labels].top) for moment in joined]
    return proportion(sum(answer == truth for answer, truth in pairs), len(pairs))


def box_pairs(moments: Sequence[Moment], answers: str, labels: str) -> Iterable[tuple[ReceivedBox, ReceivedBox]]:
    """Yield (answer, truth) for every ground-truth box whose frame was answered and whose id came back."""
    for moment in moments:
        if answers in moment.answers and labels in moment.labels:
            by_id = {box.id: box for box in moment.answers[answers].boxes}
            yield from ((by_id[box.id], box) for box in moment.labels[labels].boxes if box.id in by_id)


def box_accuracy(pairs: Iterable[tuple[ReceivedBox, ReceivedBox]], coarse: str, right: Collection[str]) -> Proportion:
    """Accuracy on boxes whose true class is `coarse`; `right` holds the fine labels that such a box may have.

    The fine label comes first and the detector's second; an answer with one label alone was not classified.
    """
    answers = [answer for answer, truth in pairs if truth.hypotheses[0][0] == coarse]
    hits = sum(len(answer.hypotheses) > 1 and answer.hypotheses[0][0] in right for answer in answers)
    return proportion(hits, len(answers))


# An answer and the true box that it finds; None for the truth of a false box, and for the answer to a missed one.
BoxPair = tuple[ReceivedBox | None, ReceivedBox | None]


def coarse(box: ReceivedBox) -> tuple[str, float]:
    """Class and score by the detector: the second hypothesis where a finer one stands first, else the only one."""
    return box.hypotheses[1 if len(box.hypotheses) > 1 else 0] if box.hypotheses else ("", 0.0)


def match_boxes(found: Sequence[ReceivedBox], true: Sequence[ReceivedBox]) -> list[BoxPair]:
    """Match the boxes of one answer to the true ones by place and the detector's class."""
    answers = [Named(box.box_xyxy_px, *coarse(box)) for box in found]
    places = match(answers, [Named(box.box_xyxy_px, coarse(box)[0]) for box in true])
    missed = [box for number, box in enumerate(true) if number not in places]
    pairs = [(box, None if place is None else true[place]) for box, place in zip(found, places, strict=True)]
    return [*pairs, *((None, box) for box in missed)]


def matched_boxes(moments: Sequence[Moment], answers: str, labels: str, clean: str) -> list[BoxPair]:
    """Match the boxes on topic `answers` for all frames that were answered on topic `clean`.

    A frame without an answer on the first topic has found nothing: every true box in it was missed.
    """
    joined = [moment for moment in moments if clean in moment.answers and labels in moment.labels]
    boxes_of = ((m.answers[answers].boxes if answers in m.answers else (), m.labels[labels].boxes) for m in joined)
    return [pair for boxes, true in boxes_of for pair in match_boxes(boxes, true)]


def found_share(pairs: Iterable[BoxPair]) -> Proportion:
    """Share of the true boxes that were found."""
    known = [answer for answer, truth in pairs if truth is not None]
    return proportion(sum(answer is not None for answer in known), len(known))


def fine_share(pairs: Iterable[BoxPair], right: Mapping[str, Collection[str]]) -> Proportion:
    """Share of the true boxes of the classes in `right` that were found and whose finer label is one of those there."""
    known = [(answer, coarse(truth)[0]) for answer, truth in pairs if truth is not None and coarse(truth)[0] in right]
    return proportion(sum(fine_is_right(answer, right[name]) for answer, name in known), len(known))


def fine_is_right(answer: ReceivedBox | None, labels: Collection[str]) -> bool:
    """Whether a box was classified, as one of the labels."""
    return answer is not None and len(answer.hypotheses) > 1 and answer.hypotheses[0][0] in labels


def latency(recording: Recording, played: Played, camera: str, image_topic: str, answer_topic: str) -> Latency:
    """Join sending and receiving by stamp, and read the stages from the node's diagnostics."""
    sent = played.sent_ns.get(image_topic, {})
    times = sorted(
        (sent[moment.stamp_ns], moment.answers[answer_topic].received_ns)
        for moment in recording.moments
        if answer_topic in moment.answers and moment.stamp_ns in sent
    )
    delays_ms = tuple((received - begun) / 1e6 for begun, received in times)
    values = recording.status(f"camera {camera}").values
    stages = [_stage(stage, values) for stage in STAGES if f"{stage}_p50_ms" in values]
    total = percentiles(delays_ms)
    end_to_end = StageLatency(END_TO_END, total.p50_ms, total.p95_ms, total.p99_ms, total.n)
    return Latency((end_to_end, *stages), delays_ms)


def _stage(stage: str, values: Mapping[str, str]) -> StageLatency:
    p50, p95, p99 = (float(values.get(f"{stage}_{p}_ms") or 0) for p in ("p50", "p95", "p99"))
    return StageLatency(stage, p50, p95, p99, 0)
