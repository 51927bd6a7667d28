"""A state as plain arrays by path, with a layout and a digest to verify them after reading.

`checkpoints.runs` gives these arrays to Orbax in place of the state itself: numpy arrays carry no
sharding of the process that wrote them.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Layout = list[list[Any]]
"""Path, dtype and shape of every leaf, in the order of the pytree, as JSON has it."""


def named(tree: Any, separator: str = "") -> dict[str, Any]:
    """The leaves of a pytree by path, in its order.

    Args:
        tree: the pytree.
        separator: between the names of a path, `gru/kernel`; empty: as JAX prints it, `['gru']['kernel']`.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=bool(separator), separator=separator): leaf for path, leaf in leaves
    }


def layout_of(tree: Any) -> Layout:
    """Path, dtype and shape of every stored array; leaves are arrays or `jax.ShapeDtypeStruct`."""
    layout: Layout = []
    for name, leaf in named(tree).items():
        stored = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        if _is_key(stored):
            stored = jax.eval_shape(jax.random.key_data, stored)
        layout.append([name, str(stored.dtype), list(stored.shape)])
    return layout


def to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """The leaves by path, in the order of the pytree."""
    return {name: _to_array(leaf) for name, leaf in named(tree).items()}


def from_arrays(arrays: Mapping[str, np.ndarray], like: Any) -> Any:
    """The inverse of `to_arrays`, with the structure of `like`."""
    leaves = [_to_leaf(arrays[name], leaf) for name, leaf in named(like).items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def storable(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without arrays of size 0, which Orbax refuses and the layout describes completely."""
    return {name: array for name, array in arrays.items() if math.prod(array.shape)}


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over paths, dtypes, shapes and contents."""
    sha = hashlib.sha256()
    for name, array in arrays.items():
        sha.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def difference(saved: Layout, wanted: Layout) -> str:
    """The first leaf in which two layouts differ."""
    for old, new in zip(saved, wanted, strict=False):
        if old != new:
            return f"{old[0]} {old[1]}{old[2]} there, {new[0]} {new[1]}{new[2]} here"
    return f"{len(saved)} arrays there, {len(wanted)} here"


def _is_key(leaf: Any) -> bool:
    # Typed keys are stored as the integers that they are made of.
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_array(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if isinstance(leaf, jax.Array) and _is_key(leaf) else leaf)


def _to_leaf(array: np.ndarray, like: Any) -> Any:
    if hasattr(like, "dtype") and _is_key(like):
        # An abstract key does not name its generator; its dtype does.
        return jax.random.wrap_key_data(jnp.asarray(array), impl=like.dtype._impl)
    exact = jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype
    return jnp.asarray(array) if exact else array
