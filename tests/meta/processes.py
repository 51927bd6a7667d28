"""Runs scripts and the command in processes of their own, with a chosen number of host devices."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from rl_discovery.checkpoints import read_objective

ROOT = Path(__file__).parents[2]
TIMES = {"wall_s", "generation_s", "env_steps_per_s"} | {
    f"time_{use}_s" for use in ("compile", "generations", "evaluation", "checkpoint", "idle")
}
CLI = "import sys; from rl_discovery.scripts.cli import main; sys.exit(main(sys.argv[1:]))"


def environment(cache=None, **extra):
    """Of a child process: this checkout, no XLA flags of ours, a compilation cache of the tests' own."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_", "JAX_"))}
    cached = {"JAX_COMPILATION_CACHE_DIR": str(cache)} if cache else {}
    return inherited | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | cached | extra


def run_script(path, *arguments, devices):
    """Runs a script with this many host devices; it must succeed."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, path, *map(str, arguments)],
        env=environment(XLA_FLAGS=flags, JAX_PLATFORMS="cpu"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr


class Command:
    """`rl-discovery ...` in a process of its own, which can be interrupted."""

    def __init__(self, arguments, *, cache, cwd=ROOT, code=CLI, **extra):
        installed = Path(sys.executable).with_name("rl-discovery")
        start = [installed] if installed.exists() and code is CLI else [sys.executable, "-c", code]
        self.process = subprocess.Popen(
            [*map(str, start), *map(str, arguments)],
            env=environment(cache, **extra),
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_when(self, condition, number=signal.SIGKILL, seconds=300):
        """Sends a signal as soon as `condition()` holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"ended too early: {self.process.communicate()}"
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.001)
        self.process.send_signal(number)
        return self.finish()

    def finish(self, seconds=300):
        """Exit status (negative: the signal that killed it), standard output and standard error."""
        try:
            out, err = self.process.communicate(timeout=seconds)
        except BaseException:
            self.process.kill()
            raise
        return self.process.returncode, out, err


def metrics(run_dir):
    """metrics.jsonl without what differs between two runs of the same configuration."""
    with (run_dir / "metrics.jsonl").open() as file:
        rows = [json.loads(line) for line in file]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def tensors(run_dir):
    """Every array of the current objective and, with held-out evaluations, the best one, as bytes."""
    read = [read_objective(path).meta_params for path in sorted(run_dir.glob("objective*.safetensors"))]
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(read)]


def count_rows(run_dir):
    """Whole lines in metrics.jsonl."""
    with contextlib.suppress(FileNotFoundError):
        return (run_dir / "metrics.jsonl").read_text().count("\n")
    return 0
