"""Runs the self test in the injection process while frames go on being answered, and fills diagnostic_msgs/SelfTest.

A thread of its own waits for that process. One test at a time, and not at once after another: a client that asks in a
loop must not take the processor from the rest of the vehicle. A cancelled test has not passed.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from diagnostic_msgs.srv import SelfTest
from rclpy.executors import Executor
from rclpy.task import Future

from lisard_ros import backends
from lisard_ros.errors import LisardError, UsageError
from lisard_ros.evaluation import self_test
from lisard_ros.evaluation.limits import LATENCIES, Verdict
from lisard_ros.evaluation.live_images import LiveFrameCollector, evidence_s
from lisard_ros.evaluation.self_test_report import REPORT_CASE, CaseResult, SelfTestProgress, SelfTestReport
from lisard_ros.inference.pipeline import Pipeline
from lisard_ros.injection_process import self_test_run
from lisard_ros.injection_process.self_test_run import Cancellation, SelfTestResources
from lisard_ros.injection_process.wire import SelfTestOrder
from lisard_ros.node.diagnostics import SelfTestView
from lisard_ros.node.injection_feed import process_limits
from lisard_ros.node.operational_load import OperationalLoad
from lisard_ros.node.parameters import NodeSettings
from lisard_ros.node.snapshot import Snapshot
from lisard_ros.provenance import made
from lisard_ros.reporting import self_test_files
from lisard_ros.reporting.self_test_files import AnswerFigures

_PASSED, _NOT_PASSED = b"\x01", b"\x00"
LIVE_FRAMES = 50  # where self_test.count is 0; they are kept in memory during the test


@dataclass(frozen=True, slots=True)
class SelfTestOutcome:
    """A finished self test: its report, or why there is none.

    unwritten: why no file holds the report that should. page: the file that shows it, '' where none was written.
    """

    report: SelfTestReport | None
    error: str = ""
    unwritten: str = ""
    page: str = ""

    @property
    def passed(self) -> bool:
        """True only if the test ran to its end and every limit holds."""
        return self.report is not None and self.report.passed

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """Each case and each other limit by name, with its result in one line, and where the report was written."""
        if self.report is None:
            return ()
        cases = tuple((case.injection, str(case).removeprefix(f"{case.injection} ")) for case in self.report.cases)
        others = tuple((verdict.metric, _told(verdict)) for verdict in self.report.figures)
        return (*cases, *others, *([(REPORT_CASE, self.page)] if self.page else []))

    @property
    def summary(self) -> str:
        """The outcome in one sentence."""
        if self.report is None:
            return self.error
        return f"{self.report.summary}; {self.unwritten}" if self.unwritten else self.report.summary


class SelfTestRunner:
    """At most one self test at a time; a thread waits for each."""

    def __init__(self) -> None:
        """Nothing has run yet."""
        self._thread: threading.Thread | None = None
        self._cancellation = Cancellation()
        self._began_s = self._ended_s = -math.inf  # time.monotonic
        self._answer: Future[SelfTestOutcome] | None = None
        self._progress: SelfTestProgress | None = None
        self.last: SelfTestOutcome | None = None

    @property
    def running(self) -> bool:
        """Whether a test is under way."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def view(self) -> SelfTestView | None:
        """How far the test is that is under way; None where none is."""
        if not self.running:
            return None
        return SelfTestView(self._progress, time.monotonic() - self._began_s)

    def start(
        self,
        snapshot: Snapshot,
        executor: Executor,
        load: OperationalLoad,
        collector: LiveFrameCollector | None = None,
    ) -> Future[SelfTestOutcome] | str:
        """Start a test and return what its outcome will be in; or in words why none may start now.

        load: of the operational answers, for the report. collector: gives live frames; None: reference images.
        """
        if self.running:
            return "a self test is under way: wait for it or call ~/cancel_self_test"
        wait_s = self._ended_s + snapshot.settings.self_test_min_interval_s - time.monotonic()
        if wait_s > 0:
            return f"a self test has just ended: call again in {math.ceil(wait_s)} s (self_test.min_interval_s)"
        self._cancellation = Cancellation()  # a test that was left behind keeps its own
        done: Future[SelfTestOutcome] = Future(executor=executor)
        self._thread = threading.Thread(
            target=self._run,
            args=(snapshot, self._cancellation, executor, done, load, collector),
            name="lisard_self_test",
            daemon=True,
        )
        self._answer = done
        self._progress, self._began_s = None, time.monotonic()
        self._thread.start()
        return done

    def cancel(self) -> bool:
        """Ask a running test to end with what it has; return whether there was one."""
        self._cancellation.ask()
        return self.running

    def stop(self, limit_s: float) -> tuple[threading.Thread, ...]:
        """Cancel at once and wait up to `limit_s` for the end; return the thread if it is left behind."""
        self._cancellation.ask(at_once=True)
        thread, self._thread = self._thread, None
        if thread is None:
            return ()
        thread.join(limit_s)
        if not thread.is_alive():
            return ()
        self.last = SelfTestOutcome(None, f"the self test did not end within {limit_s:g} s")
        if self._answer is not None:
            self._answer.set_result(self.last)
        return (thread,)

    def run_now(self, snapshot: Snapshot) -> SelfTestOutcome:
        """Test the reference images while the calling thread waits, with all threads: nothing is answered meanwhile."""
        threads = snapshot.settings.threads or backends.default_threads()
        resources = SelfTestResources(process_limits(snapshot.settings), threads, lowest=False)
        self.last = self._outcome(snapshot, resources, Cancellation(), OperationalLoad(), None)
        self._ended_s = time.monotonic()
        return self.last

    def _run(
        self,
        snapshot: Snapshot,
        cancellation: Cancellation,
        executor: Executor,
        done: Future[SelfTestOutcome],
        load: OperationalLoad,
        collector: LiveFrameCollector | None,
    ) -> None:
        settings = snapshot.settings
        resources = SelfTestResources(process_limits(settings), max_share=settings.self_test_max_share)
        outcome = self._outcome(snapshot, resources, cancellation, load, collector)
        if done.done():
            return  # left behind meanwhile, and answered
        self.last, self._ended_s = outcome, time.monotonic()
        executor.create_task(done.set_result, outcome)  # wakes the executor, which set_result alone does not

    def _outcome(
        self,
        snapshot: Snapshot,
        resources: SelfTestResources,
        cancellation: Cancellation,
        load: OperationalLoad,
        collector: LiveFrameCollector | None,
    ) -> SelfTestOutcome:
        """Run a test and write its report; whatever goes wrong is an outcome that has not passed."""
        settings = snapshot.settings
        try:
            live = None
            if collector is not None:
                live = collector.wait(settings.self_test_live_wait_s, cancellation.asked.is_set)
            if cancellation.asked.is_set():
                raise UsageError(self_test_run.CANCELLED)
            with load.attacked():  # collecting frames takes nothing from the answers
                finished = self_test_run.run(
                    snapshot.pipeline, _order(snapshot), resources, cancellation, self._follow, live, snapshot.surrogate
                )
        except LisardError as error:
            return SelfTestOutcome(None, str(error))
        except Exception as error:  # the caller waits for an answer; a bug is one that says "not passed"
            return SelfTestOutcome(None, f"the self test broke: {type(error).__name__}: {error}")
        report = finished.report
        if not settings.self_test_report:
            return SelfTestOutcome(report)
        try:
            folder = Path(settings.self_test_report)
            page = self_test_files.write(report, folder, made(), _figures(load), finished.examples)
        except LisardError as error:
            return SelfTestOutcome(report, unwritten=str(error))
        except Exception as error:  # as above: the result is here, and the caller waits for it
            return SelfTestOutcome(report, unwritten=f"the report broke: {type(error).__name__}: {error}")
        return SelfTestOutcome(report, page=str(page.resolve()))

    def _follow(self, progress: SelfTestProgress) -> None:
        self._progress = progress


def _order(snapshot: Snapshot) -> SelfTestOrder:
    """What the settings ask for; NAME=LIMIT of the user is judged by the rule of `evaluation.limits`."""
    settings = snapshot.settings
    words, limits = self_test.with_limits(snapshot.pipeline.bundle, settings.self_test_suite, ())
    shown = bool(settings.self_test_report)
    return SelfTestOrder(
        settings.self_test_count,
        words,
        settings.self_test_seed,
        limits,
        examples=shown,
        block_s=settings.self_test_block_s,
    )


def collector_for(settings: NodeSettings) -> LiveFrameCollector:
    """Return what collects live frames: over as much time as the limits of the suite ask for."""
    limited = [word.partition("=")[0] for word in settings.self_test_suite if "=" in word]
    over_s = evidence_s(limited, settings.self_test_block_s)
    return LiveFrameCollector(settings.self_test_count or LIVE_FRAMES, over_s)


def _figures(load: OperationalLoad) -> tuple[AnswerFigures, ...]:
    """The operational answers while attacks ran, and while none did; those that there are."""
    kinds = {"with attacks": load.load(attacked=True), "without attacks": load.load(attacked=False)}
    return tuple(
        AnswerFigures(name, one.frames, one.rate_hz, one.p50_ms, one.p99_ms)
        for name, one in kinds.items()
        if one.frames
    )


def fill(response: SelfTest.Response, outcome: SelfTestOutcome, identity: str) -> SelfTest.Response:
    """Fill a SelfTest response: a status for each attack and limit; `passed`: a limit was set, and all hold."""
    response.id = identity
    response.passed = _PASSED if outcome.passed else _NOT_PASSED
    if outcome.report is None or not outcome.report.cases:
        response.status = [_status("self_test", False, outcome.summary, ())]
        return response
    cases = outcome.report.cases
    response.status = [_status(case.injection, case.verdict != "failed", str(case), _values(case)) for case in cases]
    others = [_status(one.metric, one.passed, _told(one), _judged(one)) for one in outcome.report.figures]
    response.status = [*response.status, *others]
    if outcome.unwritten:
        response.status = [*response.status, _status(REPORT_CASE, False, outcome.unwritten, ())]
    if outcome.report.cancelled:
        response.status = [*response.status, _status("self_test", False, "cancelled", ())]
    return response


def identity(pipeline: Pipeline) -> str:
    """Name and hash of the bundle, and of the detector in front."""
    bundles = [pipeline.bundle] + ([pipeline.detector.bundle] if pipeline.detector is not None else [])
    return ", detector ".join(f"{bundle.manifest.name} {bundle.sha256}" for bundle in bundles)


def _values(case: CaseResult) -> tuple[tuple[str, str], ...]:
    false_boxes = (("false_boxes", str(case.false_boxes)),) if case.counted == "boxes" else ()
    return (
        ("knowledge", case.knowledge),
        ("accuracy", f"{case.accuracy.share:.4f}" if case.accuracy.n else ""),
        (case.counted, str(case.accuracy.n)),
        *false_boxes,
        ("not_applicable", str(case.not_applicable)),
        ("failed", str(case.failed)),
        ("min_accuracy", f"{case.min_accuracy:.4f}"),
        ("verdict", case.verdict),
    )


def _told(verdict: Verdict) -> str:
    """One line of a limit that is of no case, with what was measured."""
    unit = " ms" if verdict.metric in LATENCIES else ""
    limit = f"{verdict.judged:.4g}{unit}, limit {verdict.limit:g}{unit}"
    return f"{limit}: {'passed' if verdict.passed else f'FAILED: {verdict.reason}'}"


def _judged(verdict: Verdict) -> tuple[tuple[str, str], ...]:
    return (
        ("judged", f"{verdict.judged:.4f}"),
        ("limit", f"{verdict.limit:g}"),
        ("verdict", "passed" if verdict.passed else "failed"),
    )


def _status(name: str, good: bool, message: str, values: tuple[tuple[str, str], ...]) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=DiagnosticStatus.OK if good else DiagnosticStatus.ERROR,
        name=name,
        message=message,
        values=[KeyValue(key=key, value=value) for key, value in values],
    )
