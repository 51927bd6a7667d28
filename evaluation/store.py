"""Finished outcomes by content, so that nothing is trained twice: evaluations resume, baselines are kept.

An outcome's name is a hash of all that decides it: objective and meta-parameters, environment, agents,
lifetime, seed, our own source and the user's, JAX's switches and the packages underneath. An entry that
cannot be read is as good as none, and one that cannot be written is no reason to stop.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from pydantic import ValidationError

from rl_discovery.checkpoints import numerics, untrusted
from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.errors import CheckpointError
from rl_discovery.checkpoints.provenance import versions
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.evaluation.results import Outcome
from rl_discovery.evaluation.tasks import Experiment

SOURCES = (
    *("rl_discovery.discovery", "rl_discovery.envs"),
    *(f"rl_discovery.evaluation.{name}" for name in ("lanes", "references", "results", "runner", "tasks")),
)
"""Packages and modules of ours whose code can change an outcome."""


class _UnknownCodeError(Exception):
    """Nobody can tell whether a class is still what it was."""


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


def names_of(
    experiment: Experiment, updates: int, seeds: Sequence[int], setting: Mapping[str, Any]
) -> dict[int, str]:
    """For each seed the hash of everything that decides its outcome; none where the code of that is unknown.

    Args:
        experiment: objective, environment and agents.
        updates: N.
        seeds: of the agents.
        setting: what else does: block size, points of the curve.
    """
    task = experiment.task
    try:
        environment, rule_code = _described(task.env), _code(experiment.objective.rule)
    except _UnknownCodeError:
        return {}
    content = {
        "objective": (fingerprint(experiment.objective), rule_code),
        "environment": (task.name, environment),
        "levels": _digest(task.levels),
        "ends": _digest((task.optimal, task.random)),
        "agent": dataclasses.asdict(experiment.agent),
        "updates": updates,
        "setting": dict(setting),
        "numerics": numerics.identity() | numerics.rounding(),
        "versions": versions(),
        "source": SOURCE,
    }
    shared = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    return {seed: hashlib.sha256(shared.digest() + str(seed).encode()).hexdigest() for seed in seeds}


def fingerprint(objective: TrainedObjective) -> str:
    """What an objective is, wherever it came from: rule, settings, meta-parameters."""
    rule: Any = objective.rule
    settings = json.dumps(dataclasses.asdict(rule), sort_keys=True, default=repr)
    return f"{type(rule).__qualname__} {settings} {_digest(objective.meta_params)}"


def _described(thing: Any) -> dict[str, Any]:
    """Class, code and settings of an environment, and of those and the functions that it holds."""
    fields: dict[str, Any] = {}
    for name, value in getattr(thing, "__dict__", {}).items():
        if (hasattr(value, "step") and not inspect.ismodule(value)) or inspect.isfunction(value):
            fields[name] = _described(value)
        elif isinstance(value, np.ndarray | jax.Array):  # long ones are not printed in full
            fields[name] = _digest(value)
        elif " at 0x" not in (text := repr(value)):  # not what prints an address in memory
            fields[name] = text
    return {"class": type(thing).__qualname__, "code": _code(thing), "fields": fields}


def _code(thing: Any) -> dict[str, str]:
    """Hashes of the modules that define an instance's classes, or a function, by their names.

    Raises:
        _UnknownCodeError: it was typed in somewhere and is in no file.
    """
    names = {getattr(kind, "__module__", None) for kind in (*type(thing).__mro__, thing)}
    ours = {name for name in names if isinstance(name, str) and not _is_standard(name)}
    return {name: module_hash(name) for name in sorted(ours)}


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


@functools.cache
def module_hash(name: str) -> str:
    """The hash of a module's source file, read once in a process."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        raise _UnknownCodeError
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        raise _UnknownCodeError from None


def _digest(tree: Any) -> str:
    """Hash of a pytree of arrays: names, types, shapes and contents."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _source() -> str:
    """Hash of our own code, which changes more often than its version."""
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
