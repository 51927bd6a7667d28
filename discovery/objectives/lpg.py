"""LPG (Oh et al. 2020, arXiv 2007.08794), TA-LPG (Jackson et al. 2024), and a residual form on top of A2C.

A backward GRU reads the rollout, `x_t = [r_t, d_t, pi(a_t|s_t), phi(y(s_t)), phi(y(s_{t+1}))]` (TA-LPG: also
n/N and log N), and outputs two targets: `pihat` for the policy, `yhat` for the agent's prediction y. The
agent minimises equation 3 of the LPG paper, `mean_t[log pi(a_t|s_t) pihat_t] + alpha_y mean_t KL(y(s_t) ||
yhat_t)`. The sign of pihat is learned. The residual form learns a correction to A2C (see `LPG`).
"""

import dataclasses
import functools
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
from rl_discovery.discovery.objectives.ppo import CLIPPED, clip_drift
from rl_discovery.discovery.objectives.schedule import (
    Encoding,
    Scheduled,
    change_of_range,
    scaled_progress,
)
from rl_discovery.discovery.ranges import NonNegativeFloat, PositiveFloat, PositiveInt, UnitInterval
from rl_discovery.discovery.types import MetaParams, Outputs, Progress

Form = Literal["free", "a2c_residual"]

LARGEST_INPUT = 10.0
"""Clip of the rewards and values that the residual form's GRU reads, in standard deviations."""


class LPGInputs(NamedTuple):
    """What the network reads of a rollout; predictions y are probabilities."""

    reward: Float[Array, "T W"]
    done: Bool[Array, "T W"]
    action_prob: Float[Array, "T W"]  # pi(a_t|s_t)
    prediction: Float[Array, "T W M"]
    next_prediction: Float[Array, "T W M"]
    horizon: tuple[Float[Array, ""], Float[Array, ""]] | None = None  # n/N and log N, encoded
    advantage: Float[Array, "T W"] | None = None  # this and the value: residual form only, normalised
    value: Float[Array, "T W"] | None = None


class LPGTargets(NamedTuple):
    """Targets of the agent's loss. In the residual form `pihat` is delta, and `residual` holds the rest."""

    pihat: Float[Array, "*batch"]
    log_yhat: Float[Array, "*batch M"]
    residual: "Residual | None" = None


class Residual(NamedTuple):
    """Further targets of the residual form."""

    log_advantage: Float[Array, "*batch"]  # a_t: A_t counts exp(a_t) times
    log_entropy: Float[Array, "*batch"]  # b_t: the entropy bonus counts exp(b_t) times
    advantage: Float[Array, "*batch"]  # A_t, not normalised
    value_target: Float[Array, "*batch"]  # of V(s_t)
    log_prob: Float[Array, "*batch"]  # log pi(a_t|s_t) of the policy that collected the rollout


class LPGNetwork(nn.Module):
    """The learned part of LPG: phi, the backward GRU and the heads.

    The heads start at random; those of the residual form start at zero, have no biases and a factor g.
    """

    outputs: int
    width: int
    embedding_width: int  # hidden units of phi
    precision: Precision
    residual_scale: float | None  # g; None: the free form

    @nn.compact
    def __call__(self, inputs: LPGInputs) -> Float[Array, "T W outputs"]:
        """Outputs of the heads at every step of a rollout."""
        embed = nn.Sequential(
            [nn.Dense(self.embedding_width, name="embed_hidden"), nn.relu, nn.Dense(1, name="embed_out")]
        )
        # 1. Embed the predictions; the last step of an episode has no next one.
        next_embedding = jnp.where(inputs.done, 0.0, embed(inputs.next_prediction)[..., 0])
        # 2. Build x_t.
        embedding, done = embed(inputs.prediction)[..., 0], inputs.done.astype(jnp.float32)
        features = [inputs.reward, done, inputs.action_prob, embedding, next_embedding]
        features += [x for x in (inputs.advantage, inputs.value) if x is not None]
        if inputs.horizon is not None:
            features += [jnp.full_like(inputs.reward, v) for v in inputs.horizon]
        x = jnp.stack(features, axis=-1)
        # 3. Read the rollout backwards, and map the states to pihat and yhat.
        states = nn.relu(BackwardGRU(self.width, self.precision, name="gru")(x, inputs.done))
        if self.residual_scale is None:
            return nn.Dense(self.outputs, name="heads")(states)
        heads = nn.Dense(self.outputs, use_bias=False, kernel_init=nn.initializers.zeros, name="heads")
        return heads(self.residual_scale * states)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LPG(Scheduled):
    """Learned policy gradient; with `horizon_inputs` TA-LPG.

    As in the reference implementation, `terminated` and `truncated` both end an episode (`d_t`): the GRU's
    state is reset and phi(y(s_{t+1})) is 0. The residual form computes advantages as A2C does: the next value
    is 0 at `terminated` and bootstrapped at `truncated`.

    In the residual form the agent's second head has a value V(s) next to the logits of y, and the GRU also
    reads V and the GAE advantage A. With `Ahat = A exp(a) - delta` and `r = pi/pi_old` the agent minimises
    `-mean[min(r Ahat, clip(r) Ahat)] - c_H mean[exp(b) H(pi)] + c_V mean[(V - target)^2] + alpha_y mean KL(y
    || yhat)`; a, b and delta start at 0. With one gradient per rollout r is 1, and the rule starts as A2C
    with `pihat = -Ahat`. In PPO's loop it starts as PPO, but with A2C's lambda, entropy bonus and value loss,
    and the schedule may bend the clip too.

    Attributes:
        bins: M, width of the agent's prediction y (GROOVE's code: 8; the LPG paper: 30).
        width: G, units of the GRU (GROOVE's code: 256).
        embedding_width: hidden units of phi, the embedding of y (LPG paper: 16).
        horizon_inputs: append n/N and log N to the inputs: TA-LPG (Jackson et al. 2024); off: LPG.
        encoding: those inputs as in the `paper`, or `scaled` to [-1, 1] over the horizons trained on (ours).
        prediction_coef: alpha_y, weight of the prediction in the agent's loss (LPG paper: 0.5).
        precision: number format of the operands of the GRU's recurrent product; sums and state are float32.
        form: `free`, the papers' LPG, or `a2c_residual`, a learned correction to A2C (ours).
        normalise_pihat: normalise pihat over each rollout (ours; `free` only). How far an agent moves is then
            up to its step size, which a schedule scales.
        residual_scale: g, factor on the residual form's heads: how strongly a perturbation of them acts
            (ours: with 1, perturbations of sigma 0.2 ruin the agent).
        discount: gamma of the residual form's advantages (A2C's).
        gae_lambda: their lambda (A2C's).
        entropy_coef: c_H, weight of the entropy bonus (A2C's).
        value_coef: c_V, weight of the value loss (A2C's).
        clip: eps, how far the ratio may move from 1 in PPO's loop (PPO's).
        schedule_clip: let the residual form's schedule bend both sides of the clip, as `ta-ppo` does (ours).
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
    schedule_clip: bool = False

    discrete_only = True  # the input pi(a|s) is a probability

    @property
    def name(self) -> str:
        """`ta-lpg` or `lpg`."""
        return "ta-lpg" if self.uses_progress else "lpg"

    @property
    def is_residual(self) -> bool:
        """Whether the rule corrects A2C, and the agent has a value."""
        return self.form == "a2c_residual"

    @property
    def begins_as(self) -> str | None:
        """A2C for the residual form; the free form starts at random."""
        return "a2c" if self.is_residual else None

    @property
    def head_size(self) -> int:
        """M logits of the prediction; in the residual form the value follows them."""
        return self.bins + self.is_residual

    @property
    def zero_outputs(self) -> int:
        """The prediction's in the residual form: a new agent then has the value of an A2C agent."""
        return self.bins if self.is_residual else 0

    @property
    def tabular_learning_rates(self) -> tuple[float, float] | None:
        """A2C's for the residual form."""
        return A2C.tabular_learning_rates if self.is_residual else None

    @property
    def uses_progress(self) -> bool:
        """Whether n and N are inputs, or there is a schedule."""
        return self.horizon_inputs or self.schedule

    @property
    def _constants(self) -> tuple[str, ...]:
        if not self.is_residual:
            return ("step_size",)
        return CLIPPED if self.schedule_clip else ("step_size", "entropy")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Inputs per step, as an objective's card lists them."""
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

    def with_range_of(self, new: "LPG", meta_params: MetaParams) -> MetaParams:
        """As for every rule with a schedule; raw inputs do not depend on the range."""
        changed = dict(super().with_range_of(new, meta_params))
        if self.horizon_inputs and self.encoding == "scaled":
            slope, offset = change_of_range(self, new)
            gru = changed["gru"]
            row = gru["kernel"][-1]
            changed["gru"] = gru | {
                "kernel": gru["kernel"].at[-1].set(slope * row),
                "bias": gru["bias"] + offset * row,
            }
        return changed

    def perturbation_scales(self) -> dict[str, float]:
        """One over the root of a layer's fan-in, so that a perturbation changes all outputs about equally."""
        return {
            "embed_hidden/kernel": self.bins**-0.5,
            "embed_out/kernel": self.embedding_width**-0.5,
            "gru/kernel": len(self.inputs) ** -0.5,
            "gru/recurrent_kernel": self.width**-0.5,
            "heads/kernel": self.width**-0.5,
        }

    def targets(self, meta_params: MetaParams, experience: Experience, progress: Progress) -> LPGTargets:
        """pihat and yhat of every step (LPG paper, section "LPG" and figure 1)."""
        rollout, outputs = experience.rollout, experience.outputs
        # y(s_t) and y(s_{t+1}). exp(log_softmax) as in the loss, so that XLA computes it once.
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
        # pihat and yhat: the backward GRU reads the rollout.
        heads: Any = self.network.apply({"params": meta_params}, inputs)
        pihat = _normalise(heads[..., 0]) if self.normalise_pihat else heads[..., 0]
        return LPGTargets(pihat=pihat, log_yhat=jax.nn.log_softmax(heads[..., 1:]))

    def _residual_targets(
        self,
        meta_params: MetaParams,
        inputs: LPGInputs,
        experience: Experience,
        log_prob: Float[Array, "T W"],
        progress: Progress,
    ) -> LPGTargets:
        # A2C's advantages and value targets, which the GRU reads normalised.
        values, next_values = experience.outputs.head[..., -1], experience.next_head[..., -1]
        discount = self.scales(meta_params, progress).discount(self.discount)
        advantage = advantages(experience.rollout, values, next_values, discount, self.gae_lambda)
        value_target = advantage + values
        scale = deviation(value_target)
        clipped = functools.partial(jnp.clip, min=-LARGEST_INPUT, max=LARGEST_INPUT)
        inputs = inputs._replace(
            reward=clipped(inputs.reward / scale),
            advantage=_normalise(advantage),
            value=clipped((values - jnp.mean(values)) / scale),
        )
        # delta, a, b and yhat: the backward GRU reads the rollout.
        heads: Any = self.network.apply({"params": meta_params}, inputs)
        return LPGTargets(
            pihat=heads[..., 0],
            log_yhat=jax.nn.log_softmax(heads[..., 3:]),
            residual=Residual(
                log_advantage=heads[..., 1],
                log_entropy=heads[..., 2],
                advantage=advantage,
                value_target=value_target,
                log_prob=log_prob,
            ),
        )

    def _horizon(self, progress: Progress) -> tuple[Float[Array, ""], Float[Array, ""]]:
        if self.encoding == "paper":
            return progress.fraction, progress.log_horizon
        return scaled_progress(progress, self.shortest_horizon, self.longest_horizon)

    def loss(
        self,
        meta_params: MetaParams,
        outputs: Outputs,
        action: Int[Array, "*batch"],
        targets: LPGTargets,
        progress: Progress,
    ) -> tuple[Float[Array, ""], Metrics]:
        """Equation 3 of the LPG paper, or A2C's loss with the learned corrections."""
        # alpha_y KL(y || yhat)
        log_prediction = jax.nn.log_softmax(outputs.head[..., : self.bins])
        divergence = jnp.sum(jnp.exp(log_prediction) * (log_prediction - targets.log_yhat), axis=-1)
        prediction_loss = jnp.mean(divergence)
        pihat = self.pihat(targets)
        if targets.residual is None:
            loss = policy_loss = jnp.mean(outputs.log_prob(action) * pihat)
            more: Metrics = {}
        else:
            scales = self.scales(meta_params, progress)
            # PPO's surrogate for the advantage -pihat, to be minimised.
            log_ratio = bounded_log_ratio(outputs.log_prob(action) - targets.residual.log_prob, LINEAR)
            eps = self.clip * scales.clip_below, self.clip * scales.clip_above
            policy_loss = jnp.mean(clip_drift(log_ratio, -pihat, *eps) + jnp.exp(log_ratio) * pihat)
            entropy_coef = self.entropy_coef * scales.entropy
            entropy = outputs.entropy()
            bonus = jnp.mean(jnp.exp(targets.residual.log_entropy) * entropy)
            value_loss = jnp.mean((outputs.head[..., -1] - targets.residual.value_target) ** 2)
            loss = policy_loss - entropy_coef * bonus + self.value_coef * value_loss
            more = {"entropy": jnp.mean(entropy), "value_loss": value_loss}
        metrics = {
            "policy_loss": policy_loss,
            "prediction_loss": prediction_loss,
            "pihat_square": jnp.mean(pihat**2),
            "yhat_square": jnp.mean(jnp.sum(jnp.exp(2 * targets.log_yhat), axis=-1)),
        }
        return loss + self.prediction_coef * prediction_loss, metrics | more

    def pihat(self, targets: LPGTargets) -> Float[Array, "*batch"]:
        """The factor on log pi(a|s) in the agent's loss: `pihat`, or `-A exp(a) + delta`."""
        if targets.residual is None:
            return targets.pihat
        advantage, log_advantage = targets.residual.advantage, targets.residual.log_advantage
        return targets.pihat - _normalise(advantage) * jnp.exp(log_advantage)


def _normalise(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    # As A2C, but with a finite gradient where all are equal: meta-gradients go through it.
    return (x - jnp.mean(x)) / deviation(x)


def _horizon_blind(**settings: Any) -> LPG:
    return LPG(**({"horizon_inputs": False} | settings))


OBJECTIVES = {
    "lpg": (_horizon_blind, "learned policy gradient (Oh et al. 2020)"),
    "ta-lpg": (LPG, "LPG that also sees n/N and log N (Jackson et al. 2024)"),
}
