"""Extras of this package: whether their packages are installed, and the command that installs them."""

import importlib.util
import shlex
import shutil
import sys
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

NAME = "rl-discovery"


@dataclass(frozen=True)
class Extra:
    """Packages that are installed only where they are wanted.

    Attributes:
        name: of the extra in pyproject.toml.
        module: one that is imported from them.
    """

    name: str
    module: str

    @property
    def installed(self) -> bool:
        """Whether the module can be found; it is not imported."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def command(self) -> str:
        """What to type to install it: see `install_command`."""
        return install_command(self.name)


def install_command(extra: str) -> str:
    """The command that installs an extra into the running Python.

    It names the packages themselves, so that it works in a clone and beside an installed wheel alike.

    Args:
        extra: its name.

    Returns:
        The command, quoted for a shell.

    Raises:
        ValueError: there is no such extra.
    """
    wanted = [bare(requirement) for requirement in requirements() if _belongs_to(requirement, extra)]
    if not wanted:
        raise ValueError(f"there is no extra {extra!r}")
    return shlex.join([*_pip(), "install", *wanted])


def requirements() -> list[Requirement]:
    """What the package declares: pyproject.toml in a clone, else the installed metadata."""
    file = Path(__file__).parents[2] / "pyproject.toml"  # the metadata of a clone may be of an earlier commit
    project = tomllib.loads(file.read_text()).get("project", {}) if file.is_file() else {}
    if project.get("name") != NAME:
        return [Requirement(line) for line in metadata.requires(NAME) or []]
    extras = project["optional-dependencies"].items()
    optional = [f'{line}; extra == "{extra}"' for extra, lines in extras for line in lines]
    return [Requirement(line) for line in (*project["dependencies"], *optional)]


def bare(requirement: Requirement) -> str:
    """The requirement as pip takes it, without the marker that names its extra."""
    return str(requirement).partition(";")[0].strip()


def _belongs_to(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and not marker.evaluate({"extra": ""}) and marker.evaluate({"extra": extra})


def _pip() -> list[str]:
    """`pip` where that is the running Python's, else this Python and its module."""
    python, found = Path(sys.executable), shutil.which("pip")
    if found and Path(found).parent == python.parent:
        return ["pip"]
    inside = python.is_relative_to(Path.cwd())
    return [str(python.relative_to(Path.cwd()) if inside else python), "-m", "pip"]
