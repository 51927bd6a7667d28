"""LPG's outputs for made-up rollouts: pihat as one input of one step varies.

The objective's own `targets` are asked, with rollouts in place of an agent's. Its GRU reads backwards, so
that what it says of a step depends on that step and the later ones: the varied step is the first. `study`
calls this.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from rl_discovery.discovery.agents.policies import Categorical
from rl_discovery.discovery.objectives.base import Experience, TrainedObjective
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.types import Outputs, Progress, Rollout
from rl_discovery.evaluation.analysis.moments import Moment
from rl_discovery.evaluation.analysis.record import Curve, Response, Sweep

STEPS = 20
"""T of the rollouts, as the agents of the LPG paper have it."""

NEUTRAL_PROB = 0.2
"""pi(a|s) where it is not varied: a uniform policy over the gridworlds' five actions."""

POINTS = 41
"""Values of an input that is a real number."""

DEFINITIONS = {
    "pihat": "the target that LPG's agent is given for log pi(a|s), whose loss is mean(log pi(a|s) pihat): "
    "below 0 it makes the action likelier",
    "neutral": f"{STEPS} steps without reward and end, pi(a|s) = {NEUTRAL_PROB}, and everywhere the "
    "prediction half-way between those that the objective asks for after rewards of +1 and of -1 at every "
    "step",
}


class MadeUp(NamedTuple):
    """Rollouts side by side, one per value of the varied input."""

    reward: Float[np.ndarray, "T W"]
    done: Bool[np.ndarray, "T W"]
    prob: Float[np.ndarray, "T W"]
    prediction: Float[np.ndarray, "T_plus_1 W M"]


class Variation(NamedTuple):
    """One input varied."""

    input: str
    meaning: str
    values: np.ndarray
    rollouts: MadeUp


def analyse_response(objective: TrainedObjective, moments: Sequence[Moment]) -> tuple[Response, np.ndarray]:
    """Curves of pihat over each input at every moment.

    Args:
        objective: LPG or TA-LPG.
        moments: of a lifetime; without horizon inputs there is one curve.

    Returns:
        The record, and pihat at all points of all sweeps (moments x points) for `horizon_blind`.

    Raises:
        ValueError: another objective.
    """
    rule = objective.rule
    if not isinstance(rule, LPG):
        raise ValueError(f"{objective.name} has no pihat")
    ask = jax.jit(lambda rollouts, progress: answer(objective, rollouts, progress))
    sees_horizon = rule.uses_progress
    outputs: list[np.ndarray] = []
    spans: dict[int, float] = {}
    curves: dict[str, list[Curve]] = {}
    variations: list[Variation] = []
    for moment in moments:
        # The ends between which predictions move are those of this N, in the middle of the lifetime, so that
        # they are the same for all n/N.
        ends = prediction_ends(ask, rule.bins, Moment(moment.horizon, 0.5).progress)
        spans[moment.horizon] = float(np.abs(ends[1] - ends[0]).sum() / 2)
        variations = varied(*ends)
        answers = [np.asarray(ask(v.rollouts, moment.progress)[0])[0] for v in variations]
        outputs.append(np.concatenate(answers))
        for variation, pihat in zip(variations, answers, strict=True):
            where = {
                "horizon": moment.horizon if sees_horizon else None,
                "progress": moment.share if sees_horizon else None,
            }
            curves.setdefault(variation.input, []).append(Curve(**where, pihat=tuple(pihat)))
    sweeps = [
        Sweep(
            input=v.input,
            meaning=v.meaning,
            values=tuple(v.values),
            curves=tuple(curves[v.input][: None if sees_horizon else 1]),
        )
        for v in variations
    ]
    span = tuple(spans.values())[: None if sees_horizon else 1]
    return Response(steps=STEPS, prediction_span=span, sweeps=tuple(sweeps)), np.stack(outputs)


def answer(
    objective: TrainedObjective, rollouts: MadeUp, progress: Progress
) -> tuple[Float[Array, "T W"], Float[Array, "T W M"]]:
    """pihat and log yhat of the objective's own `targets`, each rollout asked alone: some rules normalise
    over it.
    """

    def alone(rollout: MadeUp) -> tuple[Array, Array]:
        one = jax.tree.map(lambda leaf: leaf[:, None], rollout)
        return jax.tree.map(lambda leaf: leaf[:, 0], _answer(objective, one, progress))

    return jax.vmap(alone, in_axes=1, out_axes=1)(rollouts)


def _answer(
    objective: TrainedObjective, rollouts: MadeUp, progress: Progress
) -> tuple[Float[Array, "T W"], Float[Array, "T W M"]]:
    rule = cast(LPG, objective.rule)
    prob = jnp.asarray(rollouts.prob)
    logits = jnp.log(jnp.stack([prob, 1.0 - prob], axis=-1))  # two actions, of which the first is taken
    heads = jnp.log(jnp.asarray(rollouts.prediction))
    if rule.is_residual:  # values of 0 everywhere
        heads = jnp.concatenate([heads, jnp.zeros_like(heads[..., :1])], axis=-1)
    policy = Categorical(2)
    nowhere = jnp.zeros_like(prob)  # the objective sees what agents say, not where they are
    rollout = Rollout(
        observation=nowhere,
        action=nowhere.astype(jnp.int32),
        reward=jnp.asarray(rollouts.reward),
        terminated=jnp.asarray(rollouts.done),
        truncated=jnp.zeros_like(rollouts.done),
        next_observation=nowhere,
        last_observation=nowhere[0],
    )
    experience = Experience(
        rollout=rollout,
        outputs=Outputs(logits, heads[:-1], policy),
        next_head=heads[1:],
        last_outputs=Outputs(logits[-1], heads[-1], policy),
    )
    targets = rule.targets(objective.meta_params, experience, progress)
    return rule.pihat(targets), targets.log_yhat


def prediction_ends(
    ask: Callable[[MadeUp, Progress], tuple[Array, Array]], bins: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """The predictions that the objective asks for after rewards of -1 and of +1 at every step."""
    uniform = neutral(np.full(bins, 1.0 / bins), width=2)
    reward = np.broadcast_to(np.array([-1.0, 1.0], np.float32), uniform.reward.shape)
    low, high = np.exp(np.asarray(ask(uniform._replace(reward=reward), progress)[1])[0])
    return low, high


def neutral(prediction: np.ndarray, width: int) -> MadeUp:
    """`width` rollouts in which nothing happens."""
    shape = (STEPS, width)
    return MadeUp(
        reward=np.zeros(shape, np.float32),
        done=np.zeros(shape, bool),
        prob=np.full(shape, NEUTRAL_PROB, np.float32),
        prediction=np.broadcast_to(prediction.astype(np.float32), (STEPS + 1, width, len(prediction))),
    )


def varied(low: np.ndarray, high: np.ndarray) -> list[Variation]:
    """The inputs, each at the first step and varied alone.

    Args:
        low: the prediction after punishment.
        high: the prediction after reward.
    """
    middle = (low + high) / 2
    rewards, probs = np.linspace(-1, 1, POINTS), np.linspace(0.01, 0.99, POINTS)
    jumps, delays = np.linspace(-1, 1, POINTS), np.arange(STEPS)
    background = neutral(middle, POINTS)
    first = np.arange(STEPS)[:, None] == 0
    ends = np.arange(STEPS)[:, None] == delays
    ending = neutral(middle, STEPS)._replace(done=ends)
    # Weight of `high`: (1 - jump) / 2 at the first state, (1 + jump) / 2 at all later ones.
    weight = np.where(np.arange(STEPS + 1)[:, None] == 0, 1 - jumps, 1 + jumps)[..., None] / 2
    moving = (low + weight * (high - low)).astype(np.float32)
    variations = [
        ("reward", "reward of the step", rewards, _at(background, first, reward=rewards)),
        ("pi(a|s)", "probability of the action taken", probs, _at(background, first, prob=probs)),
        (
            "prediction difference",
            "y(s') - y(s) in units of (yhat after rewards of +1) - (yhat after rewards of -1); later "
            "predictions are y(s')",
            jumps,
            background._replace(prediction=moving),
        ),
        ("steps to the end", "steps after this one until the episode ends, without reward", delays, ending),
        (
            "steps to a reward",
            "steps after this one until a reward of +1, with which the episode ends",
            delays,
            ending._replace(reward=ends.astype(np.float32)),
        ),
    ]
    return [Variation(*variation) for variation in variations]


def _at(rollouts: MadeUp, where: np.ndarray, **values: np.ndarray) -> MadeUp:
    ((name, value),) = values.items()
    changed = np.where(where, value, getattr(rollouts, name)).astype(np.float32)
    return rollouts._replace(**{name: changed})
