"""How much compute early termination saves on real learning curves, and what it costs in quality.

``record`` trains neural networks on scikit-learn's digits step by step (one step is one epoch of
``partial_fit``) and keeps the validation accuracy after each: 12 seeds of 40 random configurations, 20 steps.
``run`` plays these curves through sparktune's simulated backend (8 slots, one virtual second per step) under
each policy, and prints the share of steps saved and the best final accuracy beside the full run's.

    python benchmarks/early_termination.py record   # some minutes; the curves are in data/ already
    python benchmarks/early_termination.py run
    python benchmarks/early_termination.py live     # the same networks, trained on local Spark, median (1, 5)
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

CURVES = Path(__file__).parent / "data" / "learning_curves.npz"
SEEDS, TRIALS, STEPS, SLOTS = 12, 40, 20, 8


def record(path: Path) -> None:
    """Train every configuration, and write the curves: accuracy[seed, trial, step]."""
    from sklearn.datasets import load_digits
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    warnings.simplefilter("ignore", ConvergenceWarning)
    images, digits = load_digits(return_X_y=True)
    accuracy = np.zeros((SEEDS, TRIALS, STEPS))
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        train_x, valid_x, train_y, valid_y = train_test_split(
            images / 16.0, digits, test_size=0.3, random_state=seed, stratify=digits
        )
        for trial in range(TRIALS):
            model = MLPClassifier(
                hidden_layer_sizes=(int(2 ** rng.uniform(3, 7)),),
                solver="sgd",
                learning_rate_init=float(10 ** rng.uniform(-3.5, 0)),
                momentum=float(rng.uniform(0, 0.95)),
                alpha=float(10 ** rng.uniform(-6, 0)),
                batch_size=int(2 ** rng.uniform(4, 8)),
                random_state=trial,
            )
            for step in range(STEPS):
                model.partial_fit(train_x, train_y, classes=np.arange(10))
                accuracy[seed, trial, step] = model.score(valid_x, valid_y)
        print(f"seed {seed}: best final accuracy {accuracy[seed, :, -1].max():.4f}", flush=True)
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, accuracy=accuracy.astype(np.float32), n_valid=len(valid_y))


def play(curves: np.ndarray, policy: Any) -> tuple[float, float]:
    """Run the recorded trials of one seed; returns (share of steps saved, best final accuracy)."""
    from sparktune import SimulatedTrials, fmin, hp, report

    def objective(index: int) -> dict[str, Any]:
        for value in curves[index]:
            report(value)
        return {"status": "ok", "accuracy": float(curves[index, -1])}

    trials = SimulatedTrials(
        SLOTS,
        lambda _config, _result: float(STEPS),
        metric="accuracy",
        goal="maximize",
        early_termination=policy,
    )
    fmin(
        objective,
        hp.randint("index", TRIALS),
        max_evals=0,  # the points come on top
        points_to_evaluate=[{"index": index} for index in range(TRIALS)],
        trials=trials,
        verbose=False,
    )
    frame = trials.to_dataframe()
    best = -frame.loc[frame.state == "completed", "loss"].min()
    return 1 - frame.steps.sum() / (TRIALS * STEPS), float(best)


def run(path: Path) -> None:
    """Compare the policies."""
    from sparktune import AshaPolicy, BanditPolicy, MedianStoppingPolicy, TruncationSelectionPolicy

    logging.getLogger("hyperopt-spark").setLevel(logging.WARNING)
    stored = np.load(path)
    accuracy, n_valid = stored["accuracy"], int(stored["n_valid"])
    policies: dict[str, Any] = {
        "none": None,
        "median (1, 5)": MedianStoppingPolicy(1, 5),
        "bandit, factor 0.1 (1, 5)": BanditPolicy(
            slack_factor=0.1, evaluation_interval=1, delay_evaluation=5
        ),
        "truncation 20 % (5, 5)": TruncationSelectionPolicy(20, 5, 5),
        "ASHA (3, 1, 20)": AshaPolicy(reduction_factor=3, min_step=1, max_step=STEPS),
        "ASHA (2, 5, 20)": AshaPolicy(reduction_factor=2, min_step=5, max_step=STEPS),
    }
    full = accuracy[:, :, -1].max(axis=1)
    noise = float(np.sqrt(full * (1 - full) / n_valid).mean())
    print(f"{len(accuracy)} seeds of {TRIALS} trials of {STEPS} steps, {SLOTS} slots")
    print(f"an accuracy on {n_valid} images has a standard error of {noise:.4f}")
    print(f"{'policy':28} {'steps saved':>12} {'best accuracy':>14} {'lost to full':>13} {'worst seed':>11}")
    for name, policy in policies.items():
        played = [play(curves, policy) for curves in accuracy]
        saved, best = np.mean([p[0] for p in played]), np.array([p[1] for p in played])
        lost = full - best
        print(f"{name:28} {saved:12.1%} {best.mean():14.4f} {lost.mean():13.4f} {lost.max():11.4f}")


def live(_path: Path) -> None:
    """Train one seed's networks on Spark, with and without median stopping."""
    from sparktune import MedianStoppingPolicy, SparkTrials, fmin, hp, rand, report

    def objective(point: dict[str, Any]) -> dict[str, Any]:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
        from sklearn.neural_network import MLPClassifier

        images, digits = load_digits(return_X_y=True)
        train_x, valid_x, train_y, valid_y = train_test_split(
            images / 16.0, digits, test_size=0.3, random_state=0, stratify=digits
        )
        model = MLPClassifier((32,), solver="sgd", random_state=0, **point)
        accuracy = 0.0
        for _ in range(STEPS):
            model.partial_fit(train_x, train_y, classes=np.arange(10))
            accuracy = float(model.score(valid_x, valid_y))
            report(accuracy)
        return {"status": "ok", "accuracy": accuracy}

    space = {
        "learning_rate_init": hp.loguniform("learning_rate_init", np.log(10**-3.5), 0),
        "momentum": hp.uniform("momentum", 0, 0.95),
        "alpha": hp.loguniform("alpha", np.log(1e-6), 0),
    }
    for policy in (None, MedianStoppingPolicy(1, 5)):
        trials = SparkTrials(mlflow=False, metric="accuracy", goal="maximize", early_termination=policy)
        fmin(objective, space, rand.suggest, TRIALS, trials=trials, rstate=0, verbose=False)
        frame = trials.to_dataframe()
        saved = 1 - frame.steps.sum() / (TRIALS * STEPS)
        best = -trials.best_trial["result"]["loss"]
        print(f"{policy}: {saved:.1%} of the steps saved, best accuracy {best:.4f}")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["record", "run", "live"])
    parser.add_argument("--curves", type=Path, default=CURVES)
    arguments = parser.parse_args()
    {"record": record, "run": run, "live": live}[arguments.what](arguments.curves)


if __name__ == "__main__":
    main()
