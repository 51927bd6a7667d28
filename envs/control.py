"""Suites of control tasks from gymnax: classic control, MinAtar and bsuite.

Horizons count environment steps, because rules of different families make updates of different
lengths. The short budgets are sized for a few CPU cores, `-full` ones are those of the papers.
"""

from rl_discovery.envs.suites import Suite

CLASSIC = ("CartPole-v1", "Acrobot-v1", "MountainCar-v0")
"""gymnax's classic control tasks with discrete actions."""

MINATAR = ("Asterix-MinAtar", "Breakout-MinAtar", "Freeway-MinAtar", "SpaceInvaders-MinAtar")
"""Seaquest is left out, as in the LPO paper."""

BSUITE = (
    *("Catch-bsuite", "DeepSea-bsuite", "MemoryChain-bsuite", "UmbrellaChain-bsuite"),
    *("DiscountingChain-bsuite", "SimpleBandit-bsuite"),
)
"""MNISTBandit is left out: it downloads its images."""


def _pair(
    name: str, description: str, environments: tuple[str, ...], short: tuple[int, ...], full: tuple[int, ...]
) -> tuple[Suite, Suite]:
    """A suite with a budget for a few cores, and its `-full` sibling."""
    return (
        Suite(name, f"{description}, short budgets", environments, short, unit="env_steps"),
        Suite(f"{name}-full", f"{description}, published budgets", environments, full, unit="env_steps"),
    )


SUITES = (
    *_pair("classic", "gymnax classic control", CLASSIC, (100_000, 500_000), (500_000, 1_000_000)),
    *_pair("minatar", "MinAtar on gymnax", MINATAR, (1_000_000,), (10_000_000,)),
    *_pair("bsuite", "bsuite on gymnax", BSUITE, (50_000,), (500_000,)),
)
