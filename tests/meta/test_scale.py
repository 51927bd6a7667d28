"""Exact scales of levels: against numpy, never missing where a fitness reads them, kept with their level."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from jaxtyping import Array

from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.envs.gridworld import planning
from rl_discovery.envs.gridworld.env import GridWorld
from rl_discovery.envs.levels import Level, LevelDistribution
from rl_discovery.meta import scale as module
from rl_discovery.meta.build import make_program
from rl_discovery.meta.config import CurriculumConfig, EnvironmentConfig, LevelsConfig
from rl_discovery.meta.curriculum import SCORES, make_curriculum
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.fitness import FITNESS
from rl_discovery.meta.scale import REDRAW_FOLD, TRIES, Planner, Scale
from tests.envs.gridworld.random_levels import hand_made_level, stack
from tests.meta.curriculum.numbers import played
from tests.meta.tiny import half_empty, tiny

C, SIZE = 6, 12
EVERYWHERE = jnp.ones(C, bool)


# ---- the scale of one level


def returns_of_one_prize(rows, steps, reward):
    """Optimal and random return of a level whose object ends the episode, by matrices."""
    cells = [(i, j) for i, row in enumerate(rows) for j, symbol in enumerate(row) if symbol != "#"]
    symbols = [rows[i][j] for i, j in cells]
    moves = np.zeros((5, len(cells), len(cells)))  # the action, from, to
    for action, (down, right) in enumerate([(-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)]):
        for place, (i, j) in enumerate(cells):
            target = (i + down, j + right)
            moves[action, place, cells.index(target) if target in cells else place] = 1
    prize = np.array([symbol == "0" for symbol in symbols])
    best = random = np.zeros(len(cells))
    for _ in range(steps):
        best = (moves @ np.where(prize, reward, best)).max(axis=0)
        random = (moves @ np.where(prize, reward, random)).mean(axis=0)
    start = symbols.index("A")
    return best[start], random[start]


HAND_MADE = {
    "in reach": (["A.0", "...", ".#."], 6, 1.0, True),
    "too far for its time": (["A.0", "...", ".#."], 1, 1.0, False),
    "behind a wall": (["A#0", ".#.", ".#."], 6, 1.0, False),
    "walled in": (["A#.", "##.", "..0"], 6, 1.0, False),
    "best avoided": (["A.0", "...", ".#."], 6, -1.0, True),
    "worth next to nothing": (["A.0", "...", ".#."], 6, 0.02, False),
}


def test_a_level_has_a_scale_where_the_best_policy_gains_something_over_the_random_one():
    env = GridWorld(3, 1)
    levels = stack(
        [
            hand_made_level(
                env, rows, max_steps_in_episode=steps, object_rewards=np.array([reward]), end_probs=[1.0]
            )
            for rows, steps, reward, _ in HAND_MADE.values()
        ]
    )
    expected = np.array([returns_of_one_prize(*case[:3]) for case in HAND_MADE.values()])
    planner = Planner(functools.partial(planning.expected_returns, env), make_mesh(1))
    count = len(HAND_MADE)
    levels = Level(params=jax.tree.map(jnp.asarray, levels), horizon=jnp.ones(count, jnp.int32))
    found = jax.jit(planner.scale)(levels, jnp.ones(count, bool))
    np.testing.assert_allclose(found.optimal, expected[:, 0], atol=1e-6)
    np.testing.assert_allclose(found.random, expected[:, 1], atol=1e-6)
    exists = [case[3] for case in HAND_MADE.values()]
    assert found.exists.tolist() == exists
    optimal, random = expected.T
    np.testing.assert_allclose(found.score(found.optimal), np.where(exists, 1.0, 0.0), atol=1e-5)
    np.testing.assert_allclose(found.score(found.random), 0.0, atol=1e-5)
    halfway = jnp.asarray((optimal + random) / 2, jnp.float32)
    np.testing.assert_allclose(found.score(halfway), np.where(exists, 0.5, 0.0), atol=1e-5)


def test_ends_that_are_not_finite_are_no_scale():
    nan = jnp.float32(jnp.nan)
    assert not Scale(optimal=nan, random=jnp.float32(0)).exists
    assert not Scale(optimal=jnp.float32(0), random=nan).exists


# ---- which levels are served


@struct.dataclass
class Prize:
    """A level whose best return is `gain`, and its opposite the random one."""

    max_steps_in_episode: Array
    gain: Array
    name: Array


def sample(key):
    name_key, gain_key = jax.random.split(key)
    return edit(
        gain_key,
        Prize(
            max_steps_in_episode=jnp.int32(1),
            gain=jnp.float32(0),
            name=jax.random.bits(name_key, (), jnp.uint32),
        ),
    )


def edit(key, params):
    """Another gain; that of four in ten levels is too small for a scale."""
    draw = jax.random.uniform(key)
    return params.replace(gain=jnp.where(draw < 0.4, 0.009, draw))


PRIZES = LevelDistribution(
    name="prizes", description="", env=None, sample_params=sample, horizon=(3, 3), edit=edit
)


def planner(*, redraws, distribution=PRIZES):
    redraw = distribution.sample if redraws else None
    return Planner(lambda params: (params.gain, -params.gain), make_mesh(1), redraw)


def test_a_level_without_a_scale_is_drawn_again_until_it_has_one():
    keys = jax.random.split(jax.random.key(3), 40)
    wanted = jnp.arange(40) % 4 > 0
    levels = jax.vmap(PRIZES.sample)(keys)
    found, scale = jax.jit(planner(redraws=True).complete)(levels, keys, wanted)
    tries = []
    for i, key in enumerate(keys):
        level = PRIZES.sample(key)
        for number in itertools.count(1):
            if level.params.gain > 0.01 or not wanted[i]:
                break
            level = PRIZES.sample(jax.random.fold_in(key, REDRAW_FOLD + number))
        tries.append(number)
        jax.tree.map(lambda leaf, one, i=i: np.testing.assert_array_equal(leaf[i], one), found, level)
    assert max(tries) > 2
    assert bool(jnp.any(found.params.gain[~wanted] < 0.01)), "nobody asked for those"
    np.testing.assert_array_equal(scale.optimal[wanted], found.params.gain[wanted])
    np.testing.assert_array_equal(scale.random[wanted], -found.params.gain[wanted])


def test_where_no_level_has_a_scale_the_last_try_is_served():
    hopeless = LevelDistribution(
        name="hopeless",
        description="",
        env=None,
        sample_params=lambda key: sample(key).replace(gain=jnp.float32(0)),
        horizon=(3, 3),
    )
    keys = jax.random.split(jax.random.key(3), 2)
    complete = jax.jit(planner(redraws=True, distribution=hopeless).complete)
    found, scale = complete(jax.vmap(hopeless.sample)(keys), keys, jnp.array([True, True]))
    last = jax.vmap(lambda key: hopeless.sample(jax.random.fold_in(key, REDRAW_FOLD + TRIES - 1)))(keys)
    np.testing.assert_array_equal(found.params.name, last.params.name)
    assert not scale.exists.any()
    np.testing.assert_array_equal(scale.score(jnp.array([3.0, -3.0])), 0.0)


@pytest.mark.slow
def test_only_levels_that_are_wanted_are_planned(monkeypatch):
    monkeypatch.setattr(module, "PLANNING_BLOCK", 2)
    limits = []

    def solve(params):
        jax.debug.callback(lambda steps: limits.append(steps.tolist()), params.max_steps_in_episode)
        return params.gain, -params.gain

    levels = jax.vmap(PRIZES.sample)(jax.random.split(jax.random.key(3), 6))
    Planner(solve, make_mesh(1)).scale(levels, jnp.arange(6) == 4)
    jax.effects_barrier()
    assert limits == [[1, 0]]  # the other one of its block has no steps to plan


def generations(curriculum, count=20):
    """What is served and remembered in each of some generations, all of which are played."""
    state, found = curriculum.init(), []
    serve, record = jax.jit(curriculum.serve), jax.jit(curriculum.record)
    for number in range(count):
        key, now = jax.random.fold_in(jax.random.key(8), number), jnp.int32(number)
        state, level_batch = serve(state, key, now, EVERYWHERE)
        state = record(state, level_batch, played(jax.random.normal(key, (C,))), EVERYWHERE, now)
        found.append((level_batch, state))
    return found


@functools.cache
def runs(score):
    """The same curriculum for a fitness that reads the scale, for one that does not, and the first's."""
    config = CurriculumConfig(score=score, buffer_size=SIZE, minimum_fill=0.1, edit_probability=0.5, edits=1)
    return tuple(
        generations(make_curriculum(config, PRIZES, C, seed=0, planner=planned))
        for planned in (planner(redraws=True), planner(redraws=False), None)
    )


def scaled(levels):
    return np.asarray(levels.params.gain) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("score", SCORES)
def test_no_curriculum_serves_a_fitness_that_reads_the_scale_a_level_without(score):
    chosen, all_of_them, _ = runs(score)
    assert all(scaled(level_batch.levels).all() for level_batch, _ in chosen)
    for level_batch, _ in all_of_them:
        np.testing.assert_array_equal(level_batch.scale.exists, scaled(level_batch.levels))
    assert not all(scaled(level_batch.levels).all() for level_batch, _ in all_of_them)
    if SCORES[score].function is not None:
        assert any(level_batch.replayed.any() for level_batch, _ in chosen)
        assert all(scaled(state.levels)[state.filled].all() for _, state in chosen)


@pytest.mark.slow
@pytest.mark.parametrize("score", SCORES)
def test_the_scale_of_a_level_stays_with_it(score):
    for level_batch, state in runs(score)[0] + runs(score)[1]:
        np.testing.assert_array_equal(level_batch.scale.optimal, level_batch.levels.params.gain)
        np.testing.assert_array_equal(level_batch.scale.random, -level_batch.levels.params.gain)
        if state != ():
            np.testing.assert_array_equal(state.scale.optimal, state.levels.params.gain)
            np.testing.assert_array_equal(state.scale.random, -state.levels.params.gain)


@pytest.mark.parametrize("score", SCORES)
def test_a_scale_that_is_only_read_by_a_score_changes_no_level(score):
    _, planned, plain = runs(score)
    for (level_batch, _), (other, state) in zip(planned, plain, strict=True):
        jax.tree.map(np.testing.assert_array_equal, level_batch.levels, other.levels)
        assert other.scale is None
        assert state == () or state.scale is None


def test_a_fixed_set_stays_one_where_levels_of_it_are_replaced():
    chosen, all_of_them, _ = runs("frozen")
    names, others = (
        {name for level_batch, _ in found for name in level_batch.levels.params.name.tolist()}
        for found in (chosen, all_of_them)
    )
    assert len(names) == len(others) == SIZE
    assert names & others
    assert names - others


# ---- in a run


READERS = [("fitness", name) for name, fitness in FITNESS.items() if fitness.reads_scale] + [
    ("curriculum.score", name) for name, score in SCORES.items() if score.scale
]
UNPLANNED = {
    "rand_dense": "does not work with 'rand_dense' levels: .* places objects at random",
    "CartPole-v1": "needs exact optimal returns, which 'gymnax' environments do not have; .* list ",
}


def reader(setting, name, **changes):
    chosen = {"fitness": name} if setting == "fitness" else {"curriculum": {"score": name}}
    return tiny(**chosen, **changes)


@pytest.mark.parametrize(("setting", "name"), READERS)
@pytest.mark.parametrize("distribution", UNPLANNED)
def test_what_reads_the_scale_is_refused_in_one_line_where_there_is_none(setting, name, distribution):
    levels, agent = {"distribution": distribution, "horizon": 3}, {"network": "mlp"}
    words = f"{setting} '{name}' {UNPLANNED[distribution]}"
    with pytest.raises(ConfigError, match=words) as error:
        make_program(reader(setting, name, levels=levels, agent=agent))
    assert "\n" not in str(error.value)
    first = reader(setting, name, es={"pairs": 4})
    other = EnvironmentConfig(levels=LevelsConfig(**levels), agent=tiny(agent=agent).agent)
    with pytest.raises(ConfigError, match=words):
        make_program(tiny(**vars(first) | {"also": (other,)}))


@pytest.mark.parametrize("trainer", ["es", "meta_gradient"])
@pytest.mark.parametrize("score", SCORES)
def test_a_state_holds_scales_only_where_the_score_reads_them(score, trainer):
    config = tiny(
        trainer=trainer,
        meta_gradient={"lanes": 2},
        curriculum={"score": score, "buffer_size": 3},
    )
    leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(make_program(config).init))
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    assert len(names) > 5
    assert any(".scale" in name for name in names) == SCORES[score].scale


@pytest.fixture
def sparse(monkeypatch):
    """Half the levels of every distribution are empty."""
    build = LevelsConfig.build
    monkeypatch.setattr(LevelsConfig, "build", lambda self: half_empty(build(self)))


@pytest.mark.slow
@pytest.mark.usefixtures("sparse")
def test_normalised_return_is_the_return_on_the_exact_scale_of_a_level_that_has_one():
    program = make_program(tiny(fitness="normalised_return", es={"pairs": 8, "sigma": 3.0}))
    plain = make_program(tiny(es={"pairs": 8}))
    everywhere, now, key = jnp.ones(8, bool), jnp.int32(0), jax.random.key(3)

    def serve(program):
        return jax.jit(program.curriculum.serve)((), key, now, everywhere)[1]

    level_batch, usual = serve(program), serve(plain)
    optimal, random = map(
        np.asarray, planning.expected_returns(program.curriculum.distribution.env, level_batch.levels.params)
    )
    assert (optimal - random > 0.02).all()
    # Who does not read the scale is served the same levels, but for those that have none.
    kept = usual.levels.params.object_active.any(axis=1)
    assert 0 < kept.sum() < 8
    np.testing.assert_array_equal(level_batch.levels.params.start[kept], usual.levels.params.start[kept])
    lanes = program.lanes[0]
    candidates = program.strategy.ask(jax.jit(program.init)().strategy, key)
    results = jax.jit(lambda level_batch: lanes.run(candidates, level_batch, key))(level_batch)
    returns = np.asarray(results.mean_return)
    expected = (returns - random[:, None]) / (optimal - random)[:, None]
    np.testing.assert_allclose(results.fitness, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(results.fitness - returns).max() > 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("sparse")
@pytest.mark.parametrize("trainer", ["es", "meta_gradient"])
def test_the_optimality_gap_of_a_level_is_what_agents_lack_of_its_exact_optimum(trainer):
    config = tiny(
        trainer=trainer,
        meta_gradient={"lanes": 4, "updates": 2},
        curriculum={"score": "optimality_gap", "buffer_size": 12, "minimum_fill": 0.2},
    )
    program = make_program(config)
    state, step = jax.jit(program.init)(), jax.jit(program.step)
    replayed = []
    for _ in range(8):
        state, metrics = step(state)
        replayed.append(float(metrics["replay_fraction"]))
    assert np.nanmax(replayed) > 0
    buffer = jax.tree.map(np.asarray, state.curriculum)
    filled = buffer.plays > 0
    optimal, random = map(
        np.asarray, planning.expected_returns(program.curriculum.distribution.env, buffer.levels.params)
    )
    np.testing.assert_allclose(buffer.scale.optimal[filled], optimal[filled], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(buffer.scale.random[filled], random[filled], rtol=1e-5, atol=1e-6)
    exists = optimal - random > 0.02
    assert 0 < (exists & filled).sum() < filled.sum()
    gap = (optimal - buffer.agent_return) / np.where(exists, optimal - random, 1)
    np.testing.assert_allclose(buffer.score[filled], np.where(exists, gap, 0)[filled], rtol=1e-4, atol=1e-5)
