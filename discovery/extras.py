"""Optional packages: which an extra wants, and the command that installs packages here.

The command names the packages and this interpreter, so that it works from a clone and from a wheel, with the
environment activated or not.
"""

import importlib.util
import shlex
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

NAME = "rl-discovery"


@dataclass(frozen=True)
class Extra:
    """An extra and what tells whether it is installed.

    Attributes:
        name: of the extra in pyproject.toml.
        module: one that is imported from its packages.
    """

    name: str
    module: str

    @property
    def installed(self) -> bool:
        """Whether the module can be found; it is not imported."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def command(self) -> str:
        """What installs it: see `install`."""
        return install(self.name)


def requirements() -> list[Requirement]:
    """What the package declares, extras included: pyproject.toml in a clone, else the installed metadata."""
    file = Path(__file__).parents[2] / "pyproject.toml"  # the metadata of a clone may be of an earlier commit
    project = tomllib.loads(file.read_text()).get("project", {}) if file.is_file() else {}
    if project.get("name") != NAME:
        return [Requirement(line) for line in metadata.requires(NAME) or []]
    extras = project["optional-dependencies"].items()
    optional = [f'{line}; extra == "{name}"' for name, lines in extras for line in lines]
    return [Requirement(line) for line in (*project["dependencies"], *optional)]


def of_extra(extra: str, declared: Iterable[Requirement]) -> list[Requirement]:
    """The requirements that an extra adds, here on this system."""
    optional = [r for r in declared if r.marker and not r.marker.evaluate({"extra": ""})]
    return [r for r in optional if r.marker and r.marker.evaluate({"extra": extra})]


def install(extra: str) -> str:
    """The command that installs the packages of an extra into the environment that runs."""
    return pip_install(map(bare, of_extra(extra, requirements()))) or pip_install([extra])


def pip_install(packages: Iterable[str]) -> str:
    """The command that installs packages into the environment that runs; empty without packages."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    pip = [str(python), "-m", "pip", "install"]
    if importlib.util.find_spec("pip") is None:  # as in environments that uv makes
        pip = ["uv", "pip", "install", "--python", str(python)]
    names = list(packages)
    return shlex.join([*pip, *names]) if names else ""


def bare(requirement: Requirement) -> str:
    """The requirement as pip takes it, without its marker."""
    return str(requirement).partition(";")[0].strip()
