"""Names of classes by data set, in the order of the class folders."""

from __future__ import annotations

from lisard_ros.errors import DataError, unknown_name

from . import ImageDataset

# The 43 classes of GTSRB (Stallkamp et al. 2012) by their official meaning, class 0 to 42.
GTSRB = (
    "speed_limit_20", "speed_limit_30", "speed_limit_50", "speed_limit_60", "speed_limit_70", "speed_limit_80",
    "end_of_speed_limit_80", "speed_limit_100", "speed_limit_120", "no_passing", "no_passing_for_heavy_vehicles",
    "right_of_way_at_next_intersection", "priority_road", "yield", "stop", "no_vehicles", "no_heavy_vehicles",
    "no_entry", "general_caution", "dangerous_curve_left", "dangerous_curve_right", "double_curve", "bumpy_road",
    "slippery_road", "road_narrows_right", "road_work", "traffic_signals", "pedestrians", "children_crossing",
    "bicycles_crossing", "ice_or_snow", "wild_animals_crossing", "end_of_all_limits", "turn_right_ahead",
    "turn_left_ahead", "ahead_only", "go_straight_or_right", "go_straight_or_left", "keep_right", "keep_left",
    "roundabout_mandatory", "end_of_no_passing", "end_of_no_passing_for_heavy_vehicles",
)  # fmt: skip
KNOWN = {"gtsrb": GTSRB}

# For the classes of road-sign detectors: what a box of that class can turn out to be in the finer label set.
_GTSRB_GROUPS = {
    "stop": ("stop",),
    "speedlimit": tuple(name for name in GTSRB if name.startswith("speed_limit_")),
}
_GROUPS = {"gtsrb": _GTSRB_GROUPS}

# GTSRB shows every sign with a border of about a tenth (Stallkamp et al. 2012). On the training boxes of road_signs,
# which frame signs tightly, no margin loses speed limits and a wide one loses stop signs; this lies between.
_MARGINS = {"gtsrb": 0.15}


def of(name: str, dataset: ImageDataset) -> tuple[str, ...]:
    """Labels of a known data set, or the folder names when none is asked for."""
    if name and name not in KNOWN:
        raise unknown_name("label set of recipe key data.labels", name, KNOWN)
    if not name:
        blank = next((number for number, folder in enumerate(dataset.classes) if not folder.strip()), None)
        if blank is not None:
            raise DataError(
                f"class folder {dataset.classes[blank]!r}", found="a blank name", expected="a label", cure="rename it"
            )
        return dataset.classes
    if len(KNOWN[name]) != len(dataset.classes):
        found = f"{len(dataset.classes)} classes in the data"
        cure = "check --data, or leave data.labels out of the recipe"
        raise DataError(f"label set {name}", found=found, expected=len(KNOWN[name]), cure=cure)
    for number, folder in enumerate(dataset.classes):
        if folder != KNOWN[name][number] and not (folder.isdecimal() and int(folder) == number):
            raise DataError(
                f"label set {name}",
                found=f"class folder {folder} in place {number}",
                expected=f"{number:05d} or {KNOWN[name][number]}",
                cure="rename the folders, or leave data.labels out of the recipe",
            )
    return KNOWN[name]


def groups(name: str) -> dict[str, tuple[str, ...]]:
    """Detector classes that a known label set refines, with the labels of each; none for other data."""
    return _GROUPS.get(name, {})


def margin(name: str) -> float:
    """How much to widen a detector's tight box on each side, as a share of it, to show what the data set shows."""
    return _MARGINS.get(name, 0.0)
