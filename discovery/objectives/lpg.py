"""LPG (Oh et al. 2020, arXiv 2007.08794) and its horizon-aware sibling TA-LPG (Jackson et al. 2024).

A backward GRU reads what the agent did, `x_t = [r_t, d_t, pi(a_t|s_t), phi(y(s_t)), phi(y(s_{t+1}))]`
(TA-LPG: also n/N and log N), and says how to change the policy (`pihat`) and what to predict
(`yhat`). The agent minimises equation 3 of the LPG paper,
`mean_t[log pi(a_t|s_t) pihat_t] + alpha_y mean_t KL(y(s_t) || yhat_t)`; the sign of pihat is learned.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Key

from discovery.objectives.base import Experience, Metrics
from discovery.objectives.gru import BackwardGRU, Precision
from discovery.types import MetaParams, Outputs, Progress


class LPGInputs(NamedTuple):
    """What the objective sees of a rollout."""

    reward: Float[Array, "T W"]
    done: Bool[Array, "T W"]
    action_prob: Float[Array, "T W"]
    prediction: Float[Array, "T W M"]
    next_prediction: Float[Array, "T W M"]


class LPGTargets(NamedTuple):
    """What the objective answers."""

    pihat: Float[Array, "*batch"]
    log_yhat: Float[Array, "*batch M"]


class LPGNetwork(nn.Module):
    """The learned part of LPG: phi, the backward GRU and the two heads."""

    bins: int
    width: int
    embedding_width: int
    horizon_inputs: bool
    precision: Precision

    @nn.compact
    def __call__(self, inputs: LPGInputs, progress: Progress) -> LPGTargets:
        """pihat and log yhat for every step of a rollout."""
        embed = nn.Sequential(
            [nn.Dense(self.embedding_width, name="embed_hidden"), nn.relu, nn.Dense(1, name="embed_out")]
        )
        # After the end of an episode there is no next prediction: its embedding is 0.
        next_embedding = jnp.where(inputs.done, 0.0, embed(inputs.next_prediction)[..., 0])
        features = [
            inputs.reward,
            inputs.done.astype(jnp.float32),
            inputs.action_prob,
            embed(inputs.prediction)[..., 0],
            next_embedding,
        ]
        if self.horizon_inputs:
            stages = (progress.fraction, progress.log_horizon)
            features += [jnp.full_like(inputs.reward, stage) for stage in stages]
        x = jnp.stack(features, axis=-1)
        states = nn.relu(BackwardGRU(self.width, self.precision, name="gru")(x, inputs.done))
        answer = nn.Dense(1 + self.bins, name="heads")(states)
        return LPGTargets(pihat=answer[..., 0], log_yhat=jax.nn.log_softmax(answer[..., 1:]))


@dataclasses.dataclass(frozen=True)
class LPG:
    """Learned policy gradient; with `horizon_inputs` TA-LPG.

    Both `terminated` and `truncated` count as the end of an episode (`d_t`), as in the reference
    implementation: the GRU state is reset there and phi(y(s_{t+1})) is 0.

    Attributes:
        bins: M, width of the agent's prediction.
        width: G, units of the GRU.
        embedding_width: hidden units of phi.
        horizon_inputs: append n/N and log N to the inputs.
        prediction_coef: alpha_y, weight of the prediction's loss.
        precision: number format of the GRU's recurrent product.
    """

    bins: int = 8
    width: int = 256
    embedding_width: int = 16
    horizon_inputs: bool = True
    prediction_coef: float = 0.5
    precision: Precision = "float32"

    # Its input pi(a|s) is a probability.
    discrete_only = True

    @property
    def name(self) -> str:
        """`ta-lpg` or `lpg`."""
        return "ta-lpg" if self.horizon_inputs else "lpg"

    @property
    def head_size(self) -> int:
        """M: the agent's second head holds the logits of its prediction."""
        return self.bins

    @property
    def uses_progress(self) -> bool:
        """Whether n and N are among the inputs."""
        return self.horizon_inputs

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the rule sees of each step, for its card."""
        seen = ("reward", "done", "pi(a|s)", "phi(y(s))", "phi(y(s'))")
        return (*seen, "n/N", "log N") if self.horizon_inputs else seen

    @property
    def network(self) -> LPGNetwork:
        """The flax module that the meta-parameters belong to."""
        return LPGNetwork(self.bins, self.width, self.embedding_width, self.horizon_inputs, self.precision)

    def init(self, key: Key[Array, ""]) -> MetaParams:
        """Random meta-parameters."""
        scalar, bins = jnp.zeros((1, 1)), jnp.zeros((1, 1, self.bins))
        inputs = LPGInputs(scalar, scalar.astype(bool), scalar, bins, bins)
        progress = Progress(done=jnp.int32(0), horizon=jnp.int32(1))
        return self.network.init(key, inputs, progress)["params"]

    def targets(self, meta_params: MetaParams, experience: Experience, progress: Progress) -> LPGTargets:
        """Runs the network backwards over a rollout (section "LPG" of the paper, figure 1)."""
        rollout, outputs = experience.rollout, experience.outputs
        # exp(log_softmax), as the loss does, so that XLA computes it once.
        prediction = jnp.exp(jax.nn.log_softmax(outputs.head))
        last_prediction = jax.nn.softmax(experience.last_outputs.head)
        inputs = LPGInputs(
            reward=rollout.reward,
            done=rollout.done,
            action_prob=jnp.exp(outputs.log_prob(rollout.action)),
            prediction=prediction,
            next_prediction=jnp.concatenate([prediction[1:], last_prediction[None]]),
        )
        return self.network.apply({"params": meta_params}, inputs, progress)  # type: ignore[return-value]

    def loss(
        self,
        meta_params: MetaParams,
        outputs: Outputs,
        action: Int[Array, "*batch"],
        targets: LPGTargets,
        progress: Progress,
    ) -> tuple[Float[Array, ""], Metrics]:
        """Equation 3 of the LPG paper, to be minimised by the agent."""
        del meta_params, progress
        log_prediction = jax.nn.log_softmax(outputs.head)
        policy_loss = jnp.mean(outputs.log_prob(action) * targets.pihat)
        divergence = jnp.sum(jnp.exp(log_prediction) * (log_prediction - targets.log_yhat), axis=-1)
        loss = policy_loss + self.prediction_coef * jnp.mean(divergence)
        return loss, {
            "policy_loss": policy_loss,
            "prediction_loss": jnp.mean(divergence),
            "pihat_square": jnp.mean(targets.pihat**2),
            "yhat_square": jnp.mean(jnp.sum(jnp.exp(2 * targets.log_yhat), axis=-1)),
        }


def _horizon_blind(**settings: Any) -> LPG:
    """LPG without the horizon inputs."""
    return LPG(**(settings | {"horizon_inputs": False}))


OBJECTIVES = {
    "lpg": (_horizon_blind, "learned policy gradient (Oh et al. 2020)"),
    "ta-lpg": (LPG, "LPG that also sees n/N and log N (Jackson et al. 2024)"),
}
