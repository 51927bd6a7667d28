"""LPG (Oh et al. 2020, arXiv 2007.08794), its horizon-aware sibling TA-LPG (Jackson et al. 2024), and its
residual form.

A backward GRU reads what the agent did, `x_t = [r_t, d_t, pi(a_t|s_t), phi(y(s_t)), phi(y(s_{t+1}))]`
(TA-LPG: also n/N and log N), and says how to change the policy (`pihat`) and what to predict
(`yhat`). The agent minimises equation 3 of the LPG paper,
`mean_t[log pi(a_t|s_t) pihat_t] + alpha_y mean_t KL(y(s_t) || yhat_t)`; the sign of pihat is learned.

The residual form starts from A2C and learns what to add to it. The agent's second head has a value V(s)
beside the logits of y. With A the GAE advantage, the GRU also reads A and V, and the update is A2C's with
`pihat_t = -A_t exp(a_t) + delta_t` and the entropy bonus times `exp(b_t)`; a, b and delta are 0 at first.
"""

import dataclasses
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import Field

from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.discovery.objectives.base import Experience, Metrics
from rl_discovery.discovery.objectives.bounds import LINEAR, bounded_log_ratio
from rl_discovery.discovery.objectives.gae import advantages, deviation
from rl_discovery.discovery.objectives.gru import BackwardGRU, Precision
from rl_discovery.discovery.objectives.horizon import Encoding, scaled_progress
from rl_discovery.discovery.objectives.ppo import clip_drift
from rl_discovery.discovery.objectives.schedule import Scheduled
from rl_discovery.discovery.ranges import NonNegativeFloat, PositiveFloat, PositiveInt, UnitInterval
from rl_discovery.discovery.types import MetaParams, Outputs, Progress

Form = Literal["free", "a2c_residual"]

LARGEST_INPUT = 10.0
"""Rewards and values that the residual form's GRU reads are held within this many deviations."""


class LPGInputs(NamedTuple):
    """What the objective sees of a rollout.

    Attributes:
        reward, done, action_prob: r_t, d_t and pi(a_t|s_t).
        prediction, next_prediction: y(s_t) and y(s_{t+1}), probabilities.
        horizon: n/N and log N, encoded; None without horizon inputs.
        advantage, value: A_t and V(s_t), normalised; None in the free form.
    """

    reward: Float[Array, "T W"]
    done: Bool[Array, "T W"]
    action_prob: Float[Array, "T W"]
    prediction: Float[Array, "T W M"]
    next_prediction: Float[Array, "T W M"]
    horizon: tuple[Float[Array, ""], Float[Array, ""]] | None = None
    advantage: Float[Array, "T W"] | None = None
    value: Float[Array, "T W"] | None = None


class LPGTargets(NamedTuple):
    """What the objective answers; in the residual form `pihat` is delta, and `Residual` says the rest."""

    pihat: Float[Array, "*batch"]
    log_yhat: Float[Array, "*batch M"]
    residual: "Residual | None" = None


class Residual(NamedTuple):
    """What the residual form adds to delta and yhat.

    Attributes:
        log_advantage: a_t, the logarithm of the factor on A_t.
        log_entropy: b_t, that of the factor on the entropy bonus.
        advantage: A_t, not normalised.
        value_target: what V(s_t) is pulled towards.
        log_prob: log pi(a_t|s_t) when the rollout was collected.
    """

    log_advantage: Float[Array, "*batch"]
    log_entropy: Float[Array, "*batch"]
    advantage: Float[Array, "*batch"]
    value_target: Float[Array, "*batch"]
    log_prob: Float[Array, "*batch"]


class LPGNetwork(nn.Module):
    """The learned part of LPG: phi, the backward GRU and the heads.

    Attributes:
        outputs: numbers per step.
        width: G.
        embedding_width: hidden units of phi.
        precision: number format of the GRU's recurrent product.
        residual_scale: g, by which the heads of the residual form are multiplied; None in the free form,
            whose heads have random weights and biases at first. Those of the residual form are zeros, without
            biases.
    """

    outputs: int
    width: int
    embedding_width: int
    precision: Precision
    residual_scale: float | None

    @nn.compact
    def __call__(self, inputs: LPGInputs) -> Float[Array, "T W outputs"]:
        """The heads' outputs for every step of a rollout."""
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
        features += [x for x in (inputs.advantage, inputs.value) if x is not None]
        if inputs.horizon is not None:
            features += [jnp.full_like(inputs.reward, v) for v in inputs.horizon]
        x = jnp.stack(features, axis=-1)
        states = nn.relu(BackwardGRU(self.width, self.precision, name="gru")(x, inputs.done))
        if self.residual_scale is None:
            return nn.Dense(self.outputs, name="heads")(states)
        zeros = nn.initializers.zeros
        return nn.Dense(self.outputs, use_bias=False, kernel_init=zeros, name="heads")(
            self.residual_scale * states
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LPG(Scheduled):
    """Learned policy gradient; with `horizon_inputs` TA-LPG.

    Both `terminated` and `truncated` count as the end of an episode (`d_t`), as in the reference
    implementation: the GRU state is reset there and phi(y(s_{t+1})) is 0. The residual form's advantages are
    A2C's: at `terminated` the next value is 0, at `truncated` it is bootstrapped.

    The residual form minimises, with `Ahat = A exp(a) - delta` and `r = pi/pi_old`,
    `-mean[min(r Ahat, clip(r) Ahat)] - c_H mean[exp(b) H(pi)] + c_V mean[(V - target)^2] + alpha_y mean KL(y
    || yhat)`. With one gradient per rollout r is 1, and the first term's gradient is that of `log pi(a|s)
    (-Ahat)`: the rule starts as A2C. In PPO's loop of epochs it starts as PPO with A2C's lambda, entropy
    bonus and squared value error (which the agent's settings and the fields below change), A normalised per
    minibatch as there; the ratio's clip stays.

    Attributes:
        bins: M, width of the agent's prediction y (GROOVE's code: 8; the LPG paper: 30).
        width: G, units of the GRU (GROOVE's code: 256).
        embedding_width: hidden units of phi, the embedding of y (LPG paper: 16).
        horizon_inputs: append n/N and log N to the inputs: TA-LPG (Jackson et al. 2024); off: LPG (Oh et al.
            2020).
        encoding: those inputs as in the `paper`, or `scaled` to [-1, 1] over the horizons trained on (ours).
        prediction_coef: alpha_y, weight of the prediction in the agent's loss (LPG paper: 0.5).
        precision: number format of the operands of the GRU's recurrent product; sums and state are float32
            either way.
        form: `free`, the papers' LPG, or `a2c_residual`: A2C, and what is learned to add to it.
        normalise_pihat: bring pihat to mean 0 and deviation 1 over each rollout (`free` only); the schedule's
            step size then says how long a step is.
        residual_scale: g, factor on the residual form's heads, which decides how much a perturbation of them
            does (ours: with 1 a perturbation of sigma 0.2 ruins the agent).
        discount: gamma of the residual form's advantages (A2C's).
        gae_lambda: their lambda (A2C's).
        entropy_coef: c_H, weight of the entropy bonus (A2C's).
        value_coef: c_V, weight of the value loss (A2C's).
        clip: eps, how far the ratio may move from 1 in PPO's loop (PPO's).
    """

    bins: Annotated[int, Field(ge=2)] = 8
    width: PositiveInt = 256
    embedding_width: PositiveInt = 16
    horizon_inputs: bool = True
    encoding: Encoding = "paper"
    prediction_coef: NonNegativeFloat = 0.5
    precision: Precision = "float32"
    form: Form = "free"
    normalise_pihat: bool = False
    residual_scale: PositiveFloat = 0.2
    discount: UnitInterval = 0.99
    gae_lambda: UnitInterval = 0.9
    entropy_coef: NonNegativeFloat = 0.02
    value_coef: NonNegativeFloat = 0.5
    clip: PositiveFloat = 0.2

    # Its input pi(a|s) is a probability.
    discrete_only = True

    @property
    def name(self) -> str:
        """`ta-lpg` or `lpg`."""
        return "ta-lpg" if self.uses_progress else "lpg"

    @property
    def is_residual(self) -> bool:
        """Whether the agent also has a value, and the rule starts from A2C."""
        return self.form == "a2c_residual"

    @property
    def begins_as(self) -> str | None:
        """The rule that it is before anything is learned; None where it is random."""
        return "a2c" if self.is_residual else None

    @property
    def head_size(self) -> int:
        """M, the logits of the agent's prediction; M + 1 with a value after them."""
        return self.bins + self.is_residual

    @property
    def zero_outputs(self) -> int:
        """How many of the second head's first outputs are 0 at first: in the residual form, the prediction's.

        So a new agent's value is that of an A2C agent, and nothing pulls at what the two share.
        """
        return self.bins if self.is_residual else 0

    @property
    def tabular_learning_rates(self) -> tuple[float, float] | None:
        """A2C's where the rule starts from it."""
        return A2C.tabular_learning_rates if self.is_residual else None

    @property
    def uses_progress(self) -> bool:
        """Whether n and N are among the inputs, or there is a schedule."""
        return self.horizon_inputs or self.schedule

    @property
    def _constants(self) -> tuple[str, ...]:
        return ("step_size", "entropy") if self.is_residual else ("step_size",)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the rule sees of each step, for its card."""
        seen: tuple[str, ...] = ("reward", "done", "pi(a|s)", "phi(y(s))", "phi(y(s'))")
        if self.is_residual:
            seen += ("A", "V(s)")
        return (*seen, "n/N", "log N") if self.horizon_inputs else seen

    @property
    def network(self) -> LPGNetwork:
        """The flax module that the meta-parameters belong to."""
        return LPGNetwork(
            outputs=self.bins + (3 if self.is_residual else 1),
            width=self.width,
            embedding_width=self.embedding_width,
            precision=self.precision,
            residual_scale=self.residual_scale if self.is_residual else None,
        )

    def init(self, key: Key[Array, ""]) -> MetaParams:
        """Random meta-parameters; the residual form's heads and the schedule are zeros."""
        scalar, bins = jnp.zeros((1, 1)), jnp.zeros((1, 1, self.bins))
        more = scalar if self.is_residual else None
        horizon = (jnp.zeros(()), jnp.zeros(())) if self.horizon_inputs else None
        inputs = LPGInputs(scalar, scalar.astype(bool), scalar, bins, bins, horizon, more, more)
        return dict(self.network.init(key, inputs)["params"]) | self.init_schedule()

    def perturbation_scales(self) -> dict[str, float]:
        """How much less the weights of a layer should be perturbed than a bias: by the root of their number
        per unit.
        """
        features = len(self.inputs)
        return {
            "embed_hidden/kernel": self.bins**-0.5,
            "embed_out/kernel": self.embedding_width**-0.5,
            "gru/kernel": features**-0.5,
            "gru/recurrent_kernel": self.width**-0.5,
            "heads/kernel": self.width**-0.5,
        }

    def targets(self, meta_params: MetaParams, experience: Experience, progress: Progress) -> LPGTargets:
        """Runs the network backwards over a rollout (section "LPG" of the paper, figure 1)."""
        rollout, outputs = experience.rollout, experience.outputs
        # exp(log_softmax), as the loss does, so that XLA computes it once.
        prediction = jnp.exp(jax.nn.log_softmax(outputs.head[..., : self.bins]))
        last_prediction = jax.nn.softmax(experience.last_outputs.head[..., : self.bins])
        log_prob = outputs.log_prob(rollout.action)
        inputs = LPGInputs(
            reward=rollout.reward,
            done=rollout.done,
            action_prob=jnp.exp(log_prob),
            prediction=prediction,
            next_prediction=jnp.concatenate([prediction[1:], last_prediction[None]]),
            horizon=self._horizon(progress) if self.horizon_inputs else None,
        )
        if self.is_residual:
            return self._residual_targets(meta_params, inputs, experience, log_prob, progress)
        answer: Any = self.network.apply({"params": meta_params}, inputs)
        pihat = _normalise(answer[..., 0]) if self.normalise_pihat else answer[..., 0]
        return LPGTargets(pihat=pihat, log_yhat=jax.nn.log_softmax(answer[..., 1:]))

    def _residual_targets(
        self,
        meta_params: MetaParams,
        inputs: LPGInputs,
        experience: Experience,
        log_prob: Float[Array, "T W"],
        progress: Progress,
    ) -> LPGTargets:
        values, next_values = experience.outputs.head[..., -1], experience.next_head[..., -1]
        discount = self.scales(meta_params, progress).discount(self.discount)
        advantage = advantages(experience.rollout, values, next_values, discount, self.gae_lambda)
        value_target = advantage + values
        scale = deviation(value_target)
        inputs = inputs._replace(
            reward=_held(inputs.reward / scale),
            advantage=_normalise(advantage),
            value=_held((values - jnp.mean(values)) / scale),
        )
        answer: Any = self.network.apply({"params": meta_params}, inputs)
        return LPGTargets(
            pihat=answer[..., 0],
            log_yhat=jax.nn.log_softmax(answer[..., 3:]),
            residual=Residual(
                log_advantage=answer[..., 1],
                log_entropy=answer[..., 2],
                advantage=advantage,
                value_target=value_target,
                log_prob=log_prob,
            ),
        )

    def _horizon(self, progress: Progress) -> tuple[Float[Array, ""], Float[Array, ""]]:
        if self.encoding == "scaled":
            return scaled_progress(progress, self.shortest_horizon, self.longest_horizon)
        return progress.fraction, progress.log_horizon

    def loss(
        self,
        meta_params: MetaParams,
        outputs: Outputs,
        action: Int[Array, "*batch"],
        targets: LPGTargets,
        progress: Progress,
    ) -> tuple[Float[Array, ""], Metrics]:
        """Equation 3 of the LPG paper, or A2C's loss with what is learned, to be minimised by the agent."""
        log_prediction = jax.nn.log_softmax(outputs.head[..., : self.bins])
        divergence = jnp.sum(jnp.exp(log_prediction) * (log_prediction - targets.log_yhat), axis=-1)
        prediction_loss = jnp.mean(divergence)
        pihat = self.pihat(targets)
        if targets.residual is None:
            policy_loss = jnp.mean(outputs.log_prob(action) * pihat)
            loss, more = policy_loss, {}
        else:
            policy_loss = self._clipped_policy_loss(outputs, action, pihat, targets.residual.log_prob)
            entropy_coef = self.entropy_coef * self.scales(meta_params, progress).entropy
            entropy = outputs.entropy()
            bonus = jnp.mean(jnp.exp(targets.residual.log_entropy) * entropy)
            value_loss = jnp.mean((outputs.head[..., -1] - targets.residual.value_target) ** 2)
            loss = policy_loss - entropy_coef * bonus + self.value_coef * value_loss
            more = {"entropy": jnp.mean(entropy), "value_loss": value_loss}
        return loss + self.prediction_coef * prediction_loss, {
            "policy_loss": policy_loss,
            "prediction_loss": prediction_loss,
            "pihat_square": jnp.mean(pihat**2),
            "yhat_square": jnp.mean(jnp.sum(jnp.exp(2 * targets.log_yhat), axis=-1)),
        } | more

    def pihat(self, targets: LPGTargets) -> Float[Array, "*batch"]:
        """What log pi(a|s) is multiplied by in the agent's loss."""
        if targets.residual is None:
            return targets.pihat
        residual = targets.residual
        return targets.pihat - _normalise(residual.advantage) * jnp.exp(residual.log_advantage)

    def _clipped_policy_loss(
        self,
        outputs: Outputs,
        action: Int[Array, "*batch"],
        pihat: Float[Array, "*batch"],
        old_log_prob: Float[Array, "*batch"],
    ) -> Float[Array, ""]:
        """PPO's surrogate for the advantage `-pihat`, to be minimised."""
        log_ratio = bounded_log_ratio(outputs.log_prob(action) - old_log_prob, LINEAR)
        drift = clip_drift(log_ratio, -pihat, self.clip, self.clip)
        return jnp.mean(drift + jnp.exp(log_ratio) * pihat)


def _normalise(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """As A2C does, but with a gradient where all are equal: meta-gradients go through it."""
    return (x - jnp.mean(x)) / deviation(x)


def _held(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    return jnp.clip(x, -LARGEST_INPUT, LARGEST_INPUT)


def _horizon_blind(**settings: Any) -> LPG:
    """LPG without the horizon inputs."""
    return LPG(**({"horizon_inputs": False} | settings))


OBJECTIVES = {
    "lpg": (_horizon_blind, "learned policy gradient (Oh et al. 2020)"),
    "ta-lpg": (LPG, "LPG that also sees n/N and log N (Jackson et al. 2024)"),
}
