"""PPO beside rejax, a well-known second implementation, at equal settings.

    python -m tools.rejax_speed

rejax 0.1.3 needs gymnax 0.0.9 and so cannot share our environment: this makes a second one (a gigabyte) and
times both sides one after the other, each with its environment in a process of its own. The result is
training steps over the time of training, without compiling and without evaluations. The figures are
in docs/performance.md.
"""

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

REQUIREMENTS = ("rejax==0.1.3", "jax==0.10.2", "gymnax==0.0.9", "brax==0.14.2", "setuptools<81")
"""What is installed beside rejax; setuptools because gymnax 0.0.9 imports pkg_resources."""

ENVIRONMENTS = ("CartPole-v1", "Breakout-MinAtar", "SpaceInvaders-MinAtar", "brax/reacher")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What to time."""

    environments: tuple[str, ...] = ENVIRONMENTS
    """Environments, one after the other."""
    agents: tuple[int, ...] = (1, 16)
    """How many agents are trained at once: rejax's vmapped, ours as lanes on a device per core."""
    updates: int | None = None
    """Rollouts per timed run, which also makes new agents (default: 12, of CartPole 200)."""
    repeats: int = 3
    """Timed runs, of which the median counts."""
    rejax_env: Path = Path(".venv-rejax")
    """Folder of rejax's environment; made if it is not there."""
    json: bool = False
    """Print one JSON array."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """Settings of PPO, equal on both sides."""

    workers: int = 64
    rollout_steps: int = 128
    epochs: int = 4
    minibatches: int = 8
    scale_observations: bool = False
    updates: int = 12


SETTINGS = {
    "CartPole-v1": Setting(workers=4, minibatches=4, updates=200),
    "brax/reacher": Setting(scale_observations=True),
}
"""Settings by environment; elsewhere those of MinAtar, which are the defaults."""

Side = Literal["rejax", "ours"]


def main(argv: Sequence[str]) -> int:
    """Times both sides and prints a table; it calls itself with `--measure` in either environment."""
    if argv[:1] == ["--measure"]:
        print(json.dumps(_measure(json.loads(argv[1]))))
        return 0
    from rl_discovery.scripts.arguments import parse
    from rl_discovery.scripts.output import only_json, print_json

    arguments = parse(Arguments, argv, "python -m tools.rejax_speed", __doc__ or "")
    python = _rejax_python(arguments.rejax_env)
    rows = []
    with only_json() if arguments.json else contextlib.nullcontext():
        for environment in arguments.environments:
            for agents in arguments.agents:
                setting = SETTINGS.get(environment, Setting())
                task = dataclasses.asdict(setting) | {
                    "environment": environment,
                    "agents": agents,
                    "updates": arguments.updates or setting.updates,
                    "repeats": arguments.repeats,
                }
                row: dict[str, Any] = {"environment": environment, "agents": agents}
                for side, interpreter in (("rejax", python), ("ours", Path(sys.executable))):
                    row |= {
                        f"{side}_{name}": x for name, x in _run(interpreter, task | {"side": side}).items()
                    }
                row["ratio"] = row["ours_steps_per_s"] / row["rejax_steps_per_s"]
                print(_line(row), flush=True)
                rows.append(row)
    if arguments.json:
        print_json(rows)
    return 0


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['environment']:24} x{row['agents']:<3} rejax {row['rejax_steps_per_s']:9,.0f} steps/s "
        f"(compiled in {row['rejax_compile_s']:.1f} s)  ours {row['ours_steps_per_s']:9,.0f} "
        f"({row['ours_compile_s']:.1f} s)  ratio {row['ratio']:.2f}"
    )


def _rejax_python(folder: Path) -> Path:
    """The interpreter of rejax's environment, which is made if there is none."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making {folder} for rejax (about a gigabyte)", file=sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", *REQUIREMENTS], check=True)
    return python.absolute()


def _run(python: Path, task: dict[str, Any]) -> dict[str, float]:
    """One measurement in a process of its own, which cannot import anything of ours by accident."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("XLA_", "JAX_", "PYTHON"))
    }
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            [python, Path(__file__).absolute(), "--measure", json.dumps(task)],
            env=inherited,
            cwd=elsewhere,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def _measure(task: dict[str, Any]) -> dict[str, float]:
    """Steps per second and the time to compile, of one side."""
    build = {"rejax": _rejax_training, "ours": _our_training}[task["side"]]
    start = time.perf_counter()
    train = build(task)
    compiled = time.perf_counter() - start
    train(0)
    seconds = []
    for seed in range(1, 1 + task["repeats"]):
        start = time.perf_counter()
        train(seed)
        seconds.append(time.perf_counter() - start)
    steps = task["agents"] * task["updates"] * task["workers"] * task["rollout_steps"]
    return {"steps_per_s": steps / statistics.median(seconds), "compile_s": compiled}


def _rejax_training(task: dict[str, Any]) -> Any:
    """rejax's PPO for some updates, as a function of the seed."""
    import jax
    from rejax import PPO

    algorithm = PPO.create(
        env=task["environment"],
        agent_kwargs={"activation": "relu"},
        num_envs=task["workers"],
        num_steps=task["rollout_steps"],
        num_epochs=task["epochs"],
        num_minibatches=task["minibatches"],
        normalize_observations=task["scale_observations"],
        total_timesteps=task["updates"] * task["workers"] * task["rollout_steps"],
        eval_freq=task["updates"] * task["workers"] * task["rollout_steps"],
        learning_rate=1e-3,
        max_grad_norm=0.5,
        skip_initial_evaluation=True,
    )
    algorithm = algorithm.replace(eval_callback=lambda algorithm, state, key: ())
    keys = jax.random.split(jax.random.PRNGKey(0), task["agents"])
    train = jax.jit(jax.vmap(algorithm.train)).lower(keys).compile()
    return lambda seed: jax.block_until_ready(
        train(jax.random.split(jax.random.PRNGKey(seed), task["agents"]))
    )


def _our_training(task: dict[str, Any]) -> Any:
    """The inner loop of meta-training for some updates, as a function of the seed."""
    # Run as a file, which has its own folder first on the path and not the project's.
    sys.path.insert(0, str(Path(__file__).absolute().parent.parent))
    from rl_discovery.scripts import runtime

    runtime.configure()
    import jax
    import jax.numpy as jnp
    import optax

    from rl_discovery import envs
    from rl_discovery.discovery.agents.config import AgentConfig
    from rl_discovery.discovery.keys import keys_of
    from rl_discovery.discovery.learning.build import make_learner
    from rl_discovery.discovery.learning.lifetime import train_block
    from rl_discovery.discovery.objectives.ppo import PPO
    from rl_discovery.discovery.sharding import make_mesh, run_blocks
    from rl_discovery.evaluation.lanes import default_block_size

    env, level = envs.make(task["environment"])
    level = jax.tree.map(jnp.asarray, level)
    config = AgentConfig(
        network="mlp",
        hidden=(64, 64),
        optimiser="adam",
        policy_learning_rate=1e-3,
        head_learning_rate=1e-3,
        **{
            name: task[name]
            for name in ("workers", "rollout_steps", "epochs", "minibatches", "scale_observations")
        },
    )
    learner = make_learner(env, level, config, PPO())
    agents = task["agents"]
    mesh = make_mesh(min(agents, len(jax.devices())), alone=True)
    # As in evaluation, but without lanes of padding.
    size = min(default_block_size(config), agents // mesh.size)

    def block(key: Any, lanes: Any) -> Any:
        levels = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(lanes), *leaf.shape)), level)
        horizons = jnp.where(lanes < agents, task["updates"], 0)
        train_states = train_block(learner, {}, levels, horizons, keys_of(key, lanes))
        return jax.vmap(optax.global_norm)(train_states.agent.params)

    train = (
        jax.jit(lambda key: run_blocks(block, key, jnp.ones(agents), size, mesh))
        .lower(jax.random.key(0))
        .compile()
    )
    return lambda seed: jax.block_until_ready(train(jax.random.key(seed)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
