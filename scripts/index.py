"""All names, fields and flags of this installation, kept in the user's cache, so that mistakes, `--help` and
completion are answered without importing JAX.

The index is made from the registries themselves when it is first needed, and again after the package or what
is installed beside it has changed. Without one, commands find out themselves, later.
"""

import contextlib
import functools
import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Collection
from pathlib import Path
from typing import Any

from rl_discovery.checkpoints import spelling
from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.errors import CheckpointError, UnknownObjectiveError
from rl_discovery.checkpoints.run_directory import read_document
from rl_discovery.discovery.registry import PLUGINS, UnknownNameError
from rl_discovery.scripts.runtime import cache_folder

_MADE: dict[str, Any] = {}
"""The index that this process made, if it did."""

NAMED = {
    "levels.distribution": ("level distribution", ("envs", "distributions")),
    "curriculum.score": ("score", ("scores",)),
    "es.strategy": ("strategy", ("strategies",)),
    "fitness": ("fitness", ("fitness",)),
}
"""Fields that hold a name: what it is the name of, and the listings that have it, the choices last."""

FILES, SWITCH = "files", "switch"
"""What the index has for an option that takes a file's name, and for one that takes no value."""


@functools.cache
def load() -> dict[str, Any] | None:
    """The index, if there is one that is not out of date."""
    if _MADE:
        return _MADE
    path = _path()
    if path is None:
        return None
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    fresh = isinstance(document, dict) and document.get("key") == _key()
    return document if fresh else None


def make() -> dict[str, Any]:
    """The index, made and kept unless there is one; imports everything."""
    document = load()
    if document is None:
        from rl_discovery.scripts.index_document import commands, index_document

        document = _MADE
        document.update(key=_key(), **index_document())
        load.cache_clear()
        document["commands"] = commands()  # whose help has names of the index
        if (path := _path()) is not None:
            with contextlib.suppress(OSError, CheckpointError):  # nothing is lost but time
                replace_file(path, json.dumps(document).encode())
    return document


def to_check_by() -> dict[str, Any] | None:
    """The index, where names may be checked by it: before JAX is imported, and if no plug-in is loaded."""
    return None if PLUGINS or "jax" in sys.modules else load()


def check_name(
    kind: str, listing: str, name: str, known: Collection[str] | None = None, note: str = ""
) -> None:
    """Refuses a name that nothing has, if there is an index that can tell.

    Args:
        kind: of the named thing, in the singular.
        listing: the argument of `rl-discovery list`.
        name: what was typed.
        known: in place of all names of that listing.
        note: appended to the message.

    Raises:
        UnknownNameError: as the registry would.
    """
    document = to_check_by()
    if document is None or ":" in name:  # only the registry knows
        return
    names = document["names"][listing] if known is None else known
    if name not in names:
        raise UnknownNameError(kind, name, names, listing, note)


def check_suite(name: str) -> None:
    """Refuses a suite, level distribution or environment that nothing is called; see `check_name`."""
    document = to_check_by()
    if document is not None and "," not in name:
        known = listed(document, "suites", "envs", "distributions")
        note = ", `rl-discovery list envs` the environments"
        check_name("suite or environment", "suites", name, known, note)


def check_objective(name: str) -> None:
    """Refuses an objective that is neither a name nor a file or run of one; see `check_name`.

    Raises:
        UnknownObjectiveError: says what there is.
        ObjectiveFileError: the file is none, or is damaged.
    """
    document = to_check_by()
    if document is None or is_objective(name) or ":" in name.removeprefix(spelling.SHIPPED):
        return
    path = spelling.path_of(name)
    if name.startswith(spelling.SHIPPED) or not path.exists():
        raise UnknownObjectiveError(spelling.nothing_called(name, document["loadable"]))
    from rl_discovery.checkpoints.objective_card import file_of, read_card

    read_card(file_of(path))


def check_run(name: str) -> None:
    """Refuses what is neither the name or the file of an objective nor a run directory; see `check_name`.

    Raises:
        RunError, UnknownObjectiveError, ObjectiveFileError: says what is wrong.
    """
    if name.startswith(spelling.SHIPPED) or name.endswith(spelling.SUFFIX):
        check_objective(name)
    elif to_check_by() is not None and ":" not in name and not is_objective(name):
        read_document(spelling.path_of(name))


def is_objective(name: str) -> bool:
    """Whether an objective is known by this name, if there is an index that can tell."""
    document = to_check_by()
    return document is not None and name.removeprefix(spelling.SHIPPED) in document["names"]["objectives"]


def choices(listing: str) -> str:
    """The names of a listing as choices, `{a,b}`, or NAME where there is no index."""
    return "{" + ",".join(names(listing)) + "}" if load() else "NAME"


def names(listing: str) -> list[str]:
    """The names of a listing, or of `loadable` objectives; none where there is no index.

    Level distributions are named without their family.
    """
    document = load()
    if document is None:
        return []
    known = document["loadable"] if listing == "loadable" else document["names"][listing]
    return [name for name in known if "/" not in name or listing not in ("distributions", "envs")]


def listed(document: dict[str, Any], *listings: str) -> list[str]:
    """All names of some listings, with and without their families."""
    return [name for listing in listings for name in document["names"][listing]]


def all_fields(document: dict[str, Any]) -> dict[str, Any]:
    """The fields of every configuration, whatever its objective, with their schemas."""
    settings = {
        f"objective.{name}": schema for rule in document["settings"].values() for name, schema in rule.items()
    }
    return {**document["fields"], "objective.kind": {}, **dict(sorted(settings.items()))}


def enumerated(schema: dict[str, Any]) -> list[Any]:
    """The values that a field's schema lists, if it does."""
    return [value for part in schema.get("anyOf", [schema]) for value in part.get("enum", [])]


def _path() -> Path | None:
    folder = cache_folder("index")
    if folder is None:
        return None
    place = hashlib.sha256(os.fsencode(_root())).hexdigest()[:16]
    return folder / f"{place}.json"


def _root() -> Path:
    import rl_discovery

    return Path(rl_discovery.__file__).parent


@functools.cache
def _key() -> str:
    """Changes with every source file of the package, and with every package that is installed or removed."""
    facts = [sys.version, os.environ.get("PYTHONPATH", "")]
    facts += [_time(Path(sysconfig.get_path(name))) for name in ("purelib", "platlib")]
    for folder, folders, files in os.walk(_root(), followlinks=True):
        folders[:] = [name for name in sorted(folders) if name != "__pycache__"]
        facts += [
            f"{folder}/{name} {_time(Path(folder, name))}"
            for name in sorted(files)
            if name.endswith((".py", spelling.SUFFIX))
        ]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def _time(path: Path) -> str:
    return str(path.stat().st_mtime_ns) if path.exists() else ""
