"""The agents' networks in float64 numpy, one observation at a time; only parameter names are shared."""

import numpy as np


def table(params, state):
    return params["rows"][state]


def mlp(params, observation):
    x = np.ravel(observation)
    layers = [params[f"Dense_{i}"] for i in range(len(params))]
    for i, layer in enumerate(layers):
        x = x @ layer["kernel"] + layer["bias"]
        if i < len(layers) - 1:
            x = np.maximum(x, 0)
    return x


def cnn(params, planes):
    """A 3x3 convolution over the planes with a border of zeros, ReLU, then an MLP."""
    kernel, bias = params["Conv_0"]["kernel"], params["Conv_0"]["bias"]
    height, width, _ = planes.shape
    padded = np.pad(planes, [(1, 1), (1, 1), (0, 0)])
    x = np.zeros((height, width, len(bias)))
    for row, column in np.ndindex(height, width):
        patch = padded[row : row + 3, column : column + 3]
        x[row, column] = np.einsum("ijc,ijco->o", patch, kernel) + bias
    return mlp(params["MLP_0"], np.maximum(x, 0))


NETWORKS = {"tabular": table, "mlp": mlp, "cnn": cnn}


def apply(kind, params, observations, leading):
    """Logits and second head of observations with `leading` axes in front."""
    observations = np.asarray(observations)
    flat = observations.reshape(-1, *observations.shape[leading:])
    return [
        np.stack([NETWORKS[kind](params[part], one) for one in flat]).reshape(
            *observations.shape[:leading], -1
        )
        for part in ("policy", "head")
    ]
