"""The gridworld against a naive simulator, and the cases that are easily got wrong one by one."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_discovery.envs.gridworld.env import GridWorld
from tests.envs.gridworld import naive
from tests.envs.gridworld.random_levels import hand_made_level, naive_world, random_level, stack

ENVS = {
    "tabular": GridWorld(5, 3),
    "tabular-diagonal": GridWorld(4, 2, diagonal=True),
    "planes": GridWorld(4, 3, observation="planes"),
    "random": GridWorld(5, 3, observation="planes", random_placement=True),
    "random-diagonal": GridWorld(4, 4, observation="planes", random_placement=True, diagonal=True),
}
UP, DOWN, LEFT, RIGHT, STAY = range(5)
NEVER, ALWAYS = 1.0 - 2.0**-24, 0.0  # draws with which nothing happens that can fail, everything that can


def rollout(env, level, reset_noise, noise, actions):
    """Observations (with the first), states, rewards, terminated and truncated of an unbroken walk."""
    first, state = env.reset_from(reset_noise, level)

    def step(state, inputs):
        obs, state, reward, terminated = env.step_from(*inputs[:1], state, inputs[1], level)
        return state, (obs, state, reward, terminated, env.is_truncated(state, level))

    return first, jax.lax.scan(step, state, (noise, actions))[1]


rollouts = jax.jit(jax.vmap(rollout, in_axes=(None, 0, 0, 0, 0)), static_argnums=0)


def naive_observation(env, world, situation):
    observe = naive.tabular_observation if env.observation == "tabular" else naive.planes_observation
    return observe(world, situation)


def check_walk(env, level, reset_noise, noise, actions, result):
    """Compares one walk of the environment with the naive simulator's, step by step."""
    first, (observations, states, rewards, terminated, truncated) = result
    world = naive_world(env, level)
    situation = naive.reset(world, reset_noise)
    assert np.array_equal(first, naive_observation(env, world, situation))
    for t, action in enumerate(actions):
        situation, reward, ends, late = naive.step(world, situation, action, noise[t])
        assert (rewards[t], terminated[t], truncated[t]) == (np.float32(reward), ends, late)
        assert (states.time[t], states.cell[t]) == (
            t + 1,
            situation.agent[0] * env.max_size + situation.agent[1],
        )
        assert np.array_equal(observations[t], naive_observation(env, world, situation))


def special_draws(rng, shape):
    """Uniform numbers, a tenth of them on the edges of comparisons."""
    edges = rng.choice(np.array([ALWAYS, 0.1, 0.5, NEVER], np.float32), shape)
    uniform = rng.random(shape, np.float32)
    return np.where(rng.random(shape) < 0.1, edges, uniform)


@pytest.mark.parametrize("name", ENVS)
def test_thousands_of_random_steps_agree_with_the_naive_simulator(name):
    env, rng = ENVS[name], np.random.default_rng(0)
    count, steps = 400, 15
    levels = [random_level(rng, env) for _ in range(count)]
    reset_noise = special_draws(rng, (count, env.reset_noise_size))
    noise = special_draws(rng, (count, steps, env.step_noise_size))
    actions = rng.integers(0, env.num_actions, (count, steps))
    # Staying put is what collects objects that come back under the agent: let it happen often.
    actions = np.where(rng.random(actions.shape) < 0.2, STAY, actions)
    results = jax.tree.map(np.asarray, rollouts(env, stack(levels), reset_noise, noise, actions))
    for i, level in enumerate(levels):
        result = jax.tree.map(lambda leaf, i=i: leaf[i], results)
        check_walk(env, level, reset_noise[i], noise[i], actions[i], result)
    # The walks must have met what they are meant to test.
    _, (_, _, rewards, terminated, truncated) = results
    assert (rewards != 0).mean() > 0.02
    assert (terminated & truncated).any()
    assert (terminated & ~truncated).any()
    assert (~terminated & truncated).any()


draws = st.one_of(
    st.sampled_from([ALWAYS, 0.25, 0.5, NEVER]),
    st.floats(0, 1, width=32, exclude_max=True, allow_subnormal=False),
)


@pytest.mark.parametrize("name", ["tabular-diagonal", "random"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_level_and_actions_agree_with_the_naive_simulator(name, data):
    env, steps = ENVS[name], 5
    seed = data.draw(st.integers(0, 2**32 - 1))
    level = random_level(np.random.default_rng(seed), env, probs=(0.0, 0.25, 0.5, 1.0))
    actions = np.array(
        data.draw(st.lists(st.integers(0, env.num_actions - 1), min_size=steps, max_size=steps))
    )

    def draw_noise(size):
        return np.array(data.draw(st.lists(draws, min_size=size, max_size=size)), np.float32)

    reset_noise = draw_noise(env.reset_noise_size)
    noise = draw_noise(steps * env.step_noise_size).reshape(steps, -1)
    batch = jax.tree.map(lambda leaf: np.asarray(leaf)[None], (level, reset_noise, noise, actions))
    result = jax.tree.map(lambda leaf: np.asarray(leaf)[0], rollouts(env, *batch))
    check_walk(env, level, reset_noise, noise, actions, result)


SMALL = GridWorld(4, 2)
SMALL_DIAGONAL = GridWorld(4, 2, diagonal=True)


def walk(env, level, actions, noise=NEVER):
    """Rewards, terminated, truncated and cells of a walk in which every draw is `noise`."""
    step, is_truncated = jax.jit(env.step_from), env.is_truncated
    _, state = env.reset_from(np.zeros(0), level)
    results = []
    for action in actions:
        _, state, reward, terminated = step(np.full(env.step_noise_size, noise), state, action, level)
        truncated = is_truncated(state, level)
        results.append((float(reward), bool(terminated), bool(truncated), int(state.cell)))
    return tuple(list(column) for column in zip(*results, strict=True))


def test_walls_and_the_border_stop_the_agent():
    env = SMALL
    level = hand_made_level(env, ["A#.", "...", "..."])
    assert walk(env, level, [UP, LEFT, RIGHT, STAY, DOWN, RIGHT, UP])[3] == [0, 0, 0, 0, 4, 5, 5]


def test_a_level_smaller_than_the_grid_ends_at_its_own_border():
    env = SMALL
    level = hand_made_level(env, ["A.", ".."])
    assert walk(env, level, [RIGHT, RIGHT, DOWN, DOWN])[3] == [1, 1, 5, 5]


def test_diagonal_moves_look_only_at_the_target():
    env = SMALL_DIAGONAL
    level = hand_made_level(env, ["A#", "#."])
    assert walk(env, level, [8, 8, 5, 6, 7])[3] == [5, 5, 0, 0, 0]


def test_a_walled_in_agent_stays_and_earns_nothing():
    env = SMALL_DIAGONAL
    level = hand_made_level(env, ["A#.", "##.", "..0"])
    rewards, terminated, _, cells = walk(env, level, list(range(9)))
    assert set(cells) == {0}
    assert set(rewards) == {0.0}
    assert not any(terminated)


def test_an_object_that_comes_back_under_the_agent_is_collected_by_staying():
    env = SMALL
    level = hand_made_level(env, ["A0", ".."], respawn_probs=[1.0, 0.0])
    # Collected, away for one step, back during that step, collected again.
    assert walk(env, level, [RIGHT, STAY, STAY, STAY, STAY])[0] == [1, 0, 1, 0, 1]


def test_an_object_under_the_agent_at_the_start_is_collected_by_staying():
    env = SMALL
    level = hand_made_level(env, ["A.", ".."], object_active=[True, False])
    assert walk(env, level, [STAY, STAY])[0] == [1, 0]


def test_an_object_that_never_comes_back_is_collected_once():
    env = SMALL
    level = hand_made_level(env, ["A0", ".."])
    assert walk(env, level, [RIGHT, STAY, LEFT, RIGHT], noise=ALWAYS)[0] == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("end_prob", "draw", "ends"), [(0.0, ALWAYS, False), (1.0, NEVER, True), (0.5, 0.5, False)]
)
def test_the_episode_ends_with_the_collected_objects_probability(end_prob, draw, ends):
    env = SMALL
    level = hand_made_level(env, ["A0", "1."], end_probs=[end_prob, 1.0 - end_prob])
    assert walk(env, level, [RIGHT], noise=draw)[1] == [ends]


def test_the_time_limit_truncates_and_does_not_terminate():
    env = SMALL
    level = hand_made_level(env, ["A0", ".."], max_steps_in_episode=2, end_probs=[1.0, 0.0])
    _, terminated, truncated, _ = walk(env, level, [STAY, STAY])
    assert (terminated, truncated) == ([False, False], [False, True])
    _, terminated, truncated, _ = walk(env, level, [STAY, RIGHT])
    assert (terminated, truncated) == ([False, True], [False, True])
    _, terminated, truncated, _ = walk(env, level, [RIGHT, STAY])
    assert (terminated, truncated) == ([True, False], [False, True])


def test_objects_never_come_back_on_walls_the_agent_or_each_other():
    env, rng = GridWorld(4, 3, observation="planes", random_placement=True), np.random.default_rng(0)
    level = hand_made_level(env, ["A#0#", "##1#", "2#.#", "#.#."], respawn_probs=[1.0, 0.5, 0.5])
    count, steps = 200, 30
    levels = stack([level] * count)
    noise = rng.random((count, steps, env.step_noise_size), np.float32)
    reset_noise = rng.random((count, env.reset_noise_size), np.float32)
    actions = rng.integers(0, 5, (count, steps))
    first, (later, *_) = rollouts(env, levels, reset_noise, noise, actions)
    planes = np.concatenate([np.asarray(first)[:, None], later], 1).reshape(-1, 16, 5)
    agent, walls, objects = planes[..., 0], planes[..., 1], planes[..., 2:]
    assert (agent.sum(1) == 1).all()
    assert (planes.sum(-1) <= 1).all(), "something shares a cell with something else"
    assert (walls == level.walls).all()
    places = objects.sum((0, 2)) > 0
    assert (places == ~level.walls).all(), "some free cell is never used"


def test_random_starts_are_uniform_over_free_cells():
    env = GridWorld(3, 1, observation="planes", random_placement=True)
    level = hand_made_level(env, ["A#.", "...", "#.0"])
    keys = jax.random.split(jax.random.key(0), 4000)
    obs, _ = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))(keys, level)
    shares = np.asarray(obs).reshape(-1, 9, 3).mean(0)
    for plane in (shares[:, 0], shares[:, 2]):
        assert plane[~level.walls] == pytest.approx(1 / 7, abs=0.03)


def step_both_ways(env, key, state, action, level):
    """gymnax's step, and what it is made of: the bare transition and the reset, from the same keys."""
    step_key, reset_key = jax.random.split(key)
    noise = jax.random.uniform(step_key, (env.step_noise_size,))
    bare = env.step_from(noise, state, action, level)
    inside = env.observation_space(level).contains(bare[0])
    return env.step(key, state, action, level), bare, env.reset(reset_key, level), inside


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tabular", "random"])
def test_gymnax_step_resets_by_itself_and_keeps_the_last_observation(name):
    env, rng = ENVS[name], np.random.default_rng(1)
    level = stack([random_level(rng, env, longest=6) for _ in range(64)])
    step = jax.jit(jax.vmap(step_both_ways, in_axes=(None, 0, 0, 0, 0)), static_argnums=0)
    key = jax.random.key(0)
    _, state = jax.vmap(env.reset)(jax.random.split(key, 64), level)
    endings = 0
    for t in range(12):
        keys = jax.random.split(jax.random.fold_in(key, t), 64)
        actions = rng.integers(0, env.num_actions, 64)
        stepped, bare, first, inside = step(env, keys, state, actions, level)
        obs, new_state, reward, terminated, truncated, info = stepped
        last_obs, last_state, bare_reward, ends = bare
        done = np.asarray(terminated | truncated)
        assert np.array_equal(info["final_observation"], last_obs)
        assert np.array_equal(reward, bare_reward)
        assert np.array_equal(terminated, ends)
        assert np.array_equal(truncated, state.time + 1 >= level.max_steps_in_episode)
        expected = [(first[0], last_obs), *zip(*map(jax.tree.leaves, (first[1], last_state)), strict=True)]
        actual = [obs, *jax.tree.leaves(new_state)]
        for (fresh, last), got in zip(expected, actual, strict=True):
            assert np.array_equal(got[done], fresh[done])
            assert np.array_equal(got[~done], last[~done])
        assert inside.all()
        endings += done.sum()
        state = new_state
    assert endings > 64


@pytest.mark.parametrize("name", ["tabular", "random"])
def test_default_level_is_playable_through_gymnax_without_parameters(name):
    env = ENVS[name]
    obs, state = env.reset(jax.random.key(0))
    action = env.action_space().sample(jax.random.key(1))
    assert env.observation_space().contains(obs)
    obs, _, _, terminated, _, info = env.step(jax.random.key(2), state, action)
    assert env.observation_space().contains(obs)
    assert info["discount"] == 1.0 - terminated


def test_impossible_observations_are_refused():
    with pytest.raises(ValueError, match="'pixels'"):
        GridWorld(3, 1, observation="pixels")
    with pytest.raises(ValueError, match="planes"):
        GridWorld(3, 1, random_placement=True)
