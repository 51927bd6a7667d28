"""Finished outcomes by content, so that nothing is trained twice: evaluations resume, baselines are kept.

An outcome's name is a hash of all that decides it: objective and meta-parameters, environment, agents,
lifetime, seed, our own source and the packages underneath. An entry that cannot be read is as good as
none, and one that cannot be written is no reason to stop.
"""

import dataclasses
import functools
import hashlib
import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from pydantic import ValidationError

from checkpoints.atomic import replace_file
from checkpoints.errors import CheckpointError
from checkpoints.provenance import versions
from discovery.objectives.base import TrainedObjective
from evaluation.results import Outcome
from evaluation.tasks import Trial

SOURCES = ("discovery", "envs", "evaluation")
"""Packages of ours whose code can change an outcome."""


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
            return None if self.folder is None else Outcome.model_validate_json(self._path(name).read_bytes())
        except (OSError, ValidationError):
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


def name_of(trial: Trial, updates: int, seed: int, setting: Mapping[str, Any]) -> str:
    """The hash of everything that decides an outcome.

    Args:
        trial: objective, environment and agents.
        updates: N.
        seed: of the agents.
        setting: what else does: block size, points of the curve.
    """
    task = trial.task
    content = {
        "objective": fingerprint(trial.objective),
        "environment": task.name,
        "levels": _digest(task.levels),
        "ends": _digest((task.optimal, task.random)),
        "agent": dataclasses.asdict(trial.agent),
        "updates": updates,
        "seed": seed,
        "setting": dict(setting),
        "device": jax.devices()[0].device_kind,
        "versions": versions(),
        "source": _source(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def fingerprint(objective: TrainedObjective) -> str:
    """What an objective is, wherever it came from: rule, settings, meta-parameters."""
    rule: Any = objective.rule
    settings = json.dumps(dataclasses.asdict(rule), sort_keys=True)
    return f"{type(rule).__qualname__} {settings} {_digest(objective.meta_params)}"


def _digest(tree: Any) -> str:
    """Of a pytree of arrays: names, types, shapes and contents."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@functools.cache
def _source() -> str:
    """Of our own code, which changes more often than its version."""
    digest = hashlib.sha256()
    for package in SOURCES:
        folder = Path(importlib.import_module(package).__path__[0])
        for path in sorted(folder.rglob("*.py")):
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
