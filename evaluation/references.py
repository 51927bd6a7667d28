"""The ends of scores that cannot be computed: returns of a random and of a good policy, with sources.

Gridworlds have exact ones (`envs.gridworld.planning`). An environment that is neither there nor here has
returns and no scores.
"""

from typing import NamedTuple


class Reference(NamedTuple):
    """What scores 0 and 1 on an environment.

    Attributes:
        random: mean return of the uniformly random policy (docs/studies/random_returns.py).
        high: mean return of what scores 1.
        source: what that is.
    """

    random: float
    high: float
    source: str


_OPEN = "PPO after 1e7 steps, Goldie et al. 2024 (OPEN, arXiv 2407.07082)"
_BEST = "the best that can be had"

_THRESHOLD = "Gymnasium's reward threshold"

REFERENCES = {
    "CartPole-v1": Reference(22.1, 500.0, "its time limit"),
    "Acrobot-v1": Reference(-498.9, -100.0, _THRESHOLD),
    "MountainCar-v0": Reference(-200.0, -110.0, _THRESHOLD),
    "Asterix-MinAtar": Reference(0.49, 15.0, _OPEN),
    "Breakout-MinAtar": Reference(0.42, 50.1, _OPEN),
    "Freeway-MinAtar": Reference(0.40, 61.8, _OPEN),
    "SpaceInvaders-MinAtar": Reference(4.24, 167.1, _OPEN),
    "Catch-bsuite": Reference(-0.60, 1.0, _BEST),
    "DeepSea-bsuite": Reference(0.0, 0.99, _BEST),
    "MemoryChain-bsuite": Reference(0.0, 1.0, _BEST),
    "UmbrellaChain-bsuite": Reference(0.0, 1.0, _BEST),
    "DiscountingChain-bsuite": Reference(1.02, 1.1, _BEST),
    "SimpleBandit-bsuite": Reference(0.50, 1.0, _BEST),
    "brax/inverted_pendulum": Reference(5.8, 1000.0, "its time limit"),
}
"""By environment."""
