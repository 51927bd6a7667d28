"""LPG and TA-LPG once more, from the equations, in float64 numpy with a loop over every step and worker.

The yardstick for `discovery.objectives.lpg` and `gru`: no code is shared with them, only the names of
the parameters. Time runs first, workers second, as in a rollout.
"""

import numpy as np


def softmax(x):
    weights = np.exp(x - np.max(x))
    return weights / np.sum(weights)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(params, x):
    return x @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"], np.float64)


def phi(params, prediction):
    """The shared embedding of a prediction: M -> hidden -> 1."""
    return dense(params["embed_out"], np.maximum(dense(params["embed_hidden"], prediction), 0))[0]


def gru_step(params, x, h):
    """Equations 5 to 8 of Cho et al. 2014, with the reset gate after the product, as in flax."""
    W, U = np.asarray(params["kernel"], np.float64), np.asarray(params["recurrent_kernel"], np.float64)
    b, c = np.asarray(params["bias"], np.float64), np.asarray(params["candidate_bias"], np.float64)
    G = len(h)
    reset, update, candidate = slice(0, G), slice(G, 2 * G), slice(2 * G, 3 * G)
    r = sigmoid(x @ W[:, reset] + h @ U[:, reset] + b[reset])
    z = sigmoid(x @ W[:, update] + h @ U[:, update] + b[update])
    n = np.tanh(x @ W[:, candidate] + b[candidate] + r * (h @ U[:, candidate] + c))
    return (1 - z) * n + z * h


def targets(params, outputs, last_head, action, reward, terminated, truncated, progress=None):
    """pihat (T, W) and yhat (T, W, M).

    `outputs` are the agent's logits (T, W, A) and prediction logits (T, W, M), `last_head` those after
    the rollout (W, M); `progress` is (n, N) for TA-LPG and None for LPG.
    """
    logits, head = outputs
    T, W, M = head.shape
    pihat, yhat = np.zeros((T, W)), np.zeros((T, W, M))
    for w in range(W):
        h = np.zeros(params["gru"]["candidate_bias"].shape[0])
        for t in reversed(range(T)):
            ended = bool(terminated[t, w]) or bool(truncated[t, w])
            next_head = last_head[w] if t == T - 1 else head[t + 1, w]
            x = [
                reward[t, w],
                1.0 if ended else 0.0,
                softmax(logits[t, w])[action[t, w]],
                phi(params, softmax(head[t, w])),
                0.0 if ended else phi(params, softmax(next_head)),
            ]
            if progress is not None:
                n, N = progress
                x += [n / N, np.log(N)]
            h = gru_step(params["gru"], np.array(x, np.float64), np.zeros_like(h) if ended else h)
            answer = dense(params["heads"], np.maximum(h, 0))
            pihat[t, w], yhat[t, w] = answer[0], softmax(answer[1:])
    return pihat, yhat


def loss(outputs, action, pihat, yhat, prediction_coef):
    """Equation 3 of the LPG paper, which the agent minimises."""
    logits, head = outputs
    T, W = action.shape
    policy_terms, divergences = [], []
    for t in range(T):
        for w in range(W):
            policy_terms.append(np.log(softmax(logits[t, w])[action[t, w]]) * pihat[t, w])
            y = softmax(head[t, w])
            divergences.append(np.sum(y * np.log(y / yhat[t, w])))
    return np.mean(policy_terms) + prediction_coef * np.mean(divergences)
