"""The arguments of `import-drift`, checked before JAX is imported."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from rl_discovery.scripts.arguments import PlaceError, parse
from rl_discovery.scripts.export_arguments import check_target


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Make an objective of an LPO drift that the code of Lu et al. 2022, or other code like it, has saved.

    docs/how-to/import.md describes the file.
    """

    file: tyro.conf.Positional[Path]
    """The saved weights: .npy, .npz or .safetensors."""

    out: tyro.conf.Positional[Path]
    """The .safetensors file to write, for `evaluate` and all else that takes an objective."""

    inputs: Literal["lu2022", "goldie2025", "rl-discovery"] = "lu2022"
    """Whose order of inputs the network has."""

    form: Literal["plain", "ppo_residual"] = "ppo_residual"
    """ppo_residual if PPO's drift is added to the network's (the published `--ppo-init`), else plain."""

    clip: float = 0.2
    """eps of that PPO's drift."""

    offset: float = 1e-4
    """xi, which is subtracted before the ReLU."""

    json: bool = False
    """Print the card as JSON."""


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """The arguments.

    Raises:
        UsageError, PlaceError, ExportTargetError, ObjectiveFileError: they make no sense; one line.
    """
    arguments = parse(Arguments, argv, "import-drift")
    if not arguments.file.exists():
        raise PlaceError(f"there is no {arguments.file}")
    check_target(arguments.out, ".safetensors")
    return arguments
