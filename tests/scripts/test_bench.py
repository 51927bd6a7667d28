import json

import jax
import pytest

from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.meta.config import RunConfig
from rl_discovery.meta.objective_settings import objective_settings
from rl_discovery.meta.presets import PRESETS
from rl_discovery.scripts import bench, cli
from rl_discovery.scripts.bench import flop_per_env_step

FLAGS = [
    *("--preset", "lpg", "--pairs", "3", "--workers", "4", "--rollout-steps", "5", "--horizon", "6"),
    *("--gru-width", "8", "--precision", "float32", "--distribution", "small", "--block-size", "2"),
    *("--repeats", "3", "--seed", "1", "--devices", "1"),
]
FIELDS = {
    *("env_steps_per_s", "train_env_steps_per_s", "generation_s", "compile_s", "peak_rss_mb", "gemm_gflops"),
    *("flop_per_env_step", "gemm_fraction", "devices", "versions"),
}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_measured_at_one_lifetime(name):
    config = bench._config(bench.Arguments(preset=name, horizon=6), None)
    assert {task.levels.build().horizon for task in config.tasks} == {(6, 6)}


@pytest.mark.slow
def test_bench_prints_one_json_object_whose_numbers_fit_together(capsys):
    assert cli.main(["bench", *FLAGS, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)  # one document, and nothing else
    assert set(result) >= FIELDS
    numbers = {name: result[name] for name in FIELDS - {"versions"}}
    assert all(value > 0 for value in numbers.values()), numbers
    # What was asked for is what was measured.
    asked = {"preset": "lpg", "pairs": 3, "workers": 4, "rollout_steps": 5, "horizon": 6, "gru_width": 8}
    asked |= {"precision": "float32", "distribution": "small", "block_size": 2, "repeats": 3, "seed": 1}
    assert {name: result[name] for name in asked} == asked
    assert result["devices"] == 1
    assert result["versions"]["jax"] == jax.__version__
    # 6 lanes x 6 updates x 4 workers x 5 steps in each generation
    assert result["train_env_steps"] == 720
    seconds = result["generation_all_s"]
    assert len(seconds) == 3
    assert result["generation_s"] == sorted(seconds)[1]
    # The times are rounded to tenths of a millisecond.
    slack = 1e-4 / result["generation_s"]
    assert result["env_steps_per_s"] == pytest.approx(720 / result["generation_s"], rel=slack)
    fraction = result["train_env_steps_per_s"] * result["flop_per_env_step"] / result["gemm_gflops"] / 1e9
    assert result["gemm_fraction"] == pytest.approx(fraction, abs=1e-4)
    assert result["flop_per_env_step"] == flop_per_env_step(
        RunConfig(objective=objective_settings(LPG, width=8, horizon_inputs=False))
    )


def test_flop_per_env_step_against_a_count_by_hand():
    config = RunConfig(objective=objective_settings(LPG, width=2, bins=3, embedding_width=5))
    gates = 3 * 2 * (7 * 2 + 2 * 2)  # three gates of two units: seven inputs and two states each
    heads = 2 * 2 * (1 + 3)
    embeddings = 2 * (2 * 3 * 5 + 2 * 5)  # of y(s_t) and y(s_{t+1}), the hidden layer and the output
    assert flop_per_env_step(config) == gates + heads + embeddings


@pytest.mark.parametrize(("horizon_inputs", "gru"), [(True, 6 * 256 * 263), (False, 6 * 256 * 261)])
def test_flop_per_env_step_of_the_papers_width_is_mostly_the_gru(horizon_inputs, gru):
    flop = flop_per_env_step(RunConfig(objective=objective_settings(LPG, horizon_inputs=horizon_inputs)))
    assert gru < flop < 1.02 * gru


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--preset nope", "unknown preset 'nope'"),
        ("--repeats 0", "repeats must be at least 1, not 0"),
        ("--gru-width 0", "--gru-width must be at least 1"),
        ("--distribution nope", "unknown level distribution 'nope'"),
        ("--devices 1000", "devices must be between 1 and"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_exit_status_2(capsys, arguments, words):
    assert cli.main(["bench", *arguments.split(), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
