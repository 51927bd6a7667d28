"""Optional packages: which an extra wants, and the command that installs packages here.

The command names the packages and this interpreter, so that it works from a clone and from a wheel, with the
environment activated or not.
"""

import importlib.util
import shlex
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement


def requirements() -> list[Requirement]:
    """What the package declares, extras included: installed metadata, or pyproject.toml in a checkout."""
    try:
        declared = metadata.requires("rl-discovery") or []
    except metadata.PackageNotFoundError:
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
        extra = project["optional-dependencies"].items()
        optional = [f'{line}; extra == "{name}"' for name, lines in extra for line in lines]
        declared = [*project["dependencies"], *optional]
    return [Requirement(line) for line in declared]


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
