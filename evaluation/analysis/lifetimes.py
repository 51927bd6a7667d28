"""Trains agents with an objective that is given the true progress or a wrong one, and records every update.

All views train the same agents on the same levels with the same random numbers, so that they differ by
what the objective sees of n alone. Lanes run through the blocks of `discovery.sharding`. `study` calls this.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.lifetime import Learner, TrainState, evaluate_block, vmap_lanes
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.sharding import run_lanes
from rl_discovery.discovery.types import EnvParams, MetaParams, Progress
from rl_discovery.envs.suites import Suite
from rl_discovery.evaluation.analysis.charts import TRACES
from rl_discovery.evaluation.analysis.record import Estimated, Lifetime, Lifetimes, Trace
from rl_discovery.evaluation.analysis.views import PLAIN, MistimedObjective, views
from rl_discovery.evaluation.lanes import EPISODES, check_ended, default_block_size, lane_keys, tile_levels
from rl_discovery.evaluation.protocol import LEVELS_SEED
from rl_discovery.evaluation.statistics import bootstrap_interval, interquartile_mean, mean_estimate
from rl_discovery.evaluation.tasks import EvaluationTask, count, prepare

DEFINITIONS = {
    "fixed": "the ablation: the objective is told that n/N is 0, or 0.5, at every update; N, and all that is "
    "the agent's own, such as annealed step sizes, stay true",
    "shuffled": "the ablation: the objective is told every n of the lifetime once, in random order",
    "difference": "score under the ablation minus score under the truth, agent by agent: same level, same "
    "random numbers; interquartile mean over seeds and levels, 95 % bootstrap interval over seeds",
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where and how agents are trained.

    Attributes:
        suite: the levels are from its first environment.
        horizon: N, in agent updates.
        seeds: agents per level.
        mesh: the devices.
        workers: W of every agent; None: the published number.
    """

    suite: Suite
    horizon: int
    seeds: int
    mesh: Mesh
    workers: int | None = None

    @functools.cached_property
    def task(self) -> EvaluationTask:
        """The environment with its levels and exact bounds."""
        return prepare(*self.suite.levels(LEVELS_SEED)[0])

    def agent(self, objective: TrainedObjective) -> AgentConfig:
        """The agents' settings."""
        return self.task.agent_for(objective, self.workers)

    def learner(self, objective: TrainedObjective) -> Learner:
        """The static side of the agents.

        Raises:
            ValueError: agents that cannot be trained in this environment.
        """
        return make_learner(self.task.env, self.task.level, self.agent(objective), objective.rule)


def analyse_lifetimes(
    objective: TrainedObjective, setting: Setting, progress: Callable[[str], None] = lambda view: None
) -> Lifetimes:
    """Trains agents with the true progress, and with wrong ones if the objective sees it.

    Args:
        objective: what they learn with.
        setting: where.
        progress: called before each view.
    """
    train, by_view = trainer(objective, setting), {}
    for name, seen_n in views(setting.horizon).items():
        if name == PLAIN or objective.rule.uses_progress:
            progress(name)
            by_view[name] = train(seen_n)
    return Lifetimes(
        suite=setting.suite.name,
        environment=setting.task.name,
        levels=setting.task.count,
        seeds=setting.seeds,
        horizon=setting.horizon,
        workers=setting.agent(objective).workers,
        views=tuple(_record(setting.task, name, view, by_view[PLAIN]) for name, view in by_view.items()),
    )


def trainer(
    objective: TrainedObjective, setting: Setting
) -> Callable[[np.ndarray], dict[str, Float[np.ndarray, "seeds levels *updates"]]]:
    """Training of every agent of a setting, compiled once for all views.

    Returns:
        From the n that the objective sees at each update to `TRACES` by name, one number per
        update, and `return`, one number.
    """
    learner, config = setting.learner(objective), setting.agent(objective)
    levels = setting.task.levels
    level_count = count(levels)
    keys = lane_keys(range(setting.seeds), level_count)
    run = jax.jit(functools.partial(trace_lanes, learner, setting.mesh, default_block_size(config)))

    def train(seen_n: np.ndarray) -> dict[str, np.ndarray]:
        watched = jax.device_get(run(objective.meta_params, levels, keys, seen_n))
        check_ended(setting.task.name, watched["return"])
        shape = (setting.seeds, level_count)
        return {name: np.asarray(x, np.float64).reshape(*shape, *x.shape[1:]) for name, x in watched.items()}

    return train


def trace_lanes(
    learner: Learner,
    mesh: Mesh,
    block_size: int,
    meta_params: MetaParams,
    levels: EnvParams,
    keys: Key[Array, " lanes"],
    seen_n: Float[Array, " updates"],
) -> dict[str, Float[Array, "lanes *updates"]]:
    """A lifetime per key; lane i plays level i modulo their number."""
    at_end = dataclasses.replace(learner, agent=dataclasses.replace(learner.agent, workers=EPISODES))

    def run_block(shared: Any, mine: Any, alive: Bool[Array, " size"]) -> dict[str, Array]:
        (meta_params, seen_n), (levels, keys) = shared, mine
        mistimed = dataclasses.replace(learner, objective=MistimedObjective(learner.objective, seen_n))
        live = functools.partial(traced_lifetime, mistimed, seen_n.shape[0], meta_params)
        train_states, traces = vmap_lanes(live)(keys, levels)
        return traces | {"return": evaluate_block(at_end, train_states, levels, keys)}

    per_lane = (tile_levels(levels, keys.shape[0]), keys)
    return run_lanes(run_block, (meta_params, seen_n), per_lane, jnp.ones(keys.shape), block_size, mesh)


def traced_lifetime(
    learner: Learner, horizon: int, meta_params: MetaParams, key: Key[Array, ""], level: EnvParams
) -> tuple[TrainState, dict[str, Float[Array, " updates"]]]:
    """One lifetime, and `TRACES` over its updates."""

    def update(train_state: TrainState, n: Int[Array, ""]) -> tuple[TrainState, dict[str, Array]]:
        progress = Progress(done=n, horizon=jnp.int32(horizon))
        new, metrics = learner.update(meta_params, level, key, progress, train_state)
        change = jax.tree.map(jnp.subtract, new.agent.params, train_state.agent.params)
        outputs = learner.agent.outputs_of(new.agent, new.workers.observation)
        spread = jnp.std(prediction(learner, outputs.head), axis=0)
        return new, {
            "policy_entropy": jnp.mean(outputs.entropy()),
            "update_size": optax.tree.norm(change),
            "prediction_spread": jnp.sqrt(jnp.mean(spread**2)),
            "reward_per_step": metrics["reward_per_step"],
        }

    return jax.lax.scan(update, learner.begin(key, level), jnp.arange(horizon))


def prediction(learner: Learner, head: Float[Array, "W K"]) -> Float[Array, "W K"]:
    """What the second head says: a distribution over bins, or a value, which is one number."""
    return jax.nn.softmax(head) if learner.objective.head_size > 1 else head


def _record(
    task: EvaluationTask, view: str, watched: dict[str, np.ndarray], plain: dict[str, np.ndarray]
) -> Lifetime:
    scored = task.scored
    scores, baseline = (task.scores(x["return"])[:, scored] for x in (watched, plain))
    use, reference = (scores, baseline) if scored.any() else (watched["return"], plain["return"])
    return Lifetime(
        view=view,
        **{name: _trace(watched[name]) for name in TRACES},
        returns=tuple(watched["return"].mean(axis=1)),
        scores=tuple(scores.mean(axis=1)) if scored.any() else (),
        return_=_mean(watched["return"].mean(axis=1)),
        score=_middle(scores) if scored.any() else None,
        difference=None if view == PLAIN else _middle(use - reference),
    )


def _trace(values: Float[np.ndarray, "seeds levels updates"]) -> Trace:
    of_seeds = values.mean(axis=1)
    return Trace(mean=tuple(of_seeds.mean(axis=0)), deviation=tuple(of_seeds.std(axis=0)))


def _mean(of_seeds: np.ndarray) -> Estimated:
    if not np.isfinite(of_seeds).all():
        return Estimated(mean=None, low=None, high=None)
    return Estimated(**mean_estimate(of_seeds)._asdict())


def _middle(values: Float[np.ndarray, "seeds levels"]) -> Estimated:
    """The interquartile mean over seeds and levels; nothing where an agent failed."""
    if not np.isfinite(values).all():
        return Estimated(mean=None, low=None, high=None)
    low, high = bootstrap_interval(values) or (None, None)
    return Estimated(mean=interquartile_mean(values), low=low, high=high)
