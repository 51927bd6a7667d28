"""Drifts that are registered, meta-parameters for them, and a grid of ratios and advantages."""

import jax
import numpy as np

from rl_discovery.discovery.objectives.mirror_learning import MirrorLearning
from rl_discovery.discovery.objectives.registry import RULES, make_objective
from tests.discovery.experience import randomised

MIRRORS = [name for name in sorted(RULES) if isinstance(make_objective(name), MirrorLearning)]

RATIOS, ADVANTAGES = (
    x.ravel().astype(np.float32) for x in np.meshgrid(np.exp(np.linspace(-2, 2, 41)), np.linspace(-3, 3, 13))
)


def meta_params(rule, seed, scale):
    like = rule.init(jax.random.key(0))
    return randomised(np.random.default_rng(seed), like, scale)
