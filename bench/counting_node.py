"""The node, which on SIGUSR1 writes into the file of its first argument what there is of injection in its process.

One name of a class for each object, separated by spaces; nothing while injection is off. Used by bench/injection_off.py
and by test/node.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from typing import Any

from lisard_ros import injection
from lisard_ros.injection_process.process import InjectionProcess
from lisard_ros.injection_process.supervisor import InjectionSupervisor
from lisard_ros.node import main
from lisard_ros.node.injection_feed import InjectionFeed

FILE = Path(sys.argv[1])
# What carries an injection, and every injection itself. Counters and statuses of /diagnostics are there at all times,
# and a plan is a part of the settings, which a thread that sleeps remembers with its last batch.
INJECTIONS = {each for each in vars(injection).values() if isinstance(each, type) and "apply" in vars(each)}
KINDS = {InjectionFeed, InjectionSupervisor, InjectionProcess} | INJECTIONS


def write_objects(number: int, frame: Any) -> None:
    """Write what is alive; the file is complete when it is there."""
    gc.collect()
    alive = sorted(type(each).__name__ for each in gc.get_objects() if type(each) in KINDS)
    beside = FILE.with_suffix(".new")
    beside.write_text(" ".join(alive))
    os.replace(beside, FILE)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, write_objects)
    sys.exit(main.main(["perception_node", *sys.argv[2:]]))
