"""Reads configurations of older versions as current ones, so that their runs can be resumed.

`objective` had the settings of LPG, and `drift` those of LPO, which were read where `objective.kind` was lpo.
Other rules had their defaults.
"""

from typing import Any


def modern(document: dict[str, Any]) -> dict[str, Any]:
    """A configuration's JSON with the settings of the rule that it meant under `objective`."""
    objective, drift = document.get("objective", {}), document.get("drift", {})
    if not isinstance(objective, dict):
        return document
    if not isinstance(drift, dict):  # damaged: `drift` is refused
        return document | {"objective": {"kind": "lpg"}}
    if "drift" not in document and objective.get("kind"):
        return document
    kind = objective.get("kind", "lpg")
    settings = {"horizon_inputs": True} | objective if kind == "lpg" else drift if kind == "lpo" else {}
    document = document | {"objective": {**settings, "kind": kind}}
    return {name: value for name, value in document.items() if name != "drift"}
