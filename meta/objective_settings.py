"""An objective in a configuration: its kind, and the fields of its rule, which only the rule declares.

`objective_settings(LPG, width=8)` has every field of the rule, and `kind`, the rule's name with these
settings. Flags (`--objective.clip 0.3`), config.json and the card of an exported file have these fields. Only
the range of horizons may be None: then it is that of the levels.
"""

import contextlib
import dataclasses
import functools
import inspect
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self, get_type_hints

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import core_schema

from rl_discovery.checkpoints.fields import unknown_setting
from rl_discovery.discovery.objectives.base import Objective
from rl_discovery.discovery.objectives.registry import RULES, make_objective
from rl_discovery.discovery.objectives.schedule import Scheduled
from rl_discovery.discovery.ranges import PositiveInt
from rl_discovery.discovery.registry import UnknownNameError
from rl_discovery.meta.errors import ConfigError

HORIZONS: Mapping[str, Any] = {
    "shortest_horizon": PositiveInt | None,
    "longest_horizon": Annotated[int, Field(ge=2)] | None,
}
"""Fields of `Scheduled` that follow the levels where they are None."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """What all settings of objectives have in common; each rule has a subclass with its fields."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: str
    """One of `list objectives`: what is searched. The other settings are its fields."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __post_init__(self) -> None:
        with contextlib.suppress(ConfigError):  # `RunConfig.build_objective` reports it
            object.__setattr__(self, "kind", self.build().name)

    @classmethod
    def rule(cls) -> type[Objective]:
        """The rule's class."""
        raise NotImplementedError

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the rule's fields."""
        return tuple(field.name for field in dataclasses.fields(cls) if field.name != "kind")

    def build(self) -> Objective:
        """The rule; where no range of horizons is set, it has its default one.

        Raises:
            ConfigError: the rule refuses its settings.
        """
        values = {name: getattr(self, name) for name in self.names()}
        unset = [name for name in HORIZONS if values.get(name, 0) is None]
        try:
            return self.rule()(**{name: value for name, value in values.items() if name not in unset})
        except (TypeError, ValueError) as error:
            raise ConfigError(f"objective: {error}") from None

    def replace(self, **fields: Any) -> Self:
        """The same rule with other settings.

        Raises:
            ConfigError: a field that it does not have.
        """
        check_fields(self.kind, fields, self.names())
        return dataclasses.replace(self, **fields)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        if cls is not ObjectiveSettings:
            return handler(source)
        as_json = core_schema.plain_serializer_function_ser_schema(lambda settings: to_json(settings))
        return core_schema.is_instance_schema(cls, serialization=as_json)


def objective_settings(rule: str | type[Objective], **fields: Any) -> ObjectiveSettings:
    """Settings of an objective.

    Args:
        rule: its class, or one of `list objectives`.
        fields: of the rule; the others have the defaults of the class or the name.

    Raises:
        UnknownNameError, BrokenPluginError: no such name, or one that cannot be used.
        ConfigError: a field that the rule does not have.
    """
    cls, values = _defaults(rule)
    kind = rule if isinstance(rule, str) else ""
    check_fields(kind or rule_name(cls), fields, cls.names())
    return cls(kind=kind, **(values | fields))


def of_kind(settings: ObjectiveSettings, kind: str) -> ObjectiveSettings:
    """The settings, changed to another kind.

    If both names belong to the same rule, as lpo and ta-lpo do, only the fields in which the names differ
    change. Another rule starts with its own defaults.
    """
    cls, values = _defaults(kind)
    if cls is not type(settings) or settings.kind not in RULES:
        return cls(kind=kind, **values)
    before = _defaults(settings.kind)[1]
    return dataclasses.replace(settings, **{n: v for n, v in values.items() if v != before[n]})


def from_json(document: Any) -> ObjectiveSettings:
    """Settings from JSON values; a field that is left out has the kind's default.

    Raises:
        pydantic.ValidationError: impossible values.
        ConfigError: fields that the kind does not have, no kind, or one that cannot be used.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("kind"), str):
        raise ConfigError(f"objective: it must be a kind with its settings, not {document!r:.100}")
    kind = document["kind"]
    cls, values = _defaults(kind)
    check_fields(kind, [str(name) for name in document if name != "kind"], cls.names())
    return _adapter(cls.rule()).validate_python({**values, **document})


def to_json(settings: ObjectiveSettings) -> dict[str, Any]:
    """Settings as JSON values."""
    return _adapter(settings.rule()).dump_python(settings, mode="json")


def check_fields(kind: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuses fields that a rule does not have.

    Raises:
        ConfigError: names the first of them, the rule and its fields.
    """
    for name in given:
        if name not in known:
            raise ConfigError(unknown_setting(kind, name, known))


def rule_name(cls: type[ObjectiveSettings]) -> str:
    """What a rule is called with its default settings."""
    return cls.rule()().name


def field_docs(rule: type[Any]) -> dict[str, str]:
    """Descriptions of a rule's fields by name, from its docstring and those of its bases ("Attributes:")."""
    found: dict[str, str] = {}
    for cls in reversed(rule.__mro__):
        _, _, section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")
        section = section.partition("\n\n")[0]
        for name, text in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {5,}.*)*)", section, re.MULTILINE):
            found |= {each.strip(): " ".join(text.split()) for each in name.split(",")}
    return found


def _defaults(rule: str | type[Objective]) -> tuple[type[ObjectiveSettings], dict[str, Any]]:
    """The class of a rule's settings, and the values that a name stands for."""
    made = make_objective(rule) if isinstance(rule, str) else rule()
    if not dataclasses.is_dataclass(type(made)):
        raise ConfigError(f"objective.kind {rule}: a rule must be a dataclass, whose fields are its settings")
    if isinstance(rule, str) and made.name not in RULES:
        raise UnknownNameError("objective", made.name, RULES, "objectives", f"; {rule} has this name")
    cls = settings_class(type(made))
    unset = HORIZONS if isinstance(made, Scheduled) else {}
    return cls, {name: None if name in unset else getattr(made, name) for name in cls.names()}


@functools.cache
def settings_class(rule: type[Objective]) -> type[ObjectiveSettings]:
    """The settings of a rule as a dataclass, made of the rule's own fields."""
    hints, scheduled = get_type_hints(rule, include_extras=True), issubclass(rule, Scheduled)
    fields: list[Any] = []
    for field in dataclasses.fields(rule):  # type: ignore[arg-type]  # others were refused before
        if scheduled and field.name in HORIZONS:
            fields.append((field.name, HORIZONS[field.name], dataclasses.field(default=None)))
        elif field.init:
            default = dataclasses.field(default=field.default, default_factory=field.default_factory)
            fields.append((field.name, hints[field.name], default))
    names = {field[0] for field in fields}
    docs = {name: text for name, text in field_docs(rule).items() if name in names}
    if scheduled:
        docs |= {name: f"{docs[name]} None: as the levels have it." for name in HORIZONS}
    lines = [f"    {name}: {text}" for name, text in docs.items()]
    made = dataclasses.make_dataclass(
        f"{rule.__name__}Settings",
        fields,
        bases=(ObjectiveSettings,),
        frozen=True,
        kw_only=True,
        namespace={"rule": classmethod(lambda cls: rule)},
    )
    made.__doc__ = "\n".join([f"Settings of {rule.__name__}.", "", "Attributes:", *lines])
    return made


@functools.cache
def _adapter(rule: type[Objective]) -> TypeAdapter[Any]:
    return TypeAdapter(settings_class(rule))
