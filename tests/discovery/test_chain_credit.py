"""Delayed chains as LPG sees them: what tells it at the decision which action was the good one.

`tests/envs/test_chains.py` has the environment's side: which rollouts hold a decision, a reward, both.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.discovery.agents.agent import make_agent
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.learning import rollout as acting
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.envs.chains import ChainLevel, DelayedChain
from tests.discovery.experience import agent_of, experience_of, progress, randomised

T, W, LONGEST = 5, 8, 12
ENV = DelayedChain(LONGEST)
RULE = LPG(bins=3, width=6)
KEY = jax.random.key(0)


def level(length, good_action):
    return ChainLevel(max_steps_in_episode=jnp.int32(length), good_action=jnp.int32(good_action))


AGENT = make_agent(AgentConfig(), ENV, level(LONGEST, 0), RULE.head_size)


@jax.jit
def first_rollout(meta_params, params, level):
    """The rollout from the decision on, and what the objective says to it."""
    workers = acting.start(ENV, KEY, level, W)
    _, rollout = acting.collect(AGENT, agent_of(params), ENV, level, workers, KEY, T)
    experience = experience_of(AGENT, params, rollout)
    return rollout, RULE.targets(meta_params, experience, progress(0, 10)).pihat


def pihats(length, differing_states=()):
    """pihat where action 0 is the good one and where action 1 is, and both rollouts.

    The agent acts uniformly at random, with the same random numbers, so that its actions are the same.
    Its predictions are equal in all but the given states.
    """
    rng = np.random.default_rng(0)
    meta_params = randomised(rng, jax.eval_shape(RULE.init, KEY), 0.7)
    params = AGENT.init(KEY).params
    rows = params["head"]["rows"]
    for state in differing_states:
        rows = rows.at[state].set(rng.standard_normal(rows.shape[1]))
    params = {"policy": params["policy"], "head": {"rows": rows}}
    found = [first_rollout(meta_params, params, level(length, good)) for good in (0, 1)]
    rollouts, answers = zip(*jax.device_get(found), strict=True)
    np.testing.assert_array_equal(rollouts[0].action, rollouts[1].action)
    assert set(rollouts[0].action[0]) == {0, 1}
    return answers, rollouts


PAID_NEXT = LONGEST + 1
"""The state after the good action."""


@pytest.mark.parametrize("length", [T + 1, 9, LONGEST])
def test_a_decision_paid_after_the_rollout_gets_credit_through_the_prediction_alone(length):
    (one, other), rollouts = pihats(length)
    assert not np.any([rollout.reward for rollout in rollouts]), "the reward is in the rollout"
    np.testing.assert_array_equal(one, other)

    (one, other), _ = pihats(length, differing_states=[PAID_NEXT])
    assert np.all(one[0] != other[0]), "the prediction of the next state does not reach the decision"


def test_predictions_of_later_states_reach_the_decision_through_the_recurrence():
    (one, other), _ = pihats(LONGEST, differing_states=[LONGEST + T])  # where the rollout ends
    assert np.all(one[0] != other[0])


@pytest.mark.parametrize("length", [1, 3, T])
def test_a_decision_paid_within_the_rollout_gets_credit_from_the_reward(length):
    (one, other), rollouts = pihats(length)
    np.testing.assert_array_equal(rollouts[0].reward, -rollouts[1].reward)
    assert np.all(one[0] != other[0])
