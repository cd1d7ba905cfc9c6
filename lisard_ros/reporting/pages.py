"""Where the pages of reports come from: a Jinja template beside its module, and what all of them share."""

from __future__ import annotations

import math
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lisard_ros.evaluation.statistics import Interval, Proportion
from lisard_ros.reporting.display import words

SHARED = Path(__file__).parent  # report.css and figure.html.j2


def render(folder: Path, template: str, **values: object) -> str:
    """Fill a template of the folder; what it holds is escaped."""
    return environment(folder).get_template(template).render(values)


def environment(folder: Path) -> Environment:
    """Return what fills the templates of a folder: values are escaped, missing ones are an error."""
    templates = Environment(
        loader=FileSystemLoader([folder, SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["words"] = words
    templates.filters["percent"] = percent
    templates.filters["estimate"] = estimate
    templates.filters["figure"] = figure
    return templates


def figure(value: float) -> str:
    """Write a number of 0 or more to a hundredth where it is small; nothing as a dash."""
    return "–" if not value >= 0.005 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def percent(share: Proportion) -> str:
    """Write a share in percent."""
    return f"{100 * share.share:.1f} %" if share.n else "no data"


def estimate(share: Interval) -> str:
    """Write a share that is no count, such as AP, in percent, with its interval where it has one; "–" for NaN."""
    if math.isnan(share.value):
        return "–"
    value, low, high = (100 * number for number in (share.value, share.low, share.high))
    return f"{value:.1f} %" + (f" [{low:.1f}, {high:.1f}]" if low <= high else "")
