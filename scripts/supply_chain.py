"""What comes with the package: `sbom` writes it as CycloneDX JSON, `audit` looks it up among known vulnerabilities.

Run by `make sbom` and `make audit`. The tools (requirements/supply_chain.txt) have an environment of their own. Needs
pip 22.3 or newer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import machine
import tool_environment

REQUIREMENTS = machine.ROOT / "requirements"
PLACE = machine.ROOT / "out/supply_chain"
SBOM = machine.ROOT / "out/lisard_ros.cdx.json"
NAME = "lisard_ros"
# What is installed on a vehicle; the SBOM is of the same.
DELIVERED = ("runtime.txt", "signing.txt")
# What pip-audit says when it cannot ask.
_UNREACHABLE = ("ConnectionError", "Could not connect", "Connection refused", "Max retries exceeded", "timed out")


def run(*command: str | Path) -> None:
    """Run COMMAND; an error of its own when it fails."""
    subprocess.run([str(word) for word in command], cwd=machine.ROOT, check=True)


def tools() -> Path:
    """The folder with the commands of requirements/supply_chain.txt."""
    return tool_environment.commands("supply_chain.txt", PLACE / "tools")


def sbom() -> int:
    """Install the wheel and what it needs into a fresh environment, and describe that."""
    commands = tools()
    source, wheels, delivered = PLACE / "source", PLACE / "wheel", PLACE / "delivered"
    for folder in (source, wheels):
        shutil.rmtree(folder, ignore_errors=True)
    copy_checkout(source)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", wheels, source)
    (wheel,) = wheels.glob("*.whl")
    venv.create(delivered, clear=True)
    tool_environment.pip(delivered, wheel, *[word for name in DELIVERED for word in ("-r", REQUIREMENTS / name)])
    form = ("--output-format", "JSON", "--output-reproducible", "--output-file")
    run(commands / "cyclonedx-py", "environment", *form, SBOM, delivered / "bin/python")
    document = with_wheel(json.loads(SBOM.read_text(encoding="utf-8")), wheel)
    SBOM.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"{SBOM.relative_to(machine.ROOT)}: {wheel.name} and {len(document['components'])} packages")
    return 0


def copy_checkout(target: Path) -> None:
    """Copy what git knows of the checkout; a build in place would leave its files in build/, where colcon builds."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (machine.ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(machine.ROOT / name, target / name)


def with_wheel(document: dict[str, Any], wheel: Path) -> dict[str, Any]:
    """The SBOM with this package as its subject, and the sha256 of its wheel."""
    subject = next(entry for entry in document["components"] if entry["name"].replace("-", "_") == NAME)
    others = [entry for entry in document["components"] if entry is not subject]
    digest = {"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}
    # Where it was installed from is a path of this machine.
    kept = {key: value for key, value in subject.items() if key != "externalReferences"}
    metadata = {**document.get("metadata", {}), "component": {**kept, "hashes": [digest]}}
    return {**document, "metadata": metadata, "components": others}


def audit() -> int:
    """Ask the database of known vulnerabilities about every pinned package; 0 also where it cannot be asked."""
    command = [
        str(tools() / "pip-audit"),
        "--no-deps",
        "--disable-pip",
        "--progress-spinner",
        "off",
        "--format",
        "json",
    ]
    command += [word for name in DELIVERED for word in ("-r", str(REQUIREMENTS / name))]
    done = subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True, check=False)
    status, lines = verdict(done.stdout, done.stderr)
    print("\n".join(lines))
    return status


def verdict(answer: str, messages: str) -> tuple[int, list[str]]:
    """Exit status and what to print for the JSON answer of pip-audit and its messages.

    A package that the database does not know is not a safe one: where it knows none of them, nothing was audited.
    """
    if not answer.strip():
        reason = unreachable(messages)
        skipped = [f"audit: not run, the database of vulnerabilities cannot be reached: {reason}"]
        return (0, skipped) if reason else (1, ["audit: pip-audit failed:", messages.strip()])
    packages = json.loads(answer)["dependencies"]
    unknown = [package for package in packages if "skip_reason" in package]
    if len(unknown) == len(packages):
        reason = unknown[0]["skip_reason"] if unknown else "no packages"
        return 0, [f"audit: not run, the index that was asked knows none of {len(packages)} packages: {reason}"]
    lines = [f"{package['name']}: not audited: {package['skip_reason']}" for package in unknown]
    found = [(package, flaw) for package in packages for flaw in package.get("vulns", ())]
    for package, flaw in found:
        fixed = ", ".join(flaw["fix_versions"]) or "no version yet"
        lines.append(f"{package['name']} {package['version']}: {flaw['id']}, fixed in {fixed}")
    summary = f"audit: {len(found)} known vulnerabilities in {len(packages) - len(unknown)} packages"
    return (1 if found else 0), [*lines, summary]


def unreachable(messages: str) -> str:
    """The line of pip-audit's messages that tells why it could not ask; '' where it could."""
    lines = [line.strip() for line in messages.splitlines() if any(word in line for word in _UNREACHABLE)]
    return lines[-1][:300] if lines else ""


def main() -> int:
    """Exit status 0, 1 for vulnerabilities or a step that failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("sbom", "audit"))
    options = parser.parse_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    try:
        return sbom() if options.what == "sbom" else audit()
    except subprocess.CalledProcessError as error:
        print(f"{options.what}: a step ended with status {error.returncode}: {error.cmd[0]}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
