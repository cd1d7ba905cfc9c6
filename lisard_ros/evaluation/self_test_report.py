"""What a self test found, as plain values: JSON holds them as they are, and they may cross to another process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lisard_ros import __version__
from lisard_ros.attacks.threat_model import NOBODY, ThreatModel
from lisard_ros.bundle.manifest import Counted
from lisard_ros.evaluation.injection_settings import InjectionSettings
from lisard_ros.evaluation.limits import FIGURES, Verdict
from lisard_ros.evaluation.references import Judged
from lisard_ros.evaluation.statistics import NO_DATA, Proportion

SCHEMA_VERSION = 2  # 1 had `pictures` in `counted`
CaseVerdict = Literal["passed", "failed", "measured"]
Source = Literal["references", "live", "images", "recording"]
REPORT_CASE = "report"  # the status of a SelfTest answer that says why there is no report
JUDGED_WORDS: Mapping[Judged, str] = {"accuracy": "accuracy", "agreement": "agreement with the clean answer"}


@dataclass(frozen=True, slots=True)
class SelfTestProgress:
    """How far a test is: case number `case` of `cases`, called `name`, and `done` of its `images`."""

    case: int
    cases: int
    name: str
    done: int
    images: int

    def __str__(self) -> str:
        """In words."""
        return f"case {self.case} of {self.cases} ({self.name}), {self.done} of {self.images} images"


@dataclass(frozen=True, slots=True)
class CaseCost:
    """What a case took. images: how many were attacked; gradients, queries: of all of them together, as counted.

    attack_ms, answer_ms: means of an image, to work the attack out and to answer the attacked image, both in batches;
    NaN where nothing was answered. Times play no part in comparisons.
    """

    images: int = 0
    gradients: int = 0
    queries: int = 0
    attack_ms: float = field(default=math.nan, compare=False)
    answer_ms: float = field(default=math.nan, compare=False)

    def of_an_image(self, count: int) -> float:
        """Return how many of `count` one image took on average."""
        return count / self.images if self.images else math.nan


@dataclass(frozen=True, slots=True)
class CaseMaking:
    """How the attacked images of a case were made. settings: None where the injection could not be made.

    surrogate: whose gradients were followed instead of the model's, with the sha256 of its bundle; of a stored
    perturbation what it was made on. gradient_sha256: of the gradient file.
    """

    attacker: ThreatModel = NOBODY
    settings: InjectionSettings | None = None
    surrogate: str = ""
    surrogate_sha256: str = ""
    gradient_sha256: str = ""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One line of the test. accuracy: over what the injection applied to; reason: of the failure, or ''.

    success: of the things that the clean answer has right, the share that the attacked answer has not.
    verdict: `passed` or `failed` by the limit; `measured` without a limit (`min_accuracy` 0). passed: a limit was set
    and holds. counted: what `accuracy` counts: images with the right class, or true boxes that were found.
    not_applicable, failed: images. false_boxes: boxes that meet no true one; they are shown, and have no limit.
    judged: without labels the clean answer stands for the truth, and `accuracy` is `agreement` with it.
    """

    injection: str
    knowledge: str
    accuracy: Proportion
    not_applicable: int
    failed: int
    min_accuracy: float
    passed: bool
    reason: str
    counted: Counted = "images"
    false_boxes: int = 0
    verdict: CaseVerdict = "failed"
    judged: Judged = "accuracy"
    success: Proportion = NO_DATA
    cost: CaseCost = CaseCost()
    making: CaseMaking = CaseMaking()

    def __str__(self) -> str:
        """One line for people."""
        limit = f"limit {100 * self.min_accuracy:.1f} %" if self.min_accuracy else "no limit"
        verdict = f"FAILED: {self.reason}" if self.verdict == "failed" else self.verdict
        boxes = f" boxes found, {self.false_boxes} false" if self.counted == "boxes" else ""
        what = f" {JUDGED_WORDS[self.judged]}" if self.judged == "agreement" else ""
        return f"{self.injection} ({self.knowledge}): {self.accuracy}{boxes}{what}, {limit}: {verdict}"


@dataclass(frozen=True, slots=True)
class SelfTestReport:
    """The whole self test; passed only if it ran to its end, at least one limit was set, all hold, and no case failed.

    engine_sha256: of the file that runs, an ONNX file or an engine. device: what runs it. detector, detector_sha256,
    detector_engine_sha256: of the bundle in front, '' if there is none. source: where the images come from; origin:
    their topic, recording or folder, '' of the bundle's own.
    """

    bundle: str
    bundle_sha256: str
    backend: str
    seed: int
    cases: tuple[CaseResult, ...]
    cancelled: bool
    passed: bool
    schema_version: int = SCHEMA_VERSION
    made_by: str = f"lisard_ros {__version__}"
    detector: str = ""
    detector_sha256: str = ""
    verdicts: tuple[Verdict, ...] = ()
    source: Source = "references"
    origin: str = ""
    engine_sha256: str = ""
    detector_engine_sha256: str = ""
    device: str = ""

    @property
    def failed(self) -> bool:
        """Whether a case failed or the test did not run to its end; false for a test that only measured."""
        cases = any(case.verdict == "failed" for case in self.cases)
        return self.cancelled or cases or not all(verdict.passed for verdict in self.verdicts)

    @property
    def figures(self) -> tuple[Verdict, ...]:
        """The verdicts on latencies and on failed images, which are of no case."""
        return tuple(verdict for verdict in self.verdicts if verdict.metric in FIGURES)

    @property
    def summary(self) -> str:
        """The outcome in one sentence."""
        held = held_limits(self.cases, self.verdicts)
        if self.cancelled:
            return "cancelled"
        if not held and not self.failed:
            return f"measured: {len(self.cases)} without a limit"
        return f"{'passed' if self.passed else 'FAILED'}: {sum(held)} of {len(held)} limits hold"


def held_limits(cases: Sequence[CaseResult], verdicts: Sequence[Verdict]) -> list[bool]:
    """Return for each limit that was set whether it holds: of cases, of latencies, of failed images."""
    others = [verdict.passed for verdict in verdicts if verdict.metric in FIGURES]
    return [case.passed for case in cases if case.min_accuracy] + others
