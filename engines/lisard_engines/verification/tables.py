"""How comparisons are shown to people."""

from __future__ import annotations

from lisard_ros.bundle.manifest import Verification
from lisard_ros.bundle.model_choice import loss_text
from lisard_ros.commands.output import table

from .comparison import EngineComparison
from .deployment import Deployed


def comparison(measured: EngineComparison) -> str:
    """Lay a comparison out: accuracy or AP50 of both, and the paired loss with its 95 % interval."""
    shown = "what the images show" if measured.labelled else "the reference's clean answers"
    rows = [
        (
            row.injection,
            row.knowledge,
            row.n,
            row.not_applicable,
            f"{100 * row.reference:.2f} %",
            f"{100 * row.judged:.2f} %",
            f"{row.loss_points.value:+.2f} [{row.loss_points.low:+.2f}, {row.loss_points.high:+.2f}]",
        )
        for row in measured.rows
    ]
    head = f"{measured.judged}\nagainst {measured.reference}, {measured.pictures} images"
    head += f" ({measured.metric} by {shown})"
    lines = table(("injection", "knowledge", "n", "n/a", "reference", "judged", "loss in points"), rows)
    same = f"same answers {100 * measured.agreement:.2f} %, outputs differ by {measured.max_abs_difference:.3g} at most"
    return f"{head}\n\n{lines}\n\n{same}"


def engine(done: Deployed) -> str:
    """Say what became of an engine."""
    built = "from the cache" if done.build_s is None else f"built in {done.build_s:.2f} s"
    head = f"{done.model}: {done.product} {done.version} engine {done.key[:12]} for {done.device}, {built}, "
    head += f"{done.engine_bytes / 1024:.0f} KiB: {done.state}"
    shown = f"\n{comparison(done.measured)}" if done.measured is not None else ""
    return head + (f" ({done.why}; run `lisard verify` on the device)" if done.why else "") + shown


def verdict(verification: Verification) -> str:
    """Say how the gate judged."""
    if verification.passed:
        return f"gate passed: {loss_text(verification)}"
    return f"gate FAILED: {loss_text(verification)}" + (
        "; installed by force" if verification.forced else "; not installed"
    )
