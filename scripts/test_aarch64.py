"""Run the runtime as on a Jetson, without one: `python scripts/test_aarch64.py` (`make test-aarch64`). Slow; not in CI.

qemu-user runs an aarch64 Python of Debian with the aarch64 wheels of requirements/runtime.txt: install, `lisard
doctor`, self tests of the shipped bundles, their answers to the reference images compared with those of this
machine, and a replay of 20 frames. Nothing is installed here: the emulator, Debian's packages and the wheels are
unpacked in a folder of the cache (--cache), which a second run finds. No GPU and no TensorRT take part, and times are
those of an emulator.

Exit status 1 when a check fails; 2 when the machine cannot run it, with what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUNDLES = ("models/traffic_signs", "models/road_signs")
# What the Python of the root file system needs; apt adds what these depend on.
PACKAGES = ("python3", "libstdc++6", "libgomp1")
# The closest CPU that the emulator knows to the Cortex-A78AE of Orin modules: ARMv8.2 with dot products and fp16.
CPU = "neoverse-n1"
# What Linux tells of such a CPU. qemu passes on the files of this machine where the root file system has none of its
# own, and ONNX Runtime crashes on an x86 description of its caches.
CPU_FILES = {
    "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 62.50\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics "
    "fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
    "CPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n\n",
    "sys/devices/system/cpu/possible": "0\n",
    "sys/devices/system/cpu/present": "0\n",
    "sys/devices/system/cpu/online": "0\n",
    "sys/devices/system/cpu/kernel_max": "0\n",
}
GLIBC_MINORS = range(17, 36)  # JetPack 6 has glibc 2.35
FRAMES = 20
# A detector takes half a minute for an image.
SELF_TEST_IMAGES = {"models/traffic_signs": 8, "models/road_signs": 2}
SELF_TEST = """
from lisard_ros.evaluation import self_test
from lisard_ros.inference.pipeline import open_pipeline
pipeline = open_pipeline("{bundle}", backend="onnxruntime", precision="fp32", threads=1)
for case in self_test.run(pipeline, count={count}).cases:
    print(case.injection, case.accuracy.hits, "of", case.accuracy.n, "failed", case.failed)
"""
# Largest difference of a network's outputs, of logits mostly: fp32 sums in another order; int8 may round the other way.
OUTPUT_TOLERANCE = {"fp32": 1e-3, "fp16": 5e-2, "int8": 5e-1}


class Missing(Exception):
    """This machine cannot run the test; the text says what is missing and how to get it."""


@dataclass(frozen=True)
class Check:
    """One thing that was run: whether it holds, what was found, and how long it took."""

    name: str
    ok: bool
    found: str
    seconds: float


@dataclass
class Run:
    """Where everything is, and what was checked."""

    cache: Path
    checks: list[Check] = field(default_factory=list)

    @property
    def site(self) -> Path:
        """The folder into which pip installs."""
        return self.cache / "site"

    @property
    def system(self) -> Path:
        """The root file system."""
        return self.cache / "system"

    @property
    def wheels(self) -> Path:
        """The downloaded wheels."""
        return self.cache / "wheels"

    def emulated(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the aarch64 Python with arguments."""
        python = self.system / "usr" / "bin" / "python3"
        command = [str(self.cache / "emulator" / "usr" / "bin" / "qemu-aarch64-static"), "-cpu", CPU]
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.cache),
            "LISARD_CACHE": str(self.cache / "lisard"),
            "PYTHONPATH": str(self.site),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONSAFEPATH": "1",  # the installed package, not the checkout
            "OMP_NUM_THREADS": "1",
        }
        command += ["-L", str(self.system), str(python.resolve()), *words]
        return subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, check=False)

    @contextmanager
    def check(self, name: str) -> Iterator[Callable[[bool, str], None]]:
        """Time what is done within and report what it says of itself."""
        begun = time.monotonic()

        def done(ok: bool, found: str) -> None:
            self.checks.append(Check(name, ok, found, round(time.monotonic() - begun, 1)))
            print(f"{'ok  ' if ok else 'FAIL'} {name}: {found} ({self.checks[-1].seconds:.0f} s)", flush=True)

        yield done


# --- what has to be there -------------------------------------------------------------------------------------------


def unpack(packages: Sequence[str], architecture: str, target: Path) -> None:
    """Download Debian packages and what they depend on, and unpack them into a folder; needs no root.

    apt gets a state of its own, so that neither the packages nor the architecture of this machine change.
    """
    if (target / "complete").exists():
        return
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Missing(
                f"{program} is missing: this test takes the emulator and an aarch64 Python from Debian packages"
            )
    state = target.with_name(f"{target.name}.apt")
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    options = [
        f"Dir::State={state}/state",
        f"Dir::State::status={state}/status",
        f"Dir::Cache={state}/cache",
        f"APT::Architecture={architecture}",
        f"APT::Architectures::={architecture}",
        "APT::Install-Recommends=false",
        "APT::Sandbox::User=root",
        "Debug::NoLocking=true",
        "Acquire::http::Timeout=20",
        "Acquire::Languages=none",
    ]
    apt = ["apt-get", "-qq", *(word for option in options for word in ("-o", option))]
    subprocess.run([*apt, "update"], stdin=subprocess.DEVNULL, capture_output=True, check=False)  # some may be away
    install = [*apt, "install", "--download-only", "--yes", *packages]
    done = subprocess.run(install, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    files = sorted((state / "cache" / "archives").glob("*.deb"))
    if done.returncode or not files:
        raise Missing(
            f"no {architecture} packages {' '.join(packages)}: {_last_line(done.stderr)}; the apt sources of this "
            "machine must reach a Debian mirror (Ubuntu keeps arm64 apart from the others, under its ports)"
        )
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        subprocess.run(["dpkg-deb", "-x", str(file), str(target)], check=True)
    (target / "complete").touch()


def describe_cpu(system: Path) -> None:
    """Let the emulated programs find the description of an emulated CPU."""
    for name, text in CPU_FILES.items():
        (system / name).parent.mkdir(parents=True, exist_ok=True)
        (system / name).write_text(text, encoding="utf-8")


def download_wheels(run: Run) -> None:
    """Download the aarch64 wheels of the runtime for the Python of the root file system, and build our own."""
    if (run.wheels / "complete").exists():
        return
    version = run.emulated("-c", "import sys; print('%d.%d' % sys.version_info[:2])").stdout.strip()
    if not version:
        raise Missing("the aarch64 Python does not start under qemu-aarch64-static")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    platforms = [word for minor in GLIBC_MINORS for word in ("--platform", f"manylinux_2_{minor}_aarch64")]
    target = ["--python-version", version, "--implementation", "cp", "--only-binary", ":all:", *platforms]
    wanted = [*_requirements(version), "pip"]
    done = _host([*pip, "download", "--no-deps", "-d", str(run.wheels), *target, *wanted])
    if done.returncode:
        raise Missing(f"no aarch64 wheels for Python {version}: {_last_line(done.stderr)}")
    (run.wheels / "complete").touch()


def _requirements(version: str) -> list[str]:
    """Lines of requirements/runtime.txt that hold for this Python."""
    lines = (ROOT / "requirements" / "runtime.txt").read_text(encoding="utf-8").splitlines()
    chosen = []
    for line in lines:
        text, _, condition = line.partition("#")[0].partition(";")
        words = condition.split()
        if text.strip() and (not words or _holds(version, words[1], words[2].strip('"'))):
            chosen.append(text.strip())
    return chosen


def _holds(version: str, operator: str, limit: str) -> bool:
    mine, theirs = (tuple(map(int, text.split("."))) for text in (version, limit))
    return mine < theirs if operator == "<" else mine >= theirs


def _host(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


# --- checks ---------------------------------------------------------------------------------------------------------


def install(run: Run) -> None:
    """Let the emulated pip install the package and its wheels, without a network."""
    with run.check("install") as done:
        shutil.rmtree(run.site, ignore_errors=True)
        for old in run.wheels.glob("lisard_ros-*.whl"):
            old.unlink()
        built = _host([sys.executable, "-m", "pip", "-q", "wheel", "--no-deps", "-w", str(run.wheels), str(ROOT)])
        (pip,) = run.wheels.glob("pip-*.whl")
        words = [
            "install",
            "-q",
            "--no-index",
            "--find-links",
            str(run.wheels),
            "--target",
            str(run.site),
            "lisard_ros",
        ]
        installed = run.emulated(f"{pip}/pip", *words, "--no-compile")
        said = run.emulated(
            "-c",
            "import platform, lisard_ros, numpy, onnxruntime, cv2; print(platform.machine(), "
            "platform.python_version(), 'NumPy', numpy.__version__, 'ONNX Runtime', "
            "onnxruntime.__version__, 'OpenCV', cv2.__version__)",
        )
        ok = not (built.returncode or installed.returncode or said.returncode) and said.stdout.startswith("aarch64")
        done(ok, said.stdout.strip() or _last_line(built.stderr + installed.stderr + said.stderr))


def doctor(run: Run) -> None:
    """`lisard doctor` of the machine; ROS is optional there."""
    with run.check("lisard doctor") as done:
        answer = run.emulated("-m", "lisard_ros", "doctor")
        lines = answer.stdout.splitlines()
        failed = [" ".join(line.split()) for line in lines if line.startswith("FAIL")]
        found = "; ".join(failed) or f"{len(lines)} lines, nothing that is required is missing"
        done(answer.returncode == 0, found if lines else _last_line(answer.stderr))


def self_test(run: Run, bundle: str) -> None:
    """Run the self test of a bundle with some of its images, it must give what it gives here."""
    with run.check(f"self test {bundle}, {SELF_TEST_IMAGES[bundle]} images") as done:
        code = SELF_TEST.format(bundle=bundle, count=SELF_TEST_IMAGES[bundle])
        own, other = _host([sys.executable, "-c", code]), run.emulated("-c", code)
        if own.returncode or other.returncode:
            done(False, _last_line(own.stderr if own.returncode else other.stderr))
            return
        ours, theirs = own.stdout.splitlines(), other.stdout.splitlines()
        different = [f"{b} (here {a})" for a, b in zip(ours, theirs, strict=True) if a != b]
        done(not different, "; ".join(different) or f"{len(ours)} cases, all with the accuracy of this machine")


def agreement(run: Run, bundle: str, precision: str) -> None:
    """Compare the outputs of a bundle's model for its reference images with those of this machine."""
    with run.check(f"agreement {bundle} {precision}") as done:
        here, there = run.cache / "here.json", run.cache / "there.json"
        words = [str(Path(__file__)), "--answers", bundle, precision]
        own = _host([sys.executable, *words, str(here)])
        other = run.emulated(*words, str(there))
        if own.returncode or other.returncode:
            done(False, _last_line(own.stderr if own.returncode else other.stderr))
            return
        ours, theirs = (json.loads(path.read_text(encoding="utf-8")) for path in (here, there))
        pairs = [
            (a, b) for x, y in zip(ours["outputs"], theirs["outputs"], strict=True) for a, b in zip(x, y, strict=True)
        ]
        largest = max(abs(a - b) for a, b in pairs)
        same = sum(x == y for x, y in zip(ours["answers"], theirs["answers"], strict=True))
        ok = largest <= OUTPUT_TOLERANCE[precision] and same == len(ours["answers"])
        done(ok, f"{same} of {len(ours['answers'])} images with the same answer, largest difference {largest:.2g}")


def replay(run: Run) -> None:
    """Replay 20 frames with tracks; counts must be those of this machine. The self tests have the attacks."""
    with run.check(f"lisard replay, {FRAMES} frames") as done:
        words = [
            "-m",
            "lisard_ros",
            "replay",
            "data/road_signs",
            "--bundle",
            "models/road_signs",
            "--limit",
            str(FRAMES),
        ]
        words += ["--injections", "none", "--tracking", "bytetrack", "--threads", "1", "--json"]
        own, other = _host([sys.executable, *words]), run.emulated(*words)
        if own.returncode or other.returncode:
            done(False, _last_line(own.stderr if own.returncode else other.stderr))
            return
        ours, theirs = (_counts(json.loads(answer.stdout)) for answer in (own, other))
        done(ours == theirs, f"{theirs}" if ours == theirs else f"found {theirs}, expected {ours}")


def _counts(report: dict[str, list[dict[str, dict[str, int]]]]) -> str:
    """What is counted for each injection, in one line."""
    rows = [
        f"{row['injection']} {row['answered']} answered, {row['score']['hits']} of {row['score']['n']} boxes"
        for row in report["rows"]
    ]
    return "; ".join(rows)


def write_answers(bundle: str, precision: str, target: Path) -> int:
    """In either Python: the model's raw outputs and the first answers for the bundle's reference images."""
    from lisard_ros.evaluation import references
    from lisard_ros.inference.pipeline import Failure, open_pipeline

    pipeline = open_pipeline(ROOT / bundle, backend="onnxruntime", precision=precision, threads=1)
    test = pipeline.bundle.manifest.self_test
    assert test is not None
    outputs, answers = [], []
    for frame in references.load(pipeline.bundle, test).frames:
        inferred = pipeline.infer(pipeline.prepare([frame]))
        outputs.append([float(value) for value in inferred.outputs.ravel()])
        (outcome,) = pipeline.decode(inferred)
        assert not isinstance(outcome, Failure), str(outcome)
        whole = outcome.classification.hypotheses[:1] if outcome.classification is not None else ()
        boxes = outcome.detections.items if outcome.detections is not None else ()
        found = [item.label for item in whole]
        found += [f"{item.hypotheses[0].label} at {[round(v) for v in item.box_xyxy_px]}" for item in boxes]
        answers.append(sorted(found))
    target.write_text(json.dumps({"outputs": outputs, "answers": answers}), encoding="utf-8")
    return 0


def precisions(bundle: str) -> list[str]:
    """Precisions of the models in a bundle."""
    manifest = json.loads((ROOT / bundle / "bundle.json").read_text(encoding="utf-8"))
    return sorted({model["precision"] for model in manifest["models"]})


def main() -> int:
    """Run all checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lisard_ros" / "aarch64"
    parser.add_argument("--cache", type=Path, default=cache, help="where everything is unpacked (default: the user's)")
    parser.add_argument("--only", default="", help="some of install,doctor,agreement,replay,selftest (default: all)")
    parser.add_argument("--json", type=Path, help="also write the checks as JSON")
    parser.add_argument("--answers", nargs=3, metavar=("BUNDLE", "PRECISION", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.answers:
        return write_answers(args.answers[0], args.answers[1], Path(args.answers[2]))
    run = Run(args.cache.resolve())
    run.cache.mkdir(parents=True, exist_ok=True)
    try:
        unpack(["qemu-user-static"], "amd64", run.cache / "emulator")
        unpack(PACKAGES, "arm64", run.system)
        describe_cpu(run.system)
        download_wheels(run)
    except Missing as error:
        print(f"test-aarch64 cannot run here: {error}", file=sys.stderr)
        return 2
    pairs = [(bundle, precision) for bundle in BUNDLES for precision in precisions(bundle)]
    steps: dict[str, list[Callable[[], None]]] = {
        "install": [partial(install, run)],
        "doctor": [partial(doctor, run)],
        "agreement": [partial(agreement, run, bundle, precision) for bundle, precision in pairs],
        "replay": [partial(replay, run)],
        "selftest": [partial(self_test, run, bundle) for bundle in BUNDLES],
    }
    for step in args.only.split(",") if args.only else steps:
        for act in steps[step]:
            act()
    failed = [check.name for check in run.checks if not check.ok]
    if args.json is not None:
        host = f"{platform.machine()}, Python {platform.python_version()}"
        report = {"schema_version": 1, "emulated_cpu": CPU, "host": host, "checks": [asdict(c) for c in run.checks]}
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"{len(run.checks) - len(failed)} passed, {len(failed)} failed" + "".join(f"\nfailed: {n}" for n in failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
