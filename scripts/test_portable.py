"""Run tests under the arithmetic of other processors: `python scripts/test_portable.py TEST ...`.

ATEN_CPU_CAPABILITY chooses torch's own kernels, ONEDNN_MAX_CPU_ISA those of oneDNN. A training gives other figures
under each, as it does with another number of threads; a test must hold under all of them. Exit status 1 if one fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

SETTINGS: tuple[dict[str, str], ...] = (
    {"OMP_NUM_THREADS": "2"},
    {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "avx2"},
    {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    {"OMP_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "default"},
)
PLUGINS = ("-p", "timeout", "-p", "xdist", "-p", "hypothesispytest")


def main(tests: list[str]) -> int:
    """Run pytest on TESTS once for each of SETTINGS; 0 when all passed."""
    if not tests:
        print("usage: python scripts/test_portable.py TEST ...", file=sys.stderr)
        return 2
    failed = []
    for setting in SETTINGS:
        words = " ".join(f"{name}={value}" for name, value in setting.items())
        print(f"== {words}", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", *PLUGINS, "-n", "auto", "--dist", "loadfile", *tests]
        begun = time.monotonic()
        status = subprocess.run(
            command, env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **setting}, check=False
        )
        print(f"== {words}: exit status {status.returncode} after {time.monotonic() - begun:.0f} s", flush=True)
        failed += [words] if status.returncode else []
    print(
        f"{len(SETTINGS) - len(failed)} of {len(SETTINGS)} settings passed" + "".join(f"\nfailed: {w}" for w in failed)
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
