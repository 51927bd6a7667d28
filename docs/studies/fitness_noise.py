"""How often the sign of an antithetic pair is luck, and which way of measuring fitness is worth its cost.

Candidates are drawn and trained as a generation of evolution does. The same pairs are then evaluated again,
trained again with other random numbers on the same levels, and trained on other levels. Every agent is
judged by sampled episodes, by exact policy evaluation and by its rewards while it learned. Finished parts
are kept: stop and start the script as you like.

    python docs/studies/fitness_noise.py --out runs/fitness-noise --residual RUN --free RUN

RUN is a trained objective of the form `a2c_residual` (as `make discover` makes) and one of the form `free`.
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fitness_noise_lab import BANDS, SETTINGS, Found, measured, scales_of_levels
from fitness_noise_statistics import (
    MEASURES,
    agreement_of_truths,
    comparisons,
    outcomes,
    score_differences,
    signs,
    summary,
)
from harness import Estimate, kept


def main() -> None:
    """Runs what is missing, then writes table, numbers and figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--residual", required=True, help="a trained objective of the form a2c_residual")
    parser.add_argument("--free", required=True, help="a trained objective of the form free")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    scales = kept(arguments.out / "scales.npz", scales_of_levels)
    starts = {"residual-start": None, "residual": arguments.residual, "free": arguments.free}
    found = {
        title: measured(arm, starts[arm.name], arguments.out / arm.name) for title, arm in SETTINGS.items()
    }
    report(arguments.out, found, {int(g): ends for g, ends in scales.items()})


GROUPS = {
    "A2C residual (start and trained)": ("A2C residual, at its start", "A2C residual, trained"),
    "free (trained)": ("free, trained",),
}


def report(out: Path, found: Mapping[str, Found], scales: Mapping[int, np.ndarray]) -> None:
    """The tables, the numbers and the figure."""
    document: dict[str, Any] = {
        key: {} for key in ("ways", "repeats", "differences", "truths agree", "signs")
    }
    lines = []
    for title, of_setting in found.items():
        lines += [
            f"**{title}**",
            "",
            "| | | " + " | ".join(["all", *BANDS]) + " |",
            "|---" * (3 + len(BANDS)) + "|",
        ]
        document["repeats"][title] = {}
        for what, compared in comparisons(of_setting).items():
            bands = [outcomes(compared), *(outcomes(compared, band) for band in BANDS.values())]
            document["repeats"][title][what] = {
                name: {key: dataclasses.astuple(value) for key, value in band.items()}
                for name, band in zip(["all", *BANDS], bands, strict=True)
            }
            for key in ("ties", "flips"):
                lines.append(f"| {what} | {key} | {' | '.join(percent(band[key]) for band in bands)} |")
        differences = score_differences(of_setting, scales, "exact").values()
        sizes = np.abs(np.concatenate([row for rows in differences for row in rows]))
        document["differences"][title] = sizes_of = {
            "median": float(np.median(sizes)),
            "share below 0.01": float(np.mean(sizes < 0.01)),
            "root mean square": float(np.sqrt(np.mean(sizes**2))),
        }
        agree = document["truths agree"][title] = agreement_of_truths(of_setting)
        lines += ["", f"True signs by either half of the trainings agree: {agree:.2f}"]
        lines += [f"Differences in score: {', '.join(f'{name} {x:.3f}' for name, x in sizes_of.items())}", ""]
        document["signs"][title] = {
            f"w{part.workers} levels {part.levels} luck {part.luck}": {
                name: "".join("-0+"[int(sign) + 1] for sign in signs(of_setting, part, name))
                for name in (*MEASURES.values(), "again_16")
            }
            for part in of_setting
        }
    for title, names in GROUPS.items():
        rows = summary([found[name] for name in names], scales)
        document["ways"][title] = {
            name: {
                key: value if isinstance(value, float) else dataclasses.astuple(value)
                for key, value in row.items()
            }
            for name, row in rows.items()
        }
        lines += [
            f"**{title}**",
            "",
            f"| {' | '.join(['way', *COLUMNS.values()])} |",
            "|---" * (1 + len(COLUMNS)) + "|",
        ]
        for name, row in rows.items():
            cells = [cell(key, row.get(key)) for key in COLUMNS]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    (out / "results.md").write_text("\n".join(lines))
    (out / "fitness_noise.json").write_text(json.dumps(rounded(document), indent=1) + "\n")
    draw(out / "fitness_noise.png", found, document["ways"])
    print("\n".join(lines))


COLUMNS = {
    "cost": "cost",
    "ties": "ties",
    "flips": "flips, trained again",
    "truth": "correlation with the true sign on the level",
    "who wins": "... with who wins on other levels",
    "by how much": "... with by how much",
    "information": "share that is the candidates'",
    "times today": "information per cost, times today's",
}


def cell(key: str, value: Any) -> str:
    """A cell of the table."""
    if value is None:
        return ""
    if key == "cost":
        return f"{value:.2f}"
    if key in ("ties", "flips"):
        return percent(value)
    if key == "times today":
        return f"{value.mean:.1f} [{value.low:.1f}, {value.high:.1f}]" if value.high < 50 else "unknown"
    if key == "information":
        return percent(value, 1)
    digits = 2 if key == "truth" else 3
    return f"{value.mean:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def percent(estimate: Estimate, digits: int = 0) -> str:
    """A share with its interval."""
    mean, low, high = (f"{100 * value:.{digits}f}" for value in dataclasses.astuple(estimate))
    return f"{mean} % [{low}, {high}]"


def rounded(tree: Any) -> Any:
    """Numbers of a JSON document with four digits."""
    if isinstance(tree, dict):
        return {key: rounded(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [rounded(value) for value in tree]
    return round(tree, 4) if isinstance(tree, float) else tree


SAME, TIE, OPPOSITE = "#0072B2", "#DDDDDD", "#D55E00"


def draw(path: Path, found: Mapping[str, Found], ways: Mapping[str, Mapping[str, Any]]) -> None:
    """How often signs repeat, and how each way of measuring correlates with results on other levels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.15, 1.0, 1.0))
    draw_outcomes(left, found)
    names = list(next(iter(ways.values())))
    for ax, reference, title in (
        (middle, "who wins", "Correlation with who\nwins on other levels"),
        (right, "by how much", "Correlation with the\ndifference in score there"),
    ):
        for k, (setting, colour) in enumerate(zip(ways, ("#0072B2", "#009E73"), strict=True)):
            for i, name in enumerate(names):
                mean, low, high = ways[setting][name][reference]
                at = i + (k - 0.5) * 0.3
                ax.plot([low, high], [at, at], color=colour, linewidth=1.6)
                ax.plot(mean, at, "o", color=colour, markersize=6, label=setting if i == 0 else None)
        ax.axvline(0, color="#444444", linewidth=0.8)
        ax.set_yticks(range(len(names)), [])
        ax.set_xlim(-0.055, 0.125)
        ax.set_ylim(len(names) + 0.7, -0.6)
        ax.set_title(title, loc="left", fontsize=11)
        ax.grid(axis="x", color="#E8E8E8")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    costs = {name: np.mean([rows[name]["cost"] for rows in ways.values()]) for name in names}
    middle.set_yticks(range(len(names)), [f"{n}\ncost {costs[n]:.2f}" for n in names], fontsize=8.5)
    right.legend(frameon=False, fontsize=8.5, loc="lower right")
    figure.savefig(path, dpi=150)


def draw_outcomes(ax: Any, found: Mapping[str, Found]) -> None:
    """Bars that compare a second measurement of each sign with the first."""
    y, ticks, labels = 0.0, [], []
    for title, of_setting in found.items():
        ax.text(0.0, y - 0.65, title, fontsize=9, fontweight="bold", va="center")
        for what, compared in comparisons(of_setting).items():
            shares = outcomes(compared)
            same, opposite = shares["same"].mean, shares["opposite"].mean
            bars = ((0.0, same, SAME), (same, 1 - same - opposite, TIE), (1 - opposite, opposite, OPPOSITE))
            for start, width, colour in bars:
                ax.barh(y, width, left=start, color=colour, height=0.78)
                if width > 0.04:
                    ink = "black" if colour == TIE else "white"
                    text = f"{100 * width:.0f}"
                    ax.text(start + width / 2, y, text, ha="center", va="center", fontsize=8, color=ink)
            ticks.append(y)
            labels.append(what)
            y += 1
        y += 0.9
    ax.set_yticks(ticks, labels, fontsize=8.5)
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xticks([])
    ax.set_title("A pair's sign, measured twice (%)", loc="left", fontsize=11)
    for colour, label in ((SAME, "the same"), (TIE, "a tie in one or both"), (OPPOSITE, "opposite")):
        ax.barh(0, 0, color=colour, label=label)
    ax.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.3, 0.0), ncols=3)
    ax.spines[["top", "right", "bottom", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)


if __name__ == "__main__":
    main()
