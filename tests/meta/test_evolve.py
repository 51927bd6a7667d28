import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rl_discovery.discovery.learning.lifetime import Learner
from rl_discovery.discovery.types import Progress
from rl_discovery.meta import keys as module
from rl_discovery.meta.build import make_program
from rl_discovery.meta.evolve import Lanes, generation
from rl_discovery.meta.results import LaneResults
from tests.meta import device_counts
from tests.meta.processes import run_script
from tests.meta.tiny import program_with_horizons, tiny, with_lanes


@pytest.fixture(scope="module")
def program():
    """Three pairs in blocks of two, on levels with horizons of their own."""
    return program_with_horizons(tiny(block_size=2), 1, 12)


KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def run(program):
    """From the strategy's state to the levels of a generation and the fitness on them."""

    def run(state):
        task, lanes = program.tasks[0], program.lanes[0]
        everywhere = jnp.ones(lanes.groups, bool)
        _, level_batch = task.curriculum.serve((), KEY, jnp.int32(0), everywhere)
        return level_batch.levels, lanes.run(program.strategy.ask(state, KEY), level_batch, KEY).fitness

    return jax.jit(run)


def test_fitness_is_that_of_a_naive_loop_over_lanes(program, run):
    """One lane at a time, one update at a time, in the order of the lanes."""
    state = jax.jit(program.init)().strategy
    levels, fitness = jax.device_get(run(state))
    candidates = program.strategy.ask(state, KEY)
    assert len(set(np.asarray(levels.horizon).tolist())) > 1, "the horizons must differ for this to tell"
    learner: Learner = program.lanes[0].learner
    begin, update, evaluate, member = map(
        jax.jit, (learner.begin, learner.update, learner.evaluate, candidates.member)
    )
    for group in range(3):
        level = jax.tree.map(lambda x, group=group: x[group], levels)
        lane_key = jax.random.fold_in(KEY, group)
        for sign in range(2):
            meta_params = member(jnp.int32(group), jnp.int32(sign))
            train_state = begin(lane_key, level.params)
            for n in range(int(level.horizon)):
                progress = Progress(done=jnp.int32(n), horizon=level.horizon)
                train_state, _ = update(meta_params, level.params, lane_key, progress, train_state)
            expected = evaluate(level.params, lane_key, train_state)
            np.testing.assert_allclose(fitness[group, sign], expected, rtol=1e-5, err_msg=f"{group} {sign}")


@pytest.mark.slow
def test_inner_metrics_are_logged_where_they_are_asked_for_and_change_nothing_else():
    programs = (make_program(tiny(logging={"inner_metrics": on})) for on in (False, True))
    (_, plain), (_, metrics) = (jax.jit(program.step)(program.init()) for program in programs)
    inner = {name for name in metrics if name.startswith("inner/")}
    assert inner >= {"inner/policy_loss", "inner/entropy", "inner/gradient_norm", "inner/reward_per_step"}
    assert all(np.isfinite(metrics[name]) for name in inner)
    assert set(metrics) - inner == set(plain)
    jax.tree.map(np.testing.assert_array_equal, {name: metrics[name] for name in plain}, plain)


@pytest.mark.slow
def test_candidates_that_are_all_but_equal_tie_whichever_block_they_run_in():
    # Blocks of three lanes: the members of a pair sit in different places of different blocks.
    config = tiny(es={"sigma": 1e-12, "sigma_min": 1e-12, "pairs": 4}, block_size=3)
    program = program_with_horizons(config, 2, 10)
    _, metrics = jax.jit(lambda state: generation(program, state))(program.init())
    assert metrics["pair_agreement"] == 0
    assert metrics["fitness_std"] > 0, "levels differ"


@dataclasses.dataclass(frozen=True)
class Given(Lanes):
    """Lanes whose fitness is given; `serve` and `tell` are the real ones."""

    answer: tuple = ()

    def run(self, candidates, level_batch, key):
        del candidates, level_batch, key
        fitness = jnp.array(self.answer)
        return LaneResults(fitness=fitness, mean_return=fitness, score=fitness, best_return=fitness)


def with_fitness(answer, **changes):
    """A generation in which every candidate has the given fitness."""
    config = tiny(es={"pairs": len(answer), "learning_rate_decay": 0.5, "sigma_decay": 0.9}, **changes)
    program = make_program(config)
    program = with_lanes(program, Given, answer=answer)
    state = program.init().replace(generation=jnp.int32(2))
    return program, state, *jax.jit(lambda state: generation(program, state))(state)


NAN, INF = float("nan"), float("inf")


def test_metrics_are_numpys_on_the_finite_fitness():
    answer = ((1.0, 2.0), (0.5, 0.5), (NAN, 3.0), (INF, NAN))
    program, before, after, metrics = with_fitness(answer)
    finite = np.array([1.0, 2.0, 0.5, 0.5, 3.0])
    mean_before, mean_after = (
        np.asarray(ravel_pytree(program.strategy.mean(state.strategy))[0]) for state in (before, after)
    )
    expected = {
        "fitness_mean": finite.mean(),
        "fitness_best": 3.0,
        "fitness_std": finite.std(),
        "pair_agreement": 2 / 4,  # the first and the third; a pair that died together does not differ
        "nonfinite_candidates": 3,
        "meta_param_norm": np.linalg.norm(mean_after),
        "update_norm": np.linalg.norm(mean_after - mean_before),
        "learning_rate": 0.05 * 0.5**2,
        "horizon_mean": 3.0,
        "updates": 3 * 8,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
    assert metrics["update_norm"] > 0
    assert int(after.generation) == 3


def test_a_candidate_without_a_finite_fitness_loses_to_its_twin():
    _, _, after, _ = with_fitness(((NAN, -100.0), (-100.0, INF), (-INF, -100.0)))
    _, _, expected, _ = with_fitness(((-200.0, -100.0), (-100.0, -200.0), (-200.0, -100.0)))
    np.testing.assert_array_equal(after.strategy.mean, expected.strategy.mean)


def test_nothing_moves_when_nobody_has_a_finite_fitness():
    program, before, after, metrics = with_fitness(((NAN, INF), (-INF, NAN)))
    del program
    np.testing.assert_array_equal(after.strategy.mean, before.strategy.mean)
    assert metrics["nonfinite_candidates"] == 4


def test_an_agent_whose_parameters_are_not_finite_has_no_finite_fitness(program, run):
    # It would otherwise act (always with action 0), return something finite, and hide its death.
    state = jax.jit(program.init)().strategy
    _, fitness = run(state.replace(mean=jnp.full_like(state.mean, jnp.nan)))
    assert np.isnan(fitness).all()


def test_seed_and_generation_are_the_whole_random_state():
    first, again, other = (make_program(tiny(seed=seed)).init() for seed in (5, 5, 6))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, first.strategy.mean, again.strategy.mean))
    assert not np.array_equal(first.strategy.mean, other.strategy.mean)
    assert len(set(module.USES)) == len(module.USES)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"es": {"strategy": "opne_es"}}, "unknown strategy 'opne_es': did you mean 'open_es'"),
        ({"es": {"group_size": 3}}, "even es.group_size"),
        ({"devices": 1000}, "devices must be between 1 and"),
        ({"agent": {"network": "cnn"}}, "network='mlp'"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_a_configuration_error(changes, words):
    with pytest.raises(ValueError, match=words):
        make_program(tiny(**changes))


@dataclasses.dataclass(frozen=True)
class Overheard(Lanes):
    """Lanes that tell what they were served and what they return."""

    heard: list = dataclasses.field(default_factory=list, hash=False)

    def run(self, candidates, level_batch, key):
        results = super().run(candidates, level_batch, key)
        jax.debug.callback(lambda *told: self.heard.append(told), level_batch, results)
        return results


@pytest.mark.slow
def test_the_pairs_side_of_the_regret_is_the_mean_of_its_members():
    curriculum = {"score": "algorithmic_regret", "buffer_size": 3, "minimum_fill": 1.0}
    program = make_program(tiny(curriculum=curriculum, es={"sigma": 3.0}, levels={"horizon": 8}))
    program = with_lanes(program, Overheard)
    state, metrics = jax.jit(program.step)(program.init())
    jax.effects_barrier()
    [(level_batch, results)] = program.lanes[0].heard
    assert np.any(results.fitness[:, 0] != results.fitness[:, 1])
    assert np.any(level_batch.reference_return != 0)
    means = np.mean(results.fitness, axis=1)
    regret = level_batch.reference_return - means
    np.testing.assert_allclose(metrics["regret_mean"], np.mean(regret), rtol=1e-5)
    # The buffer holds the best first.
    order = np.argsort(-regret, stable=True)
    buffer = state.curriculum
    np.testing.assert_allclose(buffer.score, regret[order], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(buffer.agent_return, means[order], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(buffer.reference_return, level_batch.reference_return[order])


@pytest.mark.slow
@pytest.mark.parametrize("case", device_counts.CASES)
def test_generations_are_bit_identical_on_any_number_of_devices(case, tmp_path):
    run_script(device_counts.__file__, case, tmp_path / "states.npz", devices=8)
    found = np.load(tmp_path / "states.npz")
    first, *others = device_counts.DEVICES
    names = [name.partition("/")[2] for name in found.files if name.startswith(f"{first}/")]
    assert len(names) > 30
    assert any("fingerprints" in name for name in names) == ("curriculum" in device_counts.CASES[case])
    for devices in others:
        different = [n for n in names if found[f"{devices}/{n}"].tobytes() != found[f"{first}/{n}"].tobytes()]
        assert not different, (devices, different)
