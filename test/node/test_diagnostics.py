"""What /diagnostics says in each situation."""

from __future__ import annotations

from dataclasses import replace

from builtin_interfaces.msg import Time

from lisard_ros.evaluation.self_test_report import SelfTestProgress
from lisard_ros.evaluation.statistics import Percentiles
from lisard_ros.injection_process.counters import InjectionCounts
from lisard_ros.injection_process.supervisor import InjectionStatus
from lisard_ros.node import diagnostics
from lisard_ros.node.diagnostics import ERROR, OK, WARN, CameraView, InjectionView, ModelView, SelfTestView
from lisard_ros.node.frame_counters import Counts
from lisard_ros.node.operational_load import Load


def view(**changes: object) -> CameraView:
    counts = Counts(received=100, answered=90, replaced=10, lost_in_transport=5)
    values: dict[str, object] = {
        "camera": "front",
        "topic": "/front/image_raw",
        "reliability": "best_effort",
        "counts": counts,
        "percentiles": {"infer": Percentiles(90, 1.0, 2.0, 3.0, 4.0)},
        "rate_hz": 29.97,
    }
    return CameraView(**{**values, **changes})  # type: ignore[arg-type]


def test_a_healthy_camera_shows_rate_counts_and_percentiles() -> None:
    status = diagnostics.camera_status(view())
    values = dict(status.values)
    assert (status.level, status.message) == (OK, "30.0 Hz")
    assert (values["received"], values["replaced"], values["pending"]) == ("100", "10", "0")
    assert (values["infer_p50_ms"], values["infer_p95_ms"], values["infer_p99_ms"]) == ("1.00", "2.00", "3.00")


def test_loss_above_one_percent_names_topic_count_and_cure() -> None:
    assert diagnostics.camera_status(view(lost_recently=1, loss_share=0.01)).level == OK
    status = diagnostics.camera_status(view(lost_recently=5, loss_share=0.05))
    assert status.level == WARN
    assert "/front/image_raw: 5 frames (5.0 %) lost in transport" in status.message
    assert "PUBLISHES" in status.message and "config/fastdds_shm.xml" in status.message


def test_failures_of_the_model_are_errors_and_come_first() -> None:
    failing = view(new_failures={"bad_image": 2, "bad_output": 1}, last_failure="NaN", silence="no image on /x")
    status = diagnostics.camera_status(failing)
    assert status.level == ERROR
    assert status.message.startswith("1 frames failed (bad_output), the last: NaN; ")
    assert diagnostics.camera_status(view(new_failures={"bad_image": 2})).level == WARN


def test_a_backend_that_does_not_return_is_an_error_and_what_is_left_of_it_a_warning() -> None:
    assert diagnostics.camera_status(view(new_failures={"stuck": 1})).level == ERROR
    status = diagnostics.model_status(ModelView("active", reloaded=True, threads_left_behind=2))
    assert status.level == WARN and dict(status.values)["threads_left_behind"] == "2"
    assert "the next time the node exits" in status.message and "does not return: 2" in status.message


def test_the_model_and_the_node() -> None:
    good = diagnostics.model_status(ModelView("active", "signs", "ab" * 32, "ONNX Runtime", "auto: because"))
    assert (good.level, good.message) == (OK, "active") and dict(good.values)["backend_reason"] == "auto: because"
    bad = diagnostics.model_status(ModelView("unconfigured", failure="no bundle", namesakes=1, clock_stands=True))
    assert bad.level == ERROR and bad.message.startswith("no bundle; ")
    assert "2 nodes have this name" in bad.message and "/clock is silent" in bad.message


def test_the_detector_in_front_is_named() -> None:
    alone = dict(diagnostics.model_status(ModelView("active", "signs")).values)
    assert "detector" not in alone
    view = ModelView("active", "signs", detector="street", detector_sha256="ab" * 32, detector_backend="ONNX Runtime")
    values = dict(diagnostics.model_status(view).values)
    assert (values["detector"], values["detector_backend"]) == ("street", "ONNX Runtime")


def test_what_a_backend_has_to_say_is_a_warning() -> None:
    view = ModelView("active", backend_warnings=("engine ab12 is unverified", "running on the CPU instead of tensorrt"))
    status = diagnostics.model_status(view)
    assert status.level == WARN and "is unverified; running on the CPU instead of tensorrt" in status.message


def test_injection_self_test_and_boxes() -> None:
    off = InjectionView(False, ("noise",), InjectionStatus(), InjectionCounts(), Load(), Load())
    assert diagnostics.injection_status(off).level == OK
    by_name = {"noise": 2, "detector/noise": 1}
    counts = InjectionCounts(9, answered=3, not_applicable=2, no_regions=1, failed={"hung": 2}, answered_by=by_name)
    view = replace(off, enabled=True, names=("noise", "universal"), counts=counts, load_without=Load(600, 24.0, 9, 20))
    on = diagnostics.injection_status(view)
    values = dict(on.values)
    assert on.level == WARN and "noise, universal" in on.message
    shown = [values[key] for key in ("not_applicable", "no_regions", "failed", "failed_hung")]
    assert shown == ["2", "1", "2", "2"]
    assert (values["answered_noise"], values["answered_detector/noise"]) == ("2", "1")
    assert values["pending"] == "1"
    assert (values["operational_without_rate_hz"], values["operational_with_frames"]) == ("24.00", "0")
    waiting = replace(view, process=InjectionStatus("waiting to start again", "it was killed (SIGKILL)", failures=1))
    assert diagnostics.injection_status(waiting).level == WARN
    assert "started again: it was killed (SIGKILL)" in diagnostics.injection_status(waiting).message
    given_up = diagnostics.injection_status(replace(waiting, process=InjectionStatus("given up", "why", failures=5)))
    assert given_up.level == ERROR and given_up.message.startswith("the injection process ended 5 times in a row")
    assert diagnostics.self_test_status(None, "not run").level == OK
    assert diagnostics.self_test_status(False, "FAILED: 0 of 2").level == ERROR
    assert diagnostics.self_test_status(True, "passed; cannot write the report", unwritten=True).level == WARN
    told = diagnostics.self_test_status(True, "passed", [("detector/clean", "(none): 90.0 %, limit 80.0 %: passed")])
    assert dict(told.values) == {"passed": "1", "detector/clean": "(none): 90.0 %, limit 80.0 %: passed"}
    starting = diagnostics.self_test_status(None, "not run", (), SelfTestView(None, 0.2))
    assert (starting.level, starting.message) == (OK, "under way: starting, 0 s")
    step = SelfTestProgress(2, 5, "noise", 32, 100)
    again = diagnostics.self_test_status(False, "FAILED: 0 of 2", (), SelfTestView(step, 12.34))
    assert again.level == ERROR and again.message.endswith("32 of 100 images, 12 s; the last: FAILED: 0 of 2")
    shown = [dict(again.values)[key] for key in ("case", "case_name", "images", "elapsed_s", "last", "passed")]
    assert shown == ["2 of 5", "noise", "32 of 100", "12.3", "FAILED: 0 of 2", "0"]
    assert diagnostics.boxes_status("/b", 4, 1).message == "4 received, 1 without a frame"


def test_the_message_carries_level_name_and_values() -> None:
    statuses = [diagnostics.camera_status(view(lost_recently=9, loss_share=0.5))]
    message = diagnostics.to_message(statuses, "/ns/perception", "signs", Time(sec=5))
    (status,) = message.status
    assert status.level == b"\x01" and status.name == "/ns/perception: camera front" and status.hardware_id == "signs"
    assert {kv.key: kv.value for kv in status.values}["lost_in_transport"] == "5"
