"""Compares two commits by what their `lisard` command computes: evaluations, trainings, replays, answers.

    python3 scripts/in_env.py python bench/golden.py OLD NEW
    python3 scripts/in_env.py python bench/golden.py main HEAD --only 'train/boxes_*,evaluate' --jobs 1
    python3 scripts/in_env.py python bench/golden.py OLD NEW --expect 'evaluate/*=one way of spreading images'

Both commits are checked out as git worktrees in a temporary folder and run on this machine, with this interpreter, one
thread a process and no kept evaluations. Data is made from data/ (see golden_data.py), so nothing else is needed.

evaluate  both shipped bundles: clean, gray-box and white-box attacks, noise and a corruption, against networks that OLD
          trained. So NEW must open the checkpoints of OLD, and a difference in training does not spread.
train     two epochs of each kind of training, from recipes in the words of commit 2cdd207, which every commit reads
replay    the three bags of the demonstration, and the answers to some images

Values are compared exactly, under names of this tool (golden_words.py), so options, fields and modules may change.
Exit status: 0 all values are identical or differ as --expect says, 1 some differ or a command failed, 2 usage error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import golden_words
from golden_words import Values

ROOT = Path(__file__).resolve().parent.parent
GROUPS = ("train", "evaluate", "replay")
LIMIT_S = 600  # of one command
LIMIT, DETECTOR_LIMIT = 15, 4  # images evaluated, of 20 and of 5: how a commit spreads them is compared too
FAILED = "command failed"
DONE, DIFFERENT, WRONG_USE = 0, 1, 2
TAIL = 15  # lines shown of a command that failed
SHOWN_CHARACTERS = 24
# Values that the table shows although they are identical.
HEADLINES = ("*/accuracy.share", "*/ap50.value", "*/score.share", "*epoch 2/loss", "*/weights sha256", "*/answers.0")

# Trainings ------------------------------------------------------------------------------------------------------------

TWO = {"epochs": 2, "batch": 32, "peak_rate": 0.02}
NOISE = {"sigma_low": 0.1, "sigma_high": 0.18}
SIGNS: dict[str, Any] = {
    "seed": 1,
    "network": "resnet8",
    "precision": "float32",
    "noise": NOISE,
    "data": {"validation_share": 0.4, "labels": "gtsrb"},
    "optimiser": TWO,
}
BOXES: dict[str, Any] = {
    "task": "detection",
    "seed": 1,
    "network": "resnet10q",
    "neck": 32,
    "depth": 1,
    "precision": "float32",
    "noise": {**NOISE, "first_view_high": 0.08},
    "data": {"kind": "coco", "width_px": 160, "height_px": 160},
    "optimiser": {"kind": "adamw", "epochs": 2, "batch": 4, "peak_rate": 0.002},
}
NORMALISED = {"form": "normalised", "weight": 2.0, "off_weight": 0.1}
# Their networks attack and are the baseline of `evaluate`; one that begins with shipped weights is worth attacking.
SURROGATE, DETECTOR_SURROGATE = "from_weights", "boxes_plain"
ATTACKERS = {"traffic_signs": SURROGATE, "road_signs": DETECTOR_SURROGATE}
# Name -> what differs from SIGNS; with the prefix boxes_ from BOXES. Keys are those of commit 2cdd207.
TRAININGS: dict[str, dict[str, Any]] = {
    "plain": {"views": 1, "augment": {"early_px": 24, "early_share": 0.5}},
    "noise": {"augment": {"shift_px": 0, "rotation_deg": 0, "zoom": 1, "shear": 0, "crop_padding_px": 4, "flip": True}},
    "faithful": {
        "forward": "separate",
        "similarity": {"form": "official", "projector": "dead", "divisor": "batch", "precision": "autocast",
                       "projector_width": 64},
        "loss": {"alpha": "official"},
        "optimiser": {**TWO, "schedule": "official", "official_warm_up": 1, "decay_one_dim": True, "shuffle": False,
                      "drop_last": False},
    },
    "linear": {"forward": "separate", "similarity": NORMALISED,
               "gradient": {"form": "linear", "weight": 0.5, "share": 0.5, "distance_255": 0.5, "reach_255": 6}},
    "stages": {"similarity": {**NORMALISED, "layers": "stages", "features": 32}, "loss": {"label_smoothing": 0.1}},
    "slope_kl": {"consistency": {"form": "kl"}, "gradient": {"form": "slope", "weight": 0.004, "after": 1},
                 "select": "best"},
    "l1_projector": {"similarity": {**NORMALISED, "projector": "used", "projector_width": 32},
                     "gradient": {"form": "l1"}},
    "views_cosine": {"consistency": {"form": "cosine"}, "gradient": {"form": "views"}},
    "curvature_dual": {"forward": "separate", "batch_norm": "dual", "gradient": {"form": "curvature"}},
    "adversarial_pgd": {"views": 1, "adversarial": {"form": "pgd", "steps": 2}},
    "adversarial_fgsm": {"views": 1, "activation": "softplus", "adversarial": {"form": "fgsm_rs"}},
    "overlay_adamw": {
        "overlay": {"first_255": 8, "own_high": 1.0, "donors": "alike"},
        "loss": {"alpha": "rising"},
        "augment": {"cutout_px": 8},
        "optimiser": {**TWO, "kind": "adamw", "peak_rate": 0.002, "second_cycle": 1, "ema_decay": 0.9},
    },
    SURROGATE: {"network": "resnet14w", "views": 1, "start": {"weights": "models/traffic_signs/twin.safetensors"}},
    DETECTOR_SURROGATE: {"views": 1, "data": {"kind": "coco"}},
    "boxes_noise": {"views": 2},
    "boxes_lisard": {
        "views": 2,
        "augment": {"mosaic": 0.5, "zoom_low": 0.6, "zoom_high": 1.5, "flip_classes": "trafficlight, crosswalk"},
        "overlay": {"first_255": 8, "own_high": 1.0},
        "levels": {"ratio": 0.2, "samples": 256, "off_weight": 0.1},
        "instances": {"ratio": 0.1, "off_weight": 0.1},
        "agreement": {"classes": 0.1, "boxes": 0.1},
        "balance": {"every": 2},
        "optimiser": {**BOXES["optimiser"], "ema_decay": 0.9},
    },
    "boxes_sgd": {"views": 1, "optimiser": {"kind": "sgd", "epochs": 2, "batch": 4, "peak_rate": 0.01}},
}  # fmt: skip
# Bag -> bundle and attacks.
REPLAYS = {
    "road_signs": ("road_signs", "noise,universal"),
    "gtsrb_tracks": ("traffic_signs", "all"),
    "road_drive": ("traffic_signs", "noise,corruption/fog/3"),
}


def recipe(name: str) -> dict[str, Any]:
    """The whole recipe of a training."""
    return {"name": name, **(BOXES if name.startswith("boxes_") else SIGNS), **TRAININGS[name]}


# Running --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tree:
    """A commit that is checked out. name: `old` or `new`; folder: the checkout; work: what its commands write."""

    name: str
    commit: str
    folder: Path
    work: Path


@dataclass(frozen=True)
class Outcome:
    """What one check of one commit came to. problem: the end of what a failed command printed, else empty."""

    values: Values
    seconds: float
    problem: str = ""


@dataclass(frozen=True)
class Check:
    """One command that both commits run; name: GROUP/WHAT."""

    name: str

    @property
    def group(self) -> str:
        """Which word of --only asks for it."""
        return self.name.partition("/")[0]

    @property
    def what(self) -> str:
        """The training, bundle or bag."""
        return self.name.partition("/")[2]


def checks(wanted: Sequence[str]) -> tuple[list[Check], list[Check]]:
    """The trainings, and the rest that may need their networks."""
    from golden_data import BUNDLES

    trainings = [f"train/{name}" for name in TRAININGS]
    rest = [f"evaluate/{name}" for name in reversed(BUNDLES)]
    rest += [f"replay/{name}" for name in REPLAYS] + [f"replay/answers {name}" for name in BUNDLES]
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in (*trainings, *rest)):
            raise UsageError(f"--only: nothing is called {pattern!r}; there are {', '.join((*trainings, *rest))}")
    first, second = (
        [Check(name) for name in names if any(fnmatchcase(name, pattern) for pattern in wanted)]
        for names in (trainings, rest)
    )
    return first, second


def run_check(check: Check, tree: Tree, data: Path, networks: Path) -> Outcome:
    """Runs one check. networks: where the run folders are that OLD trained."""
    begun = time.monotonic()
    try:
        if check.group == "train":
            values = _train(check.what, tree, data)
        elif check.group == "evaluate":
            values = _evaluate(check.what, tree, data, networks)
        elif check.what.startswith("answers "):
            values = _answers(check.what.removeprefix("answers "), tree, data)
        else:
            values = _replay(check.what, tree, data)
    except (CommandError, OSError, KeyError, TypeError, ValueError) as error:
        return Outcome({}, time.monotonic() - begun, f"{type(error).__name__}: {error}")
    return Outcome(values, time.monotonic() - begun)


def _train(name: str, tree: Tree, data: Path) -> Values:
    out = tree.work / "runs" / name
    file = tree.work / f"{name}.yaml"
    file.write_text(json.dumps(recipe(name)), encoding="utf-8")  # JSON is YAML
    folder = data / ("boxes" if name.startswith("boxes_") else "signs")
    lisard(tree, ["train", file, "--data", folder, "--out", out, "--device", "cpu", "--threads", 1, "--no-export"])
    return golden_words.of_run(out)


def _evaluate(bundle: str, tree: Tree, data: Path, networks: Path) -> Values:
    is_detector = bundle == "road_signs"
    conditions = golden_words.DETECTOR_CONDITIONS if is_detector else golden_words.CLASSIFIER_CONDITIONS
    network = networks / ATTACKERS[bundle]
    options = _options(tree, "evaluate")
    words: list[Any] = ["evaluate", f"models/{bundle}", "--surrogate", network, options["baseline"], f"plain={network}"]
    words += ["--suite", "grid" if is_detector else "standard", "--device", "cpu", options["no cache"]]
    words += [word for pattern in conditions.values() for word in (options["condition"], pattern)]
    words += ["--data", data / "boxes"] if is_detector else [options["images"], data / "images"]
    words += ["--limit", DETECTOR_LIMIT if is_detector else LIMIT]
    file = tree.work / f"evaluate_{bundle}.json"
    # Exit status 1 says that the attackers' networks are too weak to prove anything, which is so on purpose.
    status = lisard(tree, [*words, "--cache", tree.work / "cache" / bundle, "--json", file], accepted=(0, 1))
    found = golden_words.of_report(json.loads(file.read_text(encoding="utf-8")), conditions)
    return {**found, "exit status": status}


def _replay(bag: str, tree: Tree, data: Path) -> Values:
    bundle, attacks = REPLAYS[bag]
    options = _options(tree, "replay")
    file = tree.work / f"replay_{bag}.json"
    words = ["replay", data / "bags" / bag, "--bundle", f"models/{bundle}", options["attacks"], attacks]
    lisard(tree, [*words, "--backend", "onnxruntime", "--threads", 1, "--json", file])
    return golden_words.of_replay(json.loads(file.read_text(encoding="utf-8")))


def _answers(bundle: str, tree: Tree, data: Path) -> Values:
    folder = data / "boxes" / "val" if bundle == "road_signs" else data / "images"
    files = sorted([*folder.rglob("*.jpg"), *folder.rglob("*.png")])
    command = golden_words.word(golden_words.COMMANDS["predict"], printed(tree, ["--help"]))
    text = printed(tree, [command, f"models/{bundle}", *files, "--backend", "onnxruntime", "--top-k", 3, "--json"])
    return golden_words.of_answers(json.loads(text))


def _options(tree: Tree, command: str) -> dict[str, str]:
    """What this commit calls the options, by what its help says."""
    text = printed(tree, [command, "--help"])
    return {what: golden_words.word(words, text) for what, words in golden_words.OPTIONS.items()}


class CommandError(Exception):
    """A command of a commit failed; the text is the end of what it printed."""


def lisard(tree: Tree, words: Iterable[object], accepted: Sequence[int] = (0,)) -> int:
    """Runs `lisard WORDS` of a commit; its exit status, which must be an accepted one."""
    return _run(tree, words, accepted).returncode


def printed(tree: Tree, words: Iterable[object]) -> str:
    """What `lisard WORDS` of a commit prints."""
    return _run(tree, words, (0,)).stdout


def _run(tree: Tree, words: Iterable[object], accepted: Sequence[int]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lisard_ros", *map(str, words)]
    try:
        done = subprocess.run(
            command, cwd=tree.folder, env=environment(tree), capture_output=True, text=True, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        raise CommandError(f"lisard {words}: not done after {LIMIT_S} s") from None
    if done.returncode not in accepted:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-TAIL:])
        raise CommandError(f"`{' '.join(command[2:])}` ended with {done.returncode}:\n{end}")
    return done


def environment(tree: Tree) -> dict[str, str]:
    """This process's variables with the packages of the checkout first, as scripts/in_env.py does, and one thread."""
    inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and not _is_ours(path)]
    packages = [str(tree.folder), str(tree.folder / "trainer"), str(tree.folder / "engines")]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LISARD_")}
    return (
        kept
        | one_thread
        | {
            "PYTHONPATH": os.pathsep.join([*packages, *inherited]),
            "PYTHONHASHSEED": "0",
            "OMP_WAIT_POLICY": "PASSIVE",
            "LISARD_CACHE": str(tree.work / "cache"),
        }
    )


def _is_ours(path: str) -> bool:
    """Whether a folder of PYTHONPATH holds packages of some checkout: the commit's own come instead."""
    return any((Path(path) / name).is_dir() for name in ("lisard_ros", "lisard_trainer", "lisard_engines"))


# Checkouts ------------------------------------------------------------------------------------------------------------


@contextmanager
def checked_out(names: Sequence[str]) -> Iterator[tuple[Path, list[Tree]]]:
    """A temporary folder with the two commits as worktrees; nothing of it is left afterwards."""
    commits = [resolved(name) for name in names]
    with tempfile.TemporaryDirectory(prefix="golden_") as temporary:
        base = Path(temporary)
        trees: list[Tree] = []
        try:
            for name, commit in zip(("old", "new"), commits, strict=True):
                tree = Tree(name, commit, base / name / "tree", base / name / "work")
                git("worktree", "add", "--detach", str(tree.folder), commit)
                trees.append(tree)
                tree.work.mkdir()
                _describe(tree)
            yield base, trees
        finally:
            for tree in trees:
                git("worktree", "remove", "--force", str(tree.folder))


def resolved(name: str) -> str:
    """The full hash of a commit; UsageError if git knows none."""
    try:
        return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
    except subprocess.CalledProcessError:
        raise UsageError(f"commit {name!r}: git knows none; give a branch, a tag or a hash") from None


def _describe(tree: Tree) -> None:
    """Writes the commit's own entry points beside its packages.

    Subcommands may come from entry points; those of the installed package, which another commit declared, must not
    be taken.
    """
    setup = "setup.py" if (tree.folder / "setup.py").exists() else "-c"
    words = [setup] if setup != "-c" else ["-c", "import setuptools; setuptools.setup()"]
    subprocess.run(
        [sys.executable, *words, "-q", "egg_info"],
        cwd=tree.folder,
        env=environment(tree),
        check=True,
        capture_output=True,
        timeout=LIMIT_S,
    )


def git(*words: str) -> str:
    """What `git WORDS` prints in this repository."""
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True).stdout


# Comparing ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """One value of both commits; None where a commit has none or null. expected: why it may differ, else empty."""

    name: str
    old: Any
    new: Any
    identical: bool
    expected: str = ""


MISSING = "missing"


def compare(old: Values, new: Values, expected: Sequence[tuple[str, str]] = ()) -> list[Compared]:
    """Every value that either has, exactly compared. expected: patterns of names that may differ, with reasons."""
    found = []
    for name in dict.fromkeys([*old, *new]):
        pair = old.get(name, MISSING), new.get(name, MISSING)
        identical = type(pair[0]) is type(pair[1]) and repr(pair[0]) == repr(pair[1])
        reason = "" if identical else next((why for what, why in expected if fnmatchcase(name, what)), "")
        found.append(Compared(name, *pair, identical, reason))
    return found


class UsageError(Exception):
    """The command line cannot be followed."""


def expectations(words: Sequence[str]) -> list[tuple[str, str]]:
    """NAME=reason, taken apart at the first `=`; both must be there."""
    found = []
    for word in words:
        name, _, reason = word.partition("=")
        if not name or not reason.strip():
            raise UsageError(f"--expect {word!r}: give NAME=reason, such as 'evaluate/*=one way of spreading'")
        found.append((name, reason.strip()))
    return found


def patterns_of(text: str) -> tuple[str, ...]:
    """Patterns of names of checks, from the words of --only: GROUP or GROUP/PATTERN."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [word for word in words if word.partition("/")[0] not in GROUPS]
    if unknown or not words:
        raise UsageError(f"--only {text!r}: give one or more of {', '.join(GROUPS)}, with commas between")
    return tuple(word if "/" in word else f"{word}/*" for word in words)


def table(values: Sequence[Compared], everything: bool) -> str:
    """Lines NAME  OLD  NEW  verdict: what differs, headlines, or everything."""
    shown = [one for one in values if everything or not one.identical or _is_headline(one.name)]
    rows = [("value", "OLD", "NEW", "")]
    rows += [(one.name, _short(one.old), _short(one.new), _verdict(one)) for one in shown]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows
    )


def _is_headline(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in HEADLINES)


def _verdict(one: Compared) -> str:
    if one.identical:
        return "identical"
    return f"DIFFERENT, expected: {one.expected}" if one.expected else "DIFFERENT"


def _short(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


# The command ----------------------------------------------------------------------------------------------------------


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", metavar="OLD", help="commit, branch or tag")
    parser.add_argument("new", metavar="NEW", help="commit, branch or tag; uncommitted changes take no part")
    parser.add_argument(
        "--only",
        default=",".join(GROUPS),
        metavar="WHAT",
        help="some of: %(default)s; or a part of one, such as train/boxes_*",
    )
    parser.add_argument(
        "--expect",
        action="append",
        default=[],
        metavar="NAME=REASON",
        help="values of this name (or pattern) may differ; may be given several times",
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="show identical values too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values here")
    return parser.parse_args(words)


def measure(
    trees: Sequence[Tree], data: Path, trainings: Sequence[Check], rest: Sequence[Check], jobs: int
) -> dict[str, tuple[Outcome, Outcome]]:
    """Runs every check with both commits."""
    networks = trees[0].work / "runs"
    done: dict[tuple[str, str], Outcome] = {}

    def run(item: tuple[Check, Tree]) -> None:
        check, tree = item
        outcome = run_check(check, tree, data, networks)
        done[check.name, tree.name] = outcome
        print(
            f"{tree.name} {check.name}: {outcome.seconds:.0f} s{' FAILED' if outcome.problem else ''}",
            file=sys.stderr,
            flush=True,
        )

    needed = [Check(f"train/{ATTACKERS[check.what]}") for check in rest if check.group == "evaluate"]
    only_old = [check for check in needed if check not in trainings]
    pool = ThreadPoolExecutor(jobs)
    try:
        first = [(check, tree) for check in trainings for tree in trees] + [(check, trees[0]) for check in only_old]
        list(pool.map(run, first))
        for check in only_old:
            if done[check.name, "old"].problem:
                raise UsageError(f"OLD cannot train the attackers' networks: {done[check.name, 'old'].problem}")
        list(pool.map(run, [(check, tree) for check in rest for tree in trees]))
    finally:
        pool.shutdown(cancel_futures=True)
    return {check.name: (done[check.name, "old"], done[check.name, "new"]) for check in [*trainings, *rest]}


def summary(measured: dict[str, tuple[Outcome, Outcome]], values: Sequence[Compared]) -> Iterator[str]:
    """A line for each check: how many values, how many differ, seconds of either commit; and why commands failed."""
    for name, (old, new) in measured.items():
        own = [one for one in values if one.name.startswith(f"{name}/")]
        differing = sum(not one.identical for one in own)
        verdict = f"{differing} of {len(own)} values differ" if differing else f"{len(own)} values, all identical"
        failures = [
            f"{tree} failed: {outcome.problem}" for tree, outcome in (("OLD", old), ("NEW", new)) if outcome.problem
        ]
        yield f"{name:<28} {old.seconds:4.0f} s {new.seconds:4.0f} s  {verdict if not failures else FAILED}"
        yield from failures


def passed(measured: dict[str, tuple[Outcome, Outcome]], values: Sequence[Compared]) -> bool:
    """Whether every command of both commits ran, and nothing differs that was not announced."""
    ran = all(not outcome.problem and outcome.values for pair in measured.values() for outcome in pair)
    return ran and all(one.identical or one.expected for one in values)


def main(words: Sequence[str] | None = None) -> int:
    """Compares, prints, writes; the exit status."""
    args = arguments(words)
    try:
        wanted, expected = patterns_of(args.only), expectations(args.expect)
        if args.jobs < 1:
            raise UsageError(f"--jobs {args.jobs}: give 1 or more")
        return _compare_commits(args, wanted, expected)
    except UsageError as error:
        print(f"golden: error: {error}", file=sys.stderr)
    except subprocess.CalledProcessError as error:
        print(f"golden: error: {' '.join(map(str, error.cmd))}: {str(error.stderr).strip()}", file=sys.stderr)
    return WRONG_USE


def _compare_commits(args: argparse.Namespace, wanted: Sequence[str], expected: list[tuple[str, str]]) -> int:
    import golden_data

    begun = time.monotonic()
    trainings, rest = checks(wanted)
    with checked_out([args.old, args.new]) as (base, trees):
        golden_data.make(trees[0].folder, base / "data")
        measured = measure(trees, base / "data", trainings, rest, args.jobs)
    old, new = (
        {f"{name}/{key}": value for name, pair in measured.items() for key, value in pair[side].values.items()}
        for side in (0, 1)
    )
    values = compare(old, new, expected)
    seconds = time.monotonic() - begun
    print(table(values, args.all), *summary(measured, values), sep="\n")
    for what, _ in expected:
        if not any(one.expected for one in values if fnmatchcase(one.name, what)):
            print(f"--expect {what}: nothing of this name differs")
    is_good = passed(measured, values)
    print(
        f"{trees[0].commit[:12]} -> {trees[1].commit[:12]}: {len(values)} values, "
        f"{sum(not one.identical for one in values)} differ, {seconds:.0f} s: "
        f"{'as it should be' if is_good else 'NOT as it should be'}"
    )
    if args.json:
        content = {
            "old": trees[0].commit,
            "new": trees[1].commit,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "seconds": round(seconds, 1),
            "passed": is_good,
            "failed": {
                name: [one.problem for one in pair]
                for name, pair in measured.items()
                if any(one.problem for one in pair)
            },
            "values": [asdict(one) for one in values],
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return DONE if is_good else DIFFERENT


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the worktrees are removed
    sys.exit(main())
