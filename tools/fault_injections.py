"""Faults that `tools.fault_campaign` puts into the process of a run before the run begins.

Each is a program for `python -c`: it sets up JAX as the command would, puts a fault in one place, and calls
the command. Most faults hit a fixed share of the numbers, so that the run can still learn.
"""

import dataclasses

START = """
import sys
from rl_discovery.scripts import runtime
runtime.configure(2)
import jax.numpy as jnp
{patch}
from rl_discovery.scripts.cli import main
sys.exit(main(sys.argv[1:]))
"""

CLOCK = START.format(
    patch="""
import time
right = time.time
time.time = lambda: right() - 86400.0
"""
)
"""Sets Python's clock back by a day."""

REWARDS = """
from rl_discovery.discovery.learning import vector_env
right = vector_env.step
def step(env, noise, states, actions, level):
    moved = right(env, noise, states, actions, level)
    return moved._replace(reward=jnp.where(noise[0] < {share}, {value}, moved.reward))
vector_env.step = step
"""

CANDIDATES = """
import jax
from rl_discovery.meta.evolution import open_es
right = open_es.AntitheticCandidates.member
def member(self, group, number):
    return jax.tree.map(lambda leaf: jnp.where(group == 0, {value}, leaf), right(self, group, number))
open_es.AntitheticCandidates.member = member
"""

SCORES = """
import dataclasses
from rl_discovery.meta.curriculum import scores
right = scores.SCORES["algorithmic_regret"]
def function(outcome):
    regret = right.function(outcome)
    return jnp.where(outcome.returns[0] > 0.5, {value}, regret)
scores.SCORES["algorithmic_regret"] = dataclasses.replace(right, function=function)
"""

GOES_ON = "the candidates that are hit lose, all others count; the run goes on and the objective is finite"


@dataclasses.dataclass(frozen=True)
class Injection:
    """A fault inside the program.

    Attributes:
        patch: Python code that puts it in.
        promise: how the run ought to end.
        status: exit status that the command ought to have.
        hits_scores: whether it affects which levels are replayed, and no candidate.
    """

    patch: str
    promise: str = GOES_ON
    status: int = 0
    hits_scores: bool = False

    @property
    def code(self) -> str:
        """The program, for `python -c`."""
        return START.format(patch=self.patch)


INJECTIONS = {
    "NaN in rewards": Injection(REWARDS.format(share=1e-5, value="jnp.nan")),
    "infinite rewards": Injection(REWARDS.format(share=1e-5, value="jnp.inf")),
    "NaN in every reward": Injection(
        REWARDS.format(share=2.0, value="jnp.nan"),
        "nothing can be learned: status 3 and one line; the objective, if saved, is finite",
        status=3,
    ),
    "NaN in candidates": Injection(CANDIDATES.format(value="jnp.nan")),
    "infinite candidates": Injection(CANDIDATES.format(value="jnp.inf")),
    "NaN in curriculum scores": Injection(
        SCORES.format(value="jnp.nan"),
        "levels without a score are not replayed; the run goes on",
        hits_scores=True,
    ),
    "infinite curriculum scores": Injection(
        SCORES.format(value="jnp.inf"),
        "levels without a score are not replayed; the run goes on",
        hits_scores=True,
    ),
}
"""All injections, by what they do."""
