"""`rl-discovery list KIND`: what there is, straight from the registries."""

import dataclasses
import importlib
import itertools
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, Literal

import tyro

from rl_discovery.discovery.registry import Registry
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
        found = entries(arguments.kind)
    if arguments.json:
        output.print_json(found)
    else:
        text = _by_family(found) if arguments.kind == "envs" else _table(found)
        print(text)
    for place, reason in skipped(arguments.kind).items():
        print(f"skipped {place}: {reason}", file=sys.stderr)
    return 0


def entries(kind: Kind) -> list[dict[str, Any]]:
    """What there is of a kind; each has at least `name` and `description`."""
    return KINDS[kind]() if kind in KINDS else _described(_registry(kind))


def environments() -> list[dict[str, Any]]:
    """Everything that `envs.make` knows, and the extra that brings it, if it needs one."""
    from rl_discovery import envs

    entries = []
    for name, description in envs.names():
        family = envs.family_at(name)
        extra = family.extra
        entries.append(
            {
                "name": name,
                "description": description,
                "family": family.name,
                "extra": extra.name if extra else None,
                "installed": extra is None or extra.installed,
            }
        )
    return entries


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
        note = _origin(cards[name]) if name in cards else {"learned": "; train it first"}.get(kind, "")
        description = RULES[rule].description + note
        found.append({"name": name, "description": description, "kind": kind, "card": cards.get(name)})
    return found


def _origin(card: dict[str, Any]) -> str:
    """What tells a shipped objective from others of its rule."""
    from rl_discovery.checkpoints.objective_card import total_env_steps
    from rl_discovery.discovery.objectives.registry import make_objective

    config, steps = card.get("config") or {}, total_env_steps(card)
    rule = make_objective(card["objective"]["type"], **card["objective"]["settings"])
    how = "meta-gradients" if config.get("trainer") == "meta_gradient" else "evolution"
    start = (rule.begins_as or "").upper() or "random numbers"
    budget = "" if steps is None else f", {steps:.1e} steps".replace("e+", "e").replace("e0", "e")
    return f"; shipped, by {how} from {start}{budget}"


REGISTRIES: dict[Kind, tuple[str, str]] = {
    "presets": ("meta.presets", "PRESETS"),
    "objectives": ("discovery.objectives.registry", "RULES"),
    "strategies": ("meta.evolution", "STRATEGIES"),
    "scores": ("meta.curriculum", "SCORES"),
    "fitness": ("meta.fitness", "FITNESS"),
}
"""Where names and one-line descriptions of a kind are."""


KINDS: dict[Kind, Callable[[], list[dict[str, Any]]]] = {
    "envs": environments,
    "distributions": distributions,
    "suites": suites,
    "objectives": objectives,
}


def skipped(kind: Kind) -> dict[str, str]:
    """What was skipped, and why."""
    if kind in ("envs", "distributions", "suites"):
        from rl_discovery import envs

        suites = envs.SUITES.broken if kind == "suites" else {}
        return {**envs.broken_modules(), **envs.FAMILIES.broken, **suites}
    return dict(_registry(kind).broken)


def _registry(kind: Kind) -> Registry[Any]:
    module, name = REGISTRIES[kind]
    registry: Registry[Any] = getattr(importlib.import_module(f"rl_discovery.{module}"), name)
    return registry


def _described(registry: Registry[Any]) -> list[dict[str, Any]]:
    return [{"name": name, "description": entry.description} for name, entry in registry.items()]


def _by_family(entries: Sequence[dict[str, Any]]) -> str:
    """Environments in a table for each family, under its description and what installs it."""
    from rl_discovery import envs

    blocks = []
    for _, group in itertools.groupby(entries, key=lambda entry: entry["family"]):
        members = list(group)
        family = envs.family_at(members[0]["name"])
        heading = f"{family.name}: {family.description}"
        if family.extra is not None:
            missing = "" if family.extra.installed else f", not installed: {family.extra.command}"
            heading += f" (extra {family.extra.name}{missing})"
        blocks.append(f"{heading}\n{textwrap.indent(_table(members), '  ')}")
    return "\n\n".join(blocks)


def _table(entries: Sequence[dict[str, Any]]) -> str:
    return output.columns([_in_columns(entry) for entry in entries])


def _in_columns(entry: dict[str, Any]) -> tuple[str, str]:
    horizons = ""
    if entry.get("horizons"):
        between = " to " if "can_be_edited" in entry else ", "
        distinct = dict.fromkeys(map(str, entry["horizons"]))
        horizons = f"; {between.join(distinct)} {entry['unit']}"
    return entry["name"], entry["description"] + horizons
