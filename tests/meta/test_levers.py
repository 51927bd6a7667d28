"""What evolution can be told besides its strategy: averages, starts, fitness, scores on held-out levels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rl_discovery.discovery.learning.lifetime import train_block
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.types import Progress
from rl_discovery.envs.registry import distribution
from rl_discovery.meta.build import make_program
from rl_discovery.meta.config import validate
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.fitness import FITNESS, Lifetime
from rl_discovery.meta.held_out import FOLD, HeldOut, held_out_levels
from rl_discovery.meta.scale import Scale
from tests.meta.tiny import tiny


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


def states_of(program, generations, start=None):
    step = jax.jit(program.step)
    states = [jax.jit(program.init)(start)]
    for _ in range(generations):
        states.append(step(states[-1])[0])
    return states


@pytest.mark.slow
def test_the_average_is_that_of_the_means_alike_at_first_and_by_decay_later():
    decay = 0.75
    program = make_program(tiny(es={"average_decay": decay}))
    states = states_of(program, 6)
    means = [flat(program.last_mean(state)) for state in states]
    expected = means[0]
    for generation, mean in enumerate(means[1:]):
        weight = max(1 - decay, 1 / (generation + 1))
        expected = (1 - weight) * expected + weight * mean
        np.testing.assert_allclose(
            flat(program.meta_params(states[generation + 1])), expected, rtol=1e-5, atol=1e-6
        )
    np.testing.assert_allclose(flat(program.meta_params(states[3])), np.mean(means[1:4], axis=0), rtol=1e-5)
    assert not np.allclose(expected, means[-1])


@pytest.mark.slow
def test_the_search_does_not_know_that_it_is_averaged():
    plain, averaged = (make_program(tiny(es={"average_decay": decay})) for decay in (None, 0.9))
    one, other = (states_of(program, 3)[-1] for program in (plain, averaged))
    # Two programs, which XLA may round otherwise.
    np.testing.assert_allclose(
        flat(plain.last_mean(one)), flat(averaged.last_mean(other)), rtol=1e-5, atol=1e-6
    )
    assert one.average is None
    np.testing.assert_array_equal(flat(plain.meta_params(one)), flat(plain.last_mean(one)))


def test_evolution_starts_at_zeros_at_the_rules_own_or_where_it_is_told():
    own, zeros = (make_program(tiny(es={"initial_mean": mean})) for mean in ("objective", "zeros"))
    assert flat(own.meta_params(own.init())).any()
    assert not flat(zeros.meta_params(zeros.init())).any()
    given = jax.tree.map(
        lambda leaf: jnp.full(leaf.shape, 0.5, leaf.dtype), own.objective.init(jax.random.key(0))
    )
    assert (flat(zeros.meta_params(zeros.init(given))) == 0.5).all()


def test_the_range_of_horizons_that_a_rule_knows_is_that_of_its_levels():
    config = tiny(levels={"horizon": 7, "longest_horizon": 90})
    rule = config.build_objective()
    assert (rule.shortest_horizon, rule.longest_horizon) == (7, 90)
    drift = tiny(
        objective={"kind": "lpo", "horizon_inputs": True},
        levels={"horizon": 7, "longest_horizon": 90},
    )
    assert drift.build_objective().longest_horizon == 90
    by_hand = dataclasses.replace(
        drift, objective=drift.objective.replace(shortest_horizon=3, longest_horizon=500)
    )
    rule = by_hand.build_objective()
    assert (rule.shortest_horizon, rule.longest_horizon) == (3, 500)


@pytest.mark.slow
def test_area_under_the_curve_is_the_mean_reward_of_all_updates():
    program = make_program(tiny(fitness="area_under_curve"))
    learner = program.lanes[0].learner
    rule = program.objective
    assert learner.sums_rewards
    level = distribution("small").sample(jax.random.key(1)).params
    meta_params, key, horizon = rule.init(jax.random.key(0)), jax.random.key(2), 4
    block = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (meta_params, level))
    train_states = jax.jit(
        lambda m, params, keys: train_block(learner, m, params, jnp.array([horizon]), keys)
    )(*block, key[None])
    train_state, total = learner.begin(key, level), 0.0
    update = jax.jit(
        lambda train_state, n: learner.update(
            meta_params, level, key, Progress(done=n, horizon=jnp.int32(horizon)), train_state
        )
    )
    for n in range(horizon):
        train_state, metrics = update(train_state, jnp.int32(n))
        total += float(metrics["reward_per_step"])
    assert float(train_states.reward_sum[0]) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("name", FITNESS)
def test_every_fitness_prefers_what_is_better_of_what_it_reads(name):
    entry = FITNESS.find(name)
    scale = Scale(optimal=jnp.float32(2.0), random=jnp.float32(-1.0)) if entry.reads_scale else None
    worse, better = (
        Lifetime(returns=jnp.full(3, value), reward_per_step=jnp.float32(value), scale=scale)
        for value in (0.25, 0.5)
    )
    assert entry.function(better) > entry.function(worse)


def test_an_unknown_fitness_is_one_line_with_what_there_is():
    with pytest.raises(ConfigError, match="unknown fitness 'final_retrn': did you mean 'final_return'"):
        make_program(tiny(fitness="final_retrn"))


@pytest.mark.slow
def test_held_out_score_is_the_mean_of_exactly_scaled_returns():
    config = tiny(held_out={"every": 1, "levels": 6})
    program = make_program(config)
    held_out = HeldOut(config, program)
    state = program.init()
    held_out.compile(state)
    found = held_out.evaluate(state)
    family_key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), FOLD), 0)
    chosen = config.levels.build()
    levels = held_out_levels(chosen, family_key, 6)
    from rl_discovery.envs.registry import family_of

    optimal, random = family_of("small").expected_returns(chosen.env, levels.params)
    environment = held_out.environments[0]
    fitness = np.asarray(environment.fitness(program.meta_params(state), family_key))
    span = np.asarray(optimal - random)
    scores = ((fitness - np.asarray(random)) / np.where(span > 0.02, span, 1))[span > 0.02]
    assert found["held_out_score"] == pytest.approx(scores.mean(), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["es", "meta_gradient"])
@pytest.mark.parametrize("loop", [{}, {"epochs": 2, "minibatches": 2, "anneal": True}], ids=["A2C", "PPO"])
@pytest.mark.parametrize("network", ["tabular", "mlp", "cnn"])
def test_every_network_learns_the_residual_form_in_both_loops_with_either_trainer(trainer, loop, network):
    tables = {"policy_learning_rate": 10.0, "head_learning_rate": 1.0}
    layers = {"hidden": (8,), "optimiser": "adam", "policy_learning_rate": 0.03, "head_learning_rate": 0.03}
    config = tiny(
        trainer=trainer,
        meta_gradient={"lanes": 2},
        objective={"form": "a2c_residual", "schedule": True},
        agent={"network": network, **loop, **(tables if network == "tabular" else layers)},
        levels={"observation": None if network == "tabular" else "planes", "horizon": 8},
    )
    program = make_program(config)
    first, *_, last = states_of(program, 5)
    before, after = (flat(program.meta_params(state)) for state in (first, last))
    assert np.isfinite(after).all()
    assert (before != after).any()


@pytest.mark.slow
def test_meta_gradients_start_where_they_are_told_too():
    config = tiny(
        trainer="meta_gradient",
        meta_gradient={"lanes": 2},
        objective={"form": "a2c_residual", "schedule": True},
    )
    program = make_program(config)
    given = jax.tree.map(
        lambda leaf: jnp.full(leaf.shape, 0.25, leaf.dtype), program.objective.init(jax.random.key(0))
    )
    state, step = jax.jit(program.init)(given), jax.jit(program.step)
    assert (flat(program.meta_params(state)) == 0.25).all()
    for _ in range(3):
        state, metrics = step(state)
    assert np.isfinite(float(metrics["meta_loss"]))
    assert (flat(program.meta_params(state)) != 0.25).any()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"objective": {"form": "ppo_residual"}}, r"objective\.form .*'ppo_residual'"),
        ({"es": {"average_decay": 1.5}}, r"es\.average_decay .*1\.5"),
        ({"es": {"adam_b1": 1.0}}, r"es\.adam_b1 .*1\.0"),
        ({"es": {"weight_decay": -1.0}}, r"es\.weight_decay .*-1"),
        (
            {"objective": {"kind": "lpo"}, "agent": {"epochs": 2}, "es": {"initial_mean": "zeros"}},
            r"es\.initial_mean zeros: .* set it to objective",
        ),
        (
            {"objective": {"kind": "lpo"}},
            r"objective\.kind lpo: a drift acts where agents revisit .* agent\.epochs",
        ),
        (
            {"agent": {"reward_range": 2.0, "scale_rewards": True}},
            r"agent\.reward_range has no effect where agent\.scale_rewards",
        ),
        ({"es": {"learning_rate_schedule": "steps"}}, r"es\.learning_rate_schedule .*'steps'"),
    ],
)
def test_impossible_levers_are_refused_by_name(changes, match):
    with pytest.raises(ConfigError, match=match):
        validate(tiny(**changes))


def test_sigma_per_part_needs_a_rule_whose_parts_differ():
    program = make_program(tiny(es={"sigma_per_part": True}))
    assert isinstance(program.objective, LPG)
    scales = program.strategy.problem.scales
    assert float(scales["gru"]["kernel"][0, 0]) == pytest.approx(len(program.objective.inputs) ** -0.5)
    assert float(scales["heads"]["bias"][0]) == 1.0
    with pytest.raises(ConfigError, match=r"es\.sigma_per_part: ta-a2c does not say how its parts differ"):
        make_program(tiny(objective={"kind": "ta-a2c"}, es={"sigma_per_part": True}))
