"""The injection process, for real: its answers, its end by every cause, and that every copy is accounted for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import wait_until  # found by conftest.py

from lisard_ros import injection as stage
from lisard_ros.frames import Frame, Result
from lisard_ros.inference.pipeline import Pipeline, open_pipeline
from lisard_ros.injection_process import supervisor
from lisard_ros.injection_process.watch import ProcessLimits
from lisard_ros.injection_process.wire import InjectionPlan

ROOT = Path(__file__).resolve().parents[3]
Start = Callable[..., Any]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def inline(pipeline: Pipeline, frame: Frame, name: str) -> Any:
    """The answer to an attacked copy in this process."""
    first = pipeline.detector.bundle if pipeline.detector is not None else None
    injection = stage.make_staged(pipeline.bundle, first, name, sigma_255=16.0, seed=3)
    (attacked,) = pipeline.answer_attacked(pipeline.prepare([frame]), injection)
    return attacked.outcome


def references(pipeline: Pipeline) -> Frame:
    """A frame that the stored perturbation of `tiny.armed` was made for, in another order of colours, strided."""
    with np.load(pipeline.bundle.path / "references.npz") as stored:
        rgb = stored["frames"][0]
    wide = np.zeros((rgb.shape[0], 2 * rgb.shape[1], 3), np.uint8)
    wide[:, ::2] = rgb[..., ::-1]
    return Frame(wide[:, ::2], "bgr", 5, "optical", "front")


def test_it_answers_as_the_pipeline_does_for_every_kind_of_injection(tiny: Any, injecting: Start) -> None:
    pipeline = tiny.pipeline(tiny.armed())
    names = ("noise", "universal", "fgsm", "corruption/fog/3", "corruption/jpeg_compression/5")
    running = injecting(pipeline, *names)
    frame = references(pipeline)
    number = running.offer(frame)
    counts = running.settled()
    assert (counts.offered, counts.answered) == (5, 5), running.reports
    for name, answer in running.answers_to(number).items():
        expected = inline(pipeline, frame, name)
        assert isinstance(expected, Result) and answer.classification == expected.classification, name
    assert [answer.injection for _, answer in running.answers] == list(names)


def test_an_attack_by_queries_asks_the_engine_of_the_process(tiny: Any, injecting: Start) -> None:
    pipeline = tiny.pipeline(tiny.armed())
    running = injecting(pipeline, "attack/square100/4")
    number = running.offer(references(pipeline))
    assert running.settled().answered == 1, running.reports
    assert running.answers_to(number)["attack/square100/4"].classification is not None


def test_noise_goes_on_from_frame_to_frame(tiny: Any, injecting: Start) -> None:
    pipeline = tiny.pipeline(tiny.classifier())
    running = injecting(pipeline, "noise")
    frame = Frame(np.full((16, 16, 3), 128, np.uint8), "rgb", 1, "", "front")
    for _ in range(2):
        running.offer(frame)
        running.settled()
    first, second = (answer.classification for _, answer in running.answers)
    assert first != second


def test_injections_of_both_stages_and_frames_without_boxes(tiny: Any, injecting: Start) -> None:
    detector = tiny.armed_detector()
    both = open_pipeline(tiny.classifier(roi_classes=("red",)).path, threads=1, detector=detector.path)
    running = injecting(both, "noise", "detector/pgd")
    known = Frame(np.full((32, 32, 3), 100, np.uint8), "rgb", 0, "", "front")
    number = running.offer(known)
    running.settled()
    answers = running.answers_to(number)
    expected = inline(both, known, "detector/pgd")
    assert isinstance(expected, Result) and answers["detector/pgd"].detections == expected.detections
    assert len(answers["noise"].detections.items) == 2
    running.offer(known, ())
    counts = running.settled()
    assert counts.no_regions == 1 and counts.not_applicable == 0, "no box to attack, whatever the attack is"
    running.offer(Frame(np.full((32, 32, 3), 7, np.uint8), "rgb", 0, "", "front"))
    assert running.settled().not_applicable == 1, "the stored perturbation was not made for this frame"


def test_a_plan_can_change_while_it_runs(tiny: Any, injecting: Start) -> None:
    pipeline = tiny.pipeline(tiny.armed())
    running = injecting(pipeline, "noise")
    frame = references(pipeline)
    running.offer(frame)
    running.settled()
    pid = running.pid
    running.supervisor.use(InjectionPlan(("universal", "corruption/fog/1"), 16.0, 3, answer=pipeline.settings))
    number = running.offer(frame)
    running.settled()
    assert set(running.answers_to(number)) == {"universal", "corruption/fog/1"} and running.pid == pid


@pytest.mark.parametrize(
    ("number", "cause", "words"),
    [(signal.SIGKILL, "ended", "SIGKILL"), (signal.SIGSEGV, "ended", "SIGSEGV"), (signal.SIGSTOP, "hung", "state T")],
)
def test_it_is_started_again_after_a_crash_or_a_hang(
    number: int, cause: str, words: str, tiny: Any, injecting: Start
) -> None:
    pipeline = tiny.pipeline(tiny.armed())
    limits = ProcessLimits(hang_s=1.5 if number == signal.SIGSTOP else 60.0)
    running = injecting(pipeline, "noise", "universal", limits=limits)
    frame = references(pipeline)
    running.offer(frame)
    running.settled()
    first = running.pid
    wait_until(lambda: running.supervisor._wants_frame, "it to ask for a frame")
    os.kill(first, signal.SIGSTOP)  # so that the frame is open when it ends
    running.offer(frame)
    wait_until(lambda: not running.supervisor._waiting, "the frame to be handed over")
    if number != signal.SIGSTOP:
        os.kill(first, number)
        os.kill(first, signal.SIGCONT)
    wait_until(lambda: running.supervisor.status.starts == 2, "another start")
    assert words in running.supervisor.status.cause
    assert not alive(first)
    counts = running.settled()
    assert dict(counts.failed) == {cause: 2}
    last = running.offer(frame)
    counts = running.settled()
    assert set(running.answers_to(last)) == {"noise", "universal"} and counts.answered == 4
    assert any("started again in" in text and words in text for text in running.reports)


def test_it_is_given_up_when_it_ends_again_and_again(tiny: Any, injecting: Start) -> None:
    pipeline = tiny.pipeline(tiny.armed())
    running = injecting(pipeline, "noise", limits=ProcessLimits(memory_mb=64))
    number = running.offer(references(pipeline))
    wait_until(lambda: running.supervisor.status.state == supervisor.GIVEN_UP, f"it to be given up {running.reports}")
    status = running.supervisor.status
    assert status.starts == status.failures == supervisor.MOST_STARTS and "memory" in status.cause, status
    wait_until(lambda: running.counts.pending == 0, "what waited to be counted")
    # On a busy machine the process may answer before its memory is looked at.
    counts, answers = running.counts, len(running.answers_to(number))
    assert counts.answered == answers and counts.replaced + answers == 1, counts
    running.offer(references(pipeline))
    assert running.counts.offered == 1, "nothing is offered to it any more"


def test_a_process_that_takes_too_much_memory_is_ended(tiny: Any, injecting: Start) -> None:
    pipeline = tiny.pipeline(tiny.armed())
    running = injecting(pipeline, "noise")
    pid = running.pid
    running.supervisor._limits = ProcessLimits(memory_mb=1)  # as if it had grown
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "MiB" in running.supervisor.status.cause, f"the limit to be noticed: {running.reports}")
    assert "injection.max_memory_mb" in running.supervisor.status.cause


def test_a_model_that_cannot_be_opened_there_is_reported(tiny: Any, injecting: Start) -> None:
    pipeline = tiny.pipeline(tiny.classifier())
    pipeline.choice = type(pipeline.choice)(pipeline.choice.backend, "given", "onnxruntime", "fp16")
    running = injecting(pipeline, "noise")
    wait_until(lambda: "no fp16 model" in running.supervisor.status.cause, "the reason")


def test_the_newest_frame_of_each_camera_is_taken_and_the_others_are_counted(tiny: Any, injecting: Start) -> None:
    pipeline = tiny.pipeline(tiny.classifier())
    running = injecting(pipeline, "noise", "corruption/contrast/1")
    wait_until(lambda: running.supervisor._wants_frame, "it to ask for a frame")
    os.kill(running.pid, signal.SIGSTOP)
    frames = [Frame(np.full((4, 4, 3), 9, np.uint8), "rgb", n, "", camera) for n in range(9) for camera in ("a", "b")]
    running.offer(frames[0])
    wait_until(lambda: not running.supervisor._waiting, "the first frame to be taken")
    numbers = [running.offer(frame) for frame in frames[1:]]
    assert running.counts.replaced == 2 * (len(numbers) - 2)
    os.kill(running.pid, signal.SIGCONT)
    counts = running.settled()
    assert counts.offered == 2 * len(frames) and counts.answered == 2 * 3
    assert {context for context, _ in running.answers} == {1, *numbers[-2:]}


def test_fraction_and_cameras_choose_frames(tiny: Any, injecting: Start) -> None:
    pipeline = tiny.pipeline(tiny.classifier())
    running = injecting(pipeline, "noise", fraction=0.25, cameras=("a",))
    for number in range(8):
        for camera in ("a", "b"):
            running.offer(Frame(np.full((4, 4, 3), 9, np.uint8), "rgb", number, "", camera))
    assert running.counts.offered == 2
    assert running.settled().failed_total == 0


def test_it_keeps_to_its_share(tiny: Any, injecting: Start) -> None:
    """A share of a hundredth leaves the process asleep nearly all the time, whatever the machine."""
    pipeline = tiny.pipeline(tiny.classifier())
    running = injecting(pipeline, "corruption/fog/3", max_share=0.01)
    frame = Frame(np.full((48, 64, 3), 128, np.uint8), "rgb", 1, "", "front")
    pid = running.pid
    numbers = []
    for _ in range(3):
        numbers.append(running.offer(frame))
        running.settled()
    pauses = [answer.pause_s for _, answer in running.answers]
    assert all(pause > 0 for pause in pauses) and running.pid == pid, "a long pause is no hang"


def test_stop_is_fast_and_leaves_nothing(tiny: Any, injecting: Start) -> None:
    pipeline = tiny.pipeline(tiny.armed())
    frame = references(pipeline)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        running = injecting(pipeline, "noise")
        pid = running.pid
        wait_until(lambda made=running: made.supervisor._wants_frame, "it to ask for a frame")
        os.kill(pid, signal.SIGSTOP)  # a process that cannot end by itself
        running.offer(frame)
        assert running.supervisor.stop(5.0) == ()
        assert not Path(f"/proc/{pid}").exists(), "no zombie"
        assert running.counts.pending == 0 and running.supervisor.status.state == supervisor.OFF
        running.supervisor.stop = lambda limit_s: ()
    assert len(os.listdir("/proc/self/fd")) <= before


PARENT = """
import sys, time
from lisard_ros.inference.pipeline import open_pipeline
from lisard_ros.injection_process.counters import InjectionCounters
from lisard_ros.injection_process.supervisor import InjectionSupervisor
from lisard_ros.injection_process.watch import ProcessLimits
from lisard_ros.injection_process.wire import InjectionPlan
made = InjectionSupervisor(
    open_pipeline(sys.argv[1]), InjectionPlan(("noise",), 16.0, 0), ProcessLimits(), InjectionCounters(), print, print
)
while made.status.state != "running":
    time.sleep(0.01)
print(made.status.pid, flush=True)
time.sleep(100)
"""


def test_it_ends_with_a_parent_that_is_killed(tiny: Any) -> None:
    command = [sys.executable, "-c", PARENT, str(tiny.armed().path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        line = next(line for line in parent.stdout if line.strip().isdigit())
        assert alive(int(line))
        parent.kill()
    wait_until(lambda: not alive(int(line)), "the injection process to end", 10)


def test_a_bug_of_the_publisher_costs_one_copy(tiny: Any, injecting: Start) -> None:
    pipeline = tiny.pipeline(tiny.armed())
    running = injecting(pipeline, "noise", "universal")
    publish = running.supervisor._publish

    def broken(context: int, answer: Any, plan: InjectionPlan) -> None:
        if answer.injection == "noise":
            raise RuntimeError("no such topic")
        publish(context, answer, plan)

    running.supervisor._publish = broken
    running.offer(references(pipeline))
    counts = running.settled()
    assert (counts.answered, dict(counts.failed)) == (1, {"internal": 1})
    assert any("no such topic" in text for text in running.reports)


def test_it_has_the_lowest_priority(tiny: Any, injecting: Start) -> None:
    running = injecting(tiny.pipeline(tiny.classifier()), "noise")
    pid = running.pid
    assert os.sched_getscheduler(pid) == os.SCHED_IDLE or os.getpriority(os.PRIO_PROCESS, pid) == 19
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"
    assert running.supervisor.status.priority in ("SCHED_IDLE", "nice 19")
