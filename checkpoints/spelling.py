"""How objectives and run directories are spelled where a person names them, and where we print a command.

A word without a folder in it may be a name; `shipped:ta-lpg` always is one, and `./ta-lpg` always a path.
"""

import os
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path

from rl_discovery.discovery.registry import PLUGINS, did_you_mean

SHIPPED = "shipped:"
"""Before the name of an objective that comes with the package, learned or hand-written."""

SUFFIX = ".safetensors"
"""Of an exported objective."""


class HomeError(RuntimeError):
    """A path begins with `~NAME`, and there is no such user."""


def path_of(text: str) -> Path:
    """The path that a person means: `~` is home, also where a shell leaves it (`--run-dir=~/x`).

    Raises:
        HomeError: nobody has that name.
    """
    expanded = os.path.expanduser(text)  # noqa: PTH111 - a Path has forgotten the `./` of `./~`
    if expanded.startswith("~"):
        raise HomeError(f"{text}: nobody here is called {text.partition('/')[0]}; ./{text} is a folder here")
    return Path(expanded)


def nothing_called(name: str, known: Collection[str]) -> str:
    """Why no objective can be loaded by a name, in words.

    Args:
        name: as it was typed.
        known: the names of those that can.
    """
    listing = "`rl-discovery list objectives` shows"
    name = name.removeprefix(SHIPPED)
    if Path(name).name != name or name.endswith(SUFFIX):
        return f"no file or run directory {name}; {listing} what has a name"
    paths = "or give a run directory or a .safetensors file"
    return f"unknown objective {name!r}: {did_you_mean(name, known)}{listing} them all; {paths}"


def short(words: Iterable[str]) -> list[str]:
    """What figures and tables call objectives and runs: the last part of each path, where that is unique."""
    words = list(words)
    last = [path_of(word.removeprefix(SHIPPED)).resolve().name.removesuffix(SUFFIX) for word in words]
    return [end if last.count(end) == 1 else word for word, end in zip(words, last, strict=True)]


def word(path: Path | str) -> str:
    """A path as an argument that cannot be mistaken for a name, a flag or a home; not yet quoted."""
    text = str(path)
    bare = os.sep not in text and text not in (os.curdir, os.pardir)
    return f"./{text}" if bare or text.startswith(("-", "~", SHIPPED)) else text


def command(*words: Path | str) -> str:
    """A command line of ours that can be pasted into a shell as it is; paths are spelled by `word`."""
    line = ["rl-discovery", *(word(w) if isinstance(w, Path) else w for w in words)]
    return shlex.join([*line[:2], *plugin_flags(), *line[2:]])


def plugin_flags() -> list[str]:
    """Flags that load in another process the plug-ins that were loaded here."""
    return [word for module in PLUGINS for word in ("--plugin", module)]
