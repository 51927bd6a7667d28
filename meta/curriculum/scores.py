"""Level scores: how much an agent can still learn on a level, estimated at the end of a lifetime there.

The replay curriculum keeps and replays the levels with the highest scores. A score is one function of a
`LaneOutcome`; `rl-discovery list scores`, the configuration and the tests read `SCORES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from rl_discovery.discovery.registry import Registry
from rl_discovery.meta.scale import Scale


@struct.dataclass
class LaneOutcome:
    """The end of one agent's lifetime on a level, from which a score is computed.

    Attributes:
        returns: undiscounted return of one whole episode per worker, of the final agent.
        reference_return: of the kind `Score.reference`, on this level.
        best_return: highest discounted return of an episode on this level so far, this play included.
        values: the critic's V(s_t) on a last rollout.
        advantages: generalised advantage estimates of that rollout, not normalised.
        scale: exact returns of the best and of the random policy; None where the score does not read them.
    """

    returns: Float[Array, " W"]
    reference_return: Float[Array, ""]
    best_return: Float[Array, ""]
    values: Float[Array, "T W"]
    advantages: Float[Array, "T W"]
    scale: Scale | None = None


@dataclass(frozen=True)
class Score:
    """A registered score.

    Attributes:
        description: one line for `rl-discovery list scores`.
        function: from an outcome to its score, which is not finite if an input is not; None: no scores.
        reference: what `LaneOutcome.reference_return` is: the return of an A2C antagonist trained on the
            level for the same lifetime, or the exact return of the best policy. None: it
            is not read.
        critic: whether `values` and `advantages` are read, so that the agent must have a critic.
        scale: whether `scale` is read, so that the level must be planned.
    """

    description: str
    function: Callable[[LaneOutcome], Float[Array, ""]] | None
    reference: Literal["antagonist", "optimum"] | None = None
    critic: bool = False
    scale: bool = False


def algorithmic_regret(outcome: LaneOutcome) -> Float[Array, ""]:
    """`R_antagonist - mean_w R_w` (Jackson et al. 2023, arXiv 2310.02782); negative where the agent wins."""
    return outcome.reference_return - jnp.mean(outcome.returns)


def positive_value_loss(outcome: LaneOutcome) -> Float[Array, ""]:
    """`mean_t max(A_t, 0)` with A by GAE (Jiang et al. 2021, arXiv 2110.02439), positive errors only."""
    return jnp.mean(jnp.maximum(outcome.advantages, 0.0))


def max_monte_carlo(outcome: LaneOutcome) -> Float[Array, ""]:
    """`mean_t (R_max - V(s_t))`, R_max the best return so far (Jiang et al. 2021, arXiv 2110.02439).

    R_max is discounted, as V is.
    """
    return jnp.mean(outcome.best_return - outcome.values)


def l1_value_loss(outcome: LaneOutcome) -> Float[Array, ""]:
    """`mean_t |A_t|` with A by GAE (Jiang et al. 2021, arXiv 2010.03934)."""
    return jnp.mean(jnp.abs(outcome.advantages))


def learnability(outcome: LaneOutcome) -> Float[Array, ""]:
    """`p (1 - p)`, p the share of successful episodes (Rutherford et al. 2024, arXiv 2408.15099).

    The paper's tasks are solved or not. Here an episode succeeds if it reaches more than half of the
    optimum. If the optimum is 0 or less, nothing can succeed, and the score is 0.
    """
    optimum = outcome.reference_return
    p = jnp.mean(outcome.returns > 0.5 * optimum)
    known = jnp.all(jnp.isfinite(outcome.returns)) & jnp.isfinite(optimum)
    # Otherwise NaN would count as a failed episode.
    return jnp.where(known, p * (1 - p) * (optimum > 0), jnp.nan)


def optimality_gap(outcome: LaneOutcome) -> Float[Array, ""]:
    """`(R_optimal - mean_w R_w) / (R_optimal - R_random)`: 1 for acting at random; 0 without a scale."""
    scale, mean_return = outcome.scale, jnp.mean(outcome.returns)
    assert scale is not None, "optimality_gap reads the level's scale"
    known = jnp.isfinite(scale.optimal) & jnp.isfinite(scale.random) & jnp.isfinite(mean_return)
    return jnp.where(known, jnp.where(scale.exists, 1 - scale.score(mean_return), 0.0), jnp.nan)


SCORES = Registry(
    "score",
    "scores",
    Score,
    {
        "algorithmic_regret": Score(
            "return of an A2C antagonist minus the agent's, on the same level (GROOVE)",
            algorithmic_regret,
            reference="antagonist",
        ),
        "positive_value_loss": Score(
            "mean positive advantage, where the agent has a critic (PVL)", positive_value_loss, critic=True
        ),
        "max_monte_carlo": Score(
            "best return on the level so far minus the critic's values (MaxMC)", max_monte_carlo, critic=True
        ),
        "l1_value_loss": Score(
            "mean absolute advantage, where the agent has a critic (PLR)", l1_value_loss, critic=True
        ),
        "learnability": Score(
            "p(1-p), p the share of episodes above half of the optimal return (SFL)",
            learnability,
            reference="optimum",
        ),
        "optimality_gap": Score(
            "distance to the best return: 0 for the best policy, 1 for the random one (exact planning)",
            optimality_gap,
            scale=True,
        ),
        "random": Score("no score: fresh levels, always (domain randomisation)", None),
        "frozen": Score("no score: a fixed set of levels, drawn uniformly", None),
    },
)
