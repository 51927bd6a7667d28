import dataclasses
import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from rl_discovery.checkpoints import read_card
from rl_discovery.checkpoints.runs import RunCheckpoints
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.envs.gridworld import FAMILY, GridWorld
from rl_discovery.meta.build import make_program
from rl_discovery.meta.config import MetaGradientConfig
from rl_discovery.meta.curriculum import buffer as levels_buffer
from rl_discovery.meta.curriculum import scores
from rl_discovery.meta.runs import gallery as module
from rl_discovery.meta.runs.directory import RunDirectory
from rl_discovery.meta.runs.gallery import PATH_STEPS, Gallery, histograms, make_gallery, walk
from rl_discovery.meta.runs.meta_train import meta_train
from rl_discovery.meta.scale import Scale
from tests.meta.processes import metrics
from tests.meta.runs.test_loggers import events
from tests.meta.tiny import tiny, with_task

REPLAY = {"score": "algorithmic_regret", "buffer_size": 20, "minimum_fill": 0.1}
CONFIG = tiny(curriculum=REPLAY, logging={"tensorboard": True})
SCORES = np.array([3.0, -1.0, 7.0, 0.5, 2.0, 9.0, 1.0])


def run(path, config=CONFIG):
    """What a run prints."""
    text = io.StringIO()
    meta_train(config, path, Console(file=text))
    return text.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with three checkpoints."""
    path = tmp_path_factory.mktemp("finished") / "run"
    run(path)
    return path


@pytest.fixture(scope="module")
def program():
    return make_program(CONFIG)


@pytest.fixture(scope="module")
def gallery(program):
    return make_gallery(CONFIG, program)


def state_of(program, scores):
    """A state after four generations, the last of which has played levels of these scores; NaN: none."""
    state = program.init()
    keys = jax.random.split(jax.random.key(1), scores.size)
    buffer = levels_buffer.insert(
        state.curriculum,
        jax.vmap(program.curriculum.distribution.sample)(keys),
        jnp.isfinite(scores),
        jnp.int32(3),
        score=scores,
        reference_return=scores + 0.25,
        agent_return=jnp.full(scores.size, 0.25),
        best_return=scores,
    )
    # Evolution has a curriculum per environment.
    held = {"curricula": (buffer,)} if hasattr(state, "curricula") else {"curriculum": buffer}
    return dataclasses.replace(state, **held, generation=jnp.int32(4))


def with_levels(program, scores):
    padded = np.full(18, np.nan, np.float32)
    padded[: len(scores)] = scores
    return program.place(jax.jit(functools.partial(state_of, program))(padded))


def panels_of(gallery, state, monkeypatch):
    """What is written on the sheet."""
    seen = []
    monkeypatch.setattr(module, "sheet", lambda title, text, panels, legend: seen.append((title, panels)))
    gallery.draw(state)
    return seen[0]


def restored(path, config=CONFIG):
    checkpoints = RunCheckpoints(path / "checkpoints")
    try:
        return checkpoints.restore(jax.eval_shape(make_program(config).init)).state
    finally:
        checkpoints.close()


def content(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def shown(path):
    """Steps by tag of everything that TensorBoard shows as something else than a scalar."""
    found = {}
    for file in sorted((path / "tb").iterdir()):
        for event in events(file):
            for value in event.summary.value:
                if value.HasField("image") or value.HasField("histo"):
                    found.setdefault(value.tag, []).append(event.step)
    return found


@pytest.mark.slow
def test_the_sheet_shows_the_highest_scores_in_order_with_the_buffers_numbers(gallery, program, monkeypatch):
    title, panels = panels_of(gallery, with_levels(program, SCORES), monkeypatch)
    assert title == "tiny after 4 generations: the 7 levels of highest regret"
    found = [panel.title.split()[-1] for panel in panels]
    assert found == ["9.00", "7.00", "3.00", "2.00", "1.00", "0.50", "−1.00"]
    assert panels[0].title == "1.  regret 9.00"
    assert panels[0].facts == "N 3 · 1 play"
    assert panels[0].agent.label == "agent 0.25"
    assert panels[0].antagonist.label == "antagonist 9.25"


@pytest.mark.slow
def test_no_more_than_sixteen_levels_are_shown_and_none_while_there_is_none(gallery, program, monkeypatch):
    assert gallery.draw(with_levels(program, [])) is None
    title, panels = panels_of(gallery, with_levels(program, np.arange(18.0)), monkeypatch)
    assert title.endswith("the 16 levels of highest regret")
    assert [float(panel.title.split()[-1]) for panel in panels] == list(range(17, 1, -1))


def test_another_score_is_named_and_its_optimum_is_not_said_to_be_the_antagonists(program, monkeypatch):
    curriculum = dataclasses.replace(program.curriculum, score=scores.SCORES["learnability"])
    other = make_gallery(
        tiny(curriculum=REPLAY | {"score": "learnability"}),
        with_task(program, curriculum=curriculum),
    )
    _, panels = panels_of(other, with_levels(program, [0.2]), monkeypatch)
    assert panels[0].title == "1.  learnability 0.20"
    assert panels[0].agent.label == "agent 0.25, optimum 0.45"
    assert panels[0].antagonist.label == "antagonist"


@pytest.mark.slow
def test_a_score_on_the_exact_scale_shows_the_optimum_that_is_kept_with_the_level(monkeypatch):
    config = tiny(curriculum=REPLAY | {"score": "optimality_gap"})
    program = make_program(config)
    state = program.init()
    levels = jax.vmap(program.curriculum.distribution.sample)(jax.random.split(jax.random.key(1), 2))
    buffer = levels_buffer.insert(
        state.curriculum,
        levels,
        jnp.ones(2, bool),
        jnp.int32(0),
        score=jnp.array([0.5, 0.75]),
        reference_return=jnp.zeros(2),
        agent_return=jnp.array([1.0, 0.25]),
        best_return=jnp.zeros(2),
        scale=Scale(optimal=jnp.array([2.0, 1.0]), random=jnp.zeros(2)),
    )
    state = program.place(dataclasses.replace(state, curricula=(buffer,)))
    title, panels = panels_of(make_gallery(config, program), state, monkeypatch)
    assert title.endswith("the 2 levels of highest optimality gap")
    assert [panel.title for panel in panels] == ["1.  optimality gap 0.75", "2.  optimality gap 0.50"]
    assert [panel.agent.label for panel in panels] == ["agent 0.25, optimum 1.00", "agent 1.00, optimum 2.00"]
    assert panels[0].antagonist.label == "antagonist"


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["es", "meta_gradient"])
def test_a_draw_is_a_png_of_sane_size_and_the_same_again_and_leaves_the_state_as_it_was(trainer, request):
    config = dataclasses.replace(CONFIG, trainer=trainer, meta_gradient=MetaGradientConfig(lanes=4))
    program = request.getfixturevalue("program") if trainer == "es" else make_program(config)
    gallery = request.getfixturevalue("gallery") if trainer == "es" else make_gallery(config, program)
    state = with_levels(program, SCORES)
    before = content(state)
    picture = gallery.draw(state)
    assert content(state) == before
    assert gallery.draw(state) == picture
    height, width, _ = imread(io.BytesIO(picture), format="png").shape
    assert 1000 < width < 2000
    assert 400 < height < 1000
    assert 10_000 < len(picture) < 500_000


@pytest.mark.slow
def test_the_sheet_is_written_at_each_checkpoint_and_shown_in_tensorboard_now_and_then(
    finished, gallery, program
):
    steps = [1, 3, 5]  # generations count from 0
    assert shown(finished) == {
        "curriculum/gallery": steps[:1],
        "curriculum/score": steps,
        "curriculum/age": steps,
    }
    expected = gallery.draw(program.place(restored(finished)))
    assert (finished / "gallery.png").read_bytes() == expected


@pytest.mark.slow
def test_the_gallery_changes_no_bit_of_a_run(finished, tmp_path):
    config = tiny(curriculum=REPLAY | {"gallery": False}, logging={"tensorboard": True})
    run(tmp_path / "run", config)
    assert metrics(tmp_path / "run") == metrics(finished)
    assert content(restored(tmp_path / "run")) == content(restored(finished))
    assert not (tmp_path / "run" / "gallery.png").exists()
    assert set(shown(tmp_path / "run")) == {"curriculum/score", "curriculum/age"}


@pytest.mark.slow
def test_a_draw_that_fails_costs_neither_the_checkpoint_nor_the_run(finished, tmp_path, monkeypatch):
    def fail(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no memory\nand more")

    monkeypatch.setattr(Gallery, "draw", fail)
    text = run(tmp_path / "run")
    assert "no gallery after 2 generations: RESOURCE_EXHAUSTED: no memory\n" in text
    assert metrics(tmp_path / "run") == metrics(finished)
    assert read_card(tmp_path / "run" / "objective.safetensors")["generations"] == 6
    assert not (tmp_path / "run" / "gallery.png").exists()


@pytest.mark.slow
def test_an_error_while_drawing_is_a_line_and_ends_no_run(tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(Gallery, "draw", fail)
    assert "no gallery after 2 generations: ZeroDivisionError\n" in run(tmp_path / "run")
    assert int(restored(tmp_path / "run").generation) == 6


def test_what_a_killed_draw_was_writing_is_removed(tmp_path):
    (tmp_path / ".gallery.png.123.tmp").write_bytes(b"half")
    (tmp_path / "gallery.png").write_bytes(b"whole")
    RunDirectory(tmp_path, CONFIG).close()
    assert not list(tmp_path.glob(".gallery*"))
    assert (tmp_path / "gallery.png").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"curriculum": REPLAY | {"gallery": False}},
        {"curriculum": {"score": "random"}},
        {"curriculum": {"score": "frozen"}},
        {"curriculum": REPLAY, "levels": {"distribution": "chain/short"}},
    ],
    ids=["off", "random", "frozen", "not_rendered"],
)
def test_no_gallery_where_there_is_nothing_to_show(changes):
    config = tiny(**changes)
    assert make_gallery(config, make_program(config)) is None


def follow(key=0, **changes):
    """The walk of an untrained agent on four cells with a reward in the far corner."""
    env = GridWorld(max_size=2, max_objects=1)
    level = env.default_params.replace(**changes)
    learner = make_learner(env, level, AgentConfig(workers=1, rollout_steps=2), A2C())
    train_state = learner.begin(jax.random.key(0), level)
    start = env.reset(jax.random.key(1), level)
    found = walk(learner, FAMILY.path, level, jax.random.key(key), train_state, start)
    return np.asarray(found.cells), int(found.steps)


@pytest.mark.parametrize("key", range(4))
def test_a_path_begins_at_the_start_and_its_last_cell_is_where_the_episode_ended(key):
    cells, steps = follow(key, max_steps_in_episode=jnp.int32(1000))
    assert cells.shape == (PATH_STEPS + 1,)
    assert cells[0] == 0
    assert cells[steps] == 3
    assert 3 not in cells[:steps]


@pytest.mark.parametrize(("limit", "steps"), [(7, 7), (PATH_STEPS, PATH_STEPS), (1000, PATH_STEPS)])
def test_a_path_stops_at_the_time_limit_or_after_the_steps_that_can_be_read(limit, steps):
    assert follow(max_steps_in_episode=jnp.int32(limit), end_probs=jnp.zeros(1))[1] == steps


@pytest.fixture(scope="module")
def exhibit(gallery):
    return jax.jit(gallery.exhibit)


def test_both_paths_begin_at_the_levels_start_and_last_no_longer_than_an_episode(program, exhibit):
    found = exhibit(with_levels(program, SCORES))
    count = SCORES.size
    params = found.entries.levels.params
    for way in (found.agent, found.antagonist):
        np.testing.assert_array_equal(way.cells[:count, 0], params.start[:count])
        assert np.all(way.steps[:count] >= 1)
        assert np.all(way.steps[:count] <= np.minimum(params.max_steps_in_episode[:count], PATH_STEPS))


def test_the_paths_are_those_of_agents_that_were_trained_for_the_levels_whole_horizon(program, exhibit):
    state = with_levels(program, SCORES)
    buffer = state.curriculum
    levels = dataclasses.replace(buffer.levels, horizon=60 * buffer.levels.horizon)
    longer = dataclasses.replace(state, curricula=(dataclasses.replace(buffer, levels=levels),))
    short, long = exhibit(state), exhibit(longer)
    for before, after in ((short.agent, long.agent), (short.antagonist, long.antagonist)):
        assert not np.array_equal(before.cells, after.cells)


def test_histograms_are_of_the_levels_that_are_there(program):
    buffer = with_levels(program, SCORES).curriculum
    found = histograms(buffer, 8)
    np.testing.assert_array_equal(np.sort(found["score"]), np.sort(SCORES))
    np.testing.assert_array_equal(found["age"], np.full(SCORES.size, 5))
    assert histograms(program.init().curriculum, 8) == {}
