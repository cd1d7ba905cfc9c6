"""The reference pages of the site, each made from the code that it describes: nothing in them is written twice.

`pages()` needs the project's environment (torch for recipes); scripts/docs_site.py calls it.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import machine

ROOT = machine.ROOT
NAMES = ("index.md", "parameters.md", "topics.md", "commands.md", "recipes.md", "api.md")
NODE = ROOT / "lisard_ros/node"
POLICY = ROOT / "config/sros2_policy.xml"
RECIPES = ROOT / "trainer/recipes"
# What every node of ROS 2 has; the others must be made somewhere below lisard_ros/node.
OF_EVERY_NODE = re.compile(
    r"/parameter_events|/rosout|/clock|~/(transition_event|change_state|get_\w+|list_parameters|describe_parameters|"
    r"set_parameters\w*)"
)
USAGE_WIDTH = 100


def pages() -> dict[str, str]:
    """File name -> text of every reference page."""
    makers = (index, parameters, topics, commands, recipes, api)
    return {name: make() for name, make in zip(NAMES, makers, strict=True)}


def index() -> str:
    """The list of the reference pages."""
    return """# Reference

These pages are generated from the code of this version:

| page | generated from |
|---|---|
| [Parameters of the node](parameters.md) | the table of parameters |
| [Topics and services](topics.md) | the node's code and its SROS2 policy |
| [Commands](commands.md) | the command-line parsers |
| [Recipes](recipes.md) | the recipe types and the shipped recipes |
| [Python API](api.md) | types and docstrings |

These are written by hand: [the API with examples](../api.md), [what each recipe key means](../recipes.md),
[networks](../backbones.md), [corruptions](../corruptions.md), [ONNX formats](../onnx.md),
[certified radii](../smoothing.md).
"""


def parameters() -> str:
    """The parameters of the node, as a table and as a file."""
    from lisard_ros.node import parameter_docs

    return f"""# Parameters of the node

`perception_node` declares these parameters. "can change" means that `ros2 param set` works while the node runs. How
they are given: [the node](../node.md#parameters).

{parameter_docs.table()}

## As a file

`ros2 run lisard_ros perception_node --ros-args --params-file perception.yaml` reads this file. It is installed as
`share/lisard_ros/config/perception.yaml`, and holds every default.

```yaml
{parameter_docs.yaml_file()}```
"""


# --- topics and services ----------------------------------------------------------------------------------------------


def topics() -> str:
    """The names of the node's interfaces with their types."""
    types = interface_types()
    rows: dict[str, list[str]] = {"publish": [], "subscribe": [], "reply": []}
    for group in ElementTree.parse(POLICY).getroot().iter():  # noqa: S314  a file of the checkout
        for right in rows.keys() & group.attrib.keys():
            for entry in group:
                name = (entry.text or "").strip()
                rows[right].append(f"| `{name.replace('/camera/', '/CAMERA/')}` | {type_of(name, types)} |")
    table = "| name | type |\n|---|---|\n"
    return f"""# Topics and services

The names that `perception_node` creates. `~` stands for the node's namespace and name, `CAMERA` for the name of a
camera. `image_raw` and `boxes` are what the parameters `image_topics` and `boxes_topic` name. How a topic gives its
name to a camera, and when each message is published: [the node](../node.md#topics-and-services).

## Published

{table}{chr(10).join(rows["publish"])}

## Subscribed

{table}{chr(10).join(rows["subscribe"])}

## Services

{table}{chr(10).join(rows["reply"])}
"""


def interface_types() -> dict[str, set[str]]:
    """Last part of an interface's name -> its types, from the calls below lisard_ros/node that create it."""
    found: dict[str, set[str]] = {}
    for path in sorted(NODE.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        packages = {
            alias.name: (node.module or "").replace(".", "/")
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith((".create_publisher", ".create_service")):
                name = ast.unparse(call.args[1]).strip("f'\"").rpartition("/")[2]
                kind = ast.unparse(call.args[0])
                found.setdefault(name, set()).add(f"{packages[kind]}/{kind}")
    return found


def type_of(name: str, types: dict[str, set[str]]) -> str:
    """The type of an interface of the policy; an error for one that no code creates."""
    given = {"image_raw": "`sensor_msgs/msg/Image` or `CompressedImage`", "boxes": "`vision_msgs/msg/Detection2DArray`"}
    if name in given:
        return given[name]
    if OF_EVERY_NODE.fullmatch(name):
        return "as every (lifecycle) node has it"
    return ", ".join(f"`{kind}`" for kind in sorted(types[name.rpartition("/")[2]]))


# --- commands ---------------------------------------------------------------------------------------------------------


def commands() -> str:
    """Every subcommand of `lisard` with all its options."""
    parts = [
        "# Commands\n\n`lisard COMMAND --help` prints the same. Exit status: 0 done, 1 a check failed, 2 usage error "
        "or invalid input.\n"
    ]
    for command, parser in parsers().items():
        level = "##" if " " not in command else "###"
        parts.append(f"{level} lisard {command}\n\n{described(parser)}")
    return "\n".join(parts)


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Words behind `lisard` -> the parser of each command and of each of its actions."""
    found: dict[str, argparse.ArgumentParser] = {}
    for command, place in sorted(declared_commands().items()):
        module = importlib.import_module(place)
        found |= with_actions(command, parser_of(command, module))
        for other in dict.fromkeys(getattr(module, "ACTIONS", {}).values()):
            actions = with_actions(command, parser_of(command, importlib.import_module(other)))
            found |= {name: parser for name, parser in actions.items() if name != command}
    (make,) = entry_points(group="lisard_ros.attack_make")
    return {
        name: parser_of(name, importlib.import_module(make.value)) if name == "attack make" else parser
        for name, parser in found.items()
    }


def declared_commands() -> dict[str, str]:
    """Subcommand -> module, as setup.py of this checkout declares them; an installation may be older."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (value,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "COMMANDS"
    ]
    table: dict[str, str] = ast.literal_eval(value)
    return table


def parser_of(command: str, module: Any) -> argparse.ArgumentParser:
    """The parser that a command's module configures."""
    parser = argparse.ArgumentParser(prog=f"lisard {command}", description=module.HELP, formatter_class=_Wide)
    module.configure(parser)
    return parser


class _Wide(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=USAGE_WIDTH)


def with_actions(name: str, parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """A parser, and those of its actions under `NAME ACTION`."""
    found = {name: parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                inner.formatter_class = _Wide
                found[f"{name} {word}"] = inner
    return found


def described(parser: argparse.ArgumentParser) -> str:
    """Usage, description and the options of a parser as Markdown."""
    usage = parser.format_usage().removeprefix("usage: ").rstrip()
    lines = [f"```text\n{usage}\n```\n"]
    if parser.description:
        lines.append(f"```text\n{parser.description}\n```\n")
    rows = [row(action, parser) for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    if rows:
        lines += ["| argument | meaning |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def row(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """One argument as a row of a table."""
    if isinstance(action, argparse._SubParsersAction):
        return f"| `{'`, `'.join(action.choices)}` | what to do |"
    value = (
        parser._get_formatter()._format_args(action, str(action.metavar or action.dest).upper())
        if takes(action)
        else ""
    )  # type: ignore[union-attr]
    names = [f"`{name} {value}`" if value else f"`{name}`" for name in action.option_strings] or [f"`{value}`"]
    if action.choices:
        names.append("one of " + ", ".join(f"`{choice}`" for choice in action.choices))
    text = (action.help or "") % {**vars(action), "prog": parser.prog} if action.help else ""
    return f"| {', '.join(names)} | {cell(text)} |".replace("\n", " ")


def takes(action: argparse.Action) -> bool:
    """Whether an argument takes a value whose form is worth showing."""
    return action.nargs != 0 and not action.choices


def cell(text: str) -> str:
    """Text as the content of a cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


# --- recipes ----------------------------------------------------------------------------------------------------------


def recipes() -> str:
    """The keys of recipes with types and defaults, and every shipped recipe with all its values."""
    from lisard_trainer.recipes import Recipe, read
    from lisard_trainer.tasks.detection.recipe import DetectorRecipe

    shipped = sorted(RECIPES.glob("*.yaml"))
    read_in = {path: read(path) for path in shipped}
    overview = [
        f"| [`{path.name}`](#{path.stem.replace('.', '')}) | {recipe.task} | `{recipe.network}` | {purpose(path)} |"
        for path, recipe in read_in.items()
    ]
    keys = "\n\n".join(
        f"### {title}\n\n| key | type | default |\n|---|---|---|\n" + "\n".join(key_rows(kind))
        for title, kind in (("Keys of a classifier", Recipe), ("Keys of a detector", DetectorRecipe))
    )
    whole = "\n\n".join(
        f"### {path.stem}\n\n{purpose(path)}\n\n```yaml\n{recipe.as_yaml()}```" for path, recipe in read_in.items()
    )
    return f"""# Recipes

A recipe is one YAML file that decides a training. What a recipe leaves out has the default below. What each key does:
[recipe keys](../recipes.md).

```
lisard train trainer/recipes/own_images.yaml --print          # all values
lisard train trainer/recipes/own_images.yaml --data IMAGES --set optimizer.epochs=50
```

## Shipped recipes

| recipe | task | network | for |
|---|---|---|---|
{chr(10).join(overview)}

## Keys

{keys}

## With all values

{whole}
"""


def purpose(path: Path) -> str:
    """The first comment of a recipe, up to its first full stop."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return cell(re.split(r"[.:]\s", " ".join(lines) + " ")[0]) or "see the file"


def key_rows(kind: type[Any]) -> Iterator[str]:
    """A row for each key of a recipe type, sections joined by dots."""
    import dataclasses
    import typing

    def rows(recipe: Any, prefix: str) -> Iterable[str]:
        types = typing.get_type_hints(type(recipe))
        for field in dataclasses.fields(recipe):
            value = getattr(recipe, field.name)
            if dataclasses.is_dataclass(value):
                yield from rows(value, f"{prefix}{field.name}.")
            else:
                shown = str(types[field.name]) if "[" in str(types[field.name]) else types[field.name].__name__
                shown = re.sub(r"\w+\.(?=\w)", "", shown)
                default = "required" if field.name == "name" and not prefix else f"`{value!r}`"
                yield f"| `{prefix}{field.name}` | `{shown.replace('|', 'or')}` | {default} |"

    yield from rows(kind(name="NAME"), "")


# --- Python API -------------------------------------------------------------------------------------------------------


def api() -> str:
    """Directives from which mkdocstrings makes the API page: the public names, each where it is defined."""
    import lisard_ros
    from lisard_ros import attacks

    parts = [
        "# Python API\n\nTypes and arguments of everything that is public. Examples: [the API page](../api.md).\n",
        "## lisard_ros\n",
        *directives(lisard_ros, [name for name in lisard_ros.__all__ if name not in ("attacks", "__version__")]),
        "## lisard_ros.attacks\n",
        *directives(attacks, attacks.__all__),
    ]
    return "\n".join(parts)


def directives(module: Any, names: Iterable[str]) -> list[str]:
    """A directive for each name of a module."""
    homes = {name: getattr(getattr(module, name), "__module__", module.__name__) for name in names}
    # A type alias has the module of `typing`; it is documented where it is exported.
    return [
        f"::: {home if home.startswith('lisard_ros') else module.__name__}.{name}\n" for name, home in homes.items()
    ]
