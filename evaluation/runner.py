"""Runs the parts of an evaluation: finished outcomes are looked up, the others trained and stored.

`protocol` and `tuning` say what to run.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from rl_discovery.evaluation.lanes import (
    CURVE_EPISODES,
    EPISODES,
    Returns,
    Trainer,
    default_block_size,
    make_trainer,
)
from rl_discovery.evaluation.results import Outcome, Point
from rl_discovery.evaluation.store import Store, names_of
from rl_discovery.evaluation.tasks import Experiment


class Work(NamedTuple):
    """One objective on one environment at one horizon, for some seeds."""

    experiment: Experiment
    horizon: int
    updates: int
    seeds: Sequence[int]

    @property
    def env_steps(self) -> int:
        """Its cost: environment steps of all its agents."""
        return self.experiment.env_steps(self.updates) * self.experiment.task.count * len(self.seeds)


class Ready(NamedTuple):
    """How the agents of an experiment are trained."""

    block_size: int
    train: Trainer


@dataclasses.dataclass(frozen=True)
class Runner:
    """Runs experiments on a mesh, in blocks, with a store of outcomes.

    Attributes:
        mesh: the devices; results do not depend on it.
        block_size: lanes that run side by side; None: as many as suit the agents.
        points: of the learning curves, the end included.
        store: where finished outcomes are looked up, and kept as soon as they are there.
        trainers: of the experiments so far, by identity; each holds a compiled program.
    """

    mesh: Mesh
    block_size: int | None
    points: int
    store: Store
    trainers: dict[int, tuple[Experiment, Ready]] = dataclasses.field(default_factory=dict)

    def ready(self, experiment: Experiment) -> Ready:
        """Refuses what cannot be trained, before anything is trained.

        Raises:
            EvaluationError: agents that do not fit the environment or the rule.
        """
        if id(experiment) not in self.trainers:
            size = self.block_size or default_block_size(experiment.agent)
            # Kept with its experiment: the identity of an experiment that is gone may be given to another.
            self.trainers[id(experiment)] = (
                experiment,
                Ready(size, make_trainer(experiment, self.mesh, size, self.points)),
            )
        return self.trainers[id(experiment)][1]

    def outcomes(self, work: Work, report: Callable[[float, float], None]) -> list[Outcome]:
        """One per seed, in their order.

        Args:
            work: what is asked for.
            report: called before each group of seeds, and at first, with the share of the work that is done
                and what it will be after the group.
        """
        experiment, seeds = work.experiment, work.seeds
        size, train = self.ready(experiment)
        names, outcomes = self._known(work, size)
        missing = [seed for seed in seeds if seed not in outcomes]
        parts = groups(missing, -(-self.mesh.size * size // experiment.task.count))
        for group in parts:
            report(len(outcomes) / len(seeds), len({*outcomes, *group}) / len(seeds))
            returns = train(work.updates, group)
            for seed, outcome in zip(group, _outcomes(work, returns), strict=True):
                outcomes[seed] = outcome
                if seed in names:
                    self.store.put(names[seed], outcome)
        if not parts:
            report(1.0, 1.0)
        return [outcomes[seed] for seed in seeds]

    def _known(self, work: Work, block_size: int) -> tuple[dict[int, str], dict[int, Outcome]]:
        """Names of the outcomes, and those that were kept; nothing where nothing is kept."""
        if self.store.folder is None:
            return {}, {}
        setting = {"block_size": block_size, "points": self.points, "episodes": (EPISODES, CURVE_EPISODES)}
        names = names_of(work.experiment, work.updates, work.seeds, setting)
        return names, {seed: kept for seed, name in names.items() if (kept := self.store.get(name))}


def groups(seeds: Sequence[int], most: int) -> list[list[int]]:
    """Seeds that are trained together: few, so that little is lost to a kill, but enough to fill all devices.

    Groups are equally long, and the last may name its last seed more than once: another number of seeds
    would be another program to compile.
    """
    if not seeds:
        return []
    size = -(-len(seeds) // -(-len(seeds) // most))
    padded = [*seeds, *[seeds[-1]] * (-len(seeds) % size)]
    return [padded[start : start + size] for start in range(0, len(padded), size)]


def _outcomes(work: Work, returns: Returns) -> Iterator[Outcome]:
    experiment, task = work.experiment, work.experiment.task
    scored = task.scored
    for seed in range(len(returns.final)):
        final, curve = returns.final[seed], returns.curve[:, seed]
        steps = [experiment.env_steps(int(n)) for n in returns.updates]
        scores = task.scores(curve)[:, scored].mean(axis=1) if scored.any() else None
        yield Outcome(
            return_=float(np.mean(final)),
            score=None if scores is None else float(scores[-1]),
            efficiency=efficiency(steps, np.mean(curve, axis=1) if scores is None else scores),
            curve=tuple(
                Point(env_steps=at, return_=float(np.mean(value)))
                for at, value in zip(steps, curve, strict=True)
            ),
            updates=work.updates,
            env_steps=experiment.env_steps(work.updates),
            levels=task.count,
            unscored_levels=int(np.sum(~scored)),
        )


def efficiency(steps: Sequence[int], values: np.ndarray) -> float:
    """Area under a learning curve over its length; before its first point the curve is flat."""
    area = np.trapezoid([values[0], *values], [0, *steps])
    return float(area / steps[-1])
