"""The parts of a Python file for another framework: code of a drift and of a schedule, and their numbers."""

import dataclasses
import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rl_discovery.discovery.objectives.bounds import bounded_advantage, bounded_log_ratio
from rl_discovery.discovery.objectives.closed_form import BASIS, PROGRESS, ClosedFormDrift
from rl_discovery.discovery.objectives.lpo import LPO
from rl_discovery.discovery.objectives.ppo import DPO, PPO
from rl_discovery.discovery.objectives.schedule import (
    FURTHEST,
    LARGEST_LOG,
    Scheduled,
    scaled_interval,
)
from rl_discovery.discovery.types import MetaParams

WIDTH = 110
"""Characters of a line."""


@dataclasses.dataclass(frozen=True)
class Framework:
    """How a framework spells what a drift needs.

    Attributes:
        title: its name.
        module: as it is called in code.
        imported: the import statement.
        array: type of arguments and results.
        axis: keyword of `stack` and `concatenate`.
        concatenate: joins arrays.
        relu: call with its argument as `{}`.
        literal: call that makes an array of a list, as `{}`.
        like: what converts such an array to the type and device of x.
        widen: expression that makes float32 of less, and arrays of numbers, of `{}`.
    """

    title: str
    module: str
    imported: str
    array: str
    axis: str
    concatenate: str
    relu: str
    literal: str
    like: str
    widen: str


FRAMEWORKS: Mapping[str, Framework] = {
    "numpy": Framework(
        title="NumPy",
        module="np",
        imported="import numpy as np",
        array="np.ndarray",
        axis="axis",
        concatenate="np.concatenate",
        relu="np.maximum({}, 0.0)",
        literal="np.array({}, np.float32)",
        like="",
        widen="np.asarray({0}, np.result_type({0}, np.float32))",
    ),
    "torch": Framework(
        title="PyTorch",
        module="torch",
        imported="import torch",
        array="torch.Tensor",
        axis="dim",
        concatenate="torch.cat",
        relu="torch.relu({})",
        literal="torch.tensor({})",
        like=".to(x)",
        widen="{0}.to(torch.promote_types({0}.dtype, torch.float32))",
    ),
}
"""Frameworks that a file can be written for."""

DRIFTS = (LPO, ClosedFormDrift, PPO, DPO)
"""Rules whose drift can be written."""

FACTORS = {
    "log r": "log_ratio",
    "(log r)^2": "log_ratio**2",
    "(r-1)": "step",
    "(r-1)^2": "step**2",
    "tanh(log r)": "{m}.tanh(log_ratio)",
    "tanh(log r)^2": "{m}.tanh(log_ratio) ** 2",
    "tanh(2 log r)": "{m}.tanh(2 * log_ratio)",
    "tanh(2 log r)^2": "{m}.tanh(2 * log_ratio) ** 2",
    "tanh(A log r)": "{m}.tanh(advantage * log_ratio)",
    "tanh(A log r)^2": "{m}.tanh(advantage * log_ratio) ** 2",
    "tanh(A (r-1))": "{m}.tanh(advantage * step)",
    "A": "advantage",
    "|A|": "{m}.abs(advantage)",
    "A^2": "advantage**2",
    PROGRESS[1]: "share",
    PROGRESS[2]: "length",
}
"""Factors of the terms of a closed form as code; `{m}` is the framework's module."""


class Part(NamedTuple):
    """Code, the numbers below it, and the formula for the docstring."""

    code: str
    numbers: str = ""
    formula: str = ""


def schedule_of(rule: Scheduled, meta_params: MetaParams) -> Part:
    """`schedule(done, horizon)` in plain Python."""
    weights = np.asarray(meta_params["schedule"], np.float32)
    rows = [
        f'    "{name}": ({", ".join(map(str, column))}),'
        for name, column in zip(rule.scheduled, weights.T, strict=True)
    ]
    numbers = [
        "# Weights of " + ", ".join(rule.schedule_features) + " in the logarithm of each factor.",
        "SCHEDULE = {",
        *rows,
        "}",
    ]
    code = f'''def schedule(done: float, horizon: float) -> dict[str, float]:
    """Factors on the rule's constants; 1 changes nothing.

    Args:
        done: n, updates done so far, from 0.
        horizon: N, updates of the whole training.
    """
    u, v = scaled_progress(done, horizon)
    features = (1.0, u, v, u * u, u * v{", v * v" if rule.schedule_v_squared else ""})
    factors = {{}}
    for name, weights in SCHEDULE.items():
        log_factor = sum(weight * feature for weight, feature in zip(weights, features, strict=True))
        factors[name] = math.exp(min(max(log_factor, -{LARGEST_LOG}), {LARGEST_LOG}))
    return factors'''
    return Part(code, "\n".join(numbers))


def scaled_progress_of(rule: Scheduled) -> str:
    """Code of `scaled_progress(done, horizon)`, as in `discovery.objectives.schedule`."""
    middle, half = scaled_interval(rule.shortest_horizon, rule.longest_horizon)
    return f'''def scaled_progress(done: float, horizon: float) -> tuple[float, float]:
    """n/N and log N, scaled to [-1, 1] over N from {rule.shortest_horizon} to {rule.longest_horizon}."""
    length = (math.log(horizon) - {middle!r}) / {half!r}
    return 2.0 * done / horizon - 1.0, min(max(length, -{FURTHEST}), {FURTHEST})'''


def drift_of(rule: Any, meta_params: MetaParams, framework: Framework) -> Part:
    """`drift(log_ratio, advantage ...)` of one of the rules in `DRIFTS`."""
    if isinstance(rule, DPO):
        return Part(_function(rule, _dpo(rule, framework), framework), formula=_formula(rule))
    clip, ppo = _clip(rule, framework)
    if isinstance(rule, PPO):
        return Part(_function(rule, [*clip, f"return {ppo}"], framework), formula=_formula(rule))
    if isinstance(rule, LPO):
        body, numbers = _network(rule, meta_params, framework)
    else:
        body, numbers = _sum_of_terms(rule, meta_params, framework), ""
    total = "learned"
    if rule.form == "ppo_residual":
        body += [*clip, f"ppo = {ppo}"]
        total = "ppo + learned"
    body.append(f"return {framework.relu.format(f'{total} - {rule.offset!r}')}")
    return Part(_function(rule, body, framework), numbers, _formula(rule))


def _function(rule: Any, body: list[str], framework: Framework) -> str:
    """The signature, the docstring and the bounds that all drifts have, then the body."""
    m, array = framework.module, framework.array
    horizon = rule.uses_progress
    arguments = [f"log_ratio: {array}", f"advantage: {array}"]
    arguments += ["done: float", "horizon: float"] if horizon else []
    ends = (bounded_log_ratio(jnp.float32(end), rule.ratio_power) for end in (-math.inf, math.inf))
    lowest, highest = map(_shortest, ends)
    largest = _shortest(bounded_advantage(jnp.float32(math.inf)))
    text = "\n".join(body)
    first = [
        f"log_ratio = {framework.widen.format('log_ratio')}",
        f"advantage = {framework.widen.format('advantage')}",
        "# Beyond these bounds float32 would overflow.",
        f"log_ratio = {m}.clip(log_ratio, {lowest}, {highest})",
        f"advantage = {m}.clip(advantage, -{largest}, {largest})",
    ]
    if "step" in text:
        first.append(f"step = {m}.expm1(log_ratio)  # r - 1")
    notes = (
        "\n        done: n, updates done so far, from 0.\n        horizon: N, updates of the whole training."
        if horizon
        else ""
    )
    gradient = "" if m == "np" else " The gradient flows through log_ratio."
    docstring = f'''"""f for each action: at least 0, and 0 at r = 1.{gradient}

    Args:
        log_ratio: log pi - log pi_old of the actions taken, of any shape.
        advantage: their advantages, normalised, of the same shape.{notes}

    Returns:
        f, of the same shape.
    """'''
    lines = textwrap.indent("\n".join([*first, text]), "    ")
    return f"def drift({', '.join(arguments)}) -> {array}:\n    {docstring}\n{lines}"


def _network(rule: LPO, meta_params: MetaParams, framework: Framework) -> tuple[list[str], str]:
    """LPO's network on its inputs."""
    m, axis = framework.module, framework.axis
    body = []
    parts = ["x"]
    scaled = rule.encoding == "scaled"
    if scaled and rule.uses_progress:
        body.append("u, v = scaled_progress(done, horizon)")
    if rule.progress_inputs:
        parts.append("u * x" if scaled else "done / horizon * x")
    if rule.horizon_inputs:
        parts.append("v * x" if scaled else f"{_length(rule)} * x")
    body += [
        f"x = {m}.stack([log_ratio, log_ratio**2, step, step**2], {axis}=-1)",
        f"x = {framework.concatenate}([x, x * advantage[..., None]], {axis}=-1)",
    ]
    if len(parts) > 1:
        body.append(f"x = {framework.concatenate}([{', '.join(parts)}], {axis}=-1)")
    like = framework.like
    body.append(f"learned = {m}.tanh(x @ HIDDEN{like}) @ OUT{like}")
    hidden = np.asarray(meta_params["hidden"]["kernel"], np.float32)
    out = np.asarray(meta_params["out"]["kernel"], np.float32)[:, 0]
    rows = []
    for name, row in zip(rule.inputs, hidden, strict=True):
        rows += [f"    # {name}", *_wrapped(row, "    [", "],")]
    numbers = [
        "# fmt: off",
        f"# The hidden layer, a row for each of its {len(hidden)} inputs, and the output layer.",
        "HIDDEN = " + framework.literal.format("[\n" + "\n".join(rows) + "\n]"),
        "OUT = " + framework.literal.format("[\n" + "\n".join(_wrapped(out, "    ", ",")) + "\n]"),
        "# fmt: on",
    ]
    return body, "\n".join(numbers)


def _sum_of_terms(rule: ClosedFormDrift, meta_params: MetaParams, framework: Framework) -> list[str]:
    """The closed form, a term per line."""
    terms = []
    for name, value in zip(rule.terms, np.asarray(meta_params["coefficients"], np.float32), strict=True):
        factors = [FACTORS[part].format(m=framework.module) for part in BASIS[name] if part]
        terms.append(" * ".join([f"{'-' if value < 0 else '+'} {abs(value)!s}", *factors]))
    text = "\n".join(terms)
    body = ["share = done / horizon"] if "share" in text else []
    body += [f"length = {_length(rule)}"] if "length" in text else []
    return [*body, "learned = (", textwrap.indent(text.removeprefix("+ "), "    "), ")"]


def _clip(rule: Any, framework: Framework) -> tuple[list[str], str]:
    """PPO's drift: statements and the expression after them."""
    m, eps = framework.module, repr(rule.clip)
    below, above = eps, eps
    body = []
    if rule.schedule:
        body.append("factors = schedule(done, horizon)")
        below, above = (f'{eps} * factors["clip_{side}"]' for side in ("below", "above"))
    body += [
        f"ratio = {m}.exp(log_ratio)",
        f"outside = ratio - {m}.clip(ratio, 1 - {below}, 1 + {above})",
    ]
    return body, framework.relu.format("outside * advantage")


def _dpo(rule: DPO, framework: Framework) -> list[str]:
    m, alpha, beta = framework.module, repr(rule.alpha), repr(rule.beta)
    return [
        "rise, fall = step * advantage, log_ratio * advantage",
        f"above = {framework.relu.format(f'rise - {alpha} * {m}.tanh(rise / {alpha})')}",
        f"below = {framework.relu.format(f'fall - {beta} * {m}.tanh(fall / {beta})')}",
        f"return {m}.where(advantage >= 0, above, below)",
    ]


def _formula(rule: Any) -> str:
    """The equation of f for the docstring."""
    if isinstance(rule, DPO):
        alpha, beta = f"{rule.alpha:g}", f"{rule.beta:g}"
        return (
            f"    A >= 0:  f = ReLU((r - 1) A - {alpha} tanh((r - 1) A / {alpha}))\n"
            f"    A < 0:   f = ReLU(log(r) A - {beta} tanh(log(r) A / {beta}))"
        )
    low, high = f"{1 - rule.clip:g}", f"{1 + rule.clip:g}"
    if rule.schedule:
        low, high = f"1 - {rule.clip:g} clip_below", f"1 + {rule.clip:g} clip_above"
    ppo = f"ReLU((r - clip(r, {low}, {high})) A)"
    if isinstance(rule, PPO):
        return f"    f = {ppo}"
    learned = "NN(x)" if isinstance(rule, LPO) else "g"
    total = f"{ppo} + {learned}" if rule.form == "ppo_residual" else learned
    if isinstance(rule, LPO):
        note = (
            f"NN has one hidden layer of {rule.width} tanh units and no biases. "
            f"The comments in HIDDEN name its {len(rule.inputs)} inputs x."
        )
    else:
        note = "g is the sum of terms that `drift` computes."
    return f"    f = ReLU({total} - {rule.offset:g})\n\n{note}"


def _length(rule: Any) -> str:
    return f"math.log(horizon) / math.log({rule.longest_horizon})"


def _shortest(value: Any) -> float:
    """The number with the fewest digits that is this one in float32."""
    return float(str(np.float32(value)))


def _wrapped(values: Iterable[Any], before: str, after: str) -> list[str]:
    """Numbers on lines of at most `WIDTH` characters."""
    text = before + ", ".join(map(str, values)) + after
    indent = " " * len(before)
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent)
