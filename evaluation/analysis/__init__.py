"""Analysis of an objective over the horizon: response or drift, lifetimes, a formula.

    findings = analyse(objective, "ta-lpo", setting, horizons=(10, 100))
    findings.analysis.save(Path("analysis.json"))

The command is `rl-discovery analyse`; `docs/analysis.md` says what the numbers mean.
"""

from rl_discovery.evaluation.analysis.figures import figures
from rl_discovery.evaluation.analysis.lifetimes import Setting
from rl_discovery.evaluation.analysis.record import Analysis
from rl_discovery.evaluation.analysis.study import AnalysisError, Findings, analyse, check, trained_horizons
from rl_discovery.evaluation.plots import save_both

__all__ = [
    "Analysis",
    "AnalysisError",
    "Findings",
    "Setting",
    "analyse",
    "check",
    "figures",
    "save_both",
    "trained_horizons",
]
