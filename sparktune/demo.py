"""A first tuning run: three kinds of model with their own parameters, on one of scikit-learn's data sets.

``run`` is ``sparktune demo``. It also shows how the parts fit together: a search space with branches, an
objective that uses one thread, a store for MLflow, and the table of results.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import math
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparktune import STATUS_OK, SparkTrials, fmin, tpe
from sparktune.backends import session
from sparktune.errors import SparktuneError
from sparktune.space import hp
from sparktune.study.trial import format_value
from sparktune.tracking.location import import_mlflow

EXPERIMENT = "sparktune demo"
DEFAULT_FOLDER = "sparktune-demo"
FOLDS = 3
UI_PORT = 5000

SPACE = {
    "scale": hp.choice("scale", ["none", "standard"]),
    "model": hp.choice(
        "model",
        [
            {
                "name": "svm",
                "kernel": hp.choice("svm_kernel", ["rbf", "poly"]),
                "C": hp.loguniform("svm_C", math.log(1e-2), math.log(1e3)),
                "gamma": hp.loguniform("svm_gamma", math.log(1e-5), math.log(1.0)),
            },
            {
                "name": "forest",
                "n_estimators": hp.uniformint("forest_n_estimators", 20, 200),
                "max_features": hp.uniform("forest_max_features", 0.02, 0.5),
                "min_samples_leaf": hp.uniformint("forest_min_samples_leaf", 1, 10),
            },
            {
                "name": "boosting",
                "learning_rate": hp.loguniform("boosting_learning_rate", math.log(0.02), math.log(0.5)),
                "max_iter": hp.uniformint("boosting_max_iter", 10, 60),
                "max_leaf_nodes": hp.uniformint("boosting_max_leaf_nodes", 4, 24),
            },
        ],
    ),
}


@functools.cache
def digits() -> tuple[Any, Any]:
    """1,797 images of handwritten digits: ``(1797, 64)`` grey values, and ``(1797,)`` labels 0 to 9.

    Loaded once in each Python worker.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images, labels


def estimator(point: Mapping[str, Any]) -> Any:
    """The scikit-learn pipeline that a point of ``SPACE`` stands for."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    params = dict(point["model"])
    name = params.pop("name")
    if name == "svm":
        model = SVC(**params)
    elif name == "forest":
        model = RandomForestClassifier(**params, n_jobs=1, random_state=0)
    else:
        model = HistGradientBoostingClassifier(**params, random_state=0)
    return make_pipeline(StandardScaler(), model) if point["scale"] == "standard" else make_pipeline(model)


def cross_validated_error(point: Mapping[str, Any]) -> dict[str, Any]:
    """The objective: the share of wrong answers in cross-validation, on one thread.

    Spark runs one trial per core, so a model that used all cores would slow down its neighbours.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    images, labels = digits()
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    with threadpool_limits(limits=1):
        accuracies = cross_val_score(estimator(point), images, labels, cv=folds)
    accuracy = float(accuracies.mean())
    return {
        "status": STATUS_OK,
        "loss": 1.0 - accuracy,
        "accuracy": accuracy,
        "accuracy_std": float(accuracies.std()),
    }


@dataclass(frozen=True)
class Store:
    """The store of the demo: a tracking URI, and its local folder unless it is a server's."""

    uri: str
    folder: Path | None

    @classmethod
    def of(cls, store: str) -> Store:
        """A folder's path, or a tracking URI."""
        if store == "databricks" or ":" in store:
            return cls(store, None)
        folder = Path(store)
        return cls(f"sqlite:///{folder / 'mlflow.db'}", folder)

    def open(self) -> str:
        """Make it MLflow's tracking store, make the demo's experiment in it, and return its id."""
        # Read when mlflow is imported: no warning on a machine without git.
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        import mlflow

        # Otherwise every table of a new database is logged.
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        artifacts = None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            artifacts = (self.folder / "artifacts").resolve().as_uri()
        mlflow.set_tracking_uri(self.uri)
        if mlflow.get_experiment_by_name(EXPERIMENT) is None:
            mlflow.create_experiment(EXPERIMENT, artifact_location=artifacts)
        return str(mlflow.set_experiment(EXPERIMENT).experiment_id)

    def how_to_look(self, experiment_id: str) -> list[str]:
        """The lines that show how to open the experiment in MLflow's UI."""
        if self.folder is None:
            return [f"MLflow records it in experiment {EXPERIMENT!r} at {self.uri}"]
        command = [_short_path(sys.executable), "-m", "mlflow", "ui"]
        command += ["--backend-store-uri", self.uri, "--port", str(UI_PORT)]
        # Without the workflow type, MLflow 3 opens on a page about language models.
        page = f"http://127.0.0.1:{UI_PORT}/#/experiments/{experiment_id}?workflowType=machine_learning"
        return [
            "see every trial in the MLflow UI:",
            f"  {shlex.join(command)}",
            f"  then open {page}",
        ]


def run(
    max_evals: int = 40,
    *,
    parallelism: int | None = None,
    store: str = DEFAULT_FOLDER,
    seed: int | None = None,
) -> SparkTrials:
    """Tune on digits, print what happens and the result.

    Args:
        max_evals: trials to run.
        parallelism: most trials at the same time; None for one per Spark slot.
        store: folder of the MLflow store, or a tracking URI.
        seed: of the search; with more than one trial at a time the result still depends on timing.

    Returns:
        The trials.

    Raises:
        SparkNotAvailable: pyspark or Java is missing.
        SparktuneError: scikit-learn is missing.
        AllTrialsFailed: no trial completed.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise SparktuneError(
            "the demo tunes models of scikit-learn, which is not installed in this environment. "
            "Install it with: pip install 'sparktune[demo]'"
        )
    target = Store.of(store)
    log = Path(DEFAULT_FOLDER if target.folder is None else target.folder) / "spark.log"
    print(f"Tuning SVM, random forest and gradient boosting on digits: {max_evals} trials", flush=True)
    with _standard_error_in(log):
        spark = session.get_or_create(import_mlflow)
        trials = SparkTrials(parallelism, spark_session=spark)
    slots = spark.sparkContext.defaultParallelism
    used = min(trials.parallelism, slots)
    print(
        f"Spark {spark.version} on {spark.sparkContext.master}, {used} of {slots} slots; log in {log}",
        flush=True,
    )
    experiment_id = target.open()
    # The table at the end has the same.
    logging.getLogger("hyperopt-spark").setLevel(logging.WARNING)
    began = time.monotonic()
    fmin(
        cross_validated_error,
        SPACE,
        algo=tpe.suggest,
        max_evals=max_evals,
        trials=trials,
        rstate=seed,
    )
    elapsed_s = time.monotonic() - began
    print(
        "\n".join(
            ["", *_table(trials, elapsed_s, f"{used} of {slots}"), "", *target.how_to_look(experiment_id)]
        )
    )
    return trials


def _table(trials: SparkTrials, elapsed_s: float, slots: str) -> list[str]:
    best = trials.best_trial["result"]
    counts = (
        f"{trials.count_successful_trials()} done, {trials.count_failed_trials()} failed, "
        f"{trials.count_cancelled_trials()} cancelled"
    )
    rows = [
        ("best loss", f"{best['loss']:.4f}  ({FOLDS}-fold error; accuracy {best['accuracy']:.2%})"),
        *((f"  {label}", format_value(value)) for label, value in trials.best_params.items()),
        ("trials", counts),
        ("wall-clock", f"{elapsed_s:.1f} s"),
        ("slots used", slots),
    ]
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {value}" for name, value in rows]


@contextlib.contextmanager
def _standard_error_in(path: Path) -> Iterator[None]:
    """Processes started inside write their standard error to a file, for as long as they live.

    Spark's JVM prints a dozen lines before any log level can be set.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with path.open("ab") as log:
            os.dup2(log.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def _short_path(path: str) -> str:
    """Relative to the working folder where that is shorter; links are kept (a venv's python is one)."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
