"""The `lisard` command: finds its subcommands through entry points and imports one only when it is called.

Exit status: 0 done, 1 a check failed, 2 usage error or invalid input.
"""

from __future__ import annotations

import argparse
import ast
import errno
import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from lisard_ros import __version__
from lisard_ros.errors import LisardError, one_line, unknown_name

COMMAND_GROUP = "lisard_ros.commands"
EXIT_DONE, EXIT_CHECK_FAILED, EXIT_WRONG_USE, EXIT_INTERRUPTED = 0, 1, 2, 130
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory")  # as torch says it, of the CPU and of a GPU


# Old names and new ones: of commands, and of options by command. Each works for one release, with a notice.
RENAMED = {"run": "predict"}
_IMAGES = {"--pictures": "--images"}
RENAMED_OPTIONS = {
    "attack": _IMAGES,
    "bench": {**_IMAGES, "--subjects": "--backends"},
    "build": {**_IMAGES, "--plans": "--engines", "--plan-policy": "--engine-policy"},
    "evaluate": {**_IMAGES, "--control": "--baseline", "--contrast": "--compare", "--fresh": "--no-cache"},
    "replay": {"--attacks": "--injections", "--subjects": "--backends"},
    "verify": {**_IMAGES, "--flavour": "--scheme"},
}


class CommandModule(Protocol):
    """What a subcommand's module offers; ACTIONS besides, if some first words are actions: word -> module."""

    SUMMARY: str  # a plain string: the overview reads it without importing the module
    HELP: str

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do the work and return the exit status."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status; errors for users go to stderr without a traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    _show_any_text()
    try:
        status = _dispatch(words)
        sys.stdout.flush()  # here, where a reader that has gone can still be answered for
        return status
    except LisardError as error:
        print(f"lisard: error: {error}", file=sys.stderr)
        return EXIT_WRONG_USE
    except KeyboardInterrupt:
        print("lisard: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`lisard ... | head`); Python's own flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except OSError as error:
        # A refusal of the operating system that no command expected.
        what = ascii(error.filename)[:200] if isinstance(error.filename, str) else "the file system"
        full = error.errno == errno.ENOSPC
        cure = "make room there and in the temporary folder (TMPDIR)" if full else "check the path and its permissions"
        found = error.strerror or one_line(error)
        print(f"lisard: error: {what}: found {found}, expected to read or write there; {cure}", file=sys.stderr)
        return EXIT_WRONG_USE
    except MemoryError as error:
        return _too_little_memory(error)
    except RuntimeError as error:
        if not any(words in str(error) for words in _OUT_OF_MEMORY):
            raise
        return _too_little_memory(error)


def _show_any_text() -> None:
    """Escape what a terminal cannot encode, such as a name in Cyrillic on an ASCII one; Python would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _too_little_memory(error: BaseException) -> int:
    print(
        f"lisard: error: memory: found too little ({one_line(error)}), expected more; take smaller or fewer "
        "images at a time (optimizer.batch_size and data.size_px of a training)",
        file=sys.stderr,
    )
    return EXIT_WRONG_USE


def load_command(name: str) -> CommandModule:
    """Import the module of one subcommand; an unknown name is an error that suggests the nearest one."""
    modules = _modules()
    if name not in modules:
        raise unknown_name("command", name, modules)
    try:
        module: CommandModule = importlib.import_module(modules[name])
    except ImportError as error:
        raise LisardError(
            f"`lisard {name}` cannot be loaded",
            found=str(error),
            expected="an installation with that part",
            cure="`lisard doctor` names what is missing; training needs pip install 'lisard_ros[trainer]', building "
            "'lisard_ros[engines]'",
        ) from error
    return module


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return EXIT_DONE if words else EXIT_WRONG_USE
    if words[0] in ("-V", "--version"):
        print(f"lisard {__version__}")
        return EXIT_DONE
    name = words[0]
    if name in RENAMED:
        name = RENAMED[name]
        print(
            f"lisard: `lisard {words[0]}` is now `lisard {name}`; the next release drops the old name", file=sys.stderr
        )
    module = load_command(name)
    # An action of a command whose first argument is a path otherwise: `lisard bundle sign`.
    actions: Mapping[str, str] = getattr(module, "ACTIONS", {})
    if words[1:] and words[1] in actions:
        module = importlib.import_module(actions[words[1]])
    parser = argparse.ArgumentParser(
        prog=f"lisard {name}", description=module.HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.configure(parser)
    try:
        return module.run(parser.parse_args(_with_new_options(name, words[1:])))
    except SystemExit as leaving:  # argparse has told the user already
        return EXIT_WRONG_USE if leaving.code else EXIT_DONE


def _with_new_options(command: str, words: list[str]) -> list[str]:
    """Replace old names of options, and tell the user of each."""
    renamed = RENAMED_OPTIONS.get(command, {})
    new_words = []
    for word in words:
        option, equals, value = word.partition("=")
        if option in renamed:
            print(
                f"lisard: `{option}` is now `{renamed[option]}`; the next release drops the old name", file=sys.stderr
            )
            word = renamed[option] + equals + value
        new_words.append(word)
    return new_words


def _modules() -> dict[str, str]:
    """Names of the installed subcommands and their modules.

    Raises:
        LisardError: The package is not installed, so no subcommand is known.
    """
    # An installation that is older than the checkout may still list an old name.
    modules = {entry.name: entry.value for entry in entry_points(group=COMMAND_GROUP) if entry.name not in RENAMED}
    if not modules:
        raise LisardError(
            "no subcommands",
            found="a checkout that is not installed",
            expected=f"entry points of the group {COMMAND_GROUP}",
            cure="run `make setup`, or `pip install -e .` in the checkout",
        )
    return modules


def summary_of(module: str) -> str:
    """Return a subcommand's SUMMARY, read from its source: importing it could take seconds. Empty if there is none."""
    package, *inside = module.split(".")
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0], *inside).with_suffix(".py") if folders else None
    if path is None or not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines()
    line = next((line for line in lines if line.startswith("SUMMARY = ")), "SUMMARY = ''")
    return str(ast.literal_eval(line.removeprefix("SUMMARY = ")))


def _overview() -> str:
    lines = [f"  {name:<10} {summary_of(module)}" for name, module in _modules().items()]
    return "\n".join(
        [
            "usage: lisard COMMAND ...",
            "",
            "Models that resist adversarial perturbations, for ROS 2: train, check, deploy, replay.",
            "",
            *lines,
            "",
            "`lisard COMMAND --help` explains each with examples.",
            "Exit status: 0 done, 1 a check failed, 2 usage error or invalid input.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
