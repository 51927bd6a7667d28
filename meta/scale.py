"""The exact scale of a level, from what acting at random returns there to what the best policy does.

Planning gives both ends. A fitness or a level score that reads them costs one planning per new level; in
the replay buffer they stay with the level.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.discovery.sharding import run_blocks
from rl_discovery.envs.levels import MIN_SPAN, EnvParams, Family, Level, LevelDistribution

PLANNING_BLOCK = 16
"""Levels that are planned side by side: about 4 MB at 11 x 11 cells and 5 objects."""

TRIES = 16
"""Draws of a level until one has a scale. Of the distribution `all`, 17 in 1,000 levels have none."""

REDRAW_FOLD = 0x5CA1E000
"""What a level's key is folded with, plus the number of the try, to draw it again."""

LISTS = {"fitness": "fitness", "curriculum.score": "scores"}
"""What `rl-discovery list` calls the values of a setting."""


@struct.dataclass
class Scale:
    """Exact expected undiscounted returns of one episode on a level, or on a batch of them.

    Attributes:
        optimal: of the best policy.
        random: of the uniformly random policy.
    """

    optimal: Float[Array, "*levels"]
    random: Float[Array, "*levels"]

    @classmethod
    def unknown(cls, count: int) -> "Scale":
        """Of levels that were not planned: none exists."""
        return cls(optimal=jnp.zeros(count), random=jnp.zeros(count))

    @property
    def exists(self) -> Bool[Array, "*levels"]:
        """Whether the two are far enough apart to measure anything by."""
        return self.optimal - self.random > MIN_SPAN  # False for NaN

    def score(self, returns: Float[Array, "*levels"]) -> Float[Array, "*levels"]:
        """0 for the random policy's return, 1 for the best policy's; 0 where there is no scale."""
        span = jnp.where(self.exists, self.optimal - self.random, 1.0)
        return jnp.where(self.exists, (returns - self.random) / span, 0.0)


@dataclasses.dataclass(frozen=True)
class Planner:
    """Computes scales of levels, in blocks over the devices.

    Attributes:
        solve: `(levels' parameters) -> (optimal, random)`, the family's exact planning.
        mesh: the devices.
        redraw: samples a level in place of one without a scale; None: those are served too.
    """

    solve: Callable[[EnvParams], tuple[Array, Array]]
    mesh: Mesh
    redraw: Callable[[Key[Array, ""]], Level] | None = None

    def scale(self, levels: Level, wanted: Bool[Array, " C"]) -> Scale:
        """One per level; of no meaning, and at no cost, where it is not wanted."""
        # Planning takes as many steps as the episode may have.
        steps = jnp.where(wanted, levels.params.max_steps_in_episode, 0)
        params = dataclasses.replace(levels.params, max_steps_in_episode=steps)

        def run(params: EnvParams, lanes: Int[Array, " L"]) -> Scale:
            optimal, random = self.solve(jax.tree.map(lambda leaf: leaf[lanes], params))
            return Scale(optimal=optimal, random=random)

        return run_blocks(run, params, steps.astype(jnp.float32), PLANNING_BLOCK, self.mesh)

    def complete(
        self, levels: Level, keys: Key[Array, " C"], wanted: Bool[Array, " C"]
    ) -> tuple[Level, Scale]:
        """New levels with their scales; where a scale is missing, another level if `redraw` says so.

        The replacement of a level depends on its key alone. After TRIES levels without a scale the last of
        them is served.

        Args:
            levels: C levels.
            keys: of their replacements.
            wanted: which of them will be played.
        """
        redraw = self.redraw
        if redraw is None:
            return levels, self.scale(levels, wanted)

        def attempt(carry: tuple[Array, Level, Scale]) -> tuple[Array, Level, Scale]:
            tries, levels, scale = carry
            missing = wanted & ~scale.exists
            drawn = jax.vmap(lambda key: redraw(jax.random.fold_in(key, REDRAW_FOLD + tries)))(keys)
            # The first try is what was given.
            levels = choose(missing & (tries > 0), drawn, levels)
            return tries + 1, levels, choose(missing, self.scale(levels, missing), scale)

        def unfinished(carry: tuple[Array, Level, Scale]) -> Bool[Array, ""]:
            tries, _, scale = carry
            return (tries < TRIES) & jnp.any(wanted & ~scale.exists)

        start = (jnp.int32(0), levels, Scale.unknown(wanted.size))
        _, levels, scale = jax.lax.while_loop(unfinished, attempt, start)
        return levels, scale


def make_planner(
    setting: Literal["fitness", "curriculum.score"],
    name: str,
    family: Family,
    distribution: LevelDistribution,
    level: EnvParams,
    mesh: Mesh,
    *,
    redraws: bool = False,
) -> Planner:
    """The planner of a family's levels.

    Args:
        setting: what asks for it, as the configuration calls it.
        name: its value.
        family: of the environment.
        distribution: of its levels.
        level: gives shapes only.
        mesh: the devices.
        redraws: whether levels without a scale are replaced.

    Raises:
        ValueError: the environment has no exact planning.
    """
    solve = family.expected_returns
    if solve is None:
        raise ValueError(
            f"{setting} {name!r} needs exact optimal returns, which {family.name!r} environments do not "
            f"have; `rl-discovery list {LISTS[setting]}` shows others"
        )
    one = jax.tree.map(lambda leaf: leaf[None], level)
    try:
        jax.eval_shape(lambda params: solve(distribution.env, params), one)
    except ValueError as error:
        raise ValueError(
            f"{setting} {name!r} does not work with {distribution.name!r} levels: {error}"
        ) from None
    return Planner(
        solve=lambda params: solve(distribution.env, params),
        mesh=mesh,
        redraw=distribution.sample if redraws else None,
    )


def choose(mask: Bool[Array, " C"], yes: Any, no: Any) -> Any:
    """Level by level, from two pytrees whose leaves have leading axis C."""
    return jax.tree.map(functools.partial(jax.vmap(jnp.where), mask), yes, no)
