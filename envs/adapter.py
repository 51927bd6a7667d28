"""What the adapters of other libraries share: one of their environments under gymnax's interface.

The library's own reset at the end of an episode is not used: gymnax's `step` resets, or what
`discovery.learning.vector_env` does in its place.
"""

import abc
import contextlib
import functools
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment
from jaxtyping import Array, Bool, Key, Num

from rl_discovery.discovery.extras import Extra
from rl_discovery.envs.levels import EnvParams, UnusableEnvironmentError

NO_LIMIT = 2**31 - 1
"""A time limit that no episode reaches."""


@struct.dataclass
class AdaptedState(environment.EnvState):
    """Where an episode stands.

    Attributes:
        time: steps taken.
        inner: the library's own state.
    """

    inner: Any


class AdaptedEnvironment(environment.Environment[AdaptedState, environment.EnvParams], abc.ABC):
    """One environment of another library.

    A time limit is the level's, `max_steps_in_episode`, and truncates; everything else that ends an episode
    terminates. Subclasses switch off the limit that their library has, and turn observations into one array.

    Two objects are equal only if they are the same object, so make each environment once.

    Args:
        name: the name that `list envs` shows.
        time_limit: steps of the longest episode.
    """

    def __init__(self, name: str, time_limit: int) -> None:
        super().__init__()
        self._name, self._time_limit = name, time_limit

    @abc.abstractmethod
    def begin(self, key: Key[Array, ""]) -> tuple[Num[Array, "..."], Any]:
        """First observation of a new episode and the library's state."""

    @abc.abstractmethod
    def advance(
        self, key: Key[Array, ""], inner: Any, action: Array
    ) -> tuple[Num[Array, "..."], Any, Num[Array, ""], Bool[Array, ""]]:
        """Observation, state, reward and whether the episode terminated; no reset at its end."""

    @property
    def name(self) -> str:
        """The name that `list envs` shows."""
        return self._name

    @property
    def default_params(self) -> environment.EnvParams:
        """The parameters: the time limit. These environments have no levels."""
        return environment.EnvParams(max_steps_in_episode=self._time_limit)

    def reset_env(
        self, key: Key[Array, ""], params: environment.EnvParams
    ) -> tuple[Num[Array, "..."], AdaptedState]:
        """A new episode."""
        del params
        observation, inner = self.begin(key)
        return observation, AdaptedState(time=jnp.int32(0), inner=inner)

    def step_env(
        self, key: Key[Array, ""], state: AdaptedState, action: Array, params: environment.EnvParams
    ) -> tuple[Num[Array, "..."], AdaptedState, Num[Array, ""], Bool[Array, ""], dict[str, Array]]:
        """One step. The time limit is not checked here: gymnax's `is_truncated` does that."""
        del params
        observation, inner, reward, terminated = self.advance(key, state.inner, action)
        return observation, AdaptedState(time=state.time + 1, inner=inner), reward, terminated, {}


def step_back_to(
    beginning: tuple[Any, Any], env: Any, key: Key[Array, ""], state: Any, action: Array, params: EnvParams
) -> tuple[Any, Any, Array, Bool[Array, ""], Bool[Array, ""], dict[str, Any]]:
    """gymnax's `step`, but where the episode ends it begins again at a known place.

    For environments of which a new episode costs as much as a step, or more.

    Args:
        beginning: observation and state there.
        env: whose `step_env` and `is_truncated` are used.
        key: of the step.
        state: before the step.
        action: of the agent.
        params: None for the environment's own.

    Returns:
        Observation, state, reward, terminated, truncated and info.
    """
    params = env.default_params if params is None else params
    observation, moved, reward, terminated, info = env.step_env(key, state, action, params)
    truncated = env.is_truncated(moved, params)
    over = terminated | truncated
    following = jax.tree.map(functools.partial(jnp.where, over), beginning, (observation, moved))
    return *following, reward, terminated, truncated, info | {"final_observation": observation}


def without_levels(make: Callable[[str], Any]) -> Callable[[str, int], tuple[Any, EnvParams]]:
    """`make` of a family whose environments have no levels: every seed gives the same parameters.

    Args:
        make: an environment from its name within the family.

    Returns:
        For `Family.make`.
    """

    def make_any(name: str, seed: int) -> tuple[Any, EnvParams]:
        del seed
        env = make(name)
        return env, env.default_params

    return make_any


def refuse_missing(extra: Extra, name: str, library: str) -> None:
    """Refuses an environment whose library is not installed.

    Raises:
        UnusableEnvironmentError: it is not; says what installs it.
    """
    if not extra.installed:
        raise UnusableEnvironmentError(f"{name} needs {library}, which is not installed: {extra.command}")


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keeps out of the terminal and the working directory what libraries leave there while they are imported.

    Many print, and MuJoCo writes its warnings to a file.
    """
    with (
        tempfile.TemporaryDirectory() as elsewhere,
        contextlib.chdir(elsewhere),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(action="ignore"),
    ):
        yield
