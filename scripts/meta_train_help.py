"""What `meta-train --help` shows: the essentials, in groups; and `--help-all`: every flag of every rule."""

import dataclasses
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_type_hints

import tyro

if TYPE_CHECKING:
    from rl_discovery.meta.config import RunConfig
    from rl_discovery.meta.objective_settings import ObjectiveSettings

ESSENTIALS = (
    *("preset", "seed", "generations", "start_from", "trainer", "fitness", "devices"),
    *("objective.kind", "agent.network", "agent.workers", "es.pairs", "es.learning_rate", "es.sigma"),
    *("levels.distribution", "levels.horizon", "levels.longest_horizon", "curriculum.score"),
    *("checkpoint.every", "held_out.every"),
)
"""Fields that `--help` explains."""

WIDTH = 80


def essential(config: "RunConfig") -> "RunConfig":
    """The same configuration, of a class that keeps all flags but the essential ones out of tyro's help."""
    return _trimmed(config, "")


def _trimmed(part: Any, prefix: str) -> Any:
    hints, fields = get_type_hints(type(part), include_extras=True), []
    suppressed: Any = tyro.conf.Suppress
    values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part) if field.init}
    for name, value in values.items():
        if prefix + name in ESSENTIALS:
            continue
        if any(essential.startswith(f"{prefix}{name}.") for essential in ESSENTIALS):
            values[name] = _trimmed(value, f"{prefix}{name}.")
            fields.append((name, type(values[name])))
        else:
            fields.append((name, suppressed[hints[name]]))
    kind = dataclasses.make_dataclass(
        type(part).__name__, fields, bases=(type(part),), frozen=True, kw_only=True
    )
    return kind(**values)


def after_essentials(settings: "ObjectiveSettings") -> str:
    """What follows tyro's help of the essentials."""
    names = ", ".join(f"--objective.{name.replace('_', '-')}" for name in settings.names())
    lines = [
        f"Settings of {settings.kind}: {names}.",
        "`rl-discovery meta-train --help-all` explains every flag, also those of the other objectives; "
        "`--print-config` shows the whole configuration.",
    ]
    return "\n\n".join(textwrap.fill(line, WIDTH, break_on_hyphens=False) for line in lines)


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
            default = "" if field.default is dataclasses.MISSING else f" (default: {field.default})"
            text = textwrap.fill(f"{docs.get(field.name, '')}{default}".strip(), WIDTH - 8)
            yield "\n".join([flag, textwrap.indent(text, " " * 8)])
