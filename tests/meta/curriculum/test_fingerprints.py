"""The hash by which duplicates are found."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.envs.levels import Level
from rl_discovery.envs.registry import distribution
from rl_discovery.meta.curriculum import buffer as level_buffer


def examples():
    _, cartpole = gymnax.make("CartPole-v1")
    grid = distribution("gridworld/all_vrandlife").sample(jax.random.key(0))
    return {"grid": grid, "cartpole": Level(params=cartpole, horizon=100)}


EXAMPLES = examples()
fingerprint = jax.jit(level_buffer.fingerprint)


@pytest.mark.parametrize("name", EXAMPLES)
def test_any_changed_number_changes_the_fingerprint(name):
    leaves, structure = jax.tree.flatten(EXAMPLES[name])
    leaves = [np.asarray(jnp.asarray(leaf)) for leaf in leaves]
    changed = [leaves]
    for i, leaf in enumerate(leaves):
        for place in np.ndindex(leaf.shape):
            other = leaf.copy()
            # The smallest change: of the last bit, which for a float 0 would be no more than 0 on a CPU.
            other.view(np.uint8 if leaf.dtype == bool else np.uint32)[place] ^= 1
            if leaf.dtype == np.float32 and leaf[place] == 0:
                other[place] = 1e-30
            changed.append([*leaves[:i], other, *leaves[i + 1 :]])
    batched = structure.unflatten([np.stack(column) for column in zip(*changed, strict=True)])
    found = np.asarray(jax.jit(jax.vmap(level_buffer.fingerprint))(batched))
    assert found.dtype == np.uint32
    assert len(changed) > 10
    for stream in found.T:
        assert len(np.unique(stream)) == len(changed)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_fingerprint_does_not_depend_on_how_it_is_computed(name):
    example = EXAMPLES[name]
    expected = np.asarray(level_buffer.fingerprint(example))
    np.testing.assert_array_equal(fingerprint(example), expected)
    twice = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 2), example)
    np.testing.assert_array_equal(jax.vmap(level_buffer.fingerprint)(twice), [expected] * 2)
    np.testing.assert_array_equal(fingerprint(jax.device_get(example)), expected)


def test_fingerprints_tell_places_apart_and_negative_zero_is_zero():
    def of(*values, dtype=jnp.float32):
        return tuple(
            np.asarray(fingerprint(Level(params=jnp.array(values, dtype), horizon=jnp.int32(1)))).tolist()
        )

    assert of(0.0, 1.0) == of(-0.0, 1.0)
    assert len({of(1.0, 2.0), of(2.0, 1.0), of(1.0, 1.0), of(2.0, 2.0), of(0.0, 0.0)}) == 5
    for dtype in (jnp.bfloat16, jnp.int8, jnp.uint8, jnp.int32, jnp.uint32, bool):
        assert of(0, 1, dtype=dtype) != of(1, 0, dtype=dtype)


def test_fingerprints_of_64_bit_numbers_see_all_bits():
    with jax.enable_x64(True):
        for dtype, step in ((jnp.float64, 1e-12), (jnp.int64, 1 << 40)):
            numbers = [jnp.array(1 + i * step, dtype) for i in range(3)]
            found = [level_buffer.fingerprint(Level(params=x, horizon=jnp.int32(1))) for x in numbers]
            assert len({tuple(np.asarray(f).tolist()) for f in found}) == 3
            assert found[0].dtype == jnp.uint32


def test_sampled_levels_have_fingerprints_of_their_own_with_bits_half_set():
    levels = jax.vmap(distribution("gridworld/small").sample)(jax.random.split(jax.random.key(1), 2000))
    found = np.asarray(jax.vmap(level_buffer.fingerprint)(levels))
    rows = [np.asarray(leaf, np.float64).reshape(2000, -1) for leaf in jax.tree.leaves(levels)]
    distinct = np.unique(np.concatenate(rows, axis=1), axis=0)
    assert len(np.unique(found, axis=0)) == len(distinct) > 1900
    bits = np.unpackbits(found.view(np.uint8), axis=1).mean(axis=0)
    np.testing.assert_allclose(bits, 0.5, atol=0.06)
