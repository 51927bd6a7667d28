"""Exact planning against brute force, Monte Carlo and closed forms."""

import itertools

import jax
import numpy as np
import pytest

from rl_discovery.envs.gridworld.env import GridWorld
from rl_discovery.envs.gridworld.planning import expected_returns
from tests.envs.gridworld import naive
from tests.envs.gridworld.random_levels import hand_made_level, naive_world, random_level, stack

TINY = {"five actions": GridWorld(3, 3), "nine actions": GridWorld(3, 2, diagonal=True)}
STRIP = GridWorld(5, 2)


def outcomes(world, agent, places):
    """(probability, objects) after arriving with `places` present: every combination of returns."""
    kept = {i for i in places if world.homes[i] != agent}
    missing = [i for i in world.things if i not in places]
    for returns in itertools.product([False, True], repeat=len(missing)):
        probability = 1.0
        for i, back in zip(missing, returns, strict=True):
            p = world.things[i].respawn_prob
            probability *= p if back else 1 - p
        if probability > 0:
            yield probability, frozenset(kept | {i for i, back in zip(missing, returns, strict=True) if back})


def arrival_value(world, agent, places, later):
    """Expected return from the arrival on a cell on, outcome by outcome."""
    collected = [world.things[i] for i in places if world.homes[i] == agent]
    reward = sum(thing.reward for thing in collected)
    goes_on = 1.0 - max((thing.end_prob for thing in collected), default=0.0)
    return reward + goes_on * sum(p * later[agent, after] for p, after in outcomes(world, agent, places))


def brute_force(env, level):
    """Optimal and random expected return, by recursion over dictionaries."""
    world = naive_world(env, level)
    things = list(world.things)
    masks = [frozenset(c) for size in range(len(things) + 1) for c in itertools.combinations(things, size)]
    states = list(itertools.product(world.open_cells, masks))
    targets = {}
    for cell in world.open_cells:
        moved = [(cell[0] + down, cell[1] + right) for down, right in naive.ACTIONS[: env.num_actions]]
        targets[cell] = [target if target in world.open_cells else cell for target in moved]
    best = random = dict.fromkeys(states, 0.0)
    for _ in range(world.limit):
        arrive_best = {state: arrival_value(world, *state, best) for state in states}
        arrive_random = {state: arrival_value(world, *state, random) for state in states}
        best = {(cell, mask): max(arrive_best[t, mask] for t in targets[cell]) for cell, mask in states}
        random = {
            (cell, mask): sum(arrive_random[t, mask] for t in targets[cell]) / env.num_actions
            for cell, mask in states
        }
    first = world.start, frozenset(things)
    return best[first], random[first]


@pytest.mark.parametrize("name", TINY)
def test_agrees_with_brute_force_on_tiny_levels(name):
    env, rng = TINY[name], np.random.default_rng(0)
    levels = [random_level(rng, env, longest=9) for _ in range(60)]
    optimal, random = expected_returns(env, stack(levels))
    expected = np.array([brute_force(env, level) for level in levels])
    assert np.abs(expected).max() > 1.0
    assert (expected[:, 0] > expected[:, 1] + 0.1).sum() > 15
    np.testing.assert_allclose(optimal, expected[:, 0], atol=2e-5)
    np.testing.assert_allclose(random, expected[:, 1], atol=2e-5)


def test_random_return_agrees_with_simulated_episodes():
    env, rng = GridWorld(5, 4), np.random.default_rng(3)
    levels = [random_level(rng, env, probs=(0.02, 0.1, 0.3)) for _ in range(12)]
    levels = stack([level.replace(max_steps_in_episode=np.int32(rng.integers(10, 60))) for level in levels])
    episodes = 2500

    def episode(level, key):
        """The return of one episode, from the environment itself."""
        noise_key, action_key, reset_key = jax.random.split(key, 3)
        noise = jax.random.uniform(noise_key, (60, env.step_noise_size))
        actions = jax.random.randint(action_key, (60,), 0, env.num_actions)
        _, state = env.reset(reset_key, level)

        def step(carry, inputs):
            state, running, total = carry
            _, state, reward, terminated = env.step_from(inputs[0], state, inputs[1], level)
            total += running * reward
            return (state, running & ~terminated & ~env.is_truncated(state, level), total), None

        return jax.lax.scan(step, (state, True, 0.0), (noise, actions))[0][2]

    keys = jax.random.split(jax.random.key(0), episodes)
    returns = jax.jit(jax.vmap(jax.vmap(episode, in_axes=(None, 0)), in_axes=(0, None)))(levels, keys)
    _, random = expected_returns(env, levels)
    error = np.std(returns, axis=1) / np.sqrt(episodes)
    assert (error > 0).sum() > 6
    assert (np.abs(returns.mean(1) - random) <= 4.5 * error + 1e-5).all()


def solve(*levels):
    """Optimal and random return of some levels on `STRIP`, always as a batch of four: one compilation."""
    filler = [levels[0]] * (4 - len(levels))
    optimal, random = expected_returns(STRIP, stack([*levels, *filler]))
    return optimal[: len(levels)].tolist(), random[: len(levels)].tolist()


def test_one_step_from_an_object_that_ends_the_episode():
    level = hand_made_level(STRIP, ["A0", "##"], max_steps_in_episode=1, end_probs=[1.0, 0.0])
    optimal, random = solve(level)
    assert optimal[0] == pytest.approx(1.0)
    assert random[0] == pytest.approx(1 / 5)  # one action of five leads there


def test_an_object_that_ends_the_episode_is_collected_at_most_once():
    level = hand_made_level(STRIP, ["A0", "##"], end_probs=[1.0, 0.0], respawn_probs=[1.0, 0.0])
    optimal, random = solve(level)
    assert optimal[0] == pytest.approx(1.0)
    assert random[0] == pytest.approx(1 - 0.8**10, abs=1e-5)


def test_standing_on_an_object_that_always_returns_pays_every_second_step():
    level = hand_made_level(STRIP, ["A0", "##"], max_steps_in_episode=10, respawn_probs=[1.0, 0.0])
    assert solve(level)[0][0] == pytest.approx(5.0)


def test_the_best_policy_knows_the_time_left():
    # The reward of 0.5 ends the episode: worth it only when the reward of 1 is out of reach.
    rows = ["0A..1"]
    settings = {"object_rewards": [0.5, 1.0], "end_probs": [1.0, 1.0]}
    limits = [1, 2, 3, 4]
    levels = [hand_made_level(STRIP, rows, max_steps_in_episode=limit, **settings) for limit in limits]
    assert solve(*levels)[0] == pytest.approx([0.5, 0.5, 1.0, 1.0])


def test_nothing_to_reach_is_worth_nothing():
    walled_off = hand_made_level(STRIP, ["A.#0", "..#1", "####", "...."], max_steps_in_episode=30)
    walled_in = hand_made_level(STRIP, ["A#0", "##1"], max_steps_in_episode=30)
    empty = hand_made_level(STRIP, ["A.", ".."], max_steps_in_episode=30)
    optimal, random = solve(walled_off, walled_in, empty)
    assert optimal == [0.0] * 3
    assert random == [0.0] * 3


def test_a_bad_object_is_avoided():
    level = hand_made_level(STRIP, ["A0"], object_rewards=[-1.0, 0.0], respawn_probs=[0.5, 0.0])
    optimal, random = solve(level)
    assert optimal[0] == 0.0
    assert random[0] < -0.5


@pytest.mark.parametrize("unused", [24, 0, -1])
def test_an_unused_slot_changes_nothing_whatever_cell_it_names(unused):
    rows = [".....", ".....", ".....", "..A..", "....0"]
    level = hand_made_level(STRIP, rows, end_probs=[0.5, 1.0], respawn_probs=[0.5, 0.5])
    (optimal, other), random = solve(level.replace(object_cells=np.array([24, unused], np.int32)), level)
    assert optimal == other > 0
    assert random[0] == random[1] > 0


def test_the_chunk_size_and_the_company_of_other_levels_do_not_matter():
    env, rng = GridWorld(4, 3), np.random.default_rng(2)
    levels = [random_level(rng, env, longest=40) for _ in range(11)]
    together = np.array(expected_returns(env, stack(levels), chunk=4))
    alone = np.concatenate([np.array(expected_returns(env, stack([level]))) for level in levels], axis=1)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_random_placement_and_impossible_chunks_are_refused():
    env = GridWorld(3, 1, observation="planes", random_placement=True)
    levels = stack([env.default_params])
    with pytest.raises(ValueError, match="fixed placement"):
        expected_returns(env, levels)
    with pytest.raises(ValueError, match="not 0"):
        expected_returns(STRIP, levels, chunk=0)
