"""How ONNX Runtime's threads are used best on this machine: spinning, sleeping, one thread, two calls side by side.

Run: python bench/session_threads.py [--bundle models/road_signs] [--rounds 40]. All ways take turns in one process;
prints medians in ms for each image. It says what the defaults of lisard_ros/backends/onnx_runtime.py rest on.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime as ort
from processes import ROOT, save

from lisard_ros import host_cpu
from lisard_ros.backends import default_threads

SHORT_US = 50
REST_S = 0.2  # threads of the session before may go on spinning for a while


def session(model: Path, threads: int, spin_us: int | None, *, stop: bool) -> ort.InferenceSession:
    """Open the model. spin_us: None for ONNX Runtime's own time. stop: threads sleep between two runs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    if spin_us is not None:
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin_us else "0")
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin_us))
    options.add_session_config_entry("session.force_spinning_stop", "1" if stop else "0")
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def main() -> int:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/road_signs")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    model, threads = options.bundle / "model.onnx", default_threads()
    sessions = {
        f"{threads} threads, the runtime's own settings": session(model, threads, None, stop=False),
        f"{threads} threads, spinning within a run": session(model, threads, None, stop=True),
        f"{threads} threads, spinning {SHORT_US} us": session(model, threads, SHORT_US, stop=True),
        f"{threads} threads, sleeping": session(model, threads, 0, stop=True),
        f"{max(1, threads // 2)} threads": session(model, max(1, threads // 2), None, stop=True),
    }
    halved = list(sessions.values())[-1]
    argument = halved.get_inputs()[0]
    x = np.random.default_rng(0).random((1, *argument.shape[1:]), np.float32)

    def infer(of: ort.InferenceSession) -> None:
        of.run(None, {argument.name: x})

    def pair() -> None:
        other = threading.Thread(target=infer, args=(halved,))
        other.start()
        infer(halved)
        other.join()

    took_ms: dict[str, list[float]] = {}
    for turn in range(options.rounds + 1):
        ways = {name: (lambda of=of: infer(of), 1) for name, of in sessions.items()}
        for name, (way, images) in {**ways, "two calls side by side, half of the threads each": (pair, 2)}.items():
            time.sleep(REST_S)
            begin_s = time.perf_counter()
            way()
            if turn:
                took_ms.setdefault(name, []).append((time.perf_counter() - begin_s) * 1e3 / images)
    medians = {name: round(median(values), 2) for name, values in took_ms.items()}
    for name, value in medians.items():
        print(f"{value:8.2f} ms  {name}")
    about = {"instruction_sets": host_cpu.instruction_sets(), "medians_ms": medians}
    save("session_threads", about, f"python bench/session_threads.py --rounds {options.rounds}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
