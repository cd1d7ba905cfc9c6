"""Writes docs/results/node.md from docs/results/node.json."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

HEAD = """# Figures of the node

Generated from node.json by bench/node_report.py. Real processes over real DDS, VGA rgb8 frames, ONNX Runtime on CPU.
"""


def write(results: Mapping[str, Any], path: Path) -> None:
    """Write the Markdown file."""
    parts = [HEAD]
    sections = {
        "load": load,
        "saturated": saturated,
        "start": start,
        "session_threads": session_threads,
        "overhead": overhead,
        "accounting": accounting,
        "soak": soak,
        "injection_isolation": injection_isolation,
        "injection_off": injection_off,
        "self_test_live": self_test_live,
        "watch_cost": watch_cost,
    }
    for name, render in sections.items():
        if name in results:
            several = "bundles" in results[name]  # measured apart, each with its own origin
            parts.append(render(results[name]) + ("" if several else "\n" + _origin(results[name])))
    path.write_text("\n".join(parts), encoding="utf-8")


def load(r: Mapping[str, Any]) -> str:
    """The tables against the plain node, two for each machine: figures of two machines cannot be compared."""
    machines: dict[str, list[Mapping[str, Any]]] = {}
    for case in r["cases"]:
        machines.setdefault(machine_of(case), []).append(case)
    changed = f" Changed parameters: {', '.join(r['set'])}." if r["set"] else ""
    head = (
        "## Against a plain rclpy node\n\nBoth nodes in turns, the node with its defaults, bench/plain_node.py with "
        f"{r['plain_threads']} threads of ONNX Runtime.{changed} The first table of a machine has the highest rate of "
        "a camera (Hz) with at most 1 % of the frames unanswered, and the CPU time for each answer at the rates of the "
        "second table, ours over the plain node's. The second has p50 / p95 / p99 in ms from the stamp to the arrival "
        "of the answer in another process, at 30, 50, 70 and 90 % of the plain node's highest rate; with 100 frames "
        "a p99 is nearly the latest answer.\n"
    )
    return head + "".join(f"\n### {name}\n\n{_on_one_machine(cases)}" for name, cases in machines.items())


def machine_of(case: Mapping[str, Any]) -> str:
    """What a case was measured on; cases of before 2026-12 name the instruction sets alone."""
    cpu = f"{case['cpu']}, {case['cores']} cores" if "cpu" in case else "2 cores"
    return f"{cpu}, with {', '.join(case['instruction_sets'])}"


def _on_one_machine(cases: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        f"| {case['case']} | {case['highest_hz']['ours']:.1f} | {case['highest_hz']['plain']:.1f} | "
        f"{case['rate_over_plain']:.2f} | {case['cpu_over_plain']:.2f} | {case['repeats']} | {case['commit'][:10]} |"
        for case in cases
    ]
    ages = [
        f"| {case['case']} | {ours['rate']:.1f} | {ours['published']} | {_ages(ours)} | {_ages(plain)} |"
        for case in cases
        for ours, plain in zip(case["same_rates"]["ours"], case["same_rates"]["plain"], strict=True)
    ]
    return (
        "| cameras, images, bundle, precision | ours | plain node | ours over plain | CPU, ours over plain | repeats | "
        "commit |\n|---|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\n| case | Hz | frames | ours | plain node |\n|---|---|---|---|---|\n"
        + "\n".join(ages)
        + "\n"
    )


def _ages(trial: Mapping[str, Any]) -> str:
    lost = 100 * (1 - trial["answered"] / max(1, trial["published"]))
    return f"{trial['p50_ms']} / {trial['p95_ms']} / {trial['p99_ms']}" + (f" ({lost:.1f} % lost)" if lost > 0 else "")


def saturated(r: Mapping[str, Any]) -> str:
    """The table of the rate at saturation."""
    node, loop = (median(turn[key] for turn in r["turns"]) for key in ("node_hz", "loop_hz"))
    return (
        f"## At saturation\n\n{r['case']}, {r['rate_hz']:g} Hz each. The loop runs ONNX Runtime with {r['threads']} "
        "threads on a ready tensor, while the same cameras publish to a subscriber that discards the images. It "
        "takes every image, where the node leaves those that it cannot answer in the middleware. Medians "
        f"of {len(r['turns'])} turns.\n\n| figure | measured | asked |\n|---|---|---|\n"
        f"| answers in a second | {node:.1f} | |\n| runs of the loop in a second | {loop:.1f} | |\n"
        f"| the first over the second | {r['share']:.2f} | >= {r['bar']:g} |\n"
    )


def start(r: Mapping[str, Any]) -> str:
    """The table of starts."""
    names = {
        "start_s": "start of the process to active, s",
        "first_answer_ms": "first matched image to its answer, best effort, ms",
        "idle_cores": "CPU with four silent cameras, cores",
    }
    ours, plain = r["medians"]["ours"], r["medians"]["plain"]
    rows = [f"| {name} | {ours[key]:g} | {plain[key]:g} |" for key, name in names.items()]
    head = f"## Start and idle\n\nMedians of {len(r['rounds']['ours'])} starts, both nodes in turns.\n\n"
    return head + "| figure | ours | plain node |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def watch_cost(r: Mapping[str, Any]) -> str:
    """The table of `lisard watch`."""
    names = {
        "answered_share": "share of the frames answered",
        "p50_ms": "p50, stamp to arrival of the answer, ms",
        "p99_ms": "p99, ms",
        "watch_cores": "CPU of `lisard watch`, cores",
        "images_loaded": "images loaded by the page",
    }
    medians = r["medians"]
    rows = [f"| {text} | {medians['with'][key]:g} | {medians['without'][key]:g} |" for key, text in names.items()]
    head = (
        f"## `lisard watch`\n\nFour VGA cameras at {r['rate_hz']:g} Hz, models/road_signs as shipped, one open page. "
        f"Medians of {len(r['rounds']['with'])} trials, with it and without in turns.\n\n"
    )
    return head + "| figure | with | without |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def session_threads(r: Mapping[str, Any]) -> str:
    """The table of ways to use the cores."""
    rows = [f"| {way} | {value:.2f} |" for way, value in r["medians_ms"].items()]
    return (
        "## Threads of ONNX Runtime\n\nMedians for each image, in turns in one process.\n\n| way | ms |\n|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def overhead(r: Mapping[str, Any]) -> str:
    """The table of cost over the bare Pipeline."""
    limits = r["limits"]
    rows = [
        ("CPU per frame over the Pipeline, ms", r["cpu_over_pipeline_ms"], f"<= {limits['cpu_over_pipeline_ms']:g}"),
        (
            "median latency over the Pipeline, ms",
            r["latency_over_pipeline_ms"],
            f"<= {limits['latency_over_pipeline_ms']:g}",
        ),
        (
            "saturated rate over that of a minimal rclpy node",
            r["rate_over_minimal"],
            f">= {limits['rate_over_minimal']:g}",
        ),
        ("saturated rate, Hz", r["node_rate_hz"], ""),
        ("saturated rate of the minimal node, Hz", r["minimal_rate_hz"], ""),
        ("CPU per frame, node, ms (user + sys, all threads)", r["node_cpu_ms"], ""),
        ("CPU per frame, Pipeline alone, ms", r["pipeline_cpu_ms"], ""),
    ]
    lines = [f"| {what} | {value:.2f} | {limit} |" for what, value, limit in rows]
    head = f"## Cost\n\nMedians of {len(r['repeats'])} repeats, {r['frames']} frames at 30 Hz each; latency: stamp to "
    head += "arrival of the answer in another process.\n\n| figure | measured | asked |\n|---|---|---|\n"
    return head + "\n".join(lines) + "\n"


def accounting(r: Mapping[str, Any]) -> str:
    """The table of the three cameras."""
    keys = ("published", "received", "lost_in_transport", "answered", "replaced", "too_old", "failed")
    cells = [[case["case"], *(str(case[key]) for key in keys), _holds(case)] for case in r["cases"]]
    rows = ["| " + " | ".join(row) + " |" for row in cells]
    head = "## Every frame is accounted for\n\n| camera | " + " | ".join(key.replace("_", " ") for key in keys)
    return head + " | both equations |\n" + "|---" * (len(keys) + 2) + "|\n" + "\n".join(rows) + "\n"


def soak(r: Mapping[str, Any]) -> str:
    """The line about memory."""
    return (
        f"## Soak\n\n{r['published']} frames, {r['answered']} answered: resident memory {r['rss_begin_mb']:.1f} MB "
        f"after warm-up, {r['rss_end_mb']:.1f} MB at the end: {r['growth_mb']:+.2f} MB (limit {r['limit_mb']:g}).\n"
    )


def injection_isolation(r: Mapping[str, Any]) -> str:
    """The table of what injection takes from perception, for each budget."""
    shares = list(r["figures"])
    rows = []
    for name in r["figures"][shares[0]]:
        cells = " | ".join(f"{r['figures'][share][name]:.2f}" for share in shares)
        rows.append(f"| {name} | {cells} | {r['bars'].get(name, '')} |")
    lines = [
        "## Injection beside perception\n",
        "Four VGA cameras on the shipped detector, five injections (noise, universal, fog, motion blur, JPEG), off and "
        f"on in turns: at 70 % of the loss-free rate ({r['loss_free_hz']:g} Hz a camera) and at 1.6 times that rate. "
        "Medians of the trials.\n",
        f"| figure | {' | '.join(f'max_share {share}' for share in shares)} | asked |",
        f"|---|{'---|' * len(shares)}---|",
    ]
    return "\n".join([*lines, *rows]) + "\n"


def injection_off(r: Mapping[str, Any]) -> str:
    """The table of what injection costs while it is off."""
    rows = [
        f"| median latency, never on, ms | {r['p50_ms']['fresh']:.2f} | |",
        f"| median latency, on before, ms | {r['p50_ms']['switched']:.2f} | |",
        f"| difference of the medians | {100 * r['change']:+.1f} % | within {100 * r['limit']:g} % |",
        f"| injection objects in either node | {len(r['objects'])} | 0 |",
    ]
    return (
        "## Injection off\n\nTwo nodes in turns, one that never injected and one whose injection was switched off, "
        f"with models/{r['bundle']} ({r['precision']}) and a VGA camera at {r['rate_hz']:g} Hz. Medians of "
        f"{len(r['trials']['fresh'])} trials each.\n\n| figure | measured | asked |\n|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def self_test_live(r: Mapping[str, Any]) -> str:
    """The table of what a self test on live frames takes."""
    parts = [
        "## Self test on live frames\n",
        f"Frames of a VGA camera at {r['rate_hz']:g} Hz under {', '.join(r['attacks'])}, and the answers "
        "to that camera alone and meanwhile, in turns. Collecting the frames is part of the test's time.\n",
    ]
    for name, one in r["bundles"].items():
        bars = r["bars"] if name == r["asked_of"] else {}
        changed = f"Changed parameters: {', '.join(one['set'])}.\n\n" if one["set"] else ""
        rows = [
            f"| {key} | {value:.2f} | {f'<= {bars[key]:g}' if key in bars else ''} |"
            for key, value in one["figures"].items()
        ]
        head = f"### {name}, {one['frames']} frames\n\n{changed}| figure | measured | asked |\n|---|---|---|\n"
        parts.append(head + "\n".join(rows) + f"\n\n{_origin(one)}")
    return "\n".join(parts)


def _holds(case: Mapping[str, Any]) -> str:
    exact = case["published_equals_received_plus_lost"] and case["received_equals_outcomes"]
    return ("hold" if exact else "DO NOT HOLD") + (", with a WARN" if case["lost_in_transport"] else "")


def _origin(section: Mapping[str, Any]) -> str:
    m = section["machine"]
    return (
        f"`{section['command']}` · {section['date']} · commit {section['commit'][:10]} · {m['cpu']}, {m['cores']} "
        f"cores, load {m['load_1min']} at the end · Python {m['python']}\n"
    )


if __name__ == "__main__":
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/results/node.json")
    write(json.loads(source.read_text(encoding="utf-8")), source.with_suffix(".md"))
