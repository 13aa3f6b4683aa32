"""``fmin`` and ``SparkTrials`` on a real Spark session."""

from __future__ import annotations

import concurrent.futures
import logging
import os
import pickle
import signal
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import hyperopt
import numpy as np
import pytest
from hyperopt import anneal, hp, rand, tpe

import sparktune
from sparktune import AllTrialsFailed, ObjectiveNotPicklable, SimulatedTrials, SparkTrials
from sparktune.backends import spark_cluster
from tests.conftest import ON_CONNECT, needs_classic
from tests.processes import is_over

X = hp.uniform("x", -5, 5)
EITHER = pytest.mark.parametrize("fmin", [sparktune.fmin, hyperopt.fmin], ids=["sparktune", "hyperopt"])


@pytest.fixture(autouse=True)
def _session(spark: Any) -> None:
    """Every test here runs in the shared session."""


def tune(fn: Any, n: int | None, trials: Any = None, *, fmin: Any = sparktune.fmin, **options: Any) -> Any:
    trials = SparkTrials(mlflow=False) if trials is None else trials
    arguments: dict[str, Any] = {"algo": rand.suggest, "rstate": 1, "show_progressbar": False}
    space = options.pop("space", X)
    fmin(fn, space, max_evals=n, trials=trials, **arguments | options)
    return trials


def points(trials: Any) -> list[Any]:
    return [document["misc"]["vals"] for document in trials._dynamic_trials]


def states(trials: Any) -> dict[str, int]:
    return dict(trials.to_dataframe()["state"].value_counts().to_dict())


@EITHER
def test_with_parallelism_1_the_points_are_hyperopts_own(fmin: Any) -> None:
    def fn(x: float) -> float:
        return (x - 3) ** 2

    plain = hyperopt.Trials()
    tune(fn, 25, plain, fmin=hyperopt.fmin, algo=tpe.suggest, rstate=np.random.default_rng(7))
    trials = SparkTrials(parallelism=1, mlflow=False)
    for n in (10, 25):
        tune(fn, n, trials, fmin=fmin, algo=tpe.suggest, rstate=np.random.default_rng(7))
        trials = pickle.loads(pickle.dumps(trials))
    assert points(trials) == points(plain)
    assert trials.losses() == plain.losses()
    assert trials.argmin == plain.argmin


@EITHER
def test_attachments_and_low_level_objectives(fmin: Any) -> None:
    @hyperopt.fmin_pass_expr_memo_ctrl
    def fn(expr: Any, memo: Any, ctrl: Any) -> Any:
        x = hyperopt.pyll.rec_eval(expr, memo=memo)
        ctrl.attachments["by ctrl"] = np.arange(3) * x
        return {"status": "ok", "loss": x, "attachments": {"by result": b"bytes"}}

    trials = tune(fn, 3, fmin=fmin)
    for document in trials.trials:
        attached = trials.trial_attachments(document)
        assert attached["by ctrl"].tolist() == [0, document["result"]["loss"], 2 * document["result"]["loss"]]
        assert attached["by result"] == b"bytes"


BESIDE = """
import sys
import helper
from pyspark.sql import SparkSession
from sparktune import SparkTrials, fmin, hp

SparkSession.builder.master("local[2,4]").config("spark.ui.enabled", "false").getOrCreate()
trials = SparkTrials(mlflow=False)
fmin(helper.objective, hp.uniform("x", 0, 1), max_evals=3, trials=trials, show_progressbar=False)
print(trials.to_dataframe()["state"].tolist())
"""


@needs_classic
def test_an_objective_of_a_module_beside_the_script(run: Any, tmp_path: Path) -> None:
    """Where the workers do not look: the script is started from another folder."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text(BESIDE)
    (tmp_path / "app" / "helper.py").write_text(
        "def objective(x):\n    import late\n    return late.loss(x)\n"
    )
    (tmp_path / "app" / "late.py").write_text("def loss(x):\n    return x\n")
    done = run([sys.executable, tmp_path / "app" / "main.py"])
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stdout.strip() == str(["completed"] * 3)


def test_a_module_that_the_workers_of_a_cluster_do_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of the test's session are taken for those of another machine."""
    kind = "connect" if ON_CONNECT else "classic"
    monkeypatch.setattr(f"sparktune.backends.spark_{kind}.is_local", lambda _master: False)
    module = types.ModuleType("of_the_driver_only")
    exec("def objective(x):\n    return x", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    advice = "addArtifacts" if ON_CONNECT else "addPyFile"
    with pytest.raises(AllTrialsFailed, match=rf"{advice}\('of_the_driver_only.py'"):
        tune(module.objective, 2)


def test_every_way_to_fail_fails_its_own_trial(caplog: pytest.LogCaptureFixture) -> None:
    def fn(kind: str) -> Any:
        match kind:
            case "raises":
                raise ValueError("no good")
            case "exits":
                sys.exit(3)
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "nothing":
                return None
            case "nan":
                return float("nan")
            case "lock":
                return {"status": "ok", "loss": 1.0, "lock": threading.Lock()}
        return 1.0

    kinds = ["raises", "exits", "dies", "nothing", "nan", "lock", "fine"]
    options: Any = {"space": hp.choice("kind", kinds), "points_to_evaluate": [{"kind": i} for i in range(7)]}
    done = {"algo": lambda *_: []}
    trials = tune(fn, 7, **options | done)
    frame = trials.to_dataframe().set_index("kind")
    completed = {"lock": "completed", "fine": "completed"}  # the lock is dropped, and the loss is kept
    assert frame["state"].to_dict() == dict.fromkeys(kinds, "failed") | completed
    assert frame["attempts"].to_dict() == dict.fromkeys(kinds, 1) | {"dies": 4}
    begins = {
        "raises": "ValueError: no good",
        "exits": "SystemExit: 3",
        "dies": "WorkerLost: the worker died",
        "nothing": "BadResult: the objective returned None",
        "nan": "InvalidLoss: the objective returned NaN",
    }
    assert {kind: frame["error"][kind][: len(text)] for kind, text in begins.items()} == begins
    errors = {document["tid"]: document["misc"].get("error") for document in trials._dynamic_trials}
    assert errors[0][0] == "<class 'ValueError'>"
    assert "in fn" in errors[0][1]
    assert len([r for r in caplog.records if r.name == "sparktune" and "failed: " in r.getMessage()]) == 5
    assert (
        "trial 5: kind=lock: the result['lock'] is a lock, which cannot be sent to the driver" in caplog.text
    )


@EITHER
def test_all_failed(fmin: Any) -> None:
    with pytest.raises(AllTrialsFailed, match=r"None of 3 trials.*ZeroDivisionError: division by zero"):
        tune(lambda x: 1 / 0, 3, fmin=fmin)


@EITHER
def test_an_objective_that_cannot_be_pickled_fails_before_the_first_trial(fmin: Any, spark: Any) -> None:
    trials = SparkTrials(mlflow=False)
    with pytest.raises(ObjectiveNotPicklable, match=r"'spark' is a SparkSession"):
        tune(lambda x: spark.range(3).count(), 3, trials, fmin=fmin)
    assert trials._dynamic_trials == []
    assert len(tune(abs, 3, trials, fmin=fmin)) == 3


@pytest.mark.parametrize(("place", "fmin"), [("fmin", sparktune.fmin), ("trials", hyperopt.fmin)])
def test_the_timeout_ends_everything(place: str, fmin: Any, tmp_path: Path) -> None:
    def fn(kind: int) -> int:
        if kind:
            (tmp_path / str(os.getpid())).touch()
            time.sleep(3600)
        return kind

    # Long enough for the first trials to have their workers also on a machine with other work.
    timeout = 10
    trials = SparkTrials(timeout=timeout if place == "trials" else None, mlflow=False)
    began = time.monotonic()
    options: Any = {"space": hp.randint("kind", 2), "timeout": timeout if place == "fmin" else None}
    tune(fn, None, trials, fmin=fmin, rstate=7, **options)
    took = time.monotonic() - began
    assert all(is_over(int(file.name)) for file in tmp_path.iterdir())
    assert timeout - 0.1 < took < timeout + 8
    assert trials.fmin_cancelled_reason == "fmin run timeout"
    found = states(trials)
    assert found["completed"] > 0
    assert found["cancelled"] == 2
    assert set(found) == {"completed", "cancelled"}


def test_what_early_stop_raises_ends_everything(tmp_path: Path) -> None:
    def fn(kind: int) -> int:
        if kind:
            (tmp_path / str(os.getpid())).touch()
            time.sleep(3600)
        return kind

    def stop(_trials: Any) -> Any:
        raise LookupError("had enough")

    trials = SparkTrials(mlflow=False)
    options: Any = {"space": hp.randint("kind", 2), "points_to_evaluate": [{"kind": 1}, {"kind": 0}]}
    with pytest.raises(LookupError, match="had enough"):
        tune(fn, 9, trials, early_stop_fn=stop, **options)
    assert all(is_over(int(file.name)) for file in tmp_path.iterdir())
    assert "running" not in states(trials)
    assert trials.losses().count(0.0) >= 1


def test_two_studies_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """One of them stops early, and its stop leaves the other's trials alone."""
    both = threading.Barrier(2, timeout=60)

    def study(seed: int) -> Any:
        def fn(x: float) -> Any:
            time.sleep(0.02)
            return {"status": "ok", "loss": x + seed, "seed": seed}

        trials = SparkTrials(parallelism=2, mlflow=False)
        both.wait()
        stop = (lambda trials: (len(trials) >= 3, [])) if seed else None
        return tune(fn, 15, trials, algo=anneal.suggest, rstate=seed, early_stop_fn=stop)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        whole, stopped = pool.map(study, [0, 100])
    assert states(whole) == {"completed": 15}
    assert {result["seed"] for result in whole.results} == {0}
    assert states(stopped)["completed"] >= 3
    assert {result["seed"] for result in stopped.results if "seed" in result} == {100}


def test_never_more_under_way_than_slots_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    pending: list[int] = []

    def algo(new_ids: Any, domain: Any, trials: Any, seed: int) -> Any:
        pending.append(sum(loss is None for loss in trials.losses()))
        return rand.suggest(new_ids, domain, trials, seed)

    trials = SparkTrials(parallelism=200, mlflow=False)
    with caplog.at_level(logging.WARNING):
        tune(abs, 6, trials, algo=algo)
        tune(abs, 9, trials, algo=algo)
    assert max(pending) == 1
    said = [r.getMessage() for r in caplog.records if "slots" in r.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("parallelism is 200, but Spark has 2 slots now")


def test_what_an_objective_writes_to_is_named(caplog: pytest.LogCaptureFixture, mlflow_store: str) -> None:
    losses: list[float] = []

    def fn(x: float) -> float:
        losses.append(x)
        return x

    for trials in (None, SparkTrials(mlflow=False), hyperopt.Trials()):
        sparktune.fmin(fn, X, rand.suggest, 2, trials=trials, rstate=1, show_progressbar=False)
    named = [record.getMessage() for record in caplog.records if "writes to losses" in record.getMessage()]
    assert len(named) == 1  # where Spark was not asked for
    assert len(losses) == 2  # of the trials in this process


def test_parallelism_defaults_to_the_slots() -> None:
    assert SparkTrials().parallelism == 2
    assert SparkTrials(parallelism=0).parallelism == 2
    assert SparkTrials(-1).parallelism == 2
    assert SparkTrials(500).parallelism == 500
    assert SparkTrials(parallelism=2.0).parallelism == 2  # type: ignore[arg-type]
    for wrong in (1.5, "2", True):
        with pytest.raises(TypeError, match="parallelism is"):
            SparkTrials(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "2", True, float("inf")])
def test_max_attempts_that_make_no_sense(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"max_attempts is .*must be a whole number of at least 1"):
        SparkTrials(max_attempts=wrong)


def test_max_attempts_and_the_study_goes_on() -> None:
    def fn(x: int) -> int:
        if x == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    points = [{"x": x} for x in range(4)]
    trials = SparkTrials(mlflow=False, max_attempts=2)
    tune(fn, 4, trials, space=hp.randint("x", 4), points_to_evaluate=points, algo=lambda *_: [])
    frame = trials.to_dataframe().set_index("x")
    assert frame["state"].to_dict() == {0: "failed", 1: "completed", 2: "completed", 3: "completed"}
    assert frame["attempts"].to_dict() == {0: 2, 1: 1, 2: 1, 3: 1}
    assert "in attempt 2 of 2" in frame["error"][0]


def test_a_study_of_the_simulation_goes_on_on_spark() -> None:
    """Through hyperopt's documents alone."""
    simulated = tune(abs, 3, SimulatedTrials())
    trials = SparkTrials(mlflow=False)
    trials.insert_trial_docs(simulated._dynamic_trials)
    trials.refresh()
    tune(abs, 5, trials)
    assert trials.losses()[:3] == simulated.losses()
    assert states(trials) == {"completed": 5}


def test_a_user_argument_profile_is_left_out_on_local(spark: Any, caplog: pytest.LogCaptureFixture) -> None:
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    profile = ResourceProfileBuilder().require(TaskResourceRequests().cpus(1)).build
    trials = SparkTrials(resource_profile=profile, spark_session=spark, mlflow=False)
    assert "no stage-level scheduling on a local master" in caplog.text
    assert len(tune(abs, 2, trials)) == 2


@pytest.mark.skipif(ON_CONNECT, reason="Spark Connect has no broadcast variables")
def test_a_broadcast_that_was_destroyed_is_refused_by_its_name(spark: Any) -> None:
    data = spark.sparkContext.broadcast([1.0])
    objective = lambda x: x + data.value[0]  # noqa: E731
    trials = SparkTrials(spark_session=spark, mlflow=False)
    tune(objective, 2, trials)
    data.destroy(blocking=True)
    with pytest.raises(
        ObjectiveNotPicklable, match=r"broadcast variable Broadcast\(\d+\), which was destroyed"
    ):
        tune(objective, 4, trials)


def test_a_broadcast_destroyed_during_the_study_is_no_dead_worker() -> None:
    text = "org.apache.spark.SparkException: Attempted to use Broadcast(12) after it was destroyed"
    error = spark_cluster.lost(RuntimeError(text))
    assert error.type_name == "ValueError"
    assert "Broadcast(12)" in error.message


AT_THE_TOP = """
from sparktune import SparkTrials, fmin, hp, rand

def objective(x):
    return x

fmin(objective, hp.uniform("x", 0, 1), rand.suggest, 2, trials=SparkTrials(1, mlflow=False), verbose=False)
"""


@needs_classic
def test_a_module_that_calls_fmin_when_workers_import_it_says_so(run: Any, tmp_path: Any) -> None:
    (tmp_path / "work" / "study.py").write_text(AT_THE_TOP)
    done = run(
        [sys.executable, "-c", "import study"],
        env={"PYTHONPATH": f"{tmp_path / 'work'}:{Path(sparktune.__file__).parent.parent}"},
    )
    assert done.returncode != 0
    assert "if __name__ == '__main__'" in done.stderr
