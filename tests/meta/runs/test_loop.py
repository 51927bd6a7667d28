"""Runs in this process; `tests/scripts/test_meta_train.py` kills real ones."""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from rl_discovery.checkpoints import read_card, read_objective
from rl_discovery.checkpoints.errors import CheckpointError
from rl_discovery.checkpoints.runs import RunCheckpoints
from rl_discovery.discovery.learning import rollout
from rl_discovery.meta.build import compile_step, make_program
from rl_discovery.meta.config import to_json
from rl_discovery.meta.errors import DivergedError, RunError
from rl_discovery.meta.evolve import Evolution, Lanes
from rl_discovery.meta.results import LaneResults
from rl_discovery.meta.runs.directory import RunDirectory
from rl_discovery.meta.runs.meta_train import meta_train
from rl_discovery.meta.runs.signals import STOPPING
from tests.meta.processes import metrics
from tests.meta.tiny import TINY, tiny

FIELDS = {
    *("generation", "wall_s", "env_steps", "env_steps_per_s", "fitness_mean", "fitness_best", "fitness_std"),
    *("pair_agreement", "nonfinite_candidates", "meta_param_norm", "update_norm", "learning_rate", "sigma"),
    "horizon_mean",
}


def run(path, config=TINY):
    """What a run prints."""
    text = io.StringIO()
    outcome = meta_train(config, path, Console(file=text))
    assert outcome.signal is None
    return text.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An undisturbed run; copy it to change it."""
    path = tmp_path_factory.mktemp("finished") / "run"
    run(path)
    return path


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def arrays(path, step=None):
    """Every array of a run's newest (or another) checkpoint, in one piece."""
    checkpoints = RunCheckpoints(path / "checkpoints")
    try:
        restored = checkpoints.restore(jax.eval_shape(make_program(TINY).init))
    finally:
        checkpoints.close()
    assert step in (None, restored.generation)
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(restored.state))


def same(path, finished):
    """Whether two runs ended with the same metrics, state and objective."""
    return (
        metrics(path) == metrics(finished)
        and arrays(path) == arrays(finished)
        and tensors(path) == tensors(finished)
    )


def tensors(path):
    leaves = jax.tree.leaves(read_objective(path / "objective.safetensors").meta_params)
    return b"".join(np.asarray(leaf).tobytes() for leaf in leaves)


def damage(path, step):
    """Cuts every array file of a checkpoint short."""
    files = [f for f in (path / "checkpoints" / str(step) / "state").rglob("*") if f.is_file()]
    assert files
    for file in files:
        os.truncate(file, file.stat().st_size // 2)


@pytest.mark.slow
def test_a_run_directory_has_everything_that_the_contract_names(finished):
    names = {"config.json", "metrics.jsonl", "checkpoints", "objective.safetensors", "train.log"}
    assert names <= {file.name for file in finished.iterdir()}
    assert sorted(int(step.name) for step in (finished / "checkpoints").iterdir()) == [2, 4, 6]
    assert "checkpoint after 6 generations" in (finished / "train.log").read_text()


def test_metrics_have_the_contracts_fields_and_count_every_step(finished):
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["generation"] for row in rows] == list(range(6))
    assert all(set(row) >= FIELDS for row in rows)
    # 6 candidates x 3 updates x 2 workers x 4 steps
    assert [row["env_steps"] for row in rows] == [144 * (n + 1) for n in range(6)]
    walls = [row["wall_s"] for row in rows]
    assert walls == sorted(walls)
    for row in rows:
        assert row["env_steps_per_s"] == pytest.approx(144 / row["generation_s"], rel=0.05)


def test_the_objective_is_the_mean_of_the_last_checkpoint_with_its_provenance(finished):
    program = make_program(TINY)
    checkpoints = RunCheckpoints(finished / "checkpoints")
    restored = checkpoints.restore(jax.eval_shape(program.init))
    checkpoints.close()
    objective = read_objective(finished / "objective.safetensors")
    assert objective.rule == program.objective
    mean = program.strategy.mean(restored.state.strategy)
    jax.tree.map(np.testing.assert_array_equal, objective.meta_params, mean)
    card = read_card(finished / "objective.safetensors")
    assert (card["preset"], card["seed"], card["generations"], card["env_steps"]) == ("tiny", 5, 6, 864)
    assert card["config"] == to_json(TINY)
    assert card["versions"]["jax"] == jax.__version__


def test_a_finished_run_says_so_and_changes_nothing(finished, copy):
    assert f"already done: 6 generations in {copy}" in run(copy)
    assert (copy / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    assert tensors(copy) == tensors(finished)


def test_an_objective_that_was_not_written_before_a_kill_is_there_after_the_next_start(finished, copy):
    (copy / "objective.safetensors").unlink()
    run(copy)
    assert tensors(copy) == tensors(finished)


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [False, True])
def test_a_generation_is_dispatched_ahead_only_where_that_returns_at_once(monkeypatch, tmp_path, blocks):
    begun, ahead = [], []

    def compiled(program, state):
        step = compile_step(program, state)

        def run(state):
            begun.append(int(state.generation))
            if blocks:
                time.sleep(0.3)
            return step(state)

        return run

    def recorded(directory, row):
        ahead.append(len(begun) - row["generation"] - 1)

    monkeypatch.setattr("rl_discovery.meta.runs.loop.compile_step", compiled)
    monkeypatch.setattr(
        "rl_discovery.meta.runs.loop.wait_for", lambda found: time.sleep(0.1) or jax.device_get(found)
    )
    monkeypatch.setattr(RunDirectory, "append_metrics", recorded)
    config = dataclasses.replace(TINY, held_out=dataclasses.replace(TINY.held_out, every=0))
    run(tmp_path / "run", config)
    assert max(ahead[1:-1]) == min(ahead[1:-1]) == (0 if blocks else 1)


@pytest.mark.slow
def test_raising_the_generations_goes_on_as_if_it_had_been_one_run(finished, tmp_path):
    run(tmp_path / "run", tiny(generations=3))
    assert "resumed at generation 3" in run(tmp_path / "run")
    assert same(tmp_path / "run", finished)


@pytest.mark.slow
def test_a_run_in_another_thread_is_the_same_and_says_once_that_signals_do_not_stop_it(finished, tmp_path):
    handlers = [signal.getsignal(number) for number in STOPPING]
    with ThreadPoolExecutor(1) as pool:
        text = pool.submit(run, tmp_path / "run").result()
    assert text.count("not in the main thread: signals do not stop this run cleanly") == 1
    assert same(tmp_path / "run", finished)
    assert [signal.getsignal(number) for number in STOPPING] == handlers


@pytest.mark.slow
@pytest.mark.parametrize("switch", ["jax_debug_nans", "jax_debug_infs"])
def test_a_run_goes_on_where_jax_is_asked_to_end_at_nan_and_says_so(finished, tmp_path, switch):
    jax.config.update(switch, True)
    try:
        text = run(tmp_path / "run")
        assert getattr(jax.config, switch), "is as it was afterwards"
    finally:
        jax.config.update(switch, False)
    assert text.count(f"{switch} is off in this run") == 1
    assert same(tmp_path / "run", finished)


@pytest.mark.slow
def test_versions_that_changed_between_two_starts_are_told_in_one_line_and_kept(tmp_path, monkeypatch):
    run(tmp_path / "run", tiny(generations=2))
    monkeypatch.setattr("rl_discovery.meta.runs.history.versions", lambda: {"jax": "0.0.1"})
    lines = [line for line in run(tmp_path / "run", tiny(generations=3)).splitlines() if "warning" in line]
    assert lines == [
        f"warning: jax was {jax.__version__}, now 0.0.1: from generation 2 on results may differ"
    ]
    assert lines[0] in (tmp_path / "run" / "train.log").read_text()
    kept = json.loads((tmp_path / "run" / "config.json").read_text())["history"]
    assert [(entry["generation"], entry["versions"]["jax"]) for entry in kept] == [
        (0, jax.__version__),
        (2, "0.0.1"),
    ]


def test_a_checkpoint_that_cannot_be_read_back_ends_the_run_at_once(tmp_path, monkeypatch):
    async def nothing(*_, **__):
        pass

    monkeypatch.setattr(
        "orbax.checkpoint._src.serialization.ocdbt_utils.merge_ocdbt_per_process_files", nothing
    )
    with pytest.raises(CheckpointError, match=r"checkpoint 2 in .* cannot be read back"):
        run(tmp_path / "run", tiny(generations=1000, checkpoint={"every": 2}))
    assert len(metrics(tmp_path / "run")) < 100


def test_a_damaged_latest_checkpoint_is_named_and_the_one_before_is_used(finished, copy):
    damage(copy, 6)
    text = run(copy)
    assert "checkpoint 6 is damaged; going on from checkpoint 4" in text
    assert same(copy, finished)
    assert "damaged" in (copy / "train.log").read_text()


def test_damaged_checkpoints_are_fewer_than_the_ones_kept_or_the_run_is_refused(copy):
    for step in (2, 4, 6):
        damage(copy, step)
    before = (copy / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match=r"every checkpoint .* is damaged \(6, 4, 2\)"):
        run(copy)
    assert (copy / "metrics.jsonl").read_bytes() == before


def test_metrics_that_lack_a_generation_are_refused(copy):
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text("".join(lines[:2] + lines[3:]))
    with pytest.raises(RunError, match="lacks generations before 6"):
        run(copy)


def given_fitness(monkeypatch, fitness):
    """Every generation's fitness, in place of lifetimes."""
    given = jnp.array(fitness)
    results = LaneResults(fitness=given, mean_return=given, score=given, best_return=given)
    monkeypatch.setattr(Lanes, "run", lambda *_: results)


def test_candidates_that_are_not_finite_are_counted_and_the_run_goes_on(monkeypatch, tmp_path):
    given_fitness(monkeypatch, [[np.nan, 1.0], [2.0, np.inf], [0.0, 0.0]])
    run(tmp_path / "run", tiny(generations=2))
    rows = metrics(tmp_path / "run")
    assert [row["nonfinite_candidates"] for row in rows] == [2, 2]
    assert [row["fitness_mean"] for row in rows] == [0.75, 0.75]


def test_a_generation_without_any_finite_fitness_stops_the_run_with_its_last_checkpoint(
    monkeypatch, finished, copy
):
    given_fitness(monkeypatch, np.full((3, 2), np.nan))
    for _ in range(2):  # trying again must not make it worse
        with pytest.raises(DivergedError) as caught:
            run(copy, tiny(generations=9))
        message = str(caught.value)
        assert "generation 6: no candidate had a finite fitness" in message
        assert f"the last good checkpoint is after 6 generations in {copy}" in message
        assert "start again with a lower es.learning_rate or es.sigma" in message
        assert "sigma 0." in message
        assert "\n" not in message
        assert same(copy, finished)


def test_divergence_before_the_first_checkpoint_does_not_promise_one(monkeypatch, tmp_path):
    given_fitness(monkeypatch, np.full((3, 2), np.inf))
    with pytest.raises(DivergedError, match=r"generation 0: .* no checkpoint yet"):
        run(tmp_path / "run")


def test_meta_parameters_that_are_not_finite_are_never_saved(monkeypatch, tmp_path):
    given_fitness(monkeypatch, np.zeros((3, 2)))
    init = Evolution.init

    def broken(self, start=None):
        state = init(self, start)
        return state.replace(strategy=state.strategy.replace(mean=state.strategy.mean * jnp.inf))

    monkeypatch.setattr(Evolution, "init", broken)
    with pytest.raises(DivergedError, match="generation 1: the meta-parameters are no longer finite"):
        run(tmp_path / "run")
    assert not (tmp_path / "run" / "objective.safetensors").exists()
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_configuration_that_cannot_work_makes_no_directory(tmp_path):
    with pytest.raises(ValueError, match="unknown strategy"):
        run(tmp_path / "run", tiny(es={"strategy": "nope"}))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux to mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount file systems here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(disk, free):
    """Leaves `free` bytes on a file system."""
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    size = (disk / "filler").stat().st_size
    os.truncate(disk / "filler", size - free)


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 32 * 1024])
def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_when_there_is_space(
    small_disk, finished, capfd, free
):
    path = small_disk / "run"
    run(path, tiny(generations=2, logging={"tensorboard": True}))
    fill(small_disk, free)
    with pytest.raises((RunError, CheckpointError), match="No space left on device") as caught:
        run(path, tiny(logging={"tensorboard": True}))
    assert "\n" not in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err
    assert read_card(path / "objective.safetensors")["generations"] in (2, 4)
    (small_disk / "filler").unlink()
    run(path)
    assert same(path, finished)
    leftovers = [file.name for file in path.rglob("*") if "tmp" in file.name or file.name.startswith(".m")]
    assert not leftovers


@pytest.mark.slow
def test_a_run_whose_agents_do_not_end_their_episodes_stops_with_a_message(tmp_path, monkeypatch):
    monkeypatch.setattr(rollout, "LONGEST_EPISODE", 20)
    config = tiny(levels={"distribution": "MountainCar-v0"}, agent={"network": "mlp"})
    with pytest.raises(RunError, match=r"^generation 0: an episode of MountainCar-v0 did not end within 20 "):
        run(tmp_path / "run", config)
    written = tmp_path / "run" / "metrics.jsonl"
    assert not written.exists() or not written.read_text()
