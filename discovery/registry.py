"""Registries of named objects that packages may add to: objectives, environments, scores, presets ...

A registry holds ours and those of installed packages, which declare entry points:

    [project.entry-points."rl_discovery.scores"]
    surprise = "my_package.scores:SURPRISE"

`module:name` refers to an object without an entry point, if its module is imported already. Names are also
read from files, and no file but that of `--config` may decide what is imported. What cannot be imported is
left out of listings, and refused where it is asked for.
"""

import difflib
import importlib
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class UnknownNameError(ValueError):
    """A name that is not in a registry.

    Args:
        kind: of the registry, in the singular.
        name: the unknown name.
        known: the names that exist.
        listing: the argument of `rl-discovery list` that shows them.
        note: appended to the message.
    """

    def __init__(self, kind: str, name: str, known: Collection[str], listing: str, note: str = "") -> None:
        hint = did_you_mean(name, known)
        super().__init__(f"unknown {kind} {name!r}: {hint}`rl-discovery list {listing}` shows them all{note}")


class BrokenPluginError(ValueError):
    """A plug-in that was asked for by name and cannot be used."""


def did_you_mean(name: str, known: Collection[str]) -> str:
    """`did you mean 'ta-lpg'? ` if a known name is similar, else an empty string."""
    close = nearest(name, known)
    return "" if close is None else f"did you mean {close!r}? "


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name fewest typing mistakes away, or else the one most alike; None where none is similar."""
    word = name.lower()
    near = {other: edit_distance(word, other.lower()) for other in known}
    typos = [other for other, edits in near.items() if edits <= max(1, max(len(word), len(other)) // 3)]
    close = sorted(typos, key=near.__getitem__) or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return close[0] if close else None


def edit_distance(a: str, b: str) -> int:
    """Fewest insertions, deletions, changes and swaps of neighbours that make one text the other."""
    before, row = list[int](), list(range(len(b) + 1))
    for i, letter in enumerate(a, start=1):
        two_before, before, row = before, row, [i]
        for j, other in enumerate(b, start=1):
            edits = [before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other)]
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                edits.append(two_before[j - 2] + 1)
            row.append(min(edits))
    return row[-1]


class Registry(MutableMapping[str, T], Generic[T]):
    """All objects of one kind by name.

    Iteration is over what can be used: ours first, then entry points. Use `find` for names that people type,
    and `[]` for names that are known to exist.

    Args:
        kind: of the objects, in the singular, for messages.
        listing: the argument of `rl-discovery list`.
        type_: of the objects.
        ours: those of this package, or a function that collects them at first use.
        group: of entry points (default: `rl_discovery.LISTING`).
    """

    def __init__(
        self,
        kind: str,
        listing: str,
        type_: type[T],
        ours: Mapping[str, T] | Callable[[], Mapping[str, T]],
        group: str | None = None,
    ) -> None:
        self.kind, self.listing = kind, listing
        self.group = group or f"rl_discovery.{listing}"
        self._type, self._collect = type_, ours
        self._things: dict[str, T] | None = None
        self._broken: dict[str, str] = {}

    @property
    def broken(self) -> Mapping[str, str]:
        """Entry points that cannot be used, by name, with the reason."""
        self._all()
        return self._broken

    def find(self, name: str) -> T:
        """The object of this name, or at this place (`module:name`).

        Raises:
            UnknownNameError: there is none.
            BrokenPluginError: it cannot be used.
        """
        if name in self:
            return self[name]
        if name in self.broken:
            raise BrokenPluginError(f"{self.kind} {name!r} cannot be used: {self._broken[name]}")
        if ":" in name:
            return at_place(self.kind, name, self._checked)
        raise UnknownNameError(self.kind, name, self, self.listing)

    def register(self, name: str, thing: T) -> None:
        """Adds an object under a new name.

        Raises:
            ValueError: the name is taken.
            TypeError: the object is not of the registry's type.
        """
        if name in self and self[name] != thing:
            raise self._taken(name)
        self[name] = thing

    def refresh(self) -> None:
        """Collects all objects again, after a package was installed; forgets what `register` added."""
        self._things = None
        self._broken.clear()

    def __getitem__(self, name: str) -> T:
        return self._all()[name]

    def __setitem__(self, name: str, thing: T) -> None:
        self._all()[name] = self._checked(thing)

    def __delitem__(self, name: str) -> None:
        del self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, T]:
        if self._things is None:
            self._things = dict(self._collect() if callable(self._collect) else self._collect)
            for point in metadata.entry_points(group=self.group):
                try:
                    if point.name in self._things:
                        raise self._taken(point.name)
                    self._things[point.name] = self._checked(point.load())
                except (Exception, SystemExit) as error:  # whatever somebody's module does
                    self._broken[point.name] = f"{point.value}: {_one_line(error)}"
        return self._things

    def _taken(self, name: str) -> ValueError:
        return ValueError(f"another {self.kind} is called {name!r} already")

    def _checked(self, thing: Any) -> T:
        if not isinstance(thing, self._type):
            wanted = f"{self._type.__module__}.{self._type.__qualname__}"
            raise TypeError(f"it is a {type(thing).__name__}, not a {wanted}")
        return thing


PLACE = re.compile(r"(?!shipped:|preset:)([A-Za-z_][\w.]*):[A-Za-z_]\w*(/\w+)?")
"""A name that says where an object is: `module:name`, or `module:FAMILY/member` for one of a family's."""

PLUGINS: list[str] = []
"""Modules loaded by `load_plugin`; commands that we print or start repeat them."""


def load_plugin(module: str) -> None:
    """Imports a module that registers objects; the working directory is searched last.

    Raises:
        BrokenPluginError: the module cannot be imported.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise BrokenPluginError(f"plug-in {module!r} cannot be imported: {_one_line(error)}") from error
    if module not in PLUGINS:
        PLUGINS.append(module)


def load_place(name: str) -> None:
    """Imports the module of a name that says where an object is; other names need none.

    Raises:
        BrokenPluginError: the module cannot be imported.
    """
    if place := PLACE.fullmatch(name):
        load_plugin(place[1])


def at_place(kind: str, place: str, checked: Callable[[Any], T] = lambda thing: thing) -> T:
    """The object at `module:name`.

    Args:
        kind: of object, for the message.
        place: `module:name`.
        checked: returns the object, or raises a TypeError if it does not fit.

    Raises:
        BrokenPluginError: the module is not loaded, or has no such object or one of another type.
    """
    module, _, attribute = place.partition(":")
    try:
        if module not in sys.modules:
            raise ImportError(f"its module is not loaded: give --plugin {module}, or import it")
        return checked(getattr(sys.modules[module], attribute))
    except (AttributeError, ImportError, TypeError) as error:
        raise BrokenPluginError(f"{kind} {place!r} cannot be used: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
