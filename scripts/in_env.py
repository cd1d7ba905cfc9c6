"""Run a command in the environment that scripts/bootstrap.py made: `python3 scripts/in_env.py CMD ...`.

Sets what ROS needs (prefix, middleware, a domain of its own for this job) and puts the checkout on PYTHONPATH.
"""

from __future__ import annotations

import os
import random
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import machine

WHEELS_MIDDLEWARE = "rmw_fastrtps_cpp"
# Domains that need no port above those the operating system hands out (ROS 2 documentation, "The ROS_DOMAIN_ID").
HIGHEST_DOMAIN = 101


def job_variables(environ: Mapping[str, str], ros: machine.Ros | None) -> dict[str, str]:
    """The variables of ENVIRON with those of this project; a value that the user has set stays."""
    venv = machine.venv_folder(ros)
    variables = dict(environ)
    variables.setdefault("ROS_DOMAIN_ID", str(random.randint(1, HIGHEST_DOMAIN)))
    variables.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    variables.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    variables["VIRTUAL_ENV"] = str(venv)
    variables["PATH"] = _joined(str(venv / "bin"), environ.get("PATH", os.defpath))
    checkout = [str(machine.ROOT / folder) for folder in (".", "trainer", "engines", "demo")]
    variables["PYTHONPATH"] = _joined(*checkout, environ.get("PYTHONPATH", ""))
    return variables if ros else _for_wheels(variables, venv)


def _for_wheels(variables: dict[str, str], venv: Path) -> dict[str, str]:
    """The ROS 2 wheels know one middleware and one prefix; variables of another virtual environment would mislead."""
    foreign = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH") if _inherited(variables, venv) else ()
    kept = {name: value for name, value in variables.items() if name not in foreign}
    if kept.get("RMW_IMPLEMENTATION", WHEELS_MIDDLEWARE) != WHEELS_MIDDLEWARE:
        del kept["RMW_IMPLEMENTATION"]
    kept["AMENT_PREFIX_PATH"] = str(venv)
    return kept


def _inherited(variables: Mapping[str, str], venv: Path) -> bool:
    """Whether the library path was set by the wheels of some other virtual environment."""
    paths = variables.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    return "_ROS_WHEELS_BOOTSTRAP_COMPLETE" in variables and str(venv / "lib") not in paths


def _joined(*parts: str) -> str:
    return os.pathsep.join(part for part in parts if part)


def with_overlay(command: list[str], ros: machine.Ros | None) -> list[str]:
    """COMMAND, after sourcing the message definitions where bootstrap.py built them beside a sourced ROS."""
    setup = machine.venv_folder(ros) / "overlay" / "setup.bash"
    if ros is None or not setup.exists():
        return command
    return ["bash", "-c", f'source {shlex.quote(str(setup))} && exec "$@"', "in_env", *command]


def main() -> int:
    """Replace this process by the command; exit status 2 without one, or without the environment."""
    command, ros = sys.argv[1:], machine.sourced_ros()
    venv = machine.venv_folder(ros)
    if not command:
        print("usage: python3 scripts/in_env.py CMD ...", file=sys.stderr)
        return 2
    if not (venv / "bin" / "python").exists():
        print(f"{venv.name}: not there; make it with `python3 scripts/bootstrap.py runtime`", file=sys.stderr)
        return 2
    variables = job_variables(os.environ, ros)
    command = with_overlay(command, ros)
    os.environ["PATH"] = variables["PATH"]
    os.execvpe(command[0], command, variables)


if __name__ == "__main__":
    sys.exit(main())
