"""The result of the demonstration as plain text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from lisard_demo.scenarios import Outcome

FRAMES_HEAD = ("scenario", "published", "lost in transport", "received", "answered", "dropped by cause")
ACCURACY_HEAD = ("scenario", "condition", "accuracy [95 % interval]", "attacker's knowledge", "what is counted")
LATENCY_HEAD = ("scenario", "stage", "p50 ms", "p95 ms", "p99 ms", "n")


def text(outcomes: Sequence[Outcome]) -> str:
    """Return all tables."""
    blocks = [
        "Frames\n" + columns(FRAMES_HEAD, [frames_row(o) for o in outcomes]),
        "Accuracy\n" + columns(ACCURACY_HEAD, [row for o in outcomes for row in accuracy_rows(o)]),
        "Latency\n" + columns(LATENCY_HEAD, [row for o in outcomes for row in latency_rows(o)]),
        "Checks\n" + "\n".join(check_lines(outcomes)),
    ]
    return "\n" + "\n\n".join(blocks) + "\n"


def frames_row(outcome: Outcome) -> tuple[str, ...]:
    """One line of the frame accounting."""
    b = outcome.counts
    numbers = (b.published, b.lost_in_transport, b.received, b.answered)
    return (f"({outcome.scenario.key}) {outcome.scenario.title}", *map(str, numbers), b.dropped_words)


def accuracy_rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """One line for each condition."""
    key = f"({outcome.scenario.key})"
    return [(key, a.condition, str(a.share), a.knowledge or "-", a.what) for a in outcome.accuracies]


def latency_rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """One line for each stage."""
    key = f"({outcome.scenario.key})"
    return [
        (key, s.stage, f"{s.p50_ms:.2f}", f"{s.p95_ms:.2f}", f"{s.p99_ms:.2f}", str(s.n) if s.n else "")
        for s in outcome.latency.stages
    ]


def check_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """One line for each check."""
    return [
        f"  {'ok    ' if check.passed else 'FAILED'} ({outcome.scenario.key}) {check.name}: {check.detail}"
        for outcome in outcomes
        for check in outcome.checks
    ]


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out text in columns; columns of numbers are aligned to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    right = [
        bool(rows) and all(not row[i] or row[i].replace(".", "", 1).isdecimal() for row in rows)
        for i in range(len(head))
    ]

    def line(cells: Sequence[str]) -> str:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
        return "  " + "  ".join(padded).rstrip()

    return "\n".join([line(head), line(["-" * width for width in widths]), *map(line, rows)])
