"""TA-LPG (Jackson et al. 2024, arXiv 2402.05828) trained by OpenAI-ES (Salimans et al. 2017), in one file.

LPG (Oh et al. 2020, arXiv 2007.08794) is a network that computes what an agent learns from a rollout. TA-LPG
also sees how far the lifetime is, n/N, and how long it will be, log N: raw, as in the paper (the library's
encoding "paper", not "scaled"). Evolution searches the network's weights eta:

    for each generation:
        for each of P pairs, with a level, its horizon N, a direction epsilon and random numbers of its own:
            for eta = theta + sigma epsilon and for eta = theta - sigma epsilon:
                train an agent from scratch: N times, collect a rollout and update the agent by LPG
                fitness = mean return of the trained agent
        theta <- one step of Adam towards the better member of each pair

Only gridworlds and level distributions are imported. The library computes the same numbers, which a test
checks, on any number of devices. `python examples/ta_lpg_in_one_file.py` takes a minute or two on one core.
P are pairs, L lanes (2 P), W workers, T rollout steps, S states, A actions, M prediction bins, G the width of
the GRU, N the horizon in agent updates, D meta-parameters.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from rl_discovery.envs import LevelDistribution, distribution

# What keys are folded with, so that no two uses share a random number; as in the library.
LEVELS, CANDIDATES, LANES = 1, 2, 3  # a generation's key
UPDATES, EVALUATION = 1, 2  # a lane's key


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings; the paper's values in brackets where they differ."""

    seed: int = 0  # with the generation's number, the whole random state
    generations: int = 300  # steps of evolution [2,500]
    distribution: str = "gridworld/small"  # levels: 4x4 to 6x6, 1 to 3 objects [all_vrandlife: to 10x10, 5]
    horizons: tuple[int, int] = (5, 25)  # N in agent updates, log-uniform [10, 250]
    # Agents: lookup tables, trained by SGD.
    workers: int = 16  # W, copies of the environment [64]
    rollout_steps: int = 20  # T, steps of each worker between two updates
    policy_learning_rate: float = 40.0  # step size of the policy's table
    prediction_learning_rate: float = 4.0  # step size of the prediction's table
    max_grad_norm: float = 0.5  # global-norm clip, of each table by its own norm
    # LPG.
    bins: int = 8  # M, bins of the agent's prediction y
    width: int = 16  # G, units of the GRU [256]
    embedding_width: int = 16  # hidden units of phi
    prediction_coef: float = 0.5  # alpha_y, weight of the prediction's loss
    # Evolution.
    pairs: int = 32  # P, antithetic pairs in a generation [512]
    sigma: float = 0.1  # standard deviation of the perturbations
    learning_rate: float = 3e-2  # Adam's step size at generation 0 [1e-2]
    learning_rate_decay: float = 0.999  # its factor per generation, down to 1e-5
    adam_b1: float = 0.9  # Adam's decay of the mean gradient [0.99, in the released code]

    @property
    def levels(self) -> LevelDistribution:
        """The distribution that levels are sampled from; its `env` is their environment."""
        return distribution(self.distribution).with_horizon(*self.horizons)

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """Adam with its schedule."""
        schedule = optax.exponential_decay(self.learning_rate, 1, self.learning_rate_decay, end_value=1e-5)
        return optax.adam(schedule, b1=self.adam_b1)


# ---- The agent acts -------------------------------------------------------------------------------------
@struct.dataclass
class Agent:
    """Lookup tables: a row of policy logits and a row of prediction logits for each state."""

    policy: Float[Array, "S A"]
    prediction: Float[Array, "S M"]


@struct.dataclass
class Rollout:
    """T steps of W workers; `last_observation` is where the next rollout goes on."""

    observation: Int[Array, "T W"]
    action: Int[Array, "T W"]
    reward: Float[Array, "T W"]
    done: Bool[Array, "T W"]
    last_observation: Int[Array, " W"]


def start(config: Config, level: PyTree) -> PyTree:
    """Observations and states of W workers at the start of an episode; nothing is random in them."""
    beginning = config.levels.env.reset_from(jnp.zeros(0), level)
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (config.workers, *leaf.shape)), beginning)


def sample_action(logits: Float[Array, "W A"], draw: Float[Array, " W"]) -> Int[Array, " W"]:
    """Inverts the distribution function at uniform draws."""
    weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    threshold = draw * jnp.sum(weights, axis=-1)
    return jnp.sum(jnp.cumsum(weights[:, :-1], axis=-1) <= threshold[:, None], axis=-1)


def collect(config: Config, agent: Agent, level: PyTree, workers: PyTree, key: Array, T: int) -> PyTree:
    """T steps of every worker: observations and states afterwards, and the `Rollout`."""
    env, W = config.levels.env, config.workers
    env_key, action_key = jax.random.split(key)
    env_draws = jax.random.uniform(env_key, (T, env.step_noise_size, W))
    action_draws = jax.random.uniform(action_key, (T, W))

    def step_worker(draws, state, action):
        observation, state, reward, terminated = env.step_from(draws, state, action, level)
        done = terminated | env.is_truncated(state, level)
        beginning = env.reset_from(jnp.zeros(0), level)
        return jax.tree.map(functools.partial(jnp.where, done), beginning, (observation, state)), reward, done

    def step(workers, draws):
        (env_draw, action_draw), (observation, states) = draws, workers
        action = sample_action(agent.policy[observation], action_draw)
        workers, reward, done = jax.vmap(step_worker, in_axes=(-1, 0, 0))(env_draw, states, action)
        return workers, (observation, action, reward, done)

    workers, steps = jax.lax.scan(step, workers, (env_draws, action_draws))
    return workers, Rollout(*steps, last_observation=workers[0])


def evaluate(config: Config, agent: Agent, level: PyTree, key: Array) -> Float[Array, ""]:
    """Mean undiscounted return of one episode per worker; NaN where the agent is not finite."""
    W, chunk = config.workers, 20  # steps until we look again whether all episodes are over
    run_key = jax.random.split(key)[1]  # the other one is for random beginnings

    def advance(carry):
        i, workers, finished, returns = carry
        workers, rollout = collect(config, agent, level, workers, jax.random.fold_in(run_key, i), chunk)
        # A step counts while no earlier one of this worker ended its episode.
        over = finished | (jnp.cumsum(rollout.done, axis=0) - rollout.done > 0)
        returns += jnp.sum(jnp.where(over, 0.0, rollout.reward), axis=0)
        return i + 1, workers, finished | jnp.any(rollout.done, axis=0), returns

    first = (0, start(config, level), jnp.zeros(W, bool), jnp.zeros(W))
    _, _, _, returns = jax.lax.while_loop(lambda carry: ~jnp.all(carry[2]), advance, first)
    finite = jnp.isfinite(agent.policy).all() & jnp.isfinite(agent.prediction).all()
    return jnp.where(finite, jnp.mean(returns), jnp.nan)


# ---- The agent learns by LPG ----------------------------------------------------------------------------
def zero_meta_params(config: Config) -> PyTree:
    """eta where evolution starts: zeros, as in the released code."""
    M, G, E, inputs = config.bins, config.width, config.embedding_width, 7
    shapes = {
        "embed_hidden": {"kernel": (M, E), "bias": E},
        "embed_out": {"kernel": (E, 1), "bias": 1},
        "gru": {"kernel": (inputs, 3 * G), "bias": 3 * G},
        "heads": {"kernel": (G, 1 + M), "bias": 1 + M},
    }
    shapes["gru"] |= {"recurrent_kernel": (G, 3 * G), "candidate_bias": G}
    return jax.tree.map(jnp.zeros, shapes, is_leaf=lambda shape: not isinstance(shape, dict))


def dense(layer: PyTree, x: Float[Array, "*batch I"]) -> Float[Array, "*batch O"]:
    """A linear layer."""
    return x @ layer["kernel"] + layer["bias"]


def backward_gru(gru: PyTree, x: Float[Array, "T W F"], done: Bool[Array, "T W"]) -> Float[Array, "T W G"]:
    """A GRU that reads the last step first (the paper: an LSTM; the released code: this)."""
    G = gru["candidate_bias"].size

    def cell(h, step):
        x, done = step
        # No information flows from an episode to the one before it.
        h = jnp.where(done[:, None], 0.0, h)
        a, b = dense(gru, x), h @ gru["recurrent_kernel"]
        r, z = jax.nn.sigmoid(a[:, :G] + b[:, :G]), jax.nn.sigmoid(a[:, G : 2 * G] + b[:, G : 2 * G])
        candidate = jnp.tanh(a[:, 2 * G :] + r * (b[:, 2 * G :] + gru["candidate_bias"]))
        h = (1.0 - z) * candidate + z * h
        return h, h

    return jax.lax.scan(cell, jnp.zeros((x.shape[1], G)), (x, done), reverse=True)[1]


def log_prob(logits: Float[Array, "T W A"], action: Int[Array, "T W"]) -> Float[Array, "T W"]:
    """log pi(a|s)."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]


def lpg(eta: PyTree, agent: Agent, rollout: Rollout, n: Array, N: Array) -> tuple[Array, Array]:
    """LPG's outputs for a rollout: pihat [T W] and log yhat [T W M] (LPG paper, figure 1)."""

    def phi(y):
        return dense(eta["embed_out"], jax.nn.relu(dense(eta["embed_hidden"], y)))[..., 0]

    # x_t = [r_t, d_t, pi(a_t|s_t), phi(y(s_t)), phi(y(s_{t+1})), n/N, log N]; no next y at an episode's end.
    done = rollout.done.astype(jnp.float32)
    action_prob = jnp.exp(log_prob(agent.policy[rollout.observation], rollout.action))
    y = jax.nn.softmax(agent.prediction[rollout.observation])
    next_y = jnp.concatenate([y[1:], jax.nn.softmax(agent.prediction[rollout.last_observation])[None]])
    x = [rollout.reward, done, action_prob, phi(y), jnp.where(rollout.done, 0.0, phi(next_y))]
    x += [jnp.full_like(done, n / N), jnp.full_like(done, jnp.log(N.astype(jnp.float32)))]
    states = backward_gru(eta["gru"], jnp.stack(x, axis=-1), rollout.done)
    answer = dense(eta["heads"], jax.nn.relu(states))
    return answer[..., 0], jax.nn.log_softmax(answer[..., 1:])


def update_agent(config: Config, eta: PyTree, agent: Agent, rollout: Rollout, n: Array, N: Array) -> Agent:
    """One step of SGD on equation 3 of the LPG paper; LPG learns the sign of pihat."""
    pihat, log_yhat = lpg(eta, agent, rollout, n, N)  # constants of the loss

    def loss(agent):
        log_pi = log_prob(agent.policy[rollout.observation], rollout.action)
        log_y = jax.nn.log_softmax(agent.prediction[rollout.observation])
        divergence = jnp.sum(jnp.exp(log_y) * (log_y - log_yhat), axis=-1)  # KL(y || yhat)
        return jnp.mean(log_pi * pihat) + config.prediction_coef * jnp.mean(divergence)

    def sgd(table, gradient, learning_rate):
        norm = jnp.sqrt(jnp.sum(gradient**2))
        clipped = jnp.where(norm < config.max_grad_norm, gradient, gradient / norm * config.max_grad_norm)
        return table - learning_rate * clipped

    learning_rates = Agent(config.policy_learning_rate, config.prediction_learning_rate)
    return jax.tree.map(sgd, agent, jax.grad(loss)(agent), learning_rates)


def train_agent(config: Config, eta: PyTree, level: PyTree, N: Array, key: Array) -> Agent:
    """A lifetime: N updates, from tables of zeros, which are a uniform policy and prediction."""

    def update(n, carry):
        agent, workers = carry
        update_key = jax.random.fold_in(jax.random.fold_in(key, UPDATES), n)
        workers, rollout = collect(config, agent, level, workers, update_key, config.rollout_steps)
        return update_agent(config, eta, agent, rollout, n, N), workers

    S, A = config.levels.env.observation_space(level).n, config.levels.env.num_actions
    agent = Agent(policy=jnp.zeros((S, A)), prediction=jnp.zeros((S, config.bins)))
    return jax.lax.fori_loop(0, N, update, (agent, start(config, level)))[0]


# ---- Evolution searches LPG -----------------------------------------------------------------------------
def epsilon(key: Array, pair: Array, D: int) -> Float[Array, " D"]:
    """The direction of a pair, drawn again wherever it is needed."""
    return jax.random.normal(jax.random.fold_in(key, pair), (D,))


def shape_fitness(fitness: Float[Array, "P 2"]) -> Float[Array, "P 2"]:
    """1 for the better of each pair, 0 for the other, 0.5 each for a tie; what is not finite loses."""
    fitness = jnp.where(jnp.isfinite(fitness), fitness, -jnp.inf)
    return jnp.where(fitness == fitness[:, ::-1], 0.5, (fitness > fitness[:, ::-1]).astype(jnp.float32))


def es_gradient(config: Config, key: Array, fitness: Float[Array, "P 2"], D: int) -> Float[Array, " D"]:
    """The estimated gradient of fitness, 1 / (2 P sigma) sum_i F_i (+-epsilon_i)."""
    weights = shape_fitness(fitness) @ jnp.array([1.0, -1.0])

    def add(pair, total):
        return total + weights[pair] * epsilon(key, pair, D)

    return jax.lax.fori_loop(0, config.pairs, add, jnp.zeros(D)) / (2 * config.pairs * config.sigma)


def generation(config: Config, theta: Array, opt_state: PyTree, number: Array) -> tuple[Array, PyTree, Array]:
    """One generation: theta and the state of Adam after it, and the candidates' fitness [P 2]."""
    key = jax.random.fold_in(jax.random.key(config.seed), number)
    level_key, candidate_key, lane_key = (jax.random.fold_in(key, use) for use in (LEVELS, CANDIDATES, LANES))
    _, unravel = ravel_pytree(zero_meta_params(config))

    def run_lane(lane):
        pair, sign = lane // 2, 1.0 - 2.0 * (lane % 2)
        # 1. Members of a pair have the same level, horizon and random numbers.
        level = config.levels.sample(jax.random.fold_in(level_key, pair))
        key = jax.random.fold_in(lane_key, pair)
        # 2. They have objectives on opposite sides of theta.
        eta = unravel(theta + sign * config.sigma * epsilon(candidate_key, pair, theta.size))
        # 3. An agent is trained by it; fitness is how good that agent is at the end.
        agent = train_agent(config, eta, level.params, level.horizon, key)
        return evaluate(config, agent, level.params, jax.random.fold_in(key, EVALUATION))

    # One lane after the other is fastest on a CPU; on a GPU let jax.vmap run them side by side.
    fitness = jax.lax.map(run_lane, jnp.arange(2 * config.pairs)).reshape(config.pairs, 2)
    # 4. Theta moves towards the winners. optax descends, and fitness ascends.
    gradient = -es_gradient(config, candidate_key, fitness, theta.size)
    updates, opt_state = config.optimiser.update(gradient, opt_state)
    return optax.apply_updates(theta, updates), opt_state, fitness


def main(config: Config) -> None:
    """Evolves TA-LPG, and prints the mean fitness of each generation's candidates."""
    theta, _ = ravel_pytree(zero_meta_params(config))
    opt_state = config.optimiser.init(theta)
    step = jax.jit(functools.partial(generation, config))
    for number in range(config.generations):
        theta, opt_state, fitness = step(theta, opt_state, number)
        print(f"generation {number:4d}   fitness {jnp.nanmean(fitness):7.3f}", flush=True)


if __name__ == "__main__":
    main(Config())
