"""The gridworld of the LPG paper (Oh et al. 2020, appendix B) as a gymnax environment.

One `GridWorld` fixes the static shapes (grid, number of object slots, kind of observation); a
`GridLevel` is one level and plays the part of gymnax's `EnvParams`. Level distributions live in
`levels`, exact planning in `planning`, pictures in `render`.

Every random draw of a step is a uniform number handed in from outside (`step_from`), so that a
rollout can draw them all at once; gymnax's keyed `step` and `reset` are thin wrappers around that.
"""

import copy
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces
from jaxtyping import Array, Bool, Float, Int

# Row and column change of each action; the diagonals are the LPG paper's option.
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0))
DIAGONAL_MOVES = (*MOVES, (-1, -1), (-1, 1), (1, -1), (1, 1))
OBSERVATIONS = ("tabular", "planes")


@struct.dataclass(kw_only=True)
class GridLevel(environment.EnvParams):
    """One level. Cells are numbered `row * max_size + column` whatever the level's own size.

    Attributes:
        max_steps_in_episode: time limit in steps; reaching it truncates, it does not terminate.
        size: side of the square that is open; cells outside it are walls.
        walls: True where nobody can stand.
        start: the agent's first cell (fixed placement only).
        object_cells: each object's first cell (fixed placement only).
        object_rewards: reward for collecting each object.
        end_probs: probability that collecting the object ends the episode.
        respawn_probs: probability per step that a collected object comes back.
        object_active: False for unused object slots.
    """

    size: Int[Array, ""]
    walls: Bool[Array, " cells"]
    start: Int[Array, ""]
    object_cells: Int[Array, " objects"]
    object_rewards: Float[Array, " objects"]
    end_probs: Float[Array, " objects"]
    respawn_probs: Float[Array, " objects"]
    object_active: Bool[Array, " objects"]


@struct.dataclass
class GridState(environment.EnvState):
    """What changes within an episode.

    Attributes:
        time: steps taken.
        cell: the agent's cell.
        present: bit i is set while object i can be collected.
        object_cells: where each object is; None where objects stay at the level's cells.
    """

    cell: Int[Array, ""]
    present: Int[Array, ""]
    object_cells: Int[Array, " objects"] | None


class GridWorld(environment.Environment[GridState, GridLevel]):
    """A square grid with walls and collectable objects.

    Order within a step: move; collect what exists on the new cell; respawn the missing objects (a
    collected one stays away at least until the next step); end with the collected object's
    probability (`terminated`); then the time limit (`truncated`). Standing still on an object that
    comes back collects it.

    Args:
        max_size: side of the largest level, which fixes the number of cells.
        max_objects: object slots.
        random_placement: agent and objects start, and objects respawn, on random free cells.
        observation: "tabular", one integer `cell + cells * sum_i present_i 2^i`, or "planes", a
            `(max_size, max_size, 2 + max_objects)` stack: agent, walls, one plane per object slot.
        diagonal: nine actions in place of five.

    Raises:
        ValueError: an unknown observation, or tabular observations with random placement, whose
            state does not fit a table.
    """

    def __init__(
        self,
        max_size: int,
        max_objects: int,
        *,
        random_placement: bool = False,
        observation: str = "tabular",
        diagonal: bool = False,
    ) -> None:
        super().__init__()
        if observation not in OBSERVATIONS:
            raise ValueError(f"observation must be one of {', '.join(OBSERVATIONS)}, not {observation!r}")
        if random_placement and observation == "tabular":
            raise ValueError("objects at random cells do not fit a table: use observation='planes'")
        self.max_size = max_size
        self.max_objects = max_objects
        self.random_placement = random_placement
        self.observation = observation
        self.moves = DIAGONAL_MOVES if diagonal else MOVES
        self.cells = max_size * max_size
        # Uniform draws that one step and one reset consume: the end of the episode, one per
        # respawning object, and with random placement a cell for each object (and the agent).
        self.step_noise_size = 1 + max_objects * (2 if random_placement else 1)
        self.reset_noise_size = max_objects + 1 if random_placement else 0

    def with_options(self, *, observation: str | None = None, diagonal: bool | None = None) -> "GridWorld":
        """The same grid with another kind of observation or other moves; its levels stay valid.

        Args:
            observation: kind of observation; unchanged if None.
            diagonal: nine actions or five; unchanged if None.

        Raises:
            ValueError: as the constructor.
        """
        # A copy, so that a subclass stays what it is.
        changed = copy.copy(self)
        GridWorld.__init__(
            changed,
            self.max_size,
            self.max_objects,
            random_placement=self.random_placement,
            observation=observation or self.observation,
            diagonal=self.num_actions == len(DIAGONAL_MOVES) if diagonal is None else diagonal,
        )
        return changed

    def step_from(
        self,
        noise: Float[Array, " step_noise"],
        state: GridState,
        action: Int[Array, ""],
        level: GridLevel,
    ) -> tuple[Array, GridState, Float[Array, ""], Bool[Array, ""]]:
        """One transition, without reset at the episode's end.

        Args:
            noise: uniform draws in [0, 1), `step_noise_size` of them.
            state: the state before the step.
            action: 0 to `num_actions - 1`.
            level: the level.

        Returns:
            observation, state, reward, terminated.
        """
        cell = self._move(state.cell, action, level.walls)
        places = level.object_cells if state.object_cells is None else state.object_cells
        reward = jnp.zeros((), level.object_rewards.dtype)
        end_prob = jnp.zeros((), level.end_probs.dtype)
        present = state.present
        # Unrolled over object slots: each line is one operation over all workers.
        for i in range(self.max_objects):
            exists = (state.present >> i) & 1
            collected = (exists == 1) & (places[i] == cell)
            reward += jnp.where(collected, level.object_rewards[i], 0.0)
            end_prob = jnp.where(collected, level.end_probs[i], end_prob)
            present -= collected.astype(present.dtype) << i
        returning = []
        for i in range(self.max_objects):
            missing = ((state.present >> i) & 1 == 0) & level.object_active[i]
            returning.append(missing & (noise[1 + i] < level.respawn_probs[i]))
        object_cells = None
        if self.random_placement:
            object_cells = self._place_returning(
                returning, noise[1 + self.max_objects :], places, present, cell, level.walls
            )
        for i, back in enumerate(returning):
            present += back.astype(present.dtype) << i
        new_state = GridState(time=state.time + 1, cell=cell, present=present, object_cells=object_cells)
        return self._observe(new_state, level), new_state, reward, noise[0] < end_prob

    def reset_from(self, noise: Float[Array, " reset_noise"], level: GridLevel) -> tuple[Array, GridState]:
        """A new episode from `reset_noise_size` uniform draws: observation and state."""
        bits = 1 << jnp.arange(self.max_objects, dtype=jnp.int32)
        present = jnp.sum(jnp.where(level.object_active, bits, 0)).astype(jnp.int32)
        cell, object_cells = level.start, None
        if self.random_placement:
            cell = _free_cell(noise[0], level.walls)
            taken = level.walls.at[cell].set(True)
            chosen = []
            for i in range(self.max_objects):
                place = _free_cell(noise[1 + i], taken)
                taken = taken.at[place].set(taken[place] | level.object_active[i])
                chosen.append(place)
            object_cells = jnp.stack(chosen)
        state = GridState(time=jnp.int32(0), cell=cell, present=present, object_cells=object_cells)
        return self._observe(state, level), state

    def _move(self, cell, action, walls):
        """The cell after `action`: unchanged where a wall or the border is in the way."""
        # Sums over the moves in place of table look-ups: gathers cost more than arithmetic here.
        row, column = cell // self.max_size, cell % self.max_size
        for i, (row_change, column_change) in enumerate(self.moves):
            row += jnp.where(action == i, row_change, 0)
            column += jnp.where(action == i, column_change, 0)
        inside = (row >= 0) & (row < self.max_size) & (column >= 0) & (column < self.max_size)
        target = jnp.where(inside, row * self.max_size + column, cell)
        return jnp.where(walls[target], cell, target)

    def _place_returning(self, returning, noise, places, present, cell, walls):
        """New cells for the objects that come back: free of walls, the agent and other objects."""
        taken = walls.at[cell].set(True)
        for i in range(self.max_objects):
            taken = taken.at[places[i]].set(taken[places[i]] | ((present >> i) & 1 == 1))
        new_places = []
        for i, back in enumerate(returning):
            place = jnp.where(back, _free_cell(noise[i], taken), places[i])
            taken = taken.at[place].set(taken[place] | back)
            new_places.append(place)
        return jnp.stack(new_places)

    def _observe(self, state, level):
        if self.observation == "tabular":
            return state.cell + self.cells * state.present
        places = level.object_cells if state.object_cells is None else state.object_cells
        positions = jnp.arange(self.cells)
        exists = (state.present >> jnp.arange(self.max_objects)) & 1 == 1
        objects = (places[:, None] == positions[None]) & exists[:, None]
        planes = jnp.concatenate([(positions == state.cell)[None], level.walls[None], objects])
        shape = (2 + self.max_objects, self.max_size, self.max_size)
        return jnp.moveaxis(planes.reshape(shape), 0, -1).astype(jnp.float32)

    # The gymnax 1.0 interface.

    @property
    def default_params(self) -> GridLevel:
        """An open grid of the largest size, the agent in a corner and one reward in the other."""
        slots = jnp.arange(self.max_objects)
        return GridLevel(
            max_steps_in_episode=jnp.int32(50),
            size=jnp.int32(self.max_size),
            walls=jnp.zeros(self.cells, bool),
            start=jnp.int32(0),
            object_cells=jnp.full(self.max_objects, self.cells - 1, jnp.int32),
            object_rewards=jnp.ones(self.max_objects),
            end_probs=jnp.ones(self.max_objects),
            respawn_probs=jnp.zeros(self.max_objects),
            object_active=slots == 0,
        )

    def step_env(
        self, key: jax.Array, state: GridState, action: Any, params: GridLevel
    ) -> tuple[Array, GridState, Array, Array, dict[Any, Any]]:
        """gymnax's transition: draws the uniform numbers from `key` and calls `step_from`."""
        noise = jax.random.uniform(key, (self.step_noise_size,))
        obs, state, reward, terminated = self.step_from(noise, state, action, params)
        return obs, state, reward, terminated, {"discount": 1.0 - terminated}

    def reset_env(self, key: jax.Array, params: GridLevel) -> tuple[Array, GridState]:
        """gymnax's reset: draws the uniform numbers from `key` and calls `reset_from`."""
        return self.reset_from(jax.random.uniform(key, (self.reset_noise_size,)), params)

    @property
    def name(self) -> str:
        """gymnax's name of this environment."""
        return "GridWorld"

    @property
    def num_actions(self) -> int:
        """The number of actions: five, or nine with diagonals."""
        return len(self.moves)

    def action_space(self, params: GridLevel | None = None) -> spaces.Discrete:
        """The moves: up, down, left, right, stay (and the diagonals)."""
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: GridLevel | None = None) -> spaces.Discrete | spaces.Box:
        """`Discrete(cells * 2^objects)`, or a box of planes."""
        if self.observation == "tabular":
            return spaces.Discrete(self.cells << self.max_objects)
        return spaces.Box(0.0, 1.0, (self.max_size, self.max_size, 2 + self.max_objects))


def _free_cell(draw: Float[Array, ""], taken: Bool[Array, " cells"]) -> Int[Array, ""]:
    """A uniformly chosen cell that is not taken (cell 0 if there is none), from one uniform draw."""
    rank = jnp.floor(draw * jnp.sum(~taken)).astype(jnp.int32)
    return jnp.argmax(~taken & (jnp.cumsum(~taken) == rank + 1)).astype(jnp.int32)
