"""Failures of a run that a person can do something about: one clear line each."""


class RunError(RuntimeError):
    """The run directory cannot be used as asked."""


class ConfigError(ValueError):
    """A configuration that cannot work, or that is not the one a run was started with."""


class DivergedError(RuntimeError):
    """No candidate of a generation had a finite fitness."""
