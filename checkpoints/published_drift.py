"""LPO drifts that other people's code has saved, as objectives of ours.

The code of Lu et al. 2022 (arXiv 2210.05639) and of Goldie et al. 2025 (arXiv 2507.17668) has our network:
one hidden layer of tanh units without biases, and 8 inputs. Theirs are in another order, or one has another
sign; the rows of the hidden layer are moved accordingly, so that the objective is exactly theirs. Files are
read without pickle.
"""

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from rl_discovery.checkpoints import untrusted
from rl_discovery.checkpoints.errors import DriftFileError, one_line, reason
from rl_discovery.checkpoints.provenance import versions
from rl_discovery.checkpoints.tensor_file import Kind, opened
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.lpo import LPO, Form

Inputs = Literal["lu2022", "goldie2025", "rl-discovery"]

INPUTS: Mapping[Inputs, tuple[str, str, str, str]] = {
    "lu2022": ("log r", "(log r)^2", "1-r", "(r-1)^2"),
    "goldie2025": ("r-1", "(r-1)^2", "log r", "(log r)^2"),
    "rl-discovery": ("log r", "(log r)^2", "r-1", "(r-1)^2"),
}
"""Whose order of inputs: the first four, each of which follows once more, times A."""

KIND = Kind(name="a saved drift", owner="a drift", limit=untrusted.DRIFT, error=DriftFileError)

SHAPES = "two arrays, of shapes [8, H] and [H, 1] for H hidden units"

Arrays = dict[str, np.ndarray]


def import_drift(
    path: Path | str,
    inputs: Inputs = "lu2022",
    form: Form = "ppo_residual",
    clip: float = 0.2,
    offset: float = 1e-4,
) -> TrainedObjective:
    """Reads a drift that the published code, or other code like it, has saved.

    Args:
        path: `.npy` with one vector of 9 H numbers, the hidden layer's 8 rows first (what the published code
            saves); or `.npz` or `.safetensors` with two arrays of any names, (8, H) and (H, 1).
        inputs: whose order of inputs, a key of `INPUTS`.
        form: `ppo_residual` if PPO's drift is added before the ReLU (the published code's `--ppo-init`), else
            `plain`.
        clip: eps of that PPO's drift.
        offset: xi, subtracted before the ReLU.

    Returns:
        The objective `lpo`, for `save_objective`.

    Raises:
        DriftFileError: it is no such file; says what is wrong.
    """
    path = Path(path)
    readers = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": _read_safetensors}
    if path.suffix not in readers:
        raise DriftFileError(f"{path} is no .npy, .npz or .safetensors file")
    hidden, out = _layers(readers[path.suffix](path), path)
    params = {"hidden": {"kernel": _in_our_order(hidden, inputs)}, "out": {"kernel": out}}
    rule = LPO(form=form, width=hidden.shape[1], clip=clip, offset=offset)
    card = {"imported_from": f"{one_line(path.name)} ({inputs})", "versions": versions()}
    return TrainedObjective(rule, params, card)


def _in_our_order(hidden: np.ndarray, inputs: Inputs) -> np.ndarray:
    """The hidden layer for our inputs: w (1 - r) = -w (r - 1)."""
    ours = INPUTS["rl-discovery"]
    result = np.empty_like(hidden)
    for row, name in enumerate(INPUTS[inputs]):
        sign, name = (-1, "r-1") if name == "1-r" else (1, name)
        for half in (0, 4):  # without A, and times A
            result[ours.index(name) + half] = sign * hidden[row + half]
    return result


def _layers(arrays: Arrays, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The two layers by their shapes, in float32."""
    hidden = [array for array in arrays.values() if array.ndim == 2 and array.shape[0] == 8]
    for first in hidden if len(arrays) == 2 else ():
        (second,) = (array for array in arrays.values() if array is not first)
        if first.shape[1] > 0 and second.shape == (first.shape[1], 1):
            with np.errstate(over="ignore"):
                layers = first.astype(np.float32), second.astype(np.float32)
            if not all(np.isfinite(layer).all() for layer in layers):
                raise DriftFileError(f"{path} has values that are not finite in float32")
            return layers
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
    raise DriftFileError(f"{path} has {one_line(shapes) or 'no arrays'}; an LPO drift is {SHAPES}, no biases")


def _read_npy(path: Path) -> Arrays:
    """What the published code saves: all weights in one vector."""
    vector = _array(_read_bytes(path), str(path))
    width, rest = divmod(vector.size, 9)
    if vector.ndim != 1 or rest:
        raise DriftFileError(
            f"{path} has an array of shape {list(vector.shape)}; in a .npy file an LPO drift is one "
            "vector of 9 numbers for each hidden unit"
        )
    return {"hidden": vector[: 8 * width].reshape(8, width), "out": vector[8 * width :, None]}


def _read_npz(path: Path) -> Arrays:
    data = _read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
            members = {} if size > KIND.limit else {name: archive.read(name) for name in archive.namelist()}
    except Exception as error:  # zipfile raises whatever a damaged archive makes it raise
        raise DriftFileError(f"{path} is not a .npz file, or is damaged: {reason(error)}") from None
    if size > KIND.limit:
        raise DriftFileError(f"{path} unpacks to {size} bytes, more than the {KIND.limit} that are read")
    return {
        name.removesuffix(".npy"): _array(member, one_line(f"{name!r} of {path}"))
        for name, member in members.items()
    }


def _read_safetensors(path: Path) -> Arrays:
    with opened(path, KIND) as file:
        for name in file.keys():  # noqa: SIM118 - not a dict
            if (dtype := file.get_slice(name).get_dtype()) not in ("F16", "F32", "F64"):
                raise DriftFileError(
                    one_line(f"{name!r} of {path} is {dtype}, not float16, float32 or float64")
                )
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _read_bytes(path: Path) -> bytes:
    try:
        return untrusted.read_bytes(path, KIND.limit)
    except OSError as error:
        raise DriftFileError(f"cannot read {path}: {reason(error)}") from None
    except untrusted.RefusedError as error:
        raise DriftFileError(f"{path} is not {KIND.name}: it {error}") from None


def _array(data: bytes, name: str) -> np.ndarray:
    """An array in NumPy's format; its size is compared before it is made."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, by_columns, dtype = headers[version](stream)
    except Exception as error:  # NumPy evaluates the header as a literal of Python
        raise DriftFileError(f"{name} is not an array of NumPy, or is damaged: {reason(error)}") from None
    if dtype.hasobject:
        raise DriftFileError(f"{name} holds Python objects, for which it would need pickle: save {SHAPES}")
    if dtype.kind != "f":
        raise DriftFileError(f"{name} is {dtype}, not floating point")
    if dtype.itemsize * math.prod(shape) != len(data) - stream.tell():
        raise DriftFileError(f"{name} is damaged: its size is not that of its shape {list(shape)}")
    array = np.frombuffer(data, dtype, offset=stream.tell())
    return array.reshape(shape, order="F" if by_columns else "C")
