"""The node with ONNX Runtime made to hang: no call returns while the file of the first argument is there.

LISARD_TEST_FINISH_S, LISARD_TEST_RELOAD_S and LISARD_TEST_FIRST_WAIT_S shorten limits of the node and of the
supervisor of its injection, so that a test need not wait for them.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lisard_ros.backends.onnx_runtime import OnnxRuntime
from lisard_ros.injection_process import supervisor
from lisard_ros.node import main, perception

FLAG = Path(sys.argv[1])
real_infer = OnnxRuntime.infer


def infer(self: OnnxRuntime, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Answer as ONNX Runtime does, but not before the file is gone."""
    while FLAG.exists():
        time.sleep(0.02)
    return real_infer(self, x)


if __name__ == "__main__":
    OnnxRuntime.infer = infer  # type: ignore[method-assign]
    for module, name in ((perception, "FINISH_S"), (perception, "RELOAD_S"), (supervisor, "FIRST_WAIT_S")):
        setattr(module, name, float(os.environ.get(f"LISARD_TEST_{name}", getattr(module, name))))
    sys.exit(main.main(["perception_node", *sys.argv[2:]]))
