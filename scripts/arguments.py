"""Command-line arguments by tyro, with its complaints as one line like all others."""

import ast
import contextlib
import dataclasses
import functools
import inspect
import io
import itertools
import os
import re
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro

from rl_discovery.checkpoints import spelling
from rl_discovery.checkpoints.fields import nearest_field
from rl_discovery.discovery.registry import did_you_mean

T = TypeVar("T")

CONSTRUCTORS = tyro.constructors.ConstructorRegistry()


@CONSTRUCTORS.primitive_rule
def _path(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Paths as a person means them: a shell leaves the `~` of `--run-dir=~/x` to us."""
    if info.type is not Path:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: spelling.path_of(words[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


@CONSTRUCTORS.primitive_rule
def _integers(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Lists of integers with commas, with spaces, or with both."""
    if get_origin(info.type) is not tuple or get_args(info.type) != (int, ...):
        return None

    def read(words: list[str]) -> tuple[int, ...]:
        return tuple(int(part) for word in words for part in word.split(",") if part)

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="INT ...",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, tuple) and all(isinstance(part, int) for part in value),
        str_from_instance=lambda value: [str(part) for part in value],
    )


class UsageError(ValueError):
    """Arguments that make no sense."""


class PlaceError(RuntimeError):
    """A file that is to be read is not there, or a folder cannot be written."""


def parse(
    arguments: type[T],
    argv: Sequence[str],
    command: str,
    description: str | None = None,
    *,
    negative_switches: bool = False,
    known: Collection[str] = (),
) -> T:
    """The arguments of a command; flags are dotted where they nest.

    Args:
        arguments: a dataclass.
        argv: what follows the command's name.
        command: the command's name.
        description: for `--help`, in place of the dataclass's docstring.
        negative_switches: give every switch a `--no-` form, whatever its default.
        known: dotted fields that have flags besides those of `arguments`, to suggest for a misspelt one.

    Raises:
        UsageError: an unknown flag or an impossible value, in one line.
        SystemExit: after `--help`.
    """
    complaint = io.StringIO()
    paragraphs = inspect.cleandoc(description or arguments.__doc__ or "").split("\n\n")
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                described(arguments),
                prog=f"rl-discovery {command}",
                args=list(argv),
                description="\n\n".join(" ".join(text.split()) for text in paragraphs),
                registry=CONSTRUCTORS,
                config=() if negative_switches else (tyro.conf.FlagCreatePairsOff,),
            )
    except spelling.HomeError as error:  # no ValueError, of which tyro would make something longer
        raise UsageError(str(error)) from None
    except SystemExit as stop:
        if not stop.code:
            raise
        see, reason = f"`rl-discovery {command} --help`", _first_paragraph(complaint.getvalue())
        if reason.startswith("Missing from"):
            reason = f"{command} needs {' and '.join(_required(arguments))}"
        for pattern, words in PHRASES.items():
            reason = re.sub(pattern, words, reason)
        if option := re.match(r"Unrecognized options: (--[^\s,]+)", reason):
            fields = [*(field.name for field in dataclasses.fields(arguments)), *known]  # type: ignore[arg-type]
            raise UsageError(unknown_option(option[1], fields, f"see {see}")) from None
        if choice := re.match(r"invalid choice '(.*?)' for argument '(.*?)'. Expected one of (.*)", reason):
            known = re.findall(r"'([^']*)'", choice[3])
            hint = did_you_mean(choice[1], known)
            reason = f"{choice[2]} cannot be {choice[1]!r}: {hint}it is one of {', '.join(known)}"
        raise UsageError(f"{reason}; see {see}") from None


PHRASES = {
    r"Error parsing (\S+): invalid literal for int\(\) with base 10: ('.*')": r"\1: \2 is not an integer",
    r"Error parsing (\S+): could not convert string to float: ('.*')": r"\1: \2 is not a number",
    r"Missing value for argument '(\S+)'.*": r"\1 needs a value",
    r"Unrecognized options: ([^-\s,][^\s,]*).*": r"unexpected word '\1'",
}
"""What tyro says, and how it is said here."""


def described(arguments: Any) -> Any:
    """The same dataclass or instance, but tyro's help calls values by short names, has whole paragraphs, and
    shows no default where that is None, empty or false.

    The text of such a field says what happens without it.
    """
    cls = arguments if isinstance(arguments, type) else type(arguments)
    hints, plain = get_type_hints(cls, include_extras=True), get_type_hints(cls)
    texts = functools.cache(functools.partial(field_texts, cls))
    fields, values = list[Any](), dict[str, Any]()
    for field in dataclasses.fields(cls):
        name, value, hint = field.name, getattr(arguments, field.name, field.default), hints[field.name]
        if cls is not arguments and dataclasses.is_dataclass(value):
            value = described(value)
            hint = type(value)
        else:
            silent = value is None or value is False or value in ((), "") or _is_words(field, plain[name])
            text: Any = lambda name=name: texts().get(name)  # noqa: E731 - asked for by `--help` only
            shown = tyro.conf.arg(
                # tyro keeps the line breaks of texts below fields, not those in the docstring
                help=None if "Attributes:" in (cls.__doc__ or "") else text,
                help_behavior_hint="" if silent else None,
                metavar=_metavar(name, hint, plain[name]),
            )
            hint = Annotated[hint, shown]
        values[name] = value
        fields.append((name, hint, field if cls is arguments else dataclasses.field(default=value)))
    made: Any = dataclasses.make_dataclass(
        cls.__name__, fields, bases=(cls,), namespace={"__doc__": cls.__doc__}, frozen=True, kw_only=True
    )
    return made if cls is arguments else made(**values)


def _is_words(field: dataclasses.Field[Any], hint: Any) -> bool:
    """Whether any number of words stands there, also none."""
    return field.default is dataclasses.MISSING and get_origin(hint) is tuple


def _required(arguments: Any) -> list[str]:
    """What cannot be left out, as the help has it."""
    hints, plain = get_type_hints(arguments, include_extras=True), get_type_hints(arguments)
    found = []
    for field in dataclasses.fields(arguments):
        if field.default is dataclasses.MISSING and not _is_words(field, plain[field.name]):
            metavar = _metavar(field.name, hints[field.name], plain[field.name])
            flag = "" if _is_positional(hints[field.name]) else f"--{field.name.replace('_', '-')} "
            found.append(f"{flag}{metavar}")
    return found


def _is_positional(hint: Any) -> bool:
    return tyro.conf.Positional in getattr(hint, "__metadata__", ())


def _metavar(name: str, hint: Any, plain: Any) -> str | None:
    """What a value is called: INT and RUN ..., where tyro writes {None}|INT and [STR [STR ...]].

    None where the hint says it, and for what is no value.
    """
    if any(getattr(part, "metavar", None) for part in getattr(hint, "__metadata__", ())):
        return None
    kinds = [kind for kind in get_args(plain) if kind is not type(None)]
    kind = kinds[0] if len(kinds) == 1 and type(None) in get_args(plain) else plain
    many = get_origin(kind) is tuple and get_args(kind)[1:] == (...,)
    kind = get_args(kind)[0] if many else kind
    if get_origin(kind) is Literal:
        word = "{" + ",".join(map(str, get_args(kind))) + "}"
    elif _is_positional(hint):
        word = name.removesuffix("s").upper()
    else:
        word = METAVARS.get(kind, "")
    return (f"{word} ..." if many else word) or None


METAVARS: dict[Any, str] = {int: "INT", float: "FLOAT", str: "NAME", Path: "PATH"}


def field_texts(cls: type[Any]) -> dict[str, str]:
    """The string below each field of a dataclass and its bases."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        if base.__module__ == "types":  # made by dataclasses.make_dataclass
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        for field, below in itertools.pairwise(getattr(tree, "body", [])):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                match below:
                    case ast.Expr(value=ast.Constant(value=str() as text)):
                        texts[field.target.id] = " ".join(text.split())
    return texts


def unknown_option(flag: str, fields: Collection[str], advice: str) -> str:
    """Why an option cannot be given, in words, with the nearest that there is and further advice."""
    close = nearest_field(flag.removeprefix("--").replace("-", "_"), fields)
    hint = "" if close is None else f"did you mean --{close.replace('_', '-')}? "
    return f"unknown option {flag}: {hint}{advice}"


def check_positive(arguments: Any, *names: str) -> None:
    """Refuses numbers below 1; None stands for a default.

    Raises:
        UsageError: the first of them, by its flag.
    """
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {value}")


def check_folder(folder: Path) -> None:
    """Refuses a folder in which nothing can be written; makes none.

    Raises:
        PlaceError: says why.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise PlaceError(f"cannot write to {folder}: {there} is a file")
    if not os.access(there, os.W_OK):
        raise PlaceError(f"cannot write to {folder}: no permission to write in {there}")


def check_devices(devices: int | None) -> None:
    """Refuses fewer devices than one and more than there are; None stands for all.

    Raises:
        UsageError: says how many there are.
    """
    import jax  # here, because `doctor` parses arguments where JAX may be broken

    if devices is not None and not 1 <= devices <= jax.device_count():
        raise UsageError(f"--devices must be between 1 and {jax.device_count()} here, not {devices}")


def check_horizons(horizons: Sequence[int]) -> None:
    """Refuses horizons below 1 and equal ones.

    Raises:
        UsageError: the first of them.
    """
    for horizon in horizons:
        if horizon < 1:
            raise UsageError(f"--horizons must be at least 1, not {horizon}")
    if len(set(horizons)) < len(horizons):
        raise UsageError(f"--horizons must differ from each other, not {tuple(horizons)}")


def _first_paragraph(box: str) -> str:
    """What tyro's box says between its title and its first rule, on one line. In ASCII it has no edges."""
    words: list[str] = []
    for line in box.splitlines()[1:]:
        text = line.strip("│╭╮╰╯─ ")
        if text.strip("-"):
            words += text.split()
        elif words:  # a rule or an edge below what was said
            break
    return " ".join(words).rstrip(".") or "these arguments make no sense"
