"""`rl-discovery list KIND`: what there is, straight from the registries."""

import dataclasses
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import tyro

from rl_discovery.scripts import output
from rl_discovery.scripts.arguments import parse

Kind = Literal["presets", "envs", "distributions", "suites", "objectives", "strategies", "scores", "fitness"]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Show what can be named on the command line."""

    kind: tyro.conf.Positional[Kind]
    """What to show."""

    json: bool = False
    """Print an array of objects."""


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parse(Arguments, argv, "list")
    with output.only_json():
        entries = KINDS[arguments.kind]()
    if arguments.json:
        output.print_json(entries)
    else:
        print(output.columns([[str(value) for value in _in_columns(entry)] for entry in entries]))
    if arguments.kind in OF_ENVS:
        from rl_discovery import envs

        for module, reason in envs.broken_modules().items():
            print(f"skipped {module}: {reason}", file=sys.stderr)
    return 0


def presets() -> list[dict[str, Any]]:
    """Configurations for `meta-train --preset`."""
    return _described(importlib.import_module("rl_discovery.meta.presets").PRESETS)


def environments() -> list[dict[str, Any]]:
    """Everything that `envs.make` knows."""
    from rl_discovery import envs

    return [{"name": name, "description": description} for name, description in envs.names()]


def distributions() -> list[dict[str, Any]]:
    """Level distributions for `meta-train --levels.distribution`, with their horizons in agent updates."""
    from rl_discovery import envs

    return [
        {
            "name": name,
            "description": distribution.description,
            "horizons": list(distribution.horizon or ()),
            "unit": "updates",
            "can_be_edited": distribution.can_be_edited,
        }
        for name, distribution in envs.distributions().items()
    ]


def suites() -> list[dict[str, Any]]:
    """Suites for `evaluate --suite`."""
    from rl_discovery import envs

    return [
        {
            "name": suite.name,
            "description": suite.description,
            "environments": list(suite.environments),
            "horizons": list(suite.horizons),
            "unit": suite.unit,
        }
        for suite in envs.SUITES.values()
    ]


def objectives() -> list[dict[str, Any]]:
    """Shipped objectives, hand-written rules, and learned rules that one has to train first."""
    from rl_discovery import checkpoints
    from rl_discovery.checkpoints.objective_file import is_learned
    from rl_discovery.discovery.objectives.registry import RULES, make_objective

    cards = checkpoints.shipped()
    # A shipped objective may have a name of its own; its rule is then described by its type.
    types = {name: name for name in RULES} | {n: card["objective"]["type"] for n, card in cards.items()}
    found = []
    for name, rule in sorted(types.items()):
        kind = (
            "shipped" if name in cards else "learned" if is_learned(make_objective(rule)) else "hand-written"
        )
        note = {"shipped": "; shipped", "learned": "; train it first", "hand-written": ""}[kind]
        description = RULES[rule].description + note
        found.append({"name": name, "description": description, "kind": kind, "card": cards.get(name)})
    return found


def strategies() -> list[dict[str, Any]]:
    """Evolution strategies for `meta-train --es.strategy`."""
    return _described(importlib.import_module("rl_discovery.meta.evolution").STRATEGIES)


def scores() -> list[dict[str, Any]]:
    """Level scores for `meta-train --curriculum.score`."""
    return _described(importlib.import_module("rl_discovery.meta.curriculum").SCORES)


def fitness() -> list[dict[str, Any]]:
    """What evolution selects for, for `meta-train --fitness`."""
    return _described(importlib.import_module("rl_discovery.meta.fitness").FITNESS)


KINDS: dict[Kind, Callable[[], list[dict[str, Any]]]] = {
    "presets": presets,
    "envs": environments,
    "distributions": distributions,
    "suites": suites,
    "objectives": objectives,
    "strategies": strategies,
    "scores": scores,
    "fitness": fitness,
}


OF_ENVS: tuple[Kind, ...] = ("envs", "distributions", "suites")
"""What modules of `envs` bring."""


def _described(registry: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "description": entry.description} for name, entry in registry.items()]


def _in_columns(entry: dict[str, Any]) -> tuple[str, str]:
    horizons = ""
    if entry.get("horizons"):
        between = " to " if "can_be_edited" in entry else ", "
        distinct = dict.fromkeys(map(str, entry["horizons"]))
        horizons = f"; {between.join(distinct)} {entry['unit']}"
    return entry["name"], entry["description"] + horizons
