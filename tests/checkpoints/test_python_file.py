"""Drifts and schedules as Python files: their values and gradients are ours over the whole range."""

import ast
import dataclasses
import functools
import importlib
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.checkpoints import load_objective
from rl_discovery.checkpoints.python_file import NotExportableError, save_python
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.closed_form import BASIS
from rl_discovery.discovery.objectives.ppo import PPO
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.discovery.types import Progress

ROOT = Path(__file__).parents[2]
GENERATOR = np.random.default_rng(0)
STAGES = [(0, 10), (3, 10), (49, 50), (7, 250), (240, 250), (1, 3000)]
BOTH = {"progress_inputs": True, "horizon_inputs": True, "longest_horizon": 250}

# From r = 1e-9 to 1e9, most of them near 1; none at a kink of PPO's.
LOG_RATIO = np.concatenate([np.linspace(-1.5, 1.5, 43), np.linspace(-20, 20, 11)])
ADVANTAGE = np.array([-6.0, -2.1, -0.4, 0.0, 0.3, 1.7, 5.0])
FARTHEST = [
    [-np.inf, -1e12, -200.0, 0.0, 200.0, 1e12, np.inf],
    [2.0, -1e30, 3.0, 1.0, 1.0, -2.0, 1e30],
]
GRID = tuple(axis.ravel() for axis in np.meshgrid(LOG_RATIO, ADVANTAGE, indexing="ij"))


def trained(name, **settings):
    """A rule with random meta-parameters."""
    rule = make_objective(name, **settings)
    shapes = jax.eval_shape(rule.init, jax.eval_shape(lambda: jax.random.key(0)))
    params = jax.tree.map(lambda leaf: GENERATOR.normal(0, 0.4, leaf.shape).astype(leaf.dtype), shapes)
    return TrainedObjective(rule, params)


DRIFTS = {
    "ppo": trained("ppo", clip=0.3),
    "dpo": trained("dpo", alpha=1.5),
    "lpo, plain": trained("lpo", width=7, form="plain", offset=1e-3),
    "lpo": trained("lpo", width=128, clip=0.1),
    "ta-lpo": trained("ta-lpo", width=5, **BOTH),
    "ta-lpo, N only": trained("ta-lpo", width=5, **(BOTH | {"progress_inputs": False})),
    "ta-lpo, scaled": trained("ta-lpo", width=5, encoding="scaled", **BOTH),
    "ta-lpo with a schedule": trained("ta-lpo", width=5, encoding="scaled", schedule=True, **BOTH),
    "ta-lpo, shipped": load_objective("shipped:ta-lpo"),
    "all terms": trained("closed-form-drift", terms=tuple(BASIS), longest_horizon=250),
    "one term": trained("closed-form-drift", form="plain", terms=("tanh(A log r)^2",)),
    "ta-ppo": trained("ta-ppo"),
}


def exported(objective, framework, folder):
    """What the file defines."""
    save_python(folder / "exported.py", objective, framework)
    return runpy.run_path(str(folder / "exported.py"))


def stages(objective):
    """Arguments n and N of the file's functions, at several points of a training."""
    return STAGES if objective.rule.uses_progress else [()]


@functools.cache
def compiled(name):
    """Our own drift and its gradient."""

    def total(log_ratio, advantage, done, horizon):
        f = DRIFTS[name].drift(log_ratio=log_ratio, advantage=advantage, progress=Progress(done, horizon))
        return jnp.sum(f), f

    return jax.jit(jax.grad(total, has_aux=True))


def ours(name, log_ratio, advantage, stage):
    """Values and gradients of our own drift."""
    stage = map(jnp.asarray, stage or (0, 1))
    gradient, f = compiled(name)(jnp.asarray(log_ratio), jnp.asarray(advantage), *stage)
    return np.asarray(f), np.asarray(gradient)


def assert_near(found, expected, scale):
    """Equal to float32's precision; `scale` is the size of what is summed up."""
    assert np.isfinite(found).all()
    np.testing.assert_array_less(np.abs(found - expected), 2e-4 * (np.abs(expected) + scale))


def magnitude(objective, log_ratio, advantage):
    """Terms of a closed form may be huge and cancel."""
    powers = "terms" in {field.name for field in dataclasses.fields(objective.rule)}
    return 1.0 + powers * np.maximum(1, np.expm1(log_ratio) ** 2) * (1 + advantage**2)


@pytest.mark.parametrize("name", DRIFTS)
def test_numpy_values_and_slopes_are_those_of_our_drift(name, tmp_path):
    objective, step = DRIFTS[name], 1e-6
    drift = exported(objective, "numpy", tmp_path)["drift"]
    for stage in stages(objective):
        value, gradient = ours(name, *GRID, stage)
        at, advantage = GRID
        scale = magnitude(objective, *GRID)
        middle, below, above = (drift(x, advantage, *stage) for x in (at, at - step, at + step))
        assert_near(middle, value, scale)
        left, right = (middle - below) / step, (above - middle) / step
        smooth = np.abs(left - right) < 1e-3 * (1 + np.abs(left))
        assert smooth.mean() > 0.95
        slope = (above - below) / (2 * step)
        assert_near(slope[smooth], gradient[smooth], scale[smooth])
        assert np.any(value > 0.1)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", DRIFTS)
def test_torch_values_and_gradients_are_those_of_our_drift(name, tmp_path):
    torch = importlib.import_module("torch")
    objective = DRIFTS[name]
    drift = exported(objective, "torch", tmp_path)["drift"]
    for stage in stages(objective):
        value, gradient = ours(name, *GRID, stage)
        scale = magnitude(objective, *GRID)
        for dtype in (torch.float32, torch.float64):
            log_ratio = torch.tensor(GRID[0], dtype=dtype, requires_grad=True)
            f = drift(log_ratio, torch.tensor(GRID[1], dtype=dtype), *stage)
            f.sum().backward()
            assert f.dtype == log_ratio.grad.dtype == dtype
            assert_near(f.detach().numpy(), value, scale)
            assert_near(log_ratio.grad.numpy(), gradient, scale)


@pytest.mark.needs("torch")
def test_torch_computes_16_bit_numbers_in_32_bits(tmp_path):
    torch = importlib.import_module("torch")
    drift = exported(DRIFTS["ta-lpo"], "torch", tmp_path)["drift"]
    log_ratio = torch.tensor([[0.5, -0.25]], dtype=torch.bfloat16)
    f = drift(log_ratio, torch.ones_like(log_ratio), 3, 10)
    assert f.dtype == torch.float32
    torch.testing.assert_close(f, drift(log_ratio.float(), torch.ones(1, 2), 3, 10))


@pytest.mark.parametrize("name", DRIFTS)
@pytest.mark.parametrize("framework", ["numpy", pytest.param("torch", marks=pytest.mark.needs("torch"))])
def test_the_farthest_ratios_are_finite_and_ours(name, framework, tmp_path):
    array = np.array if framework == "numpy" else importlib.import_module("torch").tensor
    log_ratio, advantage = GRID[0].copy(), GRID[1].copy()
    log_ratio[:7], advantage[:7] = FARTHEST
    objective = DRIFTS[name]
    drift = exported(objective, framework, tmp_path)["drift"]
    for stage in stages(objective)[:2]:
        value, _ = ours(name, log_ratio, advantage, stage)
        found = np.asarray(drift(array(log_ratio), array(advantage), *stage))[:7]
        assert np.isfinite(found).all()
        assert found[3] == 0
        if "terms" not in name:  # whose sum of huge terms is decided by rounding
            np.testing.assert_allclose(found, value[:7], rtol=1e-3)


@pytest.mark.parametrize(
    "objective",
    [
        trained("ta-a2c"),
        trained("ta-ppo", schedule_discount=True, shortest_horizon=5, longest_horizon=5),
        trained("ta-ppo", schedule_v_squared=True),
        DRIFTS["ta-lpo with a schedule"],
    ],
    ids=lambda objective: objective.name,
)
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_a_schedule_has_our_factors_at_every_progress_and_horizon(objective, size, tmp_path):
    params = objective.meta_params | {"schedule": size * objective.meta_params["schedule"]}
    objective = dataclasses.replace(objective, meta_params=params)
    schedule = exported(objective, "torch" if objective.name == "ta-a2c" else "numpy", tmp_path)["schedule"]
    for done, horizon in [*STAGES, (0, 1), (99_999, 100_000)]:
        factors = objective.schedule(Progress(jnp.asarray(done), jnp.asarray(horizon)))
        expected = {name: getattr(factors, name) for name in objective.rule.scheduled}
        found = schedule(done, horizon)
        assert list(found) == list(expected)
        np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-4)


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_a_file_needs_its_framework_only_and_says_where_it_comes_from(framework, tmp_path):
    save_python(tmp_path / "drift.py", load_objective("shipped:ta-lpo"), framework)
    tree = ast.parse((tmp_path / "drift.py").read_text())
    assert imported(tree) == {"math", framework}
    docstring = ast.get_docstring(tree)
    for fact in ("`ta-lpo`", "ta-lpo-cpu", "600 generations", "seed 0", "clip(r, 0.8, 1.2)"):
        assert fact in docstring


@pytest.mark.parametrize("name", DRIFTS)
@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_no_line_of_a_file_is_too_long_to_read(name, framework, tmp_path):
    save_python(tmp_path / "drift.py", DRIFTS[name], framework)
    lines = (tmp_path / "drift.py").read_text().splitlines()
    assert not [line for line in lines if len(line) > 110]


def test_a_schedule_alone_needs_nothing_but_python(tmp_path):
    save_python(tmp_path / "schedule.py", trained("ta-a2c"), "torch")
    assert imported(ast.parse((tmp_path / "schedule.py").read_text())) == {"math"}


def test_a_card_cannot_smuggle_code_into_the_file(tmp_path):
    card = {
        "preset": '"""\nimport os\n"""',
        "closed_form_of": 'x\\"""\nimport sys\n#',
        "imported_from": {'"""': '\n"""'},
        "config": {"agent": ['"""']},
        "versions": {"rl-discovery": '"""; import os'},
    }
    save_python(tmp_path / "drift.py", dataclasses.replace(DRIFTS["ta-ppo"], card=card), "numpy")
    tree = ast.parse((tmp_path / "drift.py").read_text())
    assert imported(tree) == {"math", "numpy"}
    assert "import os" in ast.get_docstring(tree)


@dataclasses.dataclass(frozen=True)
class Steeper(PPO):
    """A rule with a drift of its own."""

    def drift(self, *arguments):
        return 2 * super().drift(*arguments)


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        (trained("lpg", width=2), "reads whole rollouts"),
        (trained("ta-lpg", width=2, form="a2c_residual"), "reads whole rollouts"),
        (trained("a2c"), "neither a drift nor a schedule"),
        (trained("random"), "neither a drift nor a schedule"),
        (trained("no-drift"), "neither a drift nor a schedule"),
        (TrainedObjective(Steeper(), {}), "code of a plug-in"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_cannot_be_written_is_refused_and_leaves_no_file(objective, reason, tmp_path):
    with pytest.raises(
        NotExportableError, match=f"^{objective.name} cannot be written for NumPy: .*{reason}"
    ):
        save_python(tmp_path / "drift.py", objective, "numpy")
    assert not list(tmp_path.iterdir())


def test_the_example_is_what_export_writes(tmp_path):
    """After a change: `rl-discovery export ta-lpo examples/pytorch/ta_lpo.py --to torch`."""
    save_python(tmp_path / "ta_lpo.py", load_objective("shipped:ta-lpo"), "torch")
    assert (tmp_path / "ta_lpo.py").read_text() == (ROOT / "examples" / "pytorch" / "ta_lpo.py").read_text()


def imported(tree):
    """Names of the modules that code imports."""
    return {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
