"""What rliable (Agarwal et al. 2021) says of some scores, for `test_statistics.py` to compare with.

rliable 1.2.0 needs pandas below 3 and comes without a wheel, so it has no place in our environment:

    python -m venv RLIABLE
    RLIABLE/bin/pip install rliable==1.2.0 arch==7.2.0 pandas==2.3.3 numpy==2.4.6 scipy==1.17.1
    RLIABLE/bin/python tests/evaluation/rliable_reference.py > tests/evaluation/rliable.json
"""

import json

import numpy as np

RUNS, TASKS, REPETITIONS = 10, 4, 20_000
THRESHOLDS = [-0.5, 0.0, 0.5, 1.0]


def scores(seed: int) -> np.ndarray:
    """Runs x tasks whose tasks differ in mean and spread."""
    generator = np.random.default_rng(seed)
    return generator.normal(0.4 + 0.2 * np.arange(TASKS), 0.1 + 0.1 * np.arange(TASKS), (RUNS, TASKS))


def main() -> None:
    """Prints the JSON."""
    from rliable import library, metrics

    ours, theirs = scores(0), scores(1)
    aggregates = {"iqm": metrics.aggregate_iqm, "optimality_gap": metrics.aggregate_optimality_gap}
    document = {}
    for name, measure in aggregates.items():
        points, intervals = library.get_interval_estimates(
            {"ours": ours},
            lambda x, measure=measure: np.array([measure(x)]),
            reps=REPETITIONS,
            random_state=np.random.RandomState(0),
        )
        document[name] = [float(points["ours"][0]), *map(float, intervals["ours"][:, 0])]
    points, intervals = library.get_interval_estimates(
        {"ours,theirs": (ours, theirs)},
        metrics.probability_of_improvement,
        reps=REPETITIONS,
        random_state=np.random.RandomState(0),
    )
    found = np.ravel(points["ours,theirs"]), np.ravel(intervals["ours,theirs"])
    document["probability_of_improvement"] = [float(found[0][0]), *map(float, found[1])]
    document["profile"] = [float(library.run_score_deviation(ours, tau)) for tau in THRESHOLDS]
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
