"""Environments and level distributions by name.

Nothing is registered by hand: every module or subpackage of `envs` that defines `FAMILY` is a
family, and its distributions are known as "family/name". gymnax's own environments keep their ids.
"""

import contextlib
import dataclasses
import functools
import importlib
import pkgutil
import types
from collections.abc import Iterator, Mapping
from typing import Any

import gymnax
import jax
import jax.numpy as jnp
from gymnax.environments.environment import Environment

from rl_discovery import envs
from rl_discovery.discovery.registry import PLACE, BrokenPluginError, Registry, UnknownNameError, at_place
from rl_discovery.envs.levels import EnvParams, Family, LevelDistribution, UnusableEnvironmentError
from rl_discovery.envs.options import read_options, split_options

REFUSED = {"MNISTBandit-bsuite": "it downloads its images when it is made, and nothing here may download"}
"""gymnax environments that cannot be used, and why."""


@functools.cache
def modules() -> tuple[types.ModuleType, ...]:
    """All modules and subpackages of `envs` that can be imported."""
    _broken.clear()
    imported = []
    for finder, name, _ in sorted(pkgutil.iter_modules(envs.__path__), key=lambda module: module.name):
        try:
            imported.append(_import(name))
        except (Exception, SystemExit) as error:  # whatever somebody's file does
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            _broken[f"{getattr(finder, 'path', 'envs')}/{name}"] = reason
    return tuple(imported)


_broken: dict[str, str] = {}


def broken_modules() -> dict[str, str]:
    """Modules of `envs` that cannot be imported and are skipped: the reason by path, in one line."""
    modules()
    return dict(_broken)


def skipped() -> str:
    """Everything that was skipped and why, to end the message about an unknown name with."""
    broken = {**broken_modules(), **FAMILIES.broken}
    return "".join(f"; {place} was skipped: {reason}" for place, reason in broken.items())


def _import(name: str) -> types.ModuleType:
    module = importlib.import_module(f"rl_discovery.envs.{name}")
    family = getattr(module, "FAMILY", None)
    if family is not None and not isinstance(family, Family):
        raise TypeError(f"its FAMILY is a {type(family).__name__}, not an envs.Family")
    return module


def _ours() -> dict[str, Family]:
    return {module.FAMILY.name: module.FAMILY for module in modules() if hasattr(module, "FAMILY")}


FAMILIES = Registry("environment family", "envs", Family, _ours, group="rl_discovery.environments")
"""All families by name."""


def distributions() -> dict[str, LevelDistribution]:
    """All level distributions by full name, as in "gridworld/all"."""
    return {
        f"{family.name}/{name}": distribution
        for family in FAMILIES.values()
        for name, distribution in family.distributions.items()
    }


def distribution(name: str, **options: Any) -> LevelDistribution:
    """A level distribution.

    Args:
        name: "gridworld/all", or "all" where only one family has a distribution of that name;
            "my_module:FAMILY/short" of a family in a module that is loaded; or any other environment
            ("CartPole-v1", "brax/reacher"), whose one level has no horizon of its own. Options may
            follow, as for `make`.
        options: of its environment, as for `make`.

    Returns:
        The distribution.

    Raises:
        UnknownNameError: there is none, or several families have one.
        UnusableEnvironmentError: it cannot be used here, or not with these options.
    """
    name, in_name = split_options(name)
    options = in_name | options
    if is_place(name):
        return _one_level(name, options)
    full = _full_name("level distribution", name)
    if full not in distributions():
        return _one_level(full, options)
    level_distribution = distributions()[full]
    if not options:
        return level_distribution
    return dataclasses.replace(level_distribution, env=_with_options(level_distribution.env, options))


def family_of(name: str) -> Family:
    """The family that a level distribution belongs to.

    Args:
        name: as for `distribution`.

    Returns:
        The family; gymnax's for an environment of none.

    Raises:
        UnknownNameError: there is no such distribution, or several families have one.
    """
    plain = split_options(name)[0]
    return GYMNAX if is_place(plain) else family_at(_full_name("level distribution", plain))


def family_at(full_name: str) -> Family:
    """The family whose name a full name begins with; gymnax's where it begins with none."""
    return FAMILIES.get(full_name.partition("/")[0], GYMNAX)


def make(name: str, seed: int = 0, **options: Any) -> tuple[Environment, EnvParams]:
    """An environment and one level of it.

    Args:
        name: a family's environment ("gridworld/dense", or "dense" where only one family has it), a
            gymnax id ("CartPole-v1"), or a class ("my_module:Env") or a family's environment
            ("my_module:FAMILY/short") of a module that is loaded. Options may follow:
            "brax/ant,backend=spring,action_repeat=2".
        seed: which level, where the name stands for a distribution of them.
        options: of the environment: a gridworld takes `observation` ("tabular", "planes") and
            `diagonal`; Brax's take `backend` and `action_repeat`; a gymnax environment what
            `gymnax.make` takes.

    Returns:
        The environment and its parameters, as `gymnax.make` does: use them as in
        `env.reset(key, params)` and `env.step(key, state, action, params)`.

    Raises:
        UnknownNameError: nothing has this name.
        UnusableEnvironmentError: it cannot be used here, or not with these options.
        BrokenPluginError: what `module:name` names cannot be used.
    """
    name, in_name = split_options(name)
    options = in_name | options
    if is_place(name):
        return _at(name, options)
    full = _full_name("environment", name)
    family, _, member = full.partition("/")
    if family not in FAMILIES:
        with _options_of(full, options):
            if options:
                options = read_options(options, type(gymnax.make(full)[0]).__init__)
            return gymnax.make(full, **options)
    env, params = FAMILIES[family].make(member, seed)
    return (_with_options(env, options) if options else env), params


def _at(place: str, options: dict[str, Any]) -> tuple[Environment, EnvParams]:
    """The environment that the class or function at `module:name` makes, and its default level."""
    make_env: Any = at_place("environment", place)
    with _options_of(place, options):
        env = make_env(**(read_options(options, make_env) if options else {}))
    return env, env.default_params


def _with_options(env: Any, options: dict[str, Any]) -> Environment:
    name = getattr(env, "name", type(env).__name__)
    if not hasattr(type(env), "with_options"):  # of the environment inside a wrapper they would unwrap it
        raise UnusableEnvironmentError(f"{name} has no options, so not {', '.join(options)} either")
    with _options_of(name, options):
        return env.with_options(**read_options(options, env.with_options, type(env).__init__))


@contextlib.contextmanager
def _options_of(name: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Turns what a constructor raises about its options into `UnusableEnvironmentError`."""
    try:
        yield
    except UnusableEnvironmentError:
        raise
    except (TypeError, ValueError, AssertionError) as error:
        reason = str(error) or f"impossible options: {', '.join(options)}"  # an assertion may say nothing
        raise UnusableEnvironmentError(f"{name}: {reason}") from error


def names() -> list[tuple[str, str]]:
    """Name and description of everything that `make` knows: families first, then gymnax's ids."""
    ours = {
        f"{family.name}/{member}": description
        for family in FAMILIES.values()
        for member, description in family.members.items()
    }
    return [*ours.items(), *((name, "gymnax environment") for name in gymnax_ids())]


def gymnax_ids() -> list[str]:
    """gymnax's own environments, without those that cannot be used."""
    ours = {f"{family.name}/{member}" for family in FAMILIES.values() for member in family.members}
    return [name for name in gymnax.registered_envs if name not in ours and name not in REFUSED]


def _one_level(name: str, options: dict[str, Any]) -> LevelDistribution:
    """An environment as a distribution of one level; the run says how long agents live on it."""
    env, params = make(name, **options)
    params = jax.tree.map(jnp.asarray, params)
    return LevelDistribution(
        name=name,
        description=dict(names()).get(name, "an environment from outside"),
        env=env,
        sample_params=lambda key: params,
        horizon=None,
    )


GYMNAX = Family(
    "gymnax", "gymnax's own environments", distributions={}, make=lambda name, seed: gymnax.make(name)
)


def full_name(name: str) -> str:
    """The full name of a level distribution or an environment, with its options.

    A family that is named by its place (`my_module:FAMILY/short`) is registered under its own name.

    Args:
        name: as for `distribution`.

    Returns:
        As in "gridworld/dense" or "brax/ant,backend=spring"; `module:name` of an environment stays as it is.

    Raises:
        UnknownNameError: nothing has this name, or several families have it.
        UnusableEnvironmentError: it cannot be used here.
        BrokenPluginError: what `module:name` names cannot be used.
    """
    plain, comma, options = name.partition(",")
    if is_place(plain):
        return name
    return f"{_full_name('environment', plain)}{comma}{options}"


def _full_name(kind: str, name: str) -> str:
    """The full name of what `name` means, which may lack its family or say where the family is."""
    if name in REFUSED:
        raise UnusableEnvironmentError(f"{name} cannot be used: {REFUSED[name]}")
    if PLACE.fullmatch(name) and not is_place(name):
        place, _, member = name.partition("/")
        name = f"{_registered(place)}/{member}"
    known = dict(names())
    matches = [full for full in known if name in (full, full.partition("/")[2])]
    if len(matches) != 1:
        short = [full.rpartition("/")[2] for full in known]
        raise UnknownNameError(kind, name, matches or [*known, *short], "envs", skipped())
    return matches[0]


def is_place(name: str) -> bool:
    """Whether it is the `module:name` of an environment, and not of a family's member."""
    return PLACE.fullmatch(name) is not None and "/" not in name


def _registered(place: str) -> str:
    """The name of the family at `module:name`, which is registered from now on."""
    family = FAMILIES.find(place)
    try:
        FAMILIES.register(family.name, family)
    except ValueError as error:
        raise BrokenPluginError(f"environment family {place!r} cannot be used: {error}") from None
    return family.name


def register_with_gymnax() -> None:
    """Let `gymnax.make("gridworld/dense", seed=0)` find the families' environments as well."""
    for name, _ in names():
        if name not in gymnax.registered_envs:
            gymnax.register(name, functools.partial(_with_default_params, name))


def _with_default_params(name: str, seed: int = 0) -> Any:
    """The environment with the level as its `default_params`, which is where gymnax looks for it."""
    env, params = make(name, seed)
    own: Any = object.__new__(type(type(env).__name__, (type(env),), {"default_params": params}))
    vars(own).update(vars(env))  # not by copy, which wrappers with a `__getattr__` do not survive
    return own
