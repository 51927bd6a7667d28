"""Tensors in one `.safetensors` file whose metadata says what they are; nothing in it is trusted.

`objective_file` and `agent_file` derive from the metadata which tensors the file must have.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pydantic
import safetensors
import safetensors.numpy

from rl_discovery.checkpoints import untrusted
from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.errors import CheckpointError, one_line, reason

Shapes: TypeAlias = dict[str, tuple[str, tuple[int, ...]]]
"""Dtype and shape of each tensor by name."""

SEPARATOR = "/"
"""Between the parts of a tensor's name."""

_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "I32": "int32"}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file, for messages and limits.

    Attributes:
        name: with its article, as in "a saved agent".
        owner: of the tensors, as in "its card's agent".
        limit: bytes of a file.
        error: raised for every fault of such a file.
    """

    name: str
    owner: str
    limit: int
    error: type[CheckpointError]


def shapes(leaves: Mapping[str, Any]) -> Shapes:
    """Dtype and shape of arrays, or of `jax.ShapeDtypeStruct`, by name."""
    return {name: (str(leaf.dtype), tuple(leaf.shape)) for name, leaf in leaves.items()}


def problem(error: pydantic.ValidationError) -> str:
    """The first field that is wrong, and how."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return one_line(f"{where}: {first['msg'].lower()}" if where else first["msg"].lower())


def write(
    path: Path, kind: Kind, leaves: Mapping[str, Any], expected: Shapes, metadata: Mapping[str, str]
) -> None:
    """Writes a file that can be read back; a reader sees the old file or the new one, never a part.

    Args:
        path: where to; replaced if it is there.
        kind: of the file.
        leaves: the tensors by name.
        expected: what they have to be.
        metadata: of the file.

    Raises:
        CheckpointError: the file cannot be written; of the kind's own where it could not be read back.
    """
    tensors = {name: np.asarray(leaf, order="C") for name, leaf in leaves.items()}
    _check_shapes(shapes(tensors), expected, path, kind)
    _check_finite(tensors, path, kind)
    if sum(map(len, metadata.values())) > untrusted.CARD // 2:
        raise kind.error(f"cannot write {path}: its card is longer than {untrusted.CARD // 2} bytes")
    replace_file(path, safetensors.numpy.save(tensors, dict(metadata)))


@contextlib.contextmanager
def opened(path: Path, kind: Kind) -> Iterator[Any]:
    """The file, its header checked by safetensors and no tensor read yet."""
    try:
        with untrusted.open_file(path, kind.limit) as raw:
            length = int.from_bytes(raw.read(8), "little")
        if length > untrusted.CARD:
            raise kind.error(f"{path} is not {kind.name}: no header of ours is that long")
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file
    except OSError as error:
        raise kind.error(f"cannot read {path}: {reason(error)}") from None
    except untrusted.RefusedError as error:
        raise kind.error(f"{path} is not {kind.name}: it {error}") from None
    except safetensors.SafetensorError as error:
        raise kind.error(f"{path} is not {kind.name}, or is damaged: {reason(error)}") from None


def read(file: Any, path: Path, kind: Kind, expected: Shapes) -> dict[str, np.ndarray]:
    """All tensors of an opened file; shapes are compared in its header, before any is allocated."""
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    stored = {n: (_DTYPES.get(s.get_dtype(), s.get_dtype()), tuple(s.get_shape())) for n, s in slices.items()}
    _check_shapes(stored, expected, path, kind)
    tensors = {name: file.get_tensor(name) for name in expected}
    _check_finite(tensors, path, kind)
    return tensors


def _check_shapes(stored: Shapes, expected: Shapes, path: Path, kind: Kind) -> None:
    if missing := [name for name in expected if name not in stored]:
        raise kind.error(f"{path} lacks the tensor {missing[0]!r}, which {kind.owner} needs")
    if extra := [name for name in stored if name not in expected]:
        raise kind.error(f"{path} has a tensor {extra[0]!r} that {kind.owner} does not know")
    for name, (dtype, shape) in expected.items():
        if stored[name] != (dtype, shape):
            other_dtype, other_shape = stored[name]
            raise kind.error(
                f"tensor {name!r} of {path} is {other_dtype}{list(other_shape)}; "
                f"{kind.owner} needs {dtype}{list(shape)}"
            )


def _check_finite(tensors: Mapping[str, np.ndarray], path: Path, kind: Kind) -> None:
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise kind.error(f"tensor {name!r} of {path} has values that are not finite")
