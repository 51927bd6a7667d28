"""Run directories as a run leaves them, written by hand: configuration, metrics, names of checkpoints."""

import json

from rl_discovery.checkpoints.run_directory import FORMAT
from rl_discovery.meta.config import to_json
from tests.meta.tiny import TINY


def row(generation, fitness=0.0, **more):
    """A generation of 2 seconds and 100 environment steps."""
    return {
        "generation": generation,
        "wall_s": 2.0 * (generation + 1),
        "generation_s": 2.0,
        "env_steps": 100 * (generation + 1),
        "fitness_mean": fitness,
    } | more


def record(path, rows=(), config=TINY, checkpoint=None):
    """Writes a run directory; `rows` are rows, or fitness of each generation."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps({"format": FORMAT, "config": to_json(config)}))
    whole = [r if isinstance(r, dict) else row(i, r) for i, r in enumerate(rows)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in whole))
    (path / ".lock").touch()
    if checkpoint is not None:
        (path / "checkpoints" / str(checkpoint)).mkdir(parents=True)
    return path
