"""How the commits that bench/golden.py compares call things: options, recipe files, fields; and its own fixed names.

A commit that renames an option or a field of a report adds the new word to a table here. A value that one of two
commits does not have counts as a difference, so a forgotten word is seen.
"""

from __future__ import annotations

import csv
import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import evaluation_json

Values = dict[str, Any]  # fixed name -> number, text or None

# What is asked -> words for it, the newest first. The help text of a commit decides which it knows.
COMMANDS = {"predict": ("predict", "run")}
OPTIONS = {
    "no cache": ("--no-cache", "--fresh"),
    "images": ("--images", "--pictures"),
    "condition": ("--condition", "--only"),
    "baseline": ("--baseline", "--control"),
    "attacks": ("--injections", "--attacks"),
}

# Conditions of `evaluate`: fixed name -> pattern for --only. One that fits nothing ends the run of its commit.
CLASSIFIER_CONDITIONS = {
    "clean": "clean",
    "gray-box FGSM": "gray_fgsm*",
    "gray-box PGD-10": "gray_pgd10*",
    "white-box FGSM": "white_fgsm*",
    "white-box PGD-10": "white_pgd10*",
    "fog 3": "*fog_3",
}
# A detector has no FGSM; its PGD-10 raises the joint loss of classes and boxes.
DETECTOR_CONDITIONS = {
    "clean": "clean",
    "gray-box PGD-10": "gray*joint_8",
    "white-box PGD-10": "white*joint_8",
    "noise 25": "noise_25",
    "fog 3": "*fog_3",
}

# Sections of a report of `evaluate`: fixed name -> name in the JSON, and the fields that tell its records apart. What
# older commits call its fields is in bench/evaluation_json.py.
SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "": ("lines", ("model", "condition", "backend")),
    "worst of": ("worst", ("model", "condition")),
    "difference to": ("differences", ("baseline", "condition")),
    "all corruptions": ("corrupted", ("model",)),
    "gradients": ("probes", ("model",)),
}
BY_MACHINE = {"seconds", "images_per_s", "latency", "backend"}
# Fields that repeat a setting, or name what is named already.
SETTINGS = {"conditions", "group", "knowledge", "loss", "eps_255", "steps", "surrogate", "sigma_255", "corruption",
            "severity", "where", "method", "topic", "bundle", "file"}  # fmt: skip
LINE_SETTINGS = {"share"}  # of a line of a detector: the size of a patch; in other places an accuracy
NETWORK_PREFIXES = ("network.", "model.")
CSV_FIELDS = {"lr": "rate", "learning_rate": "rate"}
REPLAY_FIELDS = {"attack": "injection", "judged_by": "judged"}
# The same answers once more, frame by frame and class by class; and what older commits do not report.
REPLAY_DETAILS = {"confusion", "scores", "classes", "model", "bundle", "no_regions", "flips", "precision"}


def word(candidates: Sequence[str], help_text: str) -> str:
    """The first of the words that stands in a help text; the oldest where none does."""
    known = set(help_text.replace("[", " ").replace("]", " ").replace(",", " ").replace("=", " ").split())
    return next((candidate for candidate in candidates if candidate in known), candidates[-1])


def of_report(content: Mapping[str, Any], conditions: Mapping[str, str]) -> Values:
    """The figures of `lisard evaluate --json` under fixed names: SECTION/model/condition/field."""
    found: Values = {}
    report = evaluation_json.current(content)
    for title, (section, keys) in SECTIONS.items():
        for record in report.get(section, []):
            names = {key: _fixed(key, record[key], report["model"], conditions) for key in keys if record.get(key)}
            dropped = {*keys, "model"} | (LINE_SETTINGS if title == "" else set())
            rest = {key: value for key, value in record.items() if key not in dropped}
            found |= flat(rest, "/".join(part for part in (title, *names.values()) if part))
    return found


def _fixed(key: str, name: str, model: str, conditions: Mapping[str, str]) -> str:
    """The fixed name of a model or a condition. model: how the report calls the model under test."""
    if key == "condition":
        return next((fixed for fixed, pattern in conditions.items() if fnmatchcase(name, pattern)), name)
    return "bundle" if name == model else name


def of_replay(content: Mapping[str, Any]) -> Values:
    """The figures of `lisard replay --json`, without times: INJECTION/field."""
    found: Values = {}
    for row in content["rows"]:
        own = {REPLAY_FIELDS.get(key, key): value for key, value in row.items() if key not in REPLAY_DETAILS}
        found |= flat({key: value for key, value in own.items() if key != "injection"}, own["injection"])
    return found


def of_answers(content: Sequence[Mapping[str, Any]]) -> Values:
    """The answers of `lisard predict --json`: file name/answer."""
    found: Values = {}
    for one in content:
        found |= flat(one, Path(str(one["file"])).name)
    return found


def of_run(folder: Path) -> Values:
    """What a training left behind: figures of epochs and steps, hashes of the weights and of everything else."""
    found: Values = {}
    for name, key in (("epochs", "epoch"), ("steps", "step")):
        with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                own = {CSV_FIELDS.get(column, column): _number(value) for column, value in row.items()}
                rest = {column: value for column, value in own.items() if column not in BY_MACHINE}
                found |= {f"{key} {own[key]:g}/{column}": value for column, value in rest.items() if column != key}
    weights, memory = checkpoint_hashes(folder / "last.safetensors")
    return found | {"weights sha256": weights, "optimizer and random state sha256": memory}


def checkpoint_hashes(file: Path) -> tuple[str, str]:
    """Hashes of the network's tensors and of the others; the names of tensors count for nothing, so they may change."""
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    parts: tuple[list[str], list[str]] = ([], [])
    for name, about in json.loads(content[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in about["data_offsets"])
        digest = hashlib.sha256(content[begin:end]).hexdigest()
        parts[not name.startswith(NETWORK_PREFIXES)].append(f"{about['dtype']} {about['shape']} {digest}")
    network, others = (hashlib.sha256("\n".join(sorted(part)).encode()).hexdigest() for part in parts)
    return network, others


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def flat(content: Any, name: str) -> Values:
    """Leaves of nested JSON under NAME/key.key; settings and times are left out."""
    return {f"{name}/{key}": value for key, value in _leaves(content, "")}


def _leaves(content: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    pairs: Sequence[tuple[Any, Any]]
    if isinstance(content, Mapping):
        pairs = [(key, value) for key, value in content.items() if key not in BY_MACHINE | SETTINGS]
    elif isinstance(content, list):
        pairs = list(enumerate(content))
    else:
        yield prefix, content
        return
    for key, value in pairs:
        yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
