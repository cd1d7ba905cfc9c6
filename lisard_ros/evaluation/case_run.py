"""One case of the self test: attacked images through the pipeline of one stage, counted and compared with a limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lisard_ros import injection as stage
from lisard_ros.attacks.aims import Answer, answers_of
from lisard_ros.bundle.manifest import InputSpec, SelfTestCase
from lisard_ros.errors import AttackError, LisardError
from lisard_ros.evaluation import limits as limit_rules
from lisard_ros.evaluation import scoring
from lisard_ros.evaluation.injection_settings import attacker_of, injection_settings
from lisard_ros.evaluation.limits import Limit, Verdict
from lisard_ros.evaluation.references import ReferenceImages, TrueGroup, Truth
from lisard_ros.evaluation.self_test_report import (
    JUDGED_WORDS,
    CaseCost,
    CaseMaking,
    CaseResult,
    SelfTestProgress,
)
from lisard_ros.evaluation.statistics import NO_DATA, Proportion, clustered_counts
from lisard_ros.frames import Frame, Result
from lisard_ros.inference.pipeline import Attacked, Outcome, Pipeline

# Images and pixels of the model's input that are attacked at once. Between two batches a test shows how far it is and
# can be ended, so those of a detector are small.
MOST_IMAGES, MOST_PIXELS = 32, 8 * 320 * 320
EXPORT_AGAIN = "make it again with `lisard bundle --images FOLDER`, or export it with reference images"


@dataclass(frozen=True, slots=True, eq=False)
class StageUnderTest:
    """One bundle under test: its pipeline alone, its cases and images. prefix: of the names of its cases."""

    prefix: str
    pipeline: Pipeline
    cases: tuple[SelfTestCase, ...]
    images: ReferenceImages | None


@dataclass(frozen=True, slots=True, eq=False)
class CaseImage:
    """One image under one case, for who shows it. case: with its prefix; pipeline: of the stage that is attacked."""

    case: str
    pipeline: Pipeline
    frame: Frame
    truth: Truth
    clean: Outcome
    attacked: Attacked


@dataclass(frozen=True, slots=True, eq=False)
class CaseFollower:
    """Who follows a case, and may end it. counting: False for the clean answers, which are no case by themselves."""

    begin: SelfTestProgress
    progress: Callable[[SelfTestProgress], None]
    cancelled: Callable[[], bool]
    counting: bool = True

    def require_going_on(self) -> None:
        """Raise AttackError where the test was cancelled."""
        if self.cancelled():
            raise AttackError("the self test was cancelled")

    def reached(self, done: int) -> None:
        """Report how many images are done."""
        self.progress(replace(self.begin, done=done if self.counting else 0))


class StageRun:
    """Runs the cases of one stage; the clean answers, with which each is compared, are worked out once."""

    def __init__(
        self,
        under_test: StageUnderTest,
        seed: int,
        sources: stage.AttackSources,
        watch: Callable[[CaseImage], object],
    ) -> None:
        """seed, sources, watch: as `self_test.run` takes them."""
        self._stage, self._seed, self._watch = under_test, seed, watch
        surrogate = None if under_test.prefix else sources.surrogate
        spec, engine = under_test.pipeline.bundle.manifest.input, under_test.pipeline.choice.backend
        self._sources = replace(sources, engine=engine, surrogate=surrogate)
        self._known = _known(under_test.images, spec)
        self._batch = max(1, min(MOST_IMAGES, MOST_PIXELS // (spec.width * spec.height)))
        self._clean: list[Attacked] | None = None

    def run(self, case: SelfTestCase, limit: Limit | None, follower: CaseFollower) -> tuple[CaseResult, Verdict | None]:
        """Run a case. limit: judged by `evaluation.limits`; None: the case's own is compared with the share itself."""
        blank, images = self._blank(case), self._stage.images
        if images is None:
            return blank, None
        bundle, pipeline = self._stage.pipeline.bundle, self._stage.pipeline
        try:
            if self._clean is None:
                self._clean = self._answers(stage.Clean(), images.frames, replace(follower, counting=False))
            injection = stage.make(bundle, case.injection, seed=self._seed, sources=self._sources)
            truths = stage.truths_for(injection)
            if truths is not None:
                truths.told = self._known
            blank = replace(blank, knowledge=injection.knowledge, making=self._making(injection))
            clean = injection.name == stage.CLEAN
            answers = self._clean if clean else self._answers(injection, images.frames, follower)
            follower.reached(len(images.frames))
        except LisardError as error:
            return replace(blank, reason=str(error)), None
        for frame, truth, before, attacked in zip(images.frames, images.truths, self._clean, answers, strict=True):
            self._watch(CaseImage(blank.injection, pipeline, frame, truth, before.outcome, attacked))
        return _judge(replace(blank, cost=_cost(injection, answers, self._batch)), self._clean, answers, images, limit)

    def _blank(self, case: SelfTestCase) -> CaseResult:
        """The result of a case that did not run."""
        manifest, images = self._stage.pipeline.bundle.manifest, self._stage.images
        return CaseResult(
            self._stage.prefix + case.injection,
            "none",
            NO_DATA,
            0,
            0,
            case.min_accuracy,
            False,
            f"bundle {manifest.name} has no self test: {EXPORT_AGAIN}",
            manifest.runtime_task.counted,
            judged="accuracy" if images is None else images.judged,
        )

    def _answers(self, injection: stage.Injection, frames: Sequence[Frame], follower: CaseFollower) -> list[Attacked]:
        answers: list[Attacked] = []
        for start in range(0, len(frames), self._batch):
            follower.require_going_on()
            follower.reached(start)
            answers += self._stage.pipeline.attack(frames[start : start + self._batch], injection)
        return answers

    def _making(self, injection: stage.Injection) -> CaseMaking:
        bundle = self._stage.pipeline.bundle
        sigma = stage.DEFAULT_NOISE_SIGMA_255
        settings = injection_settings(bundle, None, injection, sigma_255=sigma, seed=self._seed)
        made = CaseMaking(attacker_of(bundle, injection), settings)
        if isinstance(injection, stage.Computed):
            made = replace(made, gradient_sha256=injection.gradient_sha256)
            if injection.surrogate is not None:
                name, sha256 = injection.surrogate.manifest.name, injection.surrogate.sha256
                made = replace(made, surrogate=name, surrogate_sha256=sha256)
        if isinstance(injection, stage.PatchAttack):
            return replace(made, surrogate=injection.made_on)
        about = next((p for p in bundle.manifest.perturbations if p.name == injection.name), None)
        return made if about is None else replace(made, surrogate=about.made_on)


def _known(images: ReferenceImages | None, spec: InputSpec) -> dict[str, Answer]:
    """The true answers that attacks drive away from: of a wrong clean answer the way could lead to the right one."""
    if images is None or images.judged != "accuracy":
        return {}
    known = [
        (frame.rgb(), truth)
        for frame, truth in zip(images.frames, images.truths, strict=True)
        if not isinstance(truth, TrueGroup)
    ]
    return answers_of((rgb for rgb, _ in known), (truth for _, truth in known), spec)


def _cost(injection: stage.Injection, answers: Sequence[Attacked], batch: int) -> CaseCost:
    """Add up the batches of so many images, each of which has one time for all of its images."""
    count, attack_ms, answer_ms = 0, 0.0, 0.0
    for start in range(0, len(answers), batch):
        outcomes = [answer.outcome for answer in answers[start : start + batch]]
        times = next((outcome.times for outcome in outcomes if isinstance(outcome, Result)), None)
        if times is not None:
            count += len(outcomes)
            attack_ms += times.inject_ms
            answer_ms += times.total_ms - times.inject_ms
    spent = (injection.gradients, injection.queries) if isinstance(injection, stage.Computed) else (0, 0)
    if not count:
        return CaseCost(len(answers), *spent)
    return CaseCost(len(answers), *spent, attack_ms / count, answer_ms / count)


def _judge(
    blank: CaseResult,
    clean: Sequence[Attacked],
    answers: Sequence[Attacked],
    images: ReferenceImages,
    limit: Limit | None,
) -> tuple[CaseResult, Verdict | None]:
    failed = [a for a in answers if not isinstance(a.outcome, Result)]
    rows = [row for row, answer in enumerate(answers) if answer.applied]
    scores = [scoring.score(answers[row].outcome, images.truths[row]) for row in rows]
    before = [scoring.score(clean[row].outcome, images.truths[row]) for row in rows]
    blocks = [images.block_of(row) for row in rows]
    accuracy = clustered_counts([one.hits for one in scores], [one.n for one in scores], blocks)
    lost = [
        sum(was and not still for was, still in zip(one.found, other.found, strict=True))
        for one, other in zip(before, scores, strict=True)
    ]
    verdict = None
    if limit is not None:
        blank = replace(blank, min_accuracy=limit.value)
        counted = {block for block, one in zip(blocks, scores, strict=True) if one.n}
        verdict = limit_rules.judge_share(limit, accuracy, len(counted))
    reason = _reason(blank, accuracy, failed, len(answers) - len(rows), verdict)
    result = replace(
        blank,
        accuracy=accuracy,
        success=clustered_counts(lost, [one.hits for one in before], blocks),
        not_applicable=len(answers) - len(rows),
        failed=len(failed),
        passed=not reason and blank.min_accuracy > 0,
        reason=reason,
        verdict="failed" if reason else "passed" if blank.min_accuracy > 0 else "measured",
        false_boxes=sum(one.false_boxes for one in scores),
    )
    return result, verdict


def _reason(
    case: CaseResult, accuracy: Proportion, failed: Sequence[Attacked], not_applicable: int, verdict: Verdict | None
) -> str:
    if failed:
        return f"{len(failed)} images without an answer, the first: {getattr(failed[0].outcome, 'error', '')}"
    if not accuracy.n and not not_applicable:
        return "no image shows anything that could be lost"
    if not accuracy.n:
        return f"the injection was not made for any of these {'boxes' if case.counted == 'boxes' else 'images'}"
    if verdict is not None:
        return verdict.reason
    if accuracy.share < case.min_accuracy:
        what = JUDGED_WORDS[case.judged]
        if case.counted == "boxes" and case.judged == "accuracy":
            what = "share of true boxes found,"
        return f"{what} {100 * accuracy.share:.1f} % is below the limit"
    return ""
