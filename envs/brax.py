"""Brax's continuous-control environments (Freeman et al. 2021, arXiv 2106.13281) under gymnax's interface.

`brax/ant` is the environment as Brax makes it; the option `backend` picks the physics and `action_repeat`
holds each action for several steps. As in Brax's own training, an episode begins again where its worker's
first one began: a new initial state each time would cost as much as a step. Brax is an optional package, the
extra `brax`.
"""

import copy
import functools
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces
from jaxtyping import Array, Bool, Float, Key

from rl_discovery.discovery.extras import Extra
from rl_discovery.envs.adapter import refuse_missing, silent, step_back_to, without_levels
from rl_discovery.envs.levels import Family, UnusableEnvironmentError
from rl_discovery.envs.suites import Suite

Backend = Literal["generalized", "spring", "positional", "mjx"]

EPISODE_STEPS = 1000
"""Time limit, as Brax counts it: in steps of the environment, each repeat of an action being one."""

SHORTER_EPISODES = {"reacher": 50, "pusher": 100}
"""Time limits of Gymnasium and of rejax's settings; Brax has 1000 for these as well."""

TASKS = {
    "ant": "a quadruped runs",
    "halfcheetah": "a planar runner",
    "hopper": "a planar one-legged hopper",
    "humanoid": "a biped walks",
    "humanoidstandup": "a biped stands up",
    "inverted_double_pendulum": "two poles on a cart",
    "inverted_pendulum": "a pole on a cart",
    "pusher": "an arm pushes an object to its goal",
    "reacher": "a two-joint arm reaches a target",
    "swimmer": "a three-link swimmer",
    "walker2d": "a planar biped walks",
}

EXTRA = Extra("brax", module="brax")

REFUSED = {"swimmer": "Brax 0.14 has it for one backend only, which fails on this JAX"}
"""What the installed Brax cannot run, and why."""


@struct.dataclass
class BraxParams(environment.EnvParams):
    """Brax's environments have no levels: their one parameter is the time limit.

    Attributes:
        max_steps_in_episode: see EPISODE_STEPS.
    """

    max_steps_in_episode: int = EPISODE_STEPS


@struct.dataclass
class BraxState(environment.EnvState):
    """Where an episode stands.

    Attributes:
        time: steps taken, each repeat of an action being one.
        brax: Brax's own state.
        first: Brax's state at the beginning of this worker's first episode.
    """

    brax: Any
    first: Any


class BraxEnvironment(environment.Environment[BraxState, BraxParams]):
    """One of Brax's environments.

    `terminated` is Brax's own `done`, `truncated` the time limit.

    Args:
        task: one of TASKS.
        backend: the physics.
        action_repeat: steps of the physics with the same action, whose rewards are summed.

    Raises:
        UnusableEnvironmentError: an option's value is impossible; Brax is not installed or cannot run this.
    """

    def __init__(self, task: str, backend: Backend = "generalized", action_repeat: int = 1) -> None:
        super().__init__()
        if backend not in get_args(Backend):
            raise UnusableEnvironmentError(
                f"backend must be one of {', '.join(get_args(Backend))}, not {backend!r}"
            )
        check_action_repeat(action_repeat)
        if task in REFUSED:
            raise UnusableEnvironmentError(f"brax/{task} cannot be used: {REFUSED[task]}")
        self.task, self.backend, self.action_repeat = task, backend, action_repeat
        self._inner = load_task(task, backend)

    def with_options(self, **options: Any) -> "BraxEnvironment":
        """The same task with other options.

        Raises:
            UnusableEnvironmentError: there is no such option, or its value is impossible.
        """
        own = {"backend": self.backend, "action_repeat": self.action_repeat}
        if unknown := sorted(set(options) - set(own)):
            raise UnusableEnvironmentError(
                f"{self.name} has no option {', '.join(unknown)}; it has {', '.join(own)}"
            )
        # A copy, so that a subclass stays what it is.
        changed = copy.copy(self)
        BraxEnvironment.__init__(changed, self.task, **(own | options))
        return changed

    def __eq__(self, other: object) -> bool:
        """Same task and options: environments are static arguments of jitted functions.

        What a subclass adds is not known here, so each object of one is its own.
        """
        if type(self) is type(other) is BraxEnvironment:
            return vars(self) == vars(other)
        return self is other

    def __hash__(self) -> int:
        """A hash of task and options, as equality compares."""
        return hash((self.task, self.backend, self.action_repeat))

    @property
    def name(self) -> str:
        """The name that `list envs` shows."""
        return f"brax/{self.task}"

    @property
    def default_params(self) -> BraxParams:
        """The parameters: the task's time limit."""
        return BraxParams(SHORTER_EPISODES.get(self.task, EPISODE_STEPS))

    def reset_env(self, key: Key[Array, ""], params: BraxParams) -> tuple[Float[Array, " size"], BraxState]:
        """A new initial state."""
        del params
        first = self._inner.reset(key)
        return first.obs, BraxState(time=jnp.int32(0), brax=first, first=first)

    def step_env(
        self, key: Key[Array, ""], state: BraxState, action: Float[Array, " A"], params: BraxParams
    ) -> tuple[Float[Array, " size"], BraxState, Float[Array, ""], Bool[Array, ""], dict[str, Array]]:
        """One action, held for `action_repeat` steps of the physics or to the end of the episode."""
        del key, params

        def hold(carry: tuple[Any, Array], _: None) -> tuple[tuple[Any, Array], None]:
            inner, total = carry
            moved = self._advance(inner, action)
            going = inner.done == 0
            moved = jax.tree.map(functools.partial(jnp.where, going), moved, inner)
            return (moved, total + jnp.where(going, moved.reward, 0.0)), None

        if self.action_repeat == 1:
            inner = self._advance(state.brax, action)
            reward = inner.reward
        else:
            (inner, reward), _ = jax.lax.scan(hold, (state.brax, jnp.float32(0)), length=self.action_repeat)
        moved = state.replace(time=state.time + self.action_repeat, brax=inner)
        return inner.obs, moved, reward, inner.done > 0, {}

    def _advance(self, inner: Any, action: Array) -> Any:
        """Brax's own step, with the types of `inner`: some tasks return Python numbers as rewards."""
        # Tasks write into the metrics of the state that they are given.
        given = inner.replace(metrics=dict(inner.metrics), info=dict(inner.info))
        moved = self._inner.step(given, action)
        return jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), moved, inner)

    def step(
        self,
        key: Key[Array, ""],
        state: BraxState,
        action: Float[Array, " A"],
        params: BraxParams | None = None,
    ) -> tuple[Any, BraxState, Array, Array, Array, dict[str, Array]]:
        """`step_env`, then a return to the worker's first state where the episode ends."""
        again = BraxState(time=jnp.int32(0), brax=state.first, first=state.first)
        return step_back_to((state.first.obs, again), self, key, state, action, params)

    def is_truncated(self, state: BraxState, params: BraxParams) -> Bool[Array, ""]:
        """Whether the time limit is reached."""
        return jnp.asarray(state.time >= params.max_steps_in_episode)

    def action_space(self, params: BraxParams | None = None) -> spaces.Box:
        """Torques or forces, scaled to [-1, 1]."""
        return spaces.Box(-1.0, 1.0, (self._inner.action_size,))

    def observation_space(self, params: BraxParams | None = None) -> spaces.Box:
        """Positions and velocities, without bounds."""
        return spaces.Box(-jnp.inf, jnp.inf, (self._inner.observation_size,))


def check_action_repeat(action_repeat: Any) -> None:
    """Refuses what is no whole number of at least 1.

    Raises:
        UnusableEnvironmentError: it is none.
    """
    if type(action_repeat) is not int or action_repeat < 1:
        raise UnusableEnvironmentError(f"action_repeat must be a number of at least 1, not {action_repeat!r}")


@functools.cache
def load_task(task: str, backend: Backend) -> Any:
    """Brax's environment, made once: its model is read from a file."""
    refuse_missing(EXTRA, f"brax/{task}", "Brax")
    # Importing Brax prints that it found no warp (not needed here) and is no longer developed.
    with silent():
        from brax import envs as brax_envs

        return brax_envs.get_environment(task, backend=backend)


def _description(task: str) -> str:
    """One line for `list envs`; says why, where the task cannot be used."""
    if task in REFUSED:
        return f"{TASKS[task]} (cannot be used: {REFUSED[task]})"
    return TASKS[task]


FAMILY = Family(
    name="brax",
    description="continuous control with Brax",
    distributions={},
    make=without_levels(BraxEnvironment),
    tasks={task: _description(task) for task in TASKS},
    extra=EXTRA,
)

_SMALL = ("brax/inverted_pendulum", "brax/reacher", "brax/hopper")

SUITES = (
    Suite(
        name="brax",
        description="Brax at budgets for a few cores",
        environments=_SMALL,
        horizons=(500_000,),
        unit="env_steps",
    ),
    Suite(
        name="brax-full",
        description="Brax, published budgets",
        environments=(*_SMALL, "brax/walker2d", "brax/halfcheetah", "brax/ant", "brax/humanoid"),
        horizons=(10_000_000,),
        unit="env_steps",
    ),
)
