"""Environments of gymnax before 1.0 and in its style, whose steps return five values, under gymnax 1.0."""

from typing import Any

import jax.numpy as jnp
from gymnax.environments import environment
from jaxtyping import Array, Bool, Key

from rl_discovery.envs.levels import EnvParams, UnusableEnvironmentError


class FiveValues(environment.Environment[Any, Any]):
    """An environment whose `step_env` returns observation, state, reward, done, info.

    What `done` means is not known: it may be the time limit. So every end counts as terminated and none as
    truncated. Objectives then take the value after a time limit to be 0, where they would bootstrap if they
    knew. A subclass that knows overrides `step_env`, whose fourth value is `terminated`, and `is_truncated`.

    Args:
        inner: the environment, with `reset_env(key, params)`, `step_env(key, state, action, params)`,
            `action_space(params)`, `observation_space(params)` and `default_params`. Its own `step` and
            `reset` are not called.

    Raises:
        UnusableEnvironmentError: one of these is missing.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__()
        needed = ("reset_env", "step_env", "action_space", "observation_space", "default_params")
        if missing := [name for name in needed if not hasattr(inner, name)]:
            raise UnusableEnvironmentError(
                f"{type(inner).__name__} is no environment of gymnax 0.x: it has no {', '.join(missing)}"
            )
        self.inner = inner

    @property
    def name(self) -> str:
        """The name of the environment inside, or of its class."""
        return str(getattr(self.inner, "name", type(self.inner).__name__))

    @property
    def default_params(self) -> EnvParams:
        """The parameters of the environment inside."""
        return self.inner.default_params

    def reset_env(self, key: Key[Array, ""], params: EnvParams) -> tuple[Any, Any]:
        """First observation and state."""
        return self.inner.reset_env(key, params)

    def step_env(
        self, key: Key[Array, ""], state: Any, action: Any, params: EnvParams
    ) -> tuple[Any, Any, Any, Bool[Array, ""], dict[Any, Any]]:
        """One step; `done` is returned as `terminated`."""
        observation, state, reward, done, info = self.inner.step_env(key, state, action, params)
        return observation, state, reward, jnp.asarray(done, bool), info

    def is_truncated(self, state: Any, params: EnvParams) -> Bool[Array, ""]:
        """Never: see the class."""
        del state, params
        return jnp.bool_(False)

    def action_space(self, params: EnvParams = None) -> Any:
        """The space of the environment inside."""
        return self.inner.action_space(params)

    def observation_space(self, params: EnvParams = None) -> Any:
        """The space of the environment inside."""
        return self.inner.observation_space(params)
