"""Faults in real processes: does the node answer again after each of them, and is every frame accounted for?

Run: python bench/faults.py [FAULT ...] [--size N] [--bundle BUNDLE]. Each fault has a size of its own (messages,
frames, rounds or cycles); --short is what `make test` runs. Prints one line of JSON for each fault; exit status 1 when
a finding does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.srv import SelfTest
from fault_world import (
    Camera,
    FaultError,
    Finding,
    Ticking,
    Usage,
    World,
    compressed_garbage,
    garbage,
    image,
    wait_for,
)
from lifecycle_msgs.srv import ChangeState
from processes import ROOT
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from sensor_msgs.msg import CompressedImage
from std_srvs.srv import SetBool, Trigger

# What memory may grow by (MB). Allocators keep some; a leak of what comes with each message would be far more.
GROWTH_MB = 30.0
COMPRESSED, COMPRESSED_CAMERA = "/faults/jpeg/image_raw/compressed", "faults/jpeg"


def publisher(bundle: Path, frames: int) -> list[Finding]:
    """The publisher dies and returns; its images change size and encoding in mid-stream."""
    findings = []
    sent = 0
    with World(bundle) as world:
        kinds = [(64, 48, "rgb8"), (200, 120, "bgr8"), (33, 77, "mono8"), (640, 480, "rgb8")]
        for life, (width, height, encoding) in enumerate(kinds):
            camera = Camera(world)
            camera.wait_for_node()
            camera.begin(image(width, height, encoding))
            for _ in range(frames):
                camera.send(image(width, height, encoding))
                time.sleep(0.01)
            for _ in range(3):
                camera.send(garbage(0))
                camera.send(image(*kinds[life - 1]))
            last = camera.send(image(width, height, encoding))
            wait_for(lambda last=last: last in world.answers, f"an answer in life {life}")
            camera.close()
            sent += camera.sent
            wait_for(lambda: not world.node.count_publishers("/faults/cam/image_raw"), "the publisher to be gone")
        findings.append(world.accounting(sent))
        bad = world.counts().failed - world.counts().causes.get("bad_image", 0)
        findings.append(Finding("nothing but bad images fails", bad == 0, str(dict(world.counts().causes))))
        findings.append(world.healthy())
    return findings


def garbage_at_full_rate(bundle: Path, messages: int) -> list[Finding]:
    """Images that cannot be decoded, as fast as they can be published, raw and compressed."""
    with World(bundle, image_topics=f"/faults/cam/image_raw,{COMPRESSED}") as world:
        camera, jpegs = Camera(world), Camera(world, CompressedImage, COMPRESSED)
        camera.wait_for_node()
        jpegs.wait_for_node()
        camera.begin(image())
        jpegs.send(compressed_garbage(0))
        wait_for(lambda: world.counts(COMPRESSED_CAMERA).received, "the first compressed image")
        before = world.process.usage()
        for number in range(messages // 2):
            camera.send(garbage(number))
            jpegs.send(compressed_garbage(number))
        last = camera.send(image())
        wait_for(lambda: last in world.answers, "an answer after the garbage")
        return [
            world.accounting(camera.sent),
            world.accounting(jpegs.sent, COMPRESSED_CAMERA),
            grown(before, world.process.usage()),
            Finding("the log is bounded", len(world.process.lines) < 200, f"{len(world.process.lines)} lines"),
            world.healthy(),
        ]


def model_file(bundle: Path, rounds: int) -> list[Finding]:
    """The model's file is deleted or damaged while the node runs, and before it is configured again."""
    findings = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "bundle"
        shutil.copytree(bundle, copy)
        model = next(copy.glob("*.onnx"))
        sound = model.read_bytes()
        with World(copy) as world:
            changes = world.client(ChangeState, "change_state")
            damages: list[Callable[[], object]] = [
                model.unlink,
                lambda: model.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1])),
                lambda: model.write_bytes(b""),
                lambda: (copy / "bundle.json").write_text("{"),
                lambda: shutil.rmtree(copy),
            ]
            manifest = (copy / "bundle.json").read_bytes()
            for number in range(rounds):
                camera = Camera(world)
                camera.wait_for_node()
                camera.begin(image())
                damages[number % len(damages)]()
                last = camera.send(image())
                wait_for(lambda last=last: last in world.answers, "an answer by the model in memory")
                findings.append(world.accounting(camera.sent))
                ended = world.change(changes, "deactivate") and world.change(changes, "cleanup")
                refused = not world.change(changes, "configure")
                wait_for(lambda: world.value("model", "state") == "unconfigured", "the state")
                wait_for(lambda: "bundle" in world.messages["model"], "words about the bundle in /diagnostics")
                copy.mkdir(exist_ok=True)
                for file in bundle.iterdir():
                    if file.is_file():
                        shutil.copy(file, copy)
                model.write_bytes(sound)
                (copy / "bundle.json").write_bytes(manifest)
                works = world.change(changes, "configure") and world.change(changes, "activate")
                seen = f"round {number}: ended {ended}, refused {refused}, works again {works}"
                findings.append(Finding("a damaged bundle is refused with words", ended and refused, seen))
                findings.append(Finding("a repaired one works", works, seen))
                camera.close()
            findings += [other_bundle(world, changes, copy), world.healthy()]
    return findings


def other_bundle(world: World, changes: Any, folder: Path) -> Finding:
    """Replace the bundle by another valid one while it runs; it counts from the next time it is configured."""
    manifest = json.loads((folder / "bundle.json").read_bytes())
    (folder / "bundle.json").write_text(json.dumps({**manifest, "name": "replaced"}))
    kept = wait_for(lambda: world.value("model", "bundle"), "the name of the bundle")
    done = all(world.change(changes, step) for step in ("deactivate", "cleanup", "configure", "activate"))
    wait_for(lambda: world.value("model", "bundle") not in ("", kept), "another name")
    seen = f"{kept} until it was configured again, then {world.value('model', 'bundle')}"
    return Finding("another bundle is taken when it is configured again", done and seen.endswith("replaced"), seen)


def full_disk(bundle: Path, frames: int) -> list[Finding]:
    """The cache lies on a disk that is full, or in a place that is no folder."""
    findings = []
    topics = f"/faults/cam/image_raw,{COMPRESSED}"  # with two cameras the node wants to keep what it has measured
    with tempfile.TemporaryDirectory() as folder:
        nowhere = Path(folder) / "file"
        nowhere.write_text("no folder")
        findings += answers_with(bundle, frames, {"LISARD_CACHE": str(nowhere)}, topics)
        with small_disk(Path(folder) / "disk") as disk:
            if disk is None:
                findings.append(Finding("a full disk: NOT RUN", True, "this process may not mount a tmpfs"))
                return findings
            (disk / "ros").mkdir()
            with (disk / "fill").open("wb", buffering=0) as fill, suppress(OSError):
                while True:
                    fill.write(b"\0" * 4096)
            given = {"LISARD_CACHE": str(disk), "ROS_LOG_DIR": str(disk / "ros")}
            findings += answers_with(bundle, frames, given, topics)
    return findings


def answers_with(bundle: Path, frames: int, given: dict[str, str], topics: str) -> list[Finding]:
    """Answer frames with these variables set."""
    with World(bundle, given, image_topics=topics) as world:
        camera = Camera(world)
        camera.wait_for_node()
        camera.begin(image())
        for _ in range(frames):
            last = camera.send(image())
        wait_for(lambda: last in world.answers, "an answer")
        return [world.accounting(camera.sent), world.healthy()]


@contextmanager
def small_disk(path: Path) -> Iterator[Path | None]:
    """A file system of 256 KiB, or None where this process may not make one."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(path)], capture_output=True, check=False
    )
    try:
        yield path if mounted.returncode == 0 else None
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", str(path)], check=False)


def clock(bundle: Path, jumps: int) -> list[Finding]:
    """/clock jumps back and forth while ages are limited; stamps follow it."""
    findings = []
    world = World(bundle, use_sim_time=True, max_age_ms=20_000.0)
    with world, Ticking(world, 10**6 * 10**9) as ticking:
        camera = Camera(world)
        camera.wait_for_node()
        world.set_stamp_ns(ticking.now_ns)
        camera.begin(image())
        back = 0
        for number in range(jumps):
            forward = number % 2 == 0
            ticking.now_ns += (3_600 if forward else -3_700) * 10**9
            back += not forward
            time.sleep(0.1)
            world.set_stamp_ns(ticking.now_ns)
            last = camera.send(image())
            wait_for(lambda last=last: last in world.answers, f"an answer after jump {number}")
        findings.append(world.accounting(camera.sent))
        counted = world.counts().time_jumps_back
        findings.append(Finding("jumps back are counted", counted == back, f"{counted} of {back}"))
        world.set_stamp_ns(ticking.now_ns - 60 * 10**9)
        last = camera.send(image())  # a jump of the stamps alone: the limit is lifted for a second
        wait_for(lambda: last in world.answers, "an answer after the jump")
        time.sleep(1.5)
        camera.send(image())
        wait_for(lambda: world.counts().too_old == 1, "an old frame to be dropped")
        findings.append(world.accounting(camera.sent))
        findings.append(world.healthy())
    return findings


def stopped(bundle: Path, rounds: int) -> list[Finding]:
    """The process is stopped (SIGSTOP) for longer than the deadline of its backend, and goes on."""
    with World(bundle, backend_deadline_s=2.0) as world:
        camera = Camera(world)
        camera.wait_for_node()
        camera.begin(image())
        for _ in range(rounds):
            camera.send(image())
            for number in range(20):
                camera.send(image())
                if number == 10:
                    world.process.process.send_signal(signal.SIGSTOP)
            time.sleep(3.0)
            world.process.process.send_signal(signal.SIGCONT)
            last = camera.send(image())
            wait_for(lambda last=last: last in world.answers, "an answer after SIGCONT")
        found = world.accounting(camera.sent)
        return [found, Finding("nothing is stuck", not world.counts().causes, str(world.counts())), world.healthy()]


def killed(bundle: Path, rounds: int) -> list[Finding]:
    """The process is killed (SIGKILL) in mid-stream and started again."""
    findings = []
    with World(bundle) as world:
        camera = Camera(world)
        camera.wait_for_node()
        camera.begin(image())
        for _ in range(rounds):
            for _ in range(10):
                camera.send(image())
            gone = camera.subscriptions()  # the middleware keeps those of a killed process for some seconds
            world.process.process.send_signal(signal.SIGKILL)
            world.process.process.wait(60)
            world.process = world.start_node()
            camera.wait_for_node(besides=gone)
            camera.begin(image())
            for _ in range(10):
                camera.send(image())
            last = camera.send(image())
            wait_for(lambda last=last: last in world.answers, "an answer after the restart")
            findings.append(world.accounting(camera.sent))
        findings.append(world.healthy())
    return findings


def storm(bundle: Path, rounds: int) -> list[Finding]:
    """Parameters, good and bad, and every service, many at a time, while frames are answered."""
    draw = random.Random(0)
    with World(bundle) as world:
        camera = Camera(world)
        camera.wait_for_node()
        camera.begin(image())
        enable, injection = world.client(SetBool, "enable"), world.client(SetBool, "injection")
        cancel = world.client(Trigger, "cancel_self_test")
        names = ["min_score", "nothing"]
        services = [
            (world.client(SetParameters, "set_parameters"), lambda: changes_of_parameters(draw)),
            (world.client(GetParameters, "get_parameters"), lambda: GetParameters.Request(names=names)),
            (world.client(DescribeParameters, "describe_parameters"), lambda: DescribeParameters.Request(names=names)),
            (enable, lambda: SetBool.Request(data=draw.random() < 0.5)),
            (injection, lambda: SetBool.Request(data=draw.random() < 0.5)),
            (world.client(SelfTest, "self_test"), SelfTest.Request),
            (cancel, Trigger.Request),
        ]
        usage: list[Usage] = []  # the first self test and the first injection need memory once
        calls: list[Any] = []
        for number in range(rounds):
            if number % max(1, rounds // 10) == 0:
                usage.append(world.process.usage())
            client, request = services[number % len(services)]
            calls.append(client.call_async(request()))
            if number % 4 == 0:
                camera.send(image())
            if len(calls) >= 50:
                wait_for(calls[-50].done, "the answer to a call")
        world.call(cancel, Trigger.Request())
        wait_for(lambda: all(call.done() for call in calls), "the answers to all calls")
        world.call(injection, SetBool.Request(data=False))
        world.call(enable, SetBool.Request(data=True))
        last = camera.send(image())
        wait_for(lambda: last in world.answers, "an answer after the storm")
        found = world.accounting(camera.sent)
        known = set(world.counts().causes) <= {"paused"}
        return [
            found,
            Finding("frames fail only while paused", known, str(dict(world.counts().causes))),
            grown(usage[1], usage[-1]),
            world.healthy(),
        ]


def changes_of_parameters(draw: random.Random) -> SetParameters.Request:
    """Some changes, of which about half must be refused."""
    values = {
        "min_score": ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=draw.uniform(-1.0, 1.0)),
        "top_k": ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=draw.randrange(-3, 4)),
        "classes": ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=["no such class"]),
        "threads": ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=1),
        "no_such_parameter": ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=True),
        "max_detections": ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="\u00e9" * 100),
    }
    names = draw.sample(sorted(values), 3)
    return SetParameters.Request(parameters=[Parameter(name=name, value=values[name]) for name in names])


def cycles(bundle: Path, rounds: int) -> list[Finding]:
    """Deactivate, clean up, configure and activate, again and again, with frames in between."""
    findings = []
    with World(bundle) as world:
        changes = world.client(ChangeState, "change_state")
        camera = Camera(world)
        usage: list[Usage] = []
        gone: set[bytes] = set()
        for number in range(rounds):
            camera.wait_for_node(besides=gone)
            camera.begin(image())
            for _ in range(5):
                last = camera.send(image())
            wait_for(lambda last=last: last in world.answers, f"an answer in cycle {number}")
            for _ in range(5):
                camera.send(image())
            gone = camera.subscriptions()
            good = world.change(changes, "deactivate")
            wait_for(lambda: world.value("model", "state") == "inactive", "the final counts")
            counts = world.counts()
            if not (good and counts.settled and counts.received + counts.lost_in_transport <= camera.sent):
                findings.append(Finding("every frame has an outcome", False, f"cycle {number}: {counts}"))
            steps = ("cleanup", "configure", "activate")
            if not all(world.change(changes, step) for step in steps):
                findings.append(Finding("every transition succeeds", False, f"cycle {number}"))
            wait_for(lambda: world.value("model", "state") == "active", "the node to be active")
            usage.append(world.process.usage())
        warm = min(len(usage) - 1, max(5, len(usage) // 10))
        first, last_usage = usage[warm], usage[-1]
        flat = last_usage.threads <= first.threads and last_usage.descriptors <= first.descriptors
        findings += [
            Finding("every cycle was run", len(usage) == rounds, f"{len(usage)} cycles"),
            Finding("threads and descriptors are flat", flat, f"{first} to {last_usage}"),
            grown(first, last_usage),
            world.healthy(),
        ]
    return findings


def namesakes(bundle: Path, frames: int) -> list[Finding]:
    """Two nodes of one name: both say so, both go on, and the one that stays accounts for its frames."""
    with World(bundle) as world:
        camera = Camera(world)
        camera.wait_for_node()
        camera.begin(image())
        second = world.start_node()
        camera.wait_for_node(2)
        wait_for(lambda: "2 nodes have this name" in world.messages["model"], "the warning")
        for _ in range(frames):
            camera.send(image())
            time.sleep(0.01)
        ended = second.end()
        wait_for(lambda: "nodes have this name" not in world.messages["model"], "the warning to end")
        last = camera.send(image())
        wait_for(lambda: last in world.answers, "an answer of the one that stays")
        found = world.accounting(camera.sent)
        return [found, Finding("the other one ended in order", ended == 0, str(ended)), world.healthy()]


def injection_process(bundle: Path, rounds: int) -> list[Finding]:
    """The injection process is killed, stopped, switched off and on in mid-stream; perception answers every frame."""
    draw = random.Random(0)
    given = {"injection.enabled": True, "injection.attacks": "noise,corruption/fog/1", "backend_deadline_s": 1.5}
    with World(bundle, **given) as world:
        camera = Camera(world)
        camera.wait_for_node()
        camera.begin(image())
        switch = world.client(SetBool, "injection")
        slowest_s, ends = 0.0, 0
        for number in range(rounds):
            running = wait_for(lambda: world.value("injection", "process") == "running", "the injection process")
            pid = int(world.value("injection", "process_id")) if running else 0
            kind = draw.choice([signal.SIGKILL, signal.SIGSTOP, signal.SIGABRT, None])
            if kind is None:
                world.call(switch, SetBool.Request(data=False))
                wait_for(lambda: world.call(switch, SetBool.Request(data=True)).success, "injection to be on again")
            else:
                starts = int(world.value("injection", "process_starts"))
                try:
                    os.kill(pid, kind)
                    ends += 1
                except ProcessLookupError:  # the process of before injection was switched off and on
                    kind = None
            for _ in range(10):
                begin_s = time.monotonic()
                last = camera.send(image())
                wait_for(lambda last=last: last in world.answers, f"an answer in round {number}")
                slowest_s = max(slowest_s, time.monotonic() - begin_s)
            if kind is not None:
                wait_for(
                    lambda starts=starts: (
                        int(world.value("injection", "process_starts")) != starts
                        or world.value("injection", "process") == "given up"
                    ),
                    "another start",
                )
            if world.value("injection", "process") == "given up":
                wait_for(lambda: world.call(switch, SetBool.Request(data=True)).success, "injection to be on again")
        names = ("replaced", "answered", "not_applicable", "no_regions", "failed")
        wait_for(lambda: world.value("injection", "pending") == "0", "the outcomes of all copies")
        counts = {name: int(world.value("injection", name)) for name in ("offered", *names)}
        exact = counts["offered"] == sum(counts[name] for name in names)
        seen = world.counts()
        return [
            world.accounting(camera.sent),
            Finding("perception answers every frame", not seen.causes, f"{seen}, slowest {slowest_s:.2f} s"),
            Finding("every copy has an outcome", exact, f"{counts} after {ends} ends"),
            world.healthy(),
        ]


def grown(before: Usage, after: Usage) -> Finding:
    """Compare memory."""
    growth_mb = after.memory_mb - before.memory_mb
    return Finding("memory is flat", growth_mb < GROWTH_MB, f"{before.memory_mb:.1f} MB {growth_mb:+.1f} MB")


@dataclass(frozen=True)
class Fault:
    """A fault, and its size as a command and in `make test`."""

    run: Callable[[Path, int], list[Finding]]
    size: int
    short: int


FAULTS = {
    "publisher": Fault(publisher, 300, 10),
    "garbage": Fault(garbage_at_full_rate, 100_000, 1_000),
    "model_file": Fault(model_file, 20, 5),
    "full_disk": Fault(full_disk, 100, 10),
    "clock": Fault(clock, 40, 4),
    "stopped": Fault(stopped, 20, 1),
    "killed": Fault(killed, 20, 1),
    "storm": Fault(storm, 20_000, 400),
    "cycles": Fault(cycles, 1_000, 12),
    "namesakes": Fault(namesakes, 1_000, 30),
    "injection_process": Fault(injection_process, 60, 4),
}


def main() -> int:
    """Run; exit status 1 when a finding does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(FAULTS)}; none: all")
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/traffic_signs")
    parser.add_argument("--size", type=int, default=0, help="0: the size of each fault")
    parser.add_argument("--short", action="store_true", help="the sizes of `make test`")
    arguments = parser.parse_args()
    unknown = set(arguments.faults) - set(FAULTS)
    if unknown:
        parser.error(f"unknown fault {', '.join(sorted(unknown))}; known: {', '.join(FAULTS)}")
    rclpy.init(args=[])
    good = True
    for name in arguments.faults or FAULTS:
        fault = FAULTS[name]
        size = arguments.size or (fault.short if arguments.short else fault.size)
        begin_s = time.monotonic()
        try:
            findings = fault.run(arguments.bundle.resolve(), size)
        except FaultError as error:
            findings = [Finding("it goes on", False, str(error))]
        good = good and all(finding.holds for finding in findings)
        shown = [asdict(finding) for finding in findings]
        seconds = round(time.monotonic() - begin_s, 1)
        print(json.dumps({"fault": name, "size": size, "seconds": seconds, "findings": shown}), flush=True)
    rclpy.try_shutdown()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
