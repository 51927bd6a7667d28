"""Finished outcomes by content, so that nothing is trained twice: evaluations resume, baselines are kept.

An outcome's name is a hash of all that decides it: objective and meta-parameters, environment, agents,
lifetime, seed, our own source and the packages underneath. An entry that cannot be read is as good as
none, and one that cannot be written is no reason to stop.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from pydantic import ValidationError

from checkpoints import untrusted
from checkpoints.atomic import replace_file
from checkpoints.errors import CheckpointError
from checkpoints.provenance import versions
from discovery.objectives.base import TrainedObjective
from evaluation.results import Outcome
from evaluation.tasks import Trial

SOURCES = (
    *("discovery", "envs"),
    *(f"evaluation.{name}" for name in ("lanes", "references", "results", "runner", "tasks")),
)
"""Packages and modules of ours whose code can change an outcome."""

PHYSICS = ("brax", "mujoco", "mujoco-mjx")
"""Packages of environments that `checkpoints.provenance` does not name."""

SWITCHES = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl")
"""Of JAX, that change numbers."""


def default_folder() -> Path | None:
    """Where outcomes are kept between evaluations; None without a home."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return home / "rl-discovery" / "evaluations"


@dataclasses.dataclass(frozen=True)
class Store:
    """Outcomes in a folder.

    Attributes:
        folder: made when the first outcome is written; None keeps nothing.
    """

    folder: Path | None

    def get(self, name: str) -> Outcome | None:
        """The outcome of that name, if it is there and whole."""
        try:
            if self.folder is None:
                return None
            return Outcome.model_validate(untrusted.read_json(self._path(name), untrusted.OUTCOME))
        except (OSError, untrusted.RefusedError, ValidationError):
            return None

    def put(self, name: str, outcome: Outcome) -> None:
        """Keeps an outcome, where that is possible."""
        if self.folder is None:
            return
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, outcome.model_dump_json(by_alias=True).encode())
        except (OSError, CheckpointError):
            return

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / name[:2] / f"{name}.json"


def names_of(trial: Trial, updates: int, seeds: Sequence[int], setting: Mapping[str, Any]) -> dict[int, str]:
    """For each seed the hash of everything that decides its outcome.

    Args:
        trial: objective, environment and agents.
        updates: N.
        seeds: of the agents.
        setting: what else does: block size, points of the curve.
    """
    task = trial.task
    content = {
        "objective": fingerprint(trial.objective),
        "environment": (task.name, type(task.env).__qualname__, _fields(task.env)),
        "levels": _digest(task.levels),
        "ends": _digest((task.optimal, task.random)),
        "agent": dataclasses.asdict(trial.agent),
        "updates": updates,
        "setting": dict(setting),
        "device": (jax.devices()[0].device_kind, platform.machine(), platform.processor()),
        "switches": [str(getattr(jax.config, name)) for name in SWITCHES],
        "versions": versions() | _physics(),
        "source": SOURCE,
    }
    shared = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    return {seed: hashlib.sha256(shared.digest() + str(seed).encode()).hexdigest() for seed in seeds}


def fingerprint(objective: TrainedObjective) -> str:
    """What an objective is, wherever it came from: rule, settings, meta-parameters."""
    rule: Any = objective.rule
    settings = json.dumps(dataclasses.asdict(rule), sort_keys=True, default=repr)
    return f"{type(rule).__qualname__} {settings} {_digest(objective.meta_params)}"


def _fields(env: Any) -> dict[str, str]:
    """An environment's own settings, without those that print an address in memory."""
    described = {name: repr(value) for name, value in vars(env).items()}
    return {name: text for name, text in described.items() if " at 0x" not in text}


def _digest(tree: Any) -> str:
    """Of a pytree of arrays: names, types, shapes and contents."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _physics() -> dict[str, str]:
    """Versions of those of `PHYSICS` that are installed."""
    found = {}
    for package in PHYSICS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _source() -> str:
    """Of our own code, which changes more often than its version."""
    digest = hashlib.sha256()
    for name in SOURCES:
        module = importlib.util.find_spec(name)
        assert module is not None
        assert module.origin is not None
        file = Path(module.origin)
        for path in sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]:
            digest.update(str(path.relative_to(file.parent)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


SOURCE = _source()
"""As of the import: files that are edited later are not what runs."""
