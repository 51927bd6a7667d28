"""What `meta-train --help` shows: what people change, on two screens; and what `--help-all` adds to tyro's.

Tyro's explains every field, but the settings of one objective only.
"""

import argparse
import dataclasses
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rl_discovery.discovery.formatting import setting
from rl_discovery.meta import config_file
from rl_discovery.scripts import index

if TYPE_CHECKING:
    from rl_discovery.meta.objective_settings import ObjectiveSettings

DESCRIPTION = "Evolve an objective, or go on where a run was stopped."

OWN = {
    "preset": ("NAME", "Where the defaults come from (`rl-discovery list presets` says more):"),
    "config": ("FILE", "TOML file with any part of the configuration, over the preset."),
    "run-dir": ("DIR", "Where the run is kept; again, to resume it (default: runs/PRESET)."),
    "print-config": ("", "Print the whole configuration as such a TOML file and stop."),
    "help-all": ("", "Explain every field and option."),
}
"""Options that are no fields, or more than that: what follows them, and what they are for."""

ESSENTIALS = (
    *("seed", "generations", "start_from", "trainer", "fitness", "devices"),
    *("agent.network", "agent.workers", "es.pairs", "es.learning_rate", "es.sigma"),
    *("levels.distribution", "levels.horizon", "levels.longest_horizon", "curriculum.score"),
    *("checkpoint.every", "held_out.every"),
)
"""Fields that `--help` explains."""

WIDTH, INDENT = 100, 30
"""Columns at most, and where explanations begin."""


def essentials(asked: argparse.Namespace) -> str:
    """What `--help` prints.

    Args:
        asked: what the command line begins with (see `early.base_arguments`).

    Raises:
        UnknownNameError: its preset or objective is none.
    """
    document = index.make()
    file = config_file.read(asked.config) if asked.config else None
    preset = config_file.preset_of(file, asked.preset) or config_file.DEFAULT_PRESET
    index.check_name("preset", "presets", preset)
    values = document["presets"].get(preset) or document["presets"][config_file.DEFAULT_PRESET]
    kind = asked.kind or values["objective.kind"]
    index.check_name("objective", "objectives", kind, document["rules"])
    lines = [
        "usage: rl-discovery meta-train [--preset NAME] [--config FILE] [--run-dir DIR] [--FIELD VALUE ...]",
        "",
        DESCRIPTION,
        "",
    ]
    for name, (metavar, text) in OWN.items():
        more = ", ".join(document["names"]["presets"]) + f" (default: {preset})" if name == "preset" else ""
        lines += _entry(f"--{name} {metavar}", f"{text} {more}".strip())
    lines += ["", f"fields of the configuration, with their values in {preset}:"]
    learned = ", ".join(document["learned"])
    lines += _entry("--objective.kind NAME", f"What is searched, {learned} ({kind})")
    for name in ESSENTIALS:
        lines += _entry(*_field(name, document, values[name]))
    settings = document["settings"].get(document["rules"].get(kind), {})
    names = ", ".join(name.replace("_", "-") for name in settings)
    return "\n".join([*lines, "", *_wrapped(f"Settings of {kind}, --objective.NAME: {names}.")])


def _field(name: str, document: Mapping[str, Any], value: Any) -> tuple[str, str]:
    schema = document["fields"][name]
    text = re.sub(r"^One of `list \w+`[:,] | \((?!default)[^)]*\)", "", schema["doc"])
    text = re.split(r"[;.](?:\s|$)(?![^(]*\))", text)[0].removesuffix(", or of `list envs`")
    text = text[:1].upper() + text[1:]
    if name in index.NAMED:
        text += ": " + ", ".join(index.names(index.NAMED[name][1][-1]))
    choices = index.enumerated(schema)
    types = [part.get("type", "") for part in schema.get("anyOf", [schema])]
    metavar = "{" + ",".join(choices) + "}" if choices else METAVARS.get(types[0], "NAME")
    shown = "" if value is None else f" ({setting(value)})"
    return f"--{name.replace('_', '-')} {metavar}", text + shown


METAVARS = {"integer": "INT", "number": "FLOAT"}


def _entry(flag: str, text: str) -> list[str]:
    flag = f"  {flag}".rstrip()
    lines = textwrap.wrap(text, _width() - INDENT, break_on_hyphens=False)
    if len(flag) < INDENT - 1:
        lines[0] = flag.ljust(INDENT) + lines[0]
    else:
        lines = [flag, " " * INDENT + lines[0], *lines[1:]]
    return lines[:1] + [" " * INDENT + line.strip() for line in lines[1:]]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _width(), break_on_hyphens=False)


def _width() -> int:
    return min(WIDTH, max(60, shutil.get_terminal_size((WIDTH, 40)).columns))


def after_all(settings: "ObjectiveSettings") -> str:
    """What follows tyro's help of all flags: those of the objectives that `settings` are not of."""
    return "\n\n".join(_other_rules(type(settings)))


def _other_rules(shown: type["ObjectiveSettings"]) -> Iterator[str]:
    from rl_discovery.checkpoints.objective_file import is_learned
    from rl_discovery.discovery.objectives.registry import RULES, make_objective
    from rl_discovery.meta.objective_settings import objective_settings

    kinds: dict[type[ObjectiveSettings], list[str]] = {}
    for name in RULES:
        rule = make_objective(name)
        if dataclasses.is_dataclass(type(rule)) and is_learned(rule):
            kinds.setdefault(type(objective_settings(name)), []).append(name)
    for cls, names in kinds.items():
        if cls is not shown:
            yield "\n".join([f"with --objective.kind {' or '.join(names)}:", *_flags(cls)])


def _flags(cls: type["ObjectiveSettings"]) -> Iterator[str]:
    from rl_discovery.meta.objective_settings import field_docs

    docs = field_docs(cls)
    for field in dataclasses.fields(cls):
        if field.name != "kind":
            flag = f"  --objective.{field.name.replace('_', '-')}"
            nothing = any(field.default is value for value in (dataclasses.MISSING, None, False))
            default = "" if nothing else f" (default: {field.default})"
            text = textwrap.fill(f"{docs.get(field.name, '')}{default}".strip(), WIDTH - 28)
            yield "\n".join([flag, textwrap.indent(text, " " * 8)])
