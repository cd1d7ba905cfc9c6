"""`python3 -m lisard_ros ...` is the `lisard` command, also in a plain checkout."""

import sys

from lisard_ros.cli import main

if __name__ == "__main__":
    sys.exit(main())
