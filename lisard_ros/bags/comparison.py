"""Two replays of the same frames: paired differences, camera by camera and injection by injection."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from lisard_ros.bags.blocks import FRAME
from lisard_ros.bags.report import SCHEMA_VERSION
from lisard_ros.errors import DataError, one_line
from lisard_ros.evaluation.injection_settings import InjectionSettings
from lisard_ros.evaluation.limits import LEAST_BLOCKS, NOT_ENOUGH_EVIDENCE, Limit
from lisard_ros.evaluation.statistics import Interval, paired_difference
from lisard_ros.injection import CLEAN

REGRESSION, NO_REGRESSION, NOTHING = "regression", "no regression", "nothing to compare"
_SEED = 0  # of the resampling
_AGAIN = "run `lisard replay --json FILE` for both again"


class ReportedScores(msgspec.Struct, frozen=True):
    """`report.FrameScores`."""

    right: list[int]
    judged: list[int]
    false: list[int]


class ReportedTimes(msgspec.Struct, frozen=True):
    """What is used of `statistics.Percentiles`."""

    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class ReportedRow(msgspec.Struct, frozen=True):
    """What is used of `report.CameraResult`."""

    topic: str
    bundle: str
    backend: str
    injection: str
    judged: str
    failed: dict[str, int]
    scores: ReportedScores
    latency: dict[str, ReportedTimes]


class ReportedCamera(msgspec.Struct, frozen=True):
    """What is used of `report.CameraFrames`."""

    topic: str
    stamps_ns: list[int]
    blocks: list[int]
    truth_sha256: str


class ReportedRecording(msgspec.Struct, frozen=True):
    """What is used of `recordings.RecordingInfo`."""

    sha256: str


class Report(msgspec.Struct, frozen=True):
    """What is used of a replay's JSON."""

    schema_version: int
    bundle: str
    bundle_sha256: str
    backend: str
    by: str
    recordings: list[ReportedRecording]
    injections: list[InjectionSettings]
    cameras: list[ReportedCamera]
    rows: list[ReportedRow]


class _Version(msgspec.Struct, frozen=True):
    schema_version: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A condition in both replays, over the frames that both judged. before, after: shares in [0, 1].

    difference: after - before. false_boxes: false boxes for each frame, after - before; None where there are none to
    count. unanswered: frames without an answer, after - before. p95_ms: of both.
    """

    topic: str
    injection: str
    judged: str
    backends: tuple[str, str]
    n: int
    blocks: int
    before: float
    after: float
    difference: Interval
    false_boxes: Interval | None
    unanswered: int
    p95_ms: tuple[float, float]
    verdict: str
    reason: str

    @property
    def passed(self) -> bool:
        """Whether nothing got worse, as far as the evidence goes."""
        return self.verdict in (NO_REGRESSION, NOTHING)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both replays. alone: injections that one of them has alone."""

    bundles: tuple[str, str]
    by: str
    differences: tuple[Difference, ...]
    alone: tuple[str, ...]
    passed: bool
    schema_version: int = 1


def read(path: Path) -> Report:
    """Read what `lisard replay --json` wrote.

    Raises:
        DataError: There is no such file, it is no report, or of another schema.
    """
    expected = f"JSON of `lisard replay`, schema {SCHEMA_VERSION}"
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
        version = msgspec.json.decode(content, type=_Version).schema_version
        if version != SCHEMA_VERSION:
            raise DataError(f"report {path} has another schema", found=version, expected=expected, cure=_AGAIN)
        report = msgspec.json.decode(content, type=Report)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        found = getattr(error, "strerror", None) or one_line(error)
        raise DataError(f"report {path}", found=found, expected=expected, cure=_AGAIN) from error
    frames = {camera.topic: len(camera.stamps_ns) for camera in report.cameras}
    for row in report.rows:
        lengths = {len(row.scores.right), len(row.scores.judged), len(row.scores.false) or frames.get(row.topic, -1)}
        if lengths != {frames.get(row.topic, -1)}:
            raise DataError(
                f"report {path} contradicts itself", found=f"frames of {row.topic}: {lengths}", expected=expected
            )
    return report


def compare(before: Report, after: Report, slower: Sequence[Limit] = ()) -> Comparison:
    """Compare two replays of the same frames.

    Args:
        before: The first.
        after: The second.
        slower: Of latencies of clean answers, how many times those of the first they may be at most; the others are
            shown and not judged.

    Raises:
        DataError: They are of other recordings, frames, labels, blocks or attacks.
    """
    _require_same(before, after)
    blocks = {camera.topic: np.array(camera.blocks, np.int64) for camera in before.cameras}
    differences = tuple(
        _difference(one, other, blocks[one.topic], before.by == FRAME, slower) for one, other in _pairs(before, after)
    )
    names = [dict.fromkeys(row.injection for row in report.rows) for report in (before, after)]
    alone = tuple(name for name in {**names[0], **names[1]} if (name in names[0]) != (name in names[1]))
    bundles = tuple(f"{one.bundle} ({one.bundle_sha256[:12]}) on {one.backend}" for one in (before, after))
    return Comparison((bundles[0], bundles[1]), before.by, differences, alone, all(d.passed for d in differences))


def _require_same(before: Report, after: Report) -> None:
    def refuse(what: str, found: object, expected: object, cure: str = _AGAIN) -> DataError:
        return DataError(f"the two replays have other {what}", found=found, expected=expected, cure=cure)

    hashes = [[one.sha256[:12] for one in report.recordings] for report in (before, after)]
    if hashes[0] != hashes[1]:
        raise refuse("recordings", f"sha256 {', '.join(hashes[1])}", ", ".join(hashes[0]))
    cameras = [{camera.topic: camera for camera in report.cameras} for report in (before, after)]
    if list(cameras[0]) != list(cameras[1]):
        raise refuse("cameras", ", ".join(cameras[1]), ", ".join(cameras[0]))
    for topic, one in cameras[0].items():
        other = cameras[1][topic]
        if one.stamps_ns != other.stamps_ns:
            raise refuse("frames", f"{len(other.stamps_ns)} on {topic}", f"the same {len(one.stamps_ns)}")
        if one.truth_sha256 != other.truth_sha256:
            raise refuse("labels", f"other ones on {topic}", "the same labels, tolerance and map")
        if one.blocks != other.blocks or before.by != after.by:
            raise refuse("blocks", f"--by {after.by}", f"--by {before.by}, and the same --block-s")
    settings = [_settings(report) for report in (before, after)]
    for key in settings[0].keys() & settings[1].keys():
        if settings[0][key] != settings[1][key]:
            found, expected = (_words(of[key]) for of in (settings[1], settings[0]))
            raise refuse(f"settings of {key[-1]}", found, expected)


def _settings(report: Report) -> dict[tuple[str, ...], InjectionSettings]:
    """Return how each injection was made; of several bundles for each of them."""
    several = len({row.bundle for row in report.rows}) > 1
    return {(one.bundle, one.name) if several else (one.name,): replace(one, bundle="") for one in report.injections}


def _words(settings: InjectionSettings) -> str:
    values = asdict(settings).items()
    return ", ".join(f"{key} {value}" for key, value in values if value not in (None, "") and key != "name")


def _pairs(before: Report, after: Report) -> Iterator[tuple[ReportedRow, ReportedRow]]:
    """Rows of one camera and injection; where a replay has several models or backends, those of the same one."""
    backends, bundles = (
        max(len({getattr(row, name) for row in report.rows}) for report in (before, after)) > 1
        for name in ("backend", "bundle")
    )

    def key(row: ReportedRow) -> tuple[str, ...]:
        return (row.topic, row.injection, row.backend if backends else "", row.bundle if bundles else "")

    others = {key(row): row for row in after.rows}
    if (backends or bundles) and not any(key(row) in others for row in before.rows):
        raise DataError(
            "the two replays have no model on one backend in common",
            found=f"{after.bundle} on {after.backend}",
            expected=f"{before.bundle} on {before.backend}",
        )
    for row in before.rows:
        other = others.get(key(row))
        if other is None:
            continue
        if other.judged != row.judged:
            raise DataError(
                f"{row.injection} is judged in another way", found=other.judged, expected=row.judged, cure=_AGAIN
            )
        yield row, other


def _difference(
    before: ReportedRow, after: ReportedRow, blocks: NDArray[np.int64], by_frame: bool, slower: Sequence[Limit]
) -> Difference:
    judged = np.array(before.scores.judged, np.int64)
    both = (judged > 0) & (judged == np.array(after.scores.judged, np.int64))
    sizes, groups = judged[both], blocks[both]
    theirs, ours = (np.array(row.scores.right, np.int64)[both] for row in (before, after))
    false = [np.array(row.scores.false or [0] * len(judged), np.int64)[both] for row in (before, after)]
    n, count = int(sizes.sum()), len(np.unique(groups))
    unanswered = sum(after.failed.values()) - sum(before.failed.values())
    shares, interval, extra = (float("nan"),) * 2, Interval(*(float("nan"),) * 3), None
    if n:
        shares = (float(theirs.sum() / n), float(ours.sum() / n))
        interval = paired_difference(ours, theirs, groups, _SEED, sizes=sizes)
        if false[0].any() or false[1].any():
            extra = paired_difference(false[1], false[0], groups, _SEED)
    verdict, reason = _verdict(n, count if not by_frame else LEAST_BLOCKS, interval, extra, unanswered)
    late = "; ".join(_slower(before, after, slower)) if before.injection == CLEAN else ""
    if late:
        verdict, reason = REGRESSION, f"{reason}; {late}" if reason else late
    return Difference(
        before.topic,
        before.injection,
        before.judged,
        (before.backend, after.backend),
        n,
        count,
        *shares,
        interval,
        extra,
        unanswered,
        (_latency_ms(before, "p95_ms"), _latency_ms(after, "p95_ms")),
        verdict,
        reason,
    )


def _latency_ms(row: ReportedRow, name: str) -> float:
    total = row.latency.get("total")
    value = None if total is None else getattr(total, name)
    return float("nan") if value is None else float(value)


def _slower(before: ReportedRow, after: ReportedRow, limits: Sequence[Limit]) -> Iterator[str]:
    """Name the latencies that rose by more than they may; one that was not measured did."""
    for limit in limits:
        was, became = (_latency_ms(row, limit.metric) for row in (before, after))
        if not became <= limit.value * was:
            yield f"{limit.metric} {was:.2f} -> {became:.2f}, at most {limit.value:g} times is allowed"


def _verdict(n: int, blocks: int, share: Interval, false_boxes: Interval | None, unanswered: int) -> tuple[str, str]:
    """Worse is what the whole interval says; over few blocks any loss is a reason to doubt."""
    if unanswered > 0:
        return REGRESSION, f"{unanswered} more frames without an answer"
    if not n:
        return NOTHING, ""
    if blocks < LEAST_BLOCKS:
        if share.value < 0 or (false_boxes is not None and false_boxes.value > 0):
            return NOT_ENOUGH_EVIDENCE, f"worse in {blocks} independent blocks, {LEAST_BLOCKS} are needed to judge"
        return NO_REGRESSION, ""
    if share.high < 0:
        return REGRESSION, "the share of right answers fell"
    if false_boxes is not None and false_boxes.low > 0:
        return REGRESSION, "there are more false boxes"
    return NO_REGRESSION, ""
