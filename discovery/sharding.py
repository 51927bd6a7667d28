"""Runs independent lanes in small blocks, spread over the devices so that all finish together.

Small blocks stay in a core's cache, and blocks of lanes with similar costs waste little of their loop. Lanes
are sorted by cost and cut into blocks of a fixed size. Neither blocks nor results depend on the number of
devices, to the last bit. The outer loop and evaluation use this.
"""

import collections
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array, Bool, Float, Int

AXIS = "lanes"


class BlockAssignment(NamedTuple):
    """The lanes and the device of each block.

    Attributes:
        blocks: lane numbers; numbers >= `lanes` pad the last block.
        device: of each block.
        costs: of each block.
    """

    blocks: Int[Array, "blocks size"]
    device: Int[Array, " blocks"]
    costs: Float[Array, " blocks"]


def make_mesh(devices: int | None = None, *, alone: bool = False) -> Mesh:
    """A one-dimensional mesh over `devices` devices (default: all), as many of each process.

    On a CPU one device is joined by a second, if there is one: XLA compiles programs for one device
    differently, so that agents with networks, and meta-gradients, round differently there.

    Args:
        devices: how many.
        alone: take one CPU device alone all the same.
    """
    available, processes = jax.devices(), jax.process_count()
    count = len(available) if devices is None else devices
    if not 1 <= count <= len(available):
        raise ValueError(f"devices must be between 1 and {len(available)}, not {count}")
    if count == 1 and not alone and jax.default_backend() == "cpu":
        count = min(2, len(available))
    if count % processes:
        raise ValueError(f"devices ({count}) must be a multiple of the {processes} processes")
    seen: collections.Counter[int] = collections.Counter()
    chosen = []
    for device in available:
        seen[device.process_index] += 1
        if seen[device.process_index] <= count // processes:
            chosen.append(device)
    if len(chosen) < count:
        raise ValueError(f"not every one of the {processes} processes has {count // processes} devices")
    return Mesh(np.array(chosen), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def over_lanes(mesh: Mesh) -> NamedSharding:
    """The first axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def put(tree: Any, where: Any) -> Any:
    """`jax.device_put` of arrays that are equal in all processes, also onto devices of other processes.

    Args:
        tree: pytree of arrays.
        where: pytree of shardings.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, where)

    def put_leaf(leaf: Any, where: Sharding) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = put_leaf(jax.random.key_data(leaf), where)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        # `device_put` would compare the arrays of the processes, and NaN differs from itself.
        local = np.asarray(leaf)
        return jax.make_array_from_callback(local.shape, where, lambda index: local[index])

    return jax.tree.map(put_leaf, tree, where)


def ordered_sum(parts: Float[Array, "chunks D"], mesh: Mesh) -> Float[Array, " D"]:
    """Adds partial sums in order, so that rounding does not depend on the number of devices.

    Every device adds a slice of the dimensions; the chunks may be on any device before.
    """
    size = parts.shape[1]
    padded = jnp.pad(parts, ((0, 0), (0, -size % mesh.size)))
    padded = jax.lax.with_sharding_constraint(padded, NamedSharding(mesh, PartitionSpec(None, AXIS)))
    total, _ = jax.lax.scan(lambda total, part: (total + part, None), jnp.zeros_like(padded[0]), padded)
    return jax.lax.with_sharding_constraint(total, replicated(mesh))[:size]


def assign_blocks(costs: Float[Array, " lanes"], block_size: int, devices: int) -> BlockAssignment:
    """Sorts lanes by cost, cuts blocks, and gives each block to the least loaded device.

    Longest-first scheduling finishes within 4/3 of the optimum (Graham 1969).
    """
    lanes = costs.shape[0]
    count = -(-lanes // block_size)
    order = jnp.argsort(-costs, stable=True).astype(jnp.int32)
    padding = jnp.arange(lanes, count * block_size, dtype=jnp.int32)
    blocks = jnp.concatenate([order, padding]).reshape(count, block_size)
    # Lanes are sorted, so a block takes as long as its first lane.
    block_costs = costs[blocks[:, 0]].astype(jnp.float32)

    def give(loads, cost):
        device = jnp.argmin(loads)
        return loads.at[device].add(cost), device

    _, device = jax.lax.scan(give, jnp.zeros(devices, jnp.float32), block_costs)
    return BlockAssignment(blocks=blocks, device=device.astype(jnp.int32), costs=block_costs)


def run_blocks(
    task: Callable[[Any, Int[Array, " size"]], Any],
    operands: Any,
    costs: Float[Array, " lanes"],
    block_size: int,
    mesh: Mesh,
) -> Any:
    """Runs `task` on every lane, block by block, over the mesh.

    Args:
        task: from `operands` and the lane numbers of one block to a pytree of floats with leading axis
            `size`. It is traced once. Numbers >= lanes are padding: their results are dropped, and they
            should cost nothing.
        operands: pytree of arrays that the task reads; every device holds all of it.
        costs: relative time of each lane. A lane that costs 0 has nothing to do: blocks of such lanes
            are left out, and their results are 0.
        block_size: lanes that run side by side; part of what determines results to the last bit.
        mesh: the devices, from `make_mesh`.

    Returns:
        The pytree with leading axis `lanes`, the same on every device. It crosses devices once, so
        keep it small: scalars per lane, not agents.
    """
    lanes = costs.shape[0]
    plan = assign_blocks(costs, block_size, mesh.size)
    shapes = jax.eval_shape(task, operands, jax.ShapeDtypeStruct((block_size,), jnp.int32))

    def on_device(plan, operands):
        # A block whose first and longest lane costs nothing has nothing to do.
        mine = (plan.device == jax.lax.axis_index(AXIS)) & (plan.costs > 0)
        queue = jnp.argsort(~mine, stable=True)

        def run(i, results):
            block = plan.blocks[queue[i]]
            block_results = task(operands, block)
            # `add` and not `set`: it turns -0 into 0, as the sum over devices does.
            return jax.tree.map(
                lambda all_, new: all_.at[block].add(new, mode="drop"), results, block_results
            )

        results = jax.tree.map(lambda s: jnp.zeros((lanes, *s.shape[1:]), s.dtype), shapes)
        results = jax.lax.fori_loop(0, jnp.sum(mine), run, results)
        # Each lane was run by one device and is zero on the others, so the sum is exact.
        return jax.lax.psum(results, AXIS)

    everywhere = PartitionSpec()
    return jax.shard_map(on_device, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False)(
        plan, operands
    )


def run_lanes(
    run_block: Callable[[Any, Any, Bool[Array, " size"]], Any],
    shared: Any,
    per_lane: Any,
    costs: Float[Array, " lanes"],
    block_size: int,
    mesh: Mesh,
) -> Any:
    """`run_blocks` for lanes whose operands are arrays: each block gets those of its own lanes.

    Args:
        run_block: from `shared`, the operands of a block's lanes and which of these are no padding to results
            with leading axis `size`. Padding has the operands of the last lane, and should cost nothing.
        shared: pytree of arrays that all lanes read.
        per_lane: pytree of arrays with leading axis lanes.
        costs: relative time of each lane, as for `run_blocks`.
        block_size: lanes that run side by side.
        mesh: the devices.

    Returns:
        The results of all lanes.
    """
    lanes = costs.shape[0]

    def run(operands: Any, numbers: Int[Array, " size"]) -> Any:
        shared, per_lane = operands
        lane = jnp.minimum(numbers, lanes - 1)
        return run_block(shared, jax.tree.map(lambda leaf: leaf[lane], per_lane), numbers < lanes)

    return run_blocks(run, (shared, per_lane), costs, block_size, mesh)
