"""What can be refused of a `meta-train` command line before JAX is imported: misspelt flags and names,
impossible values, a configuration file that makes no sense.

The command itself checks all of it again, and whether the fields work together. Nothing is refused here that
only a plug-in knows.
"""

import argparse
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from rl_discovery.checkpoints import spelling
from rl_discovery.checkpoints.errors import refusal
from rl_discovery.checkpoints.fields import differences, flatten, unknown_field, unknown_setting
from rl_discovery.checkpoints.run_directory import CONFIG, read_document
from rl_discovery.meta import config_file
from rl_discovery.meta.errors import ConfigError, other_configuration
from rl_discovery.scripts import index
from rl_discovery.scripts.arguments import UsageError, check_folder, unknown_option
from rl_discovery.scripts.index import NAMED, SWITCH

TYPES: dict[str, Any] = {"integer": int, "number": float, "string": str, "boolean": bool}

SEE = "`rl-discovery meta-train --help-all` explains all"

IDENTITY = ("objective", "agent", "es", "meta_gradient", "levels", "seed", "trainer", "fitness", "block_size")
"""Parts of a configuration that a run keeps when it is resumed; see `meta.config.identity`. Names of things
may be spelled in several ways: they are compared later."""

BOUNDS = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}


def base_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What a command line begins with: `preset`, `config`, `run_dir` and `kind`, each None or its value.

    Raises:
        UsageError: a path in a home that nobody has.
    """
    pre = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    pre.add_argument("--preset", nargs="?")
    pre.add_argument("--config", nargs="?")
    pre.add_argument("--run-dir", "--run_dir", nargs="?")
    pre.add_argument("--objective.kind", dest="kind", nargs="?")
    known, _ = pre.parse_known_args(argv)
    try:
        for name in ("config", "run_dir"):
            text = getattr(known, name)
            setattr(known, name, None if text is None else spelling.path_of(text))
    except spelling.HomeError as error:
        raise UsageError(str(error)) from None
    return known


def refuse_other_preset(run_dir: Path, there: Any, preset: str | None) -> None:
    """Refuses to go on with a run by another preset than its own."""
    if preset not in (None, there):
        raise ConfigError(
            f"{run_dir} holds a run of preset {there!r}, not {preset!r}: leave --preset out to go on "
            "with it, or choose another --run-dir"
        )


def check(argv: Sequence[str], *, resume: bool) -> None:
    """Refuses what cannot work, unless JAX is imported already or there is no index (see `index`).

    Args:
        argv: what follows the command's name.
        resume: whether the configuration of a run directory would be gone on with.

    Raises:
        UsageError, ConfigError, UnknownNameError, RunError, CheckpointError, PlaceError: in one line.
    """
    document = index.to_check_by()
    if document is None:
        return
    asked = base_arguments(argv)
    file = config_file.read(asked.config) if asked.config else None
    preset = config_file.preset_of(file, asked.preset)
    if file is not None and file.plugins:
        return
    name = preset or config_file.DEFAULT_PRESET
    index.check_name("preset", "presets", name)
    base = document["presets"].get(name)
    run_dir = asked.run_dir or Path("runs", name)
    resumed = resume and (run_dir / CONFIG).exists()
    if resume:
        check_folder(run_dir)
    if resumed:
        base = flatten(read_document(run_dir)["config"])
        refuse_other_preset(run_dir, base.get("preset"), preset)
    kinds = [
        asked.kind,
        file and flatten(file.fields).get("objective.kind"),
        base and base.get("objective.kind"),
    ]
    kind = next((kind for kind in kinds if isinstance(kind, str)), "")
    index.check_name("objective", "objectives", kind, document["rules"])
    settings = document["settings"].get(document["rules"].get(kind), {})
    fields = document["fields"] | {f"objective.{name}": schema for name, schema in settings.items()}
    fields["objective.kind"] = {}
    check_settings(argv, kind, settings)
    if file is not None:
        _check_file(file, fields)
    given = dict[str, Any]()
    for flag, words in _flags(argv):
        given |= _check_flag(flag, words, fields, document["commands"]["meta-train"])
    if resumed and base:
        fixed = {
            name: value
            for name, value in given.items()
            if name in base and name.partition(".")[0] in IDENTITY and name not in (*NAMED, "objective.kind")
        }
        if differ := differences({name: base[name] for name in fixed}, fixed):
            raise ConfigError(other_configuration(run_dir, differ))


def check_field(name: str) -> None:
    """Refuses a field that no configuration has, where that can be told before JAX is imported.

    Raises:
        UsageError: names the nearest that there is.
    """
    document = index.to_check_by()
    if document is None:
        return
    known = list(index.all_fields(document))
    name = name.strip().lstrip("-").replace("-", "_")
    if name not in known and not name.startswith(("also.", "drift.")):
        raise UsageError(f"--grid: {unknown_field(name, known)}")


def check_settings(argv: Sequence[str], kind: str, known: Collection[str]) -> None:
    """Refuses flags of settings that the objective does not have, and former names.

    Raises:
        UsageError, ConfigError: the first of them.
    """
    for word in argv:
        part, dot, name = word.partition("=")[0].replace("_", "-").partition(".")
        if part == "--drift" and dot:
            raise UsageError(f"--drift.{name} is now --objective.{name}")
        if part == "--objective" and dot and name != "kind":
            setting = name.replace("-", "_")
            if setting not in known:
                setting = setting.removeprefix("no_")
            if setting not in known:
                raise ConfigError(unknown_setting(kind, setting, tuple(known)))


def _flags(argv: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each flag with the words that follow it."""
    flag, words = "", list[str]()
    for word in [*argv, "--"]:
        if not word.startswith("--"):
            words.append(word)
            continue
        if flag or words:
            yield flag, words
        flag, equals, value = word.partition("=")
        words = [value] if equals else []


def _check_flag(
    flag: str, words: list[str], fields: Mapping[str, Any], others: Mapping[str, Any]
) -> dict[str, Any]:
    """The field that a flag sets, and its value, if it sets one and the value can be told here."""
    name = flag.removeprefix("--").replace("-", "_")
    own = "--" + name.replace("_", "-")
    if (own in others and (words or others[own] == SWITCH)) or name.startswith("also."):
        return {}  # tyro's to check
    switch = _without_no(name)
    if name not in fields and fields.get(switch, {}).get("type") == "boolean":
        name, words = switch, [*words, "False"]
    if name not in fields and own not in others:
        known = [*fields, *(other.removeprefix("--") for other in others)]
        raise UsageError(unknown_option(flag, known, SEE) if flag else _superfluous(words[0]))
    schema = fields.get(name, {})
    if schema.get("type") == "boolean" and not words:
        return {name: True}
    if schema.get("type") == "array":
        value = _check_value(flag, name, [part for word in words for part in word.split(",")], schema)
    elif len(words) != 1:
        raise UsageError(f"{flag} takes one value, not {' '.join(words) or 'none'}; {SEE}")
    else:
        value = _check_value(flag, name, None if words == ["None"] else words[0], schema)
    return {name: value} if name in fields else {}


def _superfluous(word: str) -> str:
    """Why a word cannot stand where no flag is before it."""
    document = index.to_check_by()
    preset = document is not None and word in document["presets"]
    return f"unexpected word {word!r}: {f'did you mean --preset {word}? ' if preset else ''}{SEE}"


def _without_no(name: str) -> str:
    *path, last = name.split(".")
    return ".".join([*path, last.removeprefix("no_")])


def _check_file(file: config_file.ConfigFile, fields: Mapping[str, Any]) -> None:
    skeleton: dict[str, Any] = {}
    for name in fields:
        *path, last = name.split(".")
        part = skeleton
        for step in path:
            part = part.setdefault(step, {})
        part[last] = None
    file.merge(skeleton)
    for name, value in flatten(skeleton).items():
        if value is not None and name in fields and name != "also":
            _check_value(f"{file.path}: {name}", name, value, fields[name])


def _check_value(place: str, name: str, value: Any, schema: Mapping[str, Any]) -> Any:
    from pydantic import TypeAdapter, ValidationError

    try:
        value = TypeAdapter(_type(schema)).validate_python(value)
    except ValidationError as error:
        shown = value if isinstance(value, str) else repr(value)
        raise ConfigError(refusal(place, error.errors()[0]["msg"], shown)) from None
    document = index.to_check_by()
    if document is not None and name in NAMED and isinstance(value, str):
        kind, listings = NAMED[name]
        known = index.listed(document, *listings)
        index.check_name(kind, listings[0], value.partition(",")[0], known)
    if name == "start_from" and isinstance(value, str) and not value.startswith("preset:"):
        index.check_objective(value)
    return value


def _type(schema: Mapping[str, Any]) -> Any:
    """The type that a JSON schema of a single value, or of a list of them, is of."""
    from pydantic import Field

    if "anyOf" in schema:
        return Union[tuple(_type(part) for part in schema["anyOf"])]  # noqa: UP007 - made of a list
    if "enum" in schema:
        return Literal[tuple(schema["enum"])]
    if schema.get("type") == "null":
        return None
    if schema.get("type") == "array":
        return list[_type(schema.get("items", {}))]  # type: ignore[misc]
    bounds = {bound: schema[name] for name, bound in BOUNDS.items() if name in schema}
    kind = TYPES.get(schema.get("type", ""), Any)
    return Annotated[kind, Field(**bounds)] if bounds else kind
