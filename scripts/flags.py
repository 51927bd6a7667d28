"""A field as a flag of `meta-train`: what `report` tells to repeat a run, and what `sweep` runs."""


def flag(name: str, value: object) -> list[str]:
    """As `meta-train` takes it: a switch is named by its state, a tuple is several words."""
    words = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        parts = words.removeprefix("--").rsplit(".", 1)
        parts[-1] = parts[-1] if value else f"no-{parts[-1]}"
        return [f"--{'.'.join(parts)}"]
    return [words, *map(str, value)] if isinstance(value, list) else [words, str(value)]
