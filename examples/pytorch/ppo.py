"""PPO on CartPole in PyTorch and Gymnasium, with the drift `ta-lpo` in place of the clip.

`ta_lpo.py` beside this file was written by `rl-discovery export ta-lpo ta_lpo.py --to torch`.

    pip install torch gymnasium
    python ppo.py
"""

import argparse

import gymnasium as gym
import numpy as np
import torch
from ta_lpo import drift
from torch import nn
from torch.distributions import Categorical

WORKERS, STEPS, EPOCHS, MINIBATCHES = 16, 64, 4, 4
GAMMA, LAMBDA, ENTROPY, VALUE, LEARNING_RATE = 0.99, 0.95, 0.01, 0.5, 2.5e-3


def mlp(inputs, outputs):
    """One network for the policy, another for the value."""
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)
    )


def collect(envs, observation, policy, value):
    """A rollout of STEPS x WORKERS steps, and the observation after it."""
    rows, returns = [], []
    for _ in range(STEPS):
        seen = torch.as_tensor(observation, dtype=torch.float32)
        distribution = Categorical(logits=policy(seen))
        action = distribution.sample()
        observation, reward, terminated, truncated, info = envs.step(action.numpy())
        reward = torch.as_tensor(reward, dtype=torch.float32)
        for i in np.flatnonzero(terminated | truncated):
            returns.append(info["final_info"]["episode"]["r"][i])
            if not terminated[i]:  # a time limit is not the end of the world
                last = torch.as_tensor(info["final_obs"][i], dtype=torch.float32)
                reward[i] += GAMMA * value(last)[0]
        done = torch.as_tensor(terminated | truncated, dtype=torch.float32)
        rows.append((seen, action, distribution.log_prob(action), value(seen)[:, 0], reward, done))
    return [torch.stack(column) for column in zip(*rows, strict=True)], observation, returns


def advantages(reward, done, values, next_value):
    """GAE, backwards in time."""
    result, total = torch.zeros_like(reward), torch.zeros(WORKERS)
    for t in reversed(range(STEPS)):
        following = next_value if t == STEPS - 1 else values[t + 1]
        error = reward[t] + GAMMA * (1 - done[t]) * following - values[t]
        total = result[t] = error + GAMMA * LAMBDA * (1 - done[t]) * total
    return result


def main(updates):
    """Trains one agent; returns the mean episode return of the last update that finished any."""
    torch.manual_seed(0)
    envs = gym.vector.SyncVectorEnv(
        [lambda: gym.wrappers.RecordEpisodeStatistics(gym.make("CartPole-v1"))] * WORKERS,
        autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,
    )
    policy, value = mlp(4, 2), mlp(4, 1)
    parameters = [*policy.parameters(), *value.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE, eps=1e-5)
    observation, _ = envs.reset(seed=0)
    for n in range(updates):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - n / updates)
        with torch.no_grad():
            rollout, observation, returns = collect(envs, observation, policy, value)
            seen, action, old_log_prob, values, reward, done = rollout
            following = value(torch.as_tensor(observation, dtype=torch.float32))[:, 0]
            advantage = advantages(reward, done, values, following)
        columns = seen, action, old_log_prob, advantage, advantage + values
        batch = [column.flatten(0, 1) for column in columns]
        for _ in range(EPOCHS):
            for rows in torch.randperm(WORKERS * STEPS).chunk(MINIBATCHES):
                seen, action, old_log_prob, advantage, target = (column[rows] for column in batch)
                distribution = Categorical(logits=policy(seen))
                log_ratio = distribution.log_prob(action) - old_log_prob
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                # PPO has max(-ratio * A, -clip(ratio) * A) here; n of N updates are done.
                policy_loss = (drift(log_ratio, advantage, n, updates) - log_ratio.exp() * advantage).mean()
                value_loss = 0.5 * (value(seen)[:, 0] - target).square().mean()
                loss = policy_loss + VALUE * value_loss - ENTROPY * distribution.entropy().mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 0.5)
                optimizer.step()
        if returns:
            score = float(np.mean(returns))
            print(f"update {n + 1:3}: mean return {score:.0f}")
    return score


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--updates", type=int, default=60, help="N; the drift was evolved for 10 to 100")
    main(parser.parse_args().updates)
