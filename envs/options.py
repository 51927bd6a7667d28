"""Options in a name, `FrozenLake-misc,is_slippery=false`: text read as what the constructor takes."""

import ast
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rl_discovery.envs.levels import UnusableEnvironmentError

WORDS = {"true": True, "false": False, "none": None}
"""Words that are values, in upper or lower case."""

EXPECTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list such as [1,2]",
    type(None): "none",
}

BETWEEN_OPTIONS = re.compile(r",(?![^\[(]*[\])])")
"""A comma outside of brackets."""


class Written(str):
    """The value of an option as it stands in a name."""


def split_options(name: str) -> tuple[str, dict[str, Any]]:
    """Divides a name from the options that follow it; their values are text, `Written`.

    Raises:
        UnusableEnvironmentError: what follows the name is not OPTION=VALUE.
    """
    name, *given = BETWEEN_OPTIONS.split(name)
    options: dict[str, Any] = {}
    for text in given:
        option, equals, value = text.partition("=")
        if not option.isidentifier() or not equals:
            raise UnusableEnvironmentError(f"{text!r} is no option of {name}: write {name},OPTION=VALUE")
        options[option] = Written(value)
    return name, options


def read_options(options: Mapping[str, Any], *constructors: Callable[..., Any]) -> dict[str, Any]:
    """Options as values: text is read as the type that a constructor takes, by annotation or default.

    Args:
        options: by name. Text that is `Written` is read; other text is passed on as it is.
        constructors: the first that has the option decides. An option that none has is passed on, to be
            refused by them.

    Raises:
        ValueError: text where something else is taken.
    """
    return {option: _read(option, value, _kinds(option, constructors)) for option, value in options.items()}


def _read(option: str, value: Any, kinds: tuple[type, ...]) -> Any:
    if not isinstance(value, str):
        return value
    literal = _literal(value) if isinstance(value, Written) else value
    if not kinds:
        return literal
    for kind in kinds:
        if kind is bool and literal in (0, 1) and isinstance(literal, int):
            return bool(literal)
        if kind is float and type(literal) is int:
            return float(literal)
        if type(literal) is kind:
            return literal
    if str in kinds:
        return str(value)
    expected = " or ".join(EXPECTED.get(kind, kind.__name__) for kind in kinds)
    raise ValueError(f"{option} must be {expected}, not {str(value)!r}")


def _literal(text: str) -> Any:
    """The text as a Python literal (true, false and none in any case), or as text where it is none."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return str(text)
    return list(value) if isinstance(value, tuple) else value


def _kinds(option: str, constructors: Sequence[Callable[..., Any]]) -> tuple[type, ...]:
    """Types that an option may have; empty where no constructor says."""
    for constructor in constructors:
        parameter = inspect.signature(constructor).parameters.get(option)
        if parameter is not None and (kinds := _of_parameter(constructor, parameter)):
            return kinds
    return ()


def _of_parameter(constructor: Callable[..., Any], parameter: inspect.Parameter) -> tuple[type, ...]:
    try:
        hint = typing.get_type_hints(constructor).get(parameter.name, Any)
    except NameError:  # a name that only type checkers know
        hint = Any
    kinds = _of_hint(hint)
    if not kinds and parameter.default not in (None, inspect.Parameter.empty):
        kinds = _of_hint(type(parameter.default))
    return kinds


def _of_hint(hint: Any) -> tuple[type, ...]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        members = [_of_hint(member) for member in typing.get_args(hint)]
        return tuple(kind for kinds in members for kind in kinds) if all(members) else ()
    if origin is typing.Literal:
        return tuple({type(value) for value in typing.get_args(hint)})
    kind = origin or hint
    if kind is not str and isinstance(kind, type) and issubclass(kind, Sequence):
        return (list,)
    return (kind,) if kind in (str, *EXPECTED) else ()
