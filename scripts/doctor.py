"""`rl-discovery doctor`: versions, devices, what is missing and how to install it."""

import contextlib
import dataclasses
import importlib
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from rl_discovery.discovery.extras import bare, install, of_extra, pip_install, requirements
from rl_discovery.scripts import output, runtime
from rl_discovery.scripts.arguments import parse

Status = Literal["ok", "note", "broken"]

VECTOR_FLAGS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX-512 bfloat16",
    "amx_bf16": "AMX bfloat16",
}

EXTRAS = {
    "brax": "continuous-control environments",
    "tensorboard": "to see a run's metrics with `tensorboard --logdir RUN`",
    "navix": "MiniGrid's tasks in JAX",
    "jumanji": "Jumanji's puzzles, packing and routing",
    "craftax": "Craftax",
    "playground": "the DeepMind Control Suite in MuJoCo Playground",
    "wandb": "logging to Weights & Biases",
    "notebooks": "opening the notebooks",
}
"""Optional extras, and what each is for."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        status: "note" is worth knowing, "broken" keeps the product from working.
        value: what was found.
        hint: what to do about it, if anything.
    """

    name: str
    status: Status
    value: Any
    hint: str = ""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Look at this installation and this machine; exit status 1 if something required is broken."""

    json: bool = False
    """Print one JSON object."""


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parse(Arguments, argv, "doctor")
    with output.only_json():
        checks = [
            *software(),
            *packages(requirements()),
            *imports(),
            *plugins(),
            *hardware(),
            *devices(),
            *extras(requirements()),
        ]
    broken = [check for check in checks if check.status == "broken"]
    if arguments.json:
        output.print_json({"ok": not broken, "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        signs = {"ok": "ok", "note": "--", "broken": "!!"}
        print(output.columns([(signs[c.status], c.name, _sentence(c)) for c in checks]))
        print(f"\n{len(broken)} broken" if broken else "\nready")
    return 1 if broken else 0


def software() -> Iterator[Check]:
    """This package and the interpreter."""
    try:
        yield Check("rl-discovery", "ok", metadata.version("rl-discovery"))
    except metadata.PackageNotFoundError:
        yield Check(
            "rl-discovery",
            "note",
            "not installed",
            "run `make setup`, or `pip install -e .` in the repository",
        )
    enough = sys.version_info >= (3, 11)
    yield Check(
        "python",
        "ok" if enough else "broken",
        platform.python_version(),
        "" if enough else "needs 3.11 or newer",
    )
    yield Check("system", "ok", f"{platform.system()} {platform.release()} {platform.machine()}")


def packages(declared: Iterable[Requirement]) -> Iterator[Check]:
    """Required packages: there, and of a version that we support."""
    for requirement in declared:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _package(requirement)


def extras(declared: Sequence[Requirement]) -> Iterator[Check]:
    """Optional packages that are missing, by what they are for."""
    for extra, purpose in EXTRAS.items():
        missing = [bare(r) for r in of_extra(extra, declared) if _package(r).status == "broken"]
        if missing:
            yield Check(f"extra {extra}", "note", f"missing: {purpose}", pip_install(missing))
        else:
            yield Check(f"extra {extra}", "ok", purpose)


def hardware() -> Iterator[Check]:
    """Cores, vector units, memory, and where compiled programs are kept."""
    flags = runtime.cpu_flags()
    units = [label for flag, label in VECTOR_FLAGS.items() if flag in flags]
    yield Check("cores", "ok", runtime.cores())
    yield Check("vector units", "ok", ", ".join(units) or "unknown")
    yield Check("memory", "ok", _memory())
    yield Check("XLA_FLAGS", "ok", os.environ.get("XLA_FLAGS", ""))
    cache = runtime.cache_dir()
    if cache is not None and _writable(cache):
        yield Check("compilation cache", "ok", str(cache))
    else:
        yield Check(
            "compilation cache",
            "note",
            "not writable: every start compiles anew",
            "set XDG_CACHE_HOME to a folder",
        )


def imports() -> Iterator[Check]:
    """Whether our packages can be imported, and with them whatever they need."""
    for module in ("discovery.objectives.registry", "envs", "checkpoints.runs", "meta.evolution"):
        name = f"rl_discovery.{module}"
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken dependency may raise anything
            problem = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            yield Check(f"import {name}", "broken", problem, "install the versions that this command names")


def plugins() -> Iterator[Check]:
    """Files in the folder of environments and entry points of packages that are skipped."""
    from rl_discovery.scripts.list_ import REGISTRIES, skipped

    for kind in ("suites", *REGISTRIES):
        with contextlib.suppress(Exception):  # `imports` says what is wrong
            for place, reason in skipped(kind).items():
                yield Check(place, "note", f"skipped: {reason}", "mend it, or uninstall its package")


def devices() -> Iterator[Check]:
    """What JAX sees, and whether it can compute on it."""
    try:
        import jax

        devices = jax.devices()
        total = int(jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((8, 8))))
    except Exception as error:  # plugins fail in many ways; this command is where one finds out
        yield Check(
            "devices", "broken", " ".join(str(error).split())[:300], "reinstall jax, or set JAX_PLATFORMS=cpu"
        )
        return
    kinds = sorted({device.device_kind for device in devices})
    status: Status = "ok" if total == 512 else "broken"
    yield Check("devices", status, f"{len(devices)} x {', '.join(kinds)} ({devices[0].platform})")
    if devices[0].platform == "cpu" and Path("/dev/nvidia0").exists():
        yield Check("gpu", "note", "an NVIDIA GPU that JAX does not use", install("cuda"))


def _package(requirement: Requirement) -> Check:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Check(requirement.name, "broken", "missing", pip_install([bare(requirement)]))
    if not requirement.specifier.contains(version, prereleases=True):
        needs = f"{version}, needs {requirement.specifier}"
        return Check(requirement.name, "broken", needs, pip_install([bare(requirement)]))
    return Check(requirement.name, "ok", version)


def _memory() -> str:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    try:
        free = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        free = None
    return f"{total:.1f} GiB" + (f", {int(free[1]) / 2**20:.1f} GiB available" if free else "")


def _writable(folder: Path) -> bool:
    """Tries it: permissions do not tell of full and read-only disks."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError:
        return False
    return True


def _sentence(check: Check) -> str:
    return f"{check.value}" + (f" -> {check.hint}" if check.hint else "")
