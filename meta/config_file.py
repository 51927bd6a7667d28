"""Configurations as TOML files: any part of one, over a preset. Such a file is a preset of your own.

    preset = "lpo-cpu"         # fields that the file does not set are as in this preset
    plugins = ["my_module"]    # imported first, as with --plugin
    generations = 200

    [es]
    sigma = 0.05

TOML has no null: a field without a value is "none". JAX is not imported to read a file.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_discovery.checkpoints.errors import one_line
from rl_discovery.discovery.registry import PLUGINS, did_you_mean, load_plugin
from rl_discovery.meta.errors import ConfigError

if TYPE_CHECKING:
    from rl_discovery.meta.config import RunConfig

DEFAULT_PRESET = "ta-lpg-cpu"
"""The preset where none is named."""

NONE = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigFile:
    """The contents of a file.

    Attributes:
        path: of the file.
        preset: that it names, if any.
        plugins: modules that it names.
        fields: of the configuration that it sets, nested; not yet checked.
    """

    path: Path
    preset: str | None
    plugins: tuple[str, ...]
    fields: Mapping[str, Any]

    def over(self, base: "RunConfig") -> "RunConfig":
        """The configuration with the fields of the file, each checked by itself (see `read_fields`).

        Raises:
            ConfigError: names the file, the field and what is allowed.
        """
        from rl_discovery.meta.config import read_fields, to_json
        from rl_discovery.meta.objective_settings import of_kind
        from rl_discovery.meta.objective_settings import to_json as objective_to_json

        document = to_json(base)
        try:
            objective = self.fields.get("objective")
            kind = objective.get("kind") if isinstance(objective, dict) else None
            if isinstance(kind, str):
                document["objective"] = objective_to_json(of_kind(base.objective, kind))
        except ValueError as error:  # all refusals are ValueErrors
            raise self._refusal(error) from None
        self.merge(document)
        try:
            return read_fields(document)
        except ValueError as error:
            raise self._refusal(error) from None

    def merge(self, document: dict[str, Any]) -> None:
        """Sets the fields in a nested document that has every field of a configuration.

        Raises:
            ConfigError: the file has a field that does not exist; it names the first.
        """
        try:
            self._merge(document, self.fields, "")
        except ConfigError as error:
            raise self._refusal(error) from None

    def _merge(self, document: dict[str, Any], given: Mapping[str, Any], prefix: str) -> None:
        for name, value in given.items():
            if name not in document:
                hint = did_you_mean(name, document)
                raise ConfigError(
                    f"{prefix}{one_line(name)}: no such field: {hint}there are {', '.join(document)}"
                )
            if isinstance(document[name], dict):
                if not isinstance(value, dict):
                    raise ConfigError(f"{prefix}{name}: it must be a table, not {one_line(repr(value))}")
                self._merge(document[name], value, f"{prefix}{name}.")
            else:
                document[name] = None if value == NONE else value

    def _refusal(self, error: ValueError) -> ConfigError:
        return ConfigError(f"{self.path}: {error}")


def read(path: Path) -> ConfigFile:
    """Reads a file.

    Raises:
        ConfigError: it cannot be read, is not TOML, or `preset` or `plugins` are not of the right type.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; --config takes a TOML file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a TOML file: it is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not a TOML file: {one_line(str(error))}") from None
    preset, plugins = document.pop("preset", None), document.pop("plugins", [])
    if preset is not None and not isinstance(preset, str):
        raise ConfigError(f"{path}: preset: it must be one of `rl-discovery list presets`, not {preset!r}")
    if not isinstance(plugins, list) or not all(isinstance(module, str) for module in plugins):
        raise ConfigError(f"{path}: plugins: it must be a list of modules, not {one_line(repr(plugins))}")
    return ConfigFile(path=path, preset=preset, plugins=tuple(plugins), fields=document)


def preset_of(file: ConfigFile | None, asked: str | None) -> str | None:
    """The preset that file and command line name, if any.

    Raises:
        ConfigError: they name two.
    """
    if file is None or file.preset is None:
        return asked
    if asked not in (None, file.preset):
        raise ConfigError(
            f"{file.path} is based on the preset {file.preset!r}, not {asked!r}: leave --preset out, "
            "or the file's `preset`"
        )
    return file.preset


def load(path: Path) -> "RunConfig":
    """The configuration of a file over its preset; its plug-ins are imported.

    Raises:
        ConfigError: see `read` and `ConfigFile.over`; or the fields do not work together.
        UnknownNameError, BrokenPluginError: its preset, or a plug-in.
    """
    from rl_discovery.meta.config import validate
    from rl_discovery.meta.presets import PRESETS

    file = read(path)
    for module in file.plugins:
        load_plugin(module)
    return validate(file.over(PRESETS.find(file.preset or DEFAULT_PRESET).config))


def to_toml(config: "RunConfig") -> str:
    """A configuration as a TOML file that gives it back; modules that were loaded are its plug-ins."""
    import tomli_w

    from rl_discovery.meta.config import to_json
    from rl_discovery.meta.objective_settings import of_kind
    from rl_discovery.meta.presets import PRESETS

    over: dict[str, Any] = {}
    if config.preset in PRESETS:
        base = PRESETS[config.preset].config
        objective = of_kind(base.objective, config.objective.kind)
        over = to_json(dataclasses.replace(base, objective=objective))
    fields = _without_null(to_json(config), over)
    first = {"preset": fields.pop("preset")} | ({"plugins": list(PLUGINS)} if PLUGINS else {})
    return tomli_w.dumps(first | fields)


def _without_null(document: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The document without fields that are null in it and in `over`, with "none" for the other null ones."""
    fields: dict[str, Any] = {}
    for name, value in document.items():
        below = over.get(name)
        if isinstance(value, dict):
            fields[name] = _without_null(value, below if isinstance(below, dict) else {})
        elif isinstance(value, list):  # of environments, whose fields without a value have none by default
            fields[name] = [_set_fields(entry) if isinstance(entry, dict) else entry for entry in value]
        elif value is not None:
            fields[name] = value
        elif below is not None or name not in over:
            fields[name] = NONE
    return fields


def _set_fields(document: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _set_fields(value) if isinstance(value, dict) else value
        for name, value in document.items()
        if value is not None
    }
