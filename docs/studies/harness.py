"""What the studies of meta-training share: arms on a budget of environment steps, scores, and intervals.

An arm is a preset with flags. Every run resumes and finished work is kept, so that a study can be stopped and
started at any time; seeds come one after the other, so that an unfinished study is a balanced one.
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from rl_discovery.checkpoints.run_directory import read_metrics
from rl_discovery.meta.warm_start import START, first_stage

RESAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way of learning an objective: a preset with flags on top, as the command line takes them."""

    name: str
    preset: str
    flags: tuple[str, ...] = ()

    def config(self) -> Any:
        """The configuration of the preset with the flags."""
        from rl_discovery.scripts.meta_train import parse_arguments

        return parse_arguments(["--preset", self.preset, *self.flags]).config


def command(*words: object) -> None:
    """One command of this project, in a process of its own that finds plug-ins in this folder."""
    print("rl-discovery", *words, flush=True)
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    subprocess.run(
        [sys.executable, "-m", "rl_discovery.scripts.cli", *map(str, words)],
        env=os.environ | {"PYTHONPATH": path},
        check=True,
    )


def generations(config: Any, env_steps: float) -> int:
    """How many generations cost the budget on average; a preset that the run starts from is part of it."""
    if preset := first_stage(config.start_from):
        first = Arm("first", preset).config()
        env_steps -= first.generations * steps_per_generation(first)
    return round(env_steps / steps_per_generation(config))


def steps_per_generation(config: Any) -> float:
    """Environment steps on average over the lengths of lifetimes."""
    steps = 0.0
    for task in config.tasks:
        low, high = task.levels.build().horizon
        numbers = np.arange(low, high + 1)
        shares = np.log((numbers + 1) / numbers) / np.log((high + 1) / low)
        per_lane = float(numbers @ shares)
        if config.trainer == "meta_gradient":
            # K updates and the rollout of the meta-loss; a lifetime's last meta-step has what is left of it.
            meta_steps = np.ceil(numbers / config.meta_gradient.updates)
            per_lane = float((numbers + meta_steps) @ shares / (meta_steps @ shares))
        steps += task.lanes * per_lane * task.agent.steps_per_update
    return steps


def train(arm: Arm, seed: int, run: Path, env_steps: float, evaluations: int = 12) -> None:
    """One run on the budget, with a few held-out evaluations; does nothing if it is finished."""
    count = generations(arm.config(), env_steps)
    every = max(1, count // evaluations)
    command(
        "meta-train", "--preset", arm.preset, *arm.flags, "--run-dir", run, "--seed", seed,
        "--generations", count, "--held-out.every", every, "--checkpoint.every", every,
        "--logging.no-tensorboard",
    )  # fmt: skip


def evaluate(
    objectives: Sequence[object], out: Path, suite: str, horizons: Sequence[int], seeds: int, *more: object
) -> None:
    """Evaluates objectives so that they can be compared pair by pair; does nothing if that is done."""
    if not (out / "results.json").exists():
        command(
            "evaluate", *objectives, "--suite", suite, "--horizons", *horizons, "--seeds", seeds,
            *more, "--curve-points", 1, "--out", out,
        )  # fmt: skip


def scores(
    out: Path,
    horizons: Sequence[int],
    objective: str | None = None,
    *,
    number: str = "score",
    environment: str | None = None,
) -> np.ndarray:
    """Mean score over levels (or another number of the cells), by agent seed and horizon; NaN for none.

    The default is the first objective and the first environment of the evaluation.
    """
    cells = json.loads((out / "results.json").read_text())["cells"]
    name, place = objective or cells[0]["objective"], environment or cells[0]["environment"]
    found = {
        (cell["seed"], cell["horizon"]): cell[number]
        for cell in cells
        if (cell["objective"], cell["environment"]) == (name, place)
    }
    seeds = sorted({seed for seed, _ in found})
    return np.array([[found[seed, horizon] for horizon in horizons] for seed in seeds], float)


def stages(run: Path) -> list[list[dict[str, Any]]]:
    """Metrics of a run, after those of its first stage if it has one."""
    return [read_metrics(stage) for stage in (run / START, run) if stage.exists()]


def curve(run: Path, metric: str = "held_out_score") -> tuple[np.ndarray, np.ndarray]:
    """Environment steps, of a first stage too, and the metric, where it was measured."""
    before, points = 0, []
    for rows in stages(run):
        points += [(before + row["env_steps"], row[metric]) for row in rows if row.get(metric) is not None]
        before += rows[-1]["env_steps"]
    steps, values = zip(*points, strict=True)
    return np.array(steps), np.array(values)


def kept(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, np.ndarray]:
    """Arrays by name: read from the file if there is one, else computed and saved there."""
    if not path.exists():
        print(f"computing {path.stem}", flush=True)
        arrays = {name: np.asarray(value) for name, value in compute().items()}
        partial = path.with_suffix(".partial.npz")
        np.savez_compressed(partial, allow_pickle=False, **arrays)
        partial.replace(path)
    with np.load(path) as file:
        return dict(file)


def rows_of(record: Path) -> list[dict[str, Any]]:
    """The results so far, from lines of JSON; none where there is no file."""
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def append(record: Path, row: dict[str, Any]) -> None:
    """One more line of the record, in one write: other processes may write too."""
    record.parent.mkdir(parents=True, exist_ok=True)
    with record.open("a") as file:
        file.write(json.dumps(row) + "\n")


def fill(page: Path, blocks: Mapping[str, str]) -> None:
    """Replaces what stands between `<!-- results: NAME -->` and `<!-- end -->` of a page, for these names."""
    text = re.sub(
        rf"(<!-- results: ({'|'.join(map(re.escape, blocks))}) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}\n{blocks[match[2]]}\n\n{match[3]}",
        page.read_text(),
        flags=re.S,
    )
    page.write_text(text)


class Difference(NamedTuple):
    """Of the means of two arms over meta-training seeds, with its 95 % interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, ours: np.ndarray, theirs: np.ndarray) -> "Difference":
        """Of scores by seed; of a hand-written rule there may be one. Equal scores have no interval."""
        mean = float(ours.mean() - theirs.mean())
        if len(ours) > 1 and np.ptp(ours) == 0 and np.ptp(theirs) == 0:
            return cls(mean, mean, mean)
        if len(theirs) == 1:
            interval = stats.ttest_1samp(ours - theirs[0], 0.0).confidence_interval()
        else:
            interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
        return cls(mean, float(interval.low), float(interval.high))

    @property
    def verdict(self) -> str:
        """Whether the first is better than the second."""
        return "yes" if self.low > 0 else "no, worse" if self.high < 0 else "not resolved"

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over meta-training seeds, or whatever is resampled, with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, *groups: np.ndarray, sign: Sequence[int] = (1,)) -> "Estimate":
        """The signed sum of the groups' means; each group is resampled on its own."""
        generator = np.random.default_rng(0)
        drawn = sum(
            s * group[generator.integers(len(group), size=(RESAMPLES, len(group)))].mean(axis=1)
            for s, group in zip(sign, groups, strict=True)
        )
        low, high = np.quantile(drawn, [0.025, 0.975])
        mean = sum(s * group.mean() for s, group in zip(sign, groups, strict=True))
        return cls(float(mean), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"
