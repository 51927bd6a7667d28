"""A trained agent in one `.safetensors` file: its tensors and a JSON card that says how it is built.

Reading needs no pickle and trusts nothing: the agent is rebuilt from its settings, and every tensor must be
what such an agent has.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pydantic
from pydantic import PositiveInt

from rl_discovery.checkpoints import untrusted
from rl_discovery.checkpoints.arrays import named
from rl_discovery.checkpoints.errors import AgentFileError, one_line, reason
from rl_discovery.checkpoints.provenance import versions
from rl_discovery.checkpoints.tensor_file import SEPARATOR, Kind, opened, problem, read, shapes, write
from rl_discovery.discovery.agents.agent import Agent, AgentState
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.agents.networks import Observations
from rl_discovery.discovery.agents.policies import Categorical, DiagonalGaussian
from rl_discovery.discovery.learning.train import TrainedAgent

FORMAT = 1
"""Version of the card; a higher one is refused."""

CARD_KEY = "agent"
"""Where the file's metadata holds the card."""

KIND = Kind(name="a saved agent", owner="its card's agent", limit=untrusted.AGENT, error=AgentFileError)

MOST_LAYERS = 64
"""Hidden layers of an agent in a file; ours have at most 4."""


class AgentCard(pydantic.BaseModel, frozen=True, strict=True, extra="allow", allow_inf_nan=False):
    """Describes the agent in a file; unknown fields are provenance."""

    format: int
    config: AgentConfig
    observations: Observations
    policy: Categorical | DiagonalGaussian
    head_size: PositiveInt
    workers: PositiveInt
    seeds: tuple[int, ...] | None = None
    versions: dict[str, str] = {}

    def agent(self) -> Agent:
        """The agent that the card describes."""
        return Agent(self.config, self.observations, self.policy, self.head_size, self.workers)


def save_agent(path: Path | str, trained: TrainedAgent, card: Mapping[str, Any] | None = None) -> None:
    """Writes what `discovery.train` returned, an agent or one per seed.

    Args:
        path: where to; replaced if it is there.
        trained: the agent, with its optimiser's state.
        card: further entries of the card, such as the environment; JSON.

    Raises:
        CheckpointError: the file cannot be written.
        AgentFileError: what was written could not be read back: an agent that is not finite, a card that
            is no JSON.
    """
    path, agent = Path(path), trained.agent
    described = {
        "format": FORMAT,
        "config": dataclasses.asdict(agent.config),
        "observations": dataclasses.asdict(agent.observations),
        "policy": dataclasses.asdict(agent.policy),  # type: ignore[call-overload]  # ours are dataclasses
        "head_size": agent.head_size,
        "workers": agent.workers,
        "seeds": trained.seeds,
        "versions": versions(),
    }
    try:
        text = json.dumps(
            pydantic.TypeAdapter(dict[str, Any]).dump_python({**(card or {}), **described}, mode="json")
        )
    except (TypeError, ValueError) as error:
        raise AgentFileError(f"cannot write {path}: its card is no JSON: {reason(error)}") from None
    like = _abstract(_parse_card(text, path), path)
    write(path, KIND, _leaves(trained.state), shapes(_leaves(like)), {CARD_KEY: text})


def load_agent(path: Path | str) -> TrainedAgent:
    """Reads a saved agent.

    Args:
        path: a file that `save_agent` wrote, from anywhere.

    Raises:
        AgentFileError: it is no agent of ours, damaged, or of a newer format.
    """
    path = Path(path)
    with opened(path, KIND) as file:
        card = _parse_card((file.metadata() or {}).get(CARD_KEY), path)
        like = _abstract(card, path)
        tensors = read(file, path, KIND, shapes(_leaves(like)))
    leaves = [jnp.asarray(tensors[name]) for name in _leaves(like)]
    parts = _parts(like)
    values = jax.tree.unflatten(jax.tree.structure(parts), leaves)
    return TrainedAgent(card.agent(), AgentState(**dict(zip(FIELDS, values, strict=True))), card.seeds)


FIELDS = ("params", "statistics", "opt_state")
"""Fields of `AgentState`, in the order of the file."""


def _parts(state: Any) -> tuple[Any, ...]:
    return tuple(getattr(state, field) for field in FIELDS)


def _leaves(state: Any) -> dict[str, Any]:
    """Leaves by name; the optimiser's are numbered, since the names of optax may change."""
    params, statistics, opt_state = _parts(state)
    optimiser = {f"optimiser/{i}": leaf for i, leaf in enumerate(jax.tree.leaves(opt_state))}
    return named({"params": params, "statistics": statistics}, SEPARATOR) | optimiser


def _abstract(card: AgentCard, path: Path) -> Any:
    """Shapes and dtypes of the agent's state; with seeds, every leaf has a leading axis of them."""

    def init() -> AgentState:
        state = card.agent().init(jax.random.key(0))
        if card.seeds is None:
            return state
        count = len(card.seeds)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), state)

    try:
        if len(card.config.hidden) > MOST_LAYERS:
            raise ValueError(f"more than {MOST_LAYERS} hidden layers")
        return jax.eval_shape(init)
    except Exception as error:  # whatever a width of 0 or 10**30 makes JAX raise
        raise AgentFileError(f"{path} has impossible settings of an agent: {reason(error)}") from None


def _parse_card(text: str | None, path: Path) -> AgentCard:
    if text is None:
        raise AgentFileError(f"{path} is not a saved agent: it has no card of one")
    try:
        document = untrusted.parse_json(text)
        untrusted.check_version(document, FORMAT)
        return AgentCard.model_validate_json(json.dumps(document))
    except pydantic.ValidationError as error:
        raise AgentFileError(f"the card of {path} is damaged: {problem(error)}") from None
    except untrusted.RefusedError as error:
        raise AgentFileError(f"the card of {path} {one_line(str(error))}") from None
